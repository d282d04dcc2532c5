//! Applying batches that came through the broker.

use std::{borrow::Cow, rc::Rc};

use futures_util::future::join;
use tokio_postgres::error::SqlState;

use super::{
    empty::{Named, empty},
    followed::Followed,
    nameless::Nameless,
    sending::{Copy, Format},
    state::Replica,
};
use crate::{
    batch::Part,
    change::{self, Change, Operation, Record},
    error::{Error, Result},
    postgres::Session,
    shape::{Key, Shape, Text, key_arrays},
    snapshot::Snapshot,
};

/// Of how many rows of a table the values are kept apart: for so few, statements of their own are cheaper.
pub(super) const FEW: usize = 16;

/// What became of a part's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// They are written, not committed.
    All,
    /// They are committed, and the replica stands at the end of their batch.
    Committed,
    /// The part holds what only the primary can give: a row too large for a message, a table whose
    /// columns changed. The transaction is to be given up, and the replica to catch up.
    CatchUp,
}

/// A message's body is not what it should be; nothing of it is applied.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// The changes of a part, ready to be written: by table, in the order of the part.
#[derive(Debug, Default)]
pub struct Work {
    pub(super) truncated: Vec<Rc<Followed>>,
    pub(super) tables: Vec<TableWork>,
    /// What is kept back until the batch ends.
    pub nameless: Nameless,
    /// See [`Written::CatchUp`].
    pub(super) incomplete: bool,
    /// How many changes it holds.
    pub changes: u64,
    /// Whether the replica stands just where the batch starts.
    follows: bool,
}

/// The changes of one table.
#[derive(Debug)]
pub(super) struct TableWork {
    pub(super) table: Rc<Followed>,
    pub(super) keys: Vec<Key>,
    /// Lines for [`Format::Text`] in the order of the table's columns.
    pub(super) rows: Vec<u8>,
    /// How many.
    pub(super) count: usize,
    /// The values of the first few.
    pub(super) few: Vec<Vec<Option<Text>>>,
}

/// Reads a part's body against the replica's tables, which stand at `position`; changes of tables that do not (they are
/// being copied) are left out, and so are those of a table without a key that are there already. Others of such tables
/// are added to the `nameless` ones that were kept back of the batch's parts before this one.
///
/// # Errors
/// When the body is malformed.
pub fn read(
    replica: &Replica,
    position: &Snapshot,
    part: &Part,
    nameless: Nameless,
) -> Result<Work, Malformed> {
    let body = std::str::from_utf8(&part.body).map_err(|_| Malformed)?;
    let mut work = Work { follows: part.batch.from == *position, nameless, ..Work::default() };
    let mut last: Option<&Rc<Followed>> = None;
    for line in body.lines() {
        let change = change::parse(line).map_err(|_| Malformed)?;
        work.changes += 1;
        // States may be written twice; that a row came or went may not.
        if change.transaction.is_some_and(|transaction| position.contains(transaction)) {
            continue;
        }
        // Changes of one table follow one another, and there may be thousands of tables.
        let same = last.filter(|table| table.is_called(&change.schema, &change.table));
        last = same.or_else(|| replica.joined(&change.schema, &change.table));
        if let Some(table) = last {
            work.add(table, &change)?;
        }
    }
    if part.last || work.nameless.are_many() {
        let nameless = std::mem::take(&mut work.nameless);
        // One that was read anew meanwhile may have other columns, or be about to be copied.
        work.incomplete |=
            nameless.tables().any(|table| !replica.tables.iter().any(|now| Rc::ptr_eq(now, table)));
        work.tables.append(&mut nameless.settle()?);
    }
    Ok(work)
}

impl Work {
    fn add(&mut self, table: &Rc<Followed>, change: &Change<'_>) -> Result<(), Malformed> {
        if change.by_reference {
            self.incomplete = true;
            return Ok(());
        }
        if change.operation == Operation::Truncate {
            self.truncated.push(Rc::clone(table));
            return Ok(());
        }
        if table.shape.is_keyless() {
            self.incomplete |= !self.nameless.push(table, change)?;
            return Ok(());
        }
        if self.tables.last().is_none_or(|last| last.table.id != table.id) {
            self.tables.push(TableWork::new(Rc::clone(table)));
        }
        let Some(last) = self.tables.last_mut() else { return Err(Malformed) };
        // What was not there at the start is not here. Where it is, since somebody wrote it here, the key's unique
        // index refuses the new row, and catching up removes the old one.
        let is_new = self.follows && change.operation == Operation::Insert && table.shape.is_plain();
        if !is_new {
            let record = change.new_record.as_ref().or(change.old_record.as_ref()).ok_or(Malformed)?;
            let Some(key) = key(&table.shape, record)? else {
                self.incomplete = true;
                return Ok(());
            };
            last.keys.push(key);
        }
        if let Some(row) = &change.new_record {
            self.incomplete |= !last.push(row)?;
        }
        Ok(())
    }
}

/// The key's values in a record; `None` if it lacks a column of the key.
fn key(shape: &Shape, record: &Record<'_>) -> Result<Option<Key>, Malformed> {
    let mut key = Key::with_capacity(shape.key.len());
    for (column, name) in shape.key.iter().zip(shape.key_names()) {
        // The records of whole rows have the table's columns in order.
        let found = record.0.get(column.at).filter(|(found, _)| found == name);
        let Some((_, raw)) = found.or_else(|| record.0.iter().find(|(found, _)| found == name)) else {
            return Ok(None);
        };
        let value = change::value(raw).map_err(|_| Malformed)?;
        key.push(value.map(|value| Cow::Owned(value.into_owned())));
    }
    Ok(Some(key))
}

impl TableWork {
    /// Of this table, none so far.
    pub(super) const fn new(table: Rc<Followed>) -> Self {
        Self { table, keys: Vec::new(), rows: Vec::new(), count: 0, few: Vec::new() }
    }

    /// Appends the row; false if its columns are not the table's.
    fn push(&mut self, row: &Record<'_>) -> Result<bool, Malformed> {
        let columns = &self.table.shape.columns;
        if row.0.len() != columns.len() {
            return Ok(false);
        }
        let mut values = (self.few.len() < FEW).then(|| Vec::with_capacity(columns.len()));
        for (n, ((name, raw), column)) in row.0.iter().zip(columns).enumerate() {
            if *name != column.name {
                return Ok(false);
            }
            if n > 0 {
                self.rows.push(b'\t');
            }
            change::push_copy_field(raw, &mut self.rows).map_err(|_| Malformed)?;
            if let Some(values) = &mut values {
                let value = change::value(raw).map_err(|_| Malformed)?;
                values.push(value.map(|value| Text(value.into_owned())));
            }
        }
        self.rows.push(b'\n');
        self.count += 1;
        self.few.extend(values);
        Ok(true)
    }
}

/// Writes the changes in the replica's open transaction: truncates, then removes every key, then copies
/// the rows in, which never meets a unique conflict among the rows of a part.
///
/// # Errors
/// When the replica refuses or the link breaks.
pub async fn write(replica: &Replica, work: Work) -> Result<Written> {
    if work.incomplete {
        return Ok(Written::CatchUp);
    }
    let truncated: Vec<Named<'_>> = work.truncated.iter().map(|table| table.named()).collect();
    empty(&replica.session, &truncated).await?;
    for table in work.tables {
        let (session, shape) = (&replica.session, &table.table.shape);
        replica.writes(&table.table);
        let deletion = delete(session, shape, table.keys.iter());
        if table.rows.is_empty() {
            deletion.await?;
            continue;
        }
        let mut copy = Copy::of_changes(session, shape, Format::Text);
        if shape.has_own() {
            deletion.await?;
        } else {
            // Polled together they are sent together, in this order; where the first fails, so does the other.
            if !table.keys.is_empty() {
                session.prepare(&deleting(shape), &shape.delete_by_keys()).await?;
            }
            let (deleted, begun) = join(deletion, copy.begin()).await;
            deleted?;
            begun?;
        }
        copy.send(table.rows.into()).await?;
        copy.finish().await?;
    }
    Ok(Written::All)
}

/// What is being done, for messages.
pub(super) fn deleting(shape: &Shape) -> String {
    format!("removing the old rows of {}", shape.with_key())
}

/// What is being done, for messages.
pub(super) fn writing(shape: &Shape) -> String {
    format!("writing rows of {}", shape.with_key())
}

/// Removes the rows with these keys.
///
/// # Errors
/// When the replica refuses or the link breaks.
pub async fn delete<'a>(replica: &Session, shape: &Shape, keys: impl Iterator<Item = &'a Key>) -> Result<()> {
    let mut keys = keys.peekable();
    if keys.peek().is_none() {
        return Ok(());
    }
    let arrays = key_arrays(shape.key_width(), keys);
    let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
        arrays.iter().map(|array| array as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
    let doing = deleting(shape);
    if !shape.has_own() {
        return replica.execute(&doing, &shape.delete_by_keys(), &parameters).await.map(drop);
    }
    let room = replica.run("making room for a replica's own columns", &shape.make_room()).await;
    room.map_err(|error| match error.sqlstate() {
        // The next look at the table says whether all is there that has to be.
        Some(&SqlState::UNDEFINED_COLUMN) => {
            Error::Disconnected(format!("{}: {} lost a column", replica.database(), shape.quoted()))
        }
        _ => error,
    })?;
    replica.execute(&doing, &shape.put_aside_by_keys(), &parameters).await.map(drop)
}

/// Whether the failure is that a part of a batch met what a later part of the same batch removes: rows with
/// the same unique values, or a table that refers to one that is truncated; or a row that somebody wrote on the
/// replica. Catching up removes all of it first.
#[must_use]
pub fn is_conflict(error: &Error) -> bool {
    let conflicts =
        [SqlState::UNIQUE_VIOLATION, SqlState::EXCLUSION_VIOLATION, SqlState::FEATURE_NOT_SUPPORTED];
    error.sqlstate().is_some_and(|state| conflicts.contains(state))
}
