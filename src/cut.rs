//! Cutting a batch: a delta from the primary, named, and handed to the publisher in parts.

use std::time::Instant;

use actix::Addr;
use futures_util::future::join;
use tokio::sync::oneshot;

use crate::{
    batch::{Batch, PART_BYTES, PART_TABLES, Part},
    broker::Confirmed,
    change::{Before, push_heartbeat},
    error::{Error, Result},
    life::Failed,
    postgres::Session,
    primary::{
        batch::record,
        delta::{Cursor, Delta},
        keys::Group,
        reader::Table,
    },
    publisher::{Publish, Publisher},
    record::ParseRecordError,
    shape::Key,
    snapshot::Snapshot,
};

/// What a message may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many changes.
    pub changes: u32,
    /// How large one change may be; a larger one travels as a reference.
    pub change_bytes: u64,
}

/// Where a batch gets its name, and where it starts.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// A connection to the primary beside the one that reads.
    pub control: &'a Session,
    /// The installation there.
    pub epoch: &'a str,
    /// The batch's start.
    pub from: &'a Snapshot,
    /// Where batches go on if this one, and those before it that the broker may not have, are lost.
    pub again_from: &'a Snapshot,
    /// Its changes were committed since then, if that is known.
    pub since: Option<Instant>,
}

/// Hands the delta to the publisher as a batch. It gets its name while its rows are read, and is shown to nobody before.
/// Returns its number and who hears that the broker has it, or nothing if the publisher failed and it has to be cut anew.
///
/// # Errors
/// When the primary fails.
pub async fn publish(
    delta: Delta<'_>,
    Named { control, epoch, from, again_from, since }: Named<'_>,
    limits: Limits,
    publisher: &Addr<Publisher>,
) -> Result<Option<(i64, Confirmed)>> {
    let to = delta.to()?.clone();
    let (name, named) = oneshot::channel();
    let naming = async {
        let batch = record(control, epoch, None, again_from, &to, since).await?;
        let number = batch.number;
        let _ = name.send(Batch { from: from.clone(), ..batch });
        Ok::<_, Error>(number)
    };
    let (number, published) = join(naming, send(delta, named, limits, publisher)).await;
    let (number, published) = (number?, published?);
    Ok(published.map(|confirmed| (number, confirmed)))
}

/// Sends the delta as the batch that is `named` meanwhile; nothing if the publisher failed, or no name came.
async fn send(
    delta: Delta<'_>,
    named: oneshot::Receiver<Batch>,
    limits: Limits,
    publisher: &Addr<Publisher>,
) -> Result<Option<Confirmed>> {
    let mut parts = Parts {
        publisher,
        limits,
        named: Some(named),
        batch: None,
        number: 0,
        body: Vec::new(),
        changes: 0,
        tables: Vec::new(),
        sealed: false,
    };
    let published = match parts.send(&delta).await {
        // All is read: nothing is held on the primary while the broker makes sure of it.
        Ok(()) => {
            let (published, ended) = join(parts.publish(true), delta.end()).await;
            ended?;
            published
        }
        Err(stop) => Err(stop),
    };
    match published {
        Ok(confirmed) => Ok(confirmed),
        Err(Stop::GivenUp) => Ok(None),
        Err(Stop::Primary(error)) => Err(error),
    }
}

fn not_a_row(table: &Table) -> impl Fn(ParseRecordError) -> Error + use<'_> {
    move |error| Error::Unfit(format!("primary: a row of {}: {error}", table.shape.quoted()))
}

/// Why a batch is given up.
enum Stop {
    /// The publisher failed, or whoever names the batch, who knows why.
    GivenUp,
    Primary(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Primary(error)
    }
}

/// The parts of one batch as they fill.
struct Parts<'a> {
    publisher: &'a Addr<Publisher>,
    limits: Limits,
    /// Until it has a name, the batch is shown to nobody.
    named: Option<oneshot::Receiver<Batch>>,
    batch: Option<Batch>,
    number: u32,
    body: Vec<u8>,
    changes: u32,
    /// The tables in the body, with the numbers of their definitions.
    tables: Vec<(i32, i64)>,
    /// Nothing more may go into this body.
    sealed: bool,
}

impl Parts<'_> {
    async fn send(&mut self, delta: &Delta<'_>) -> Result<(), Stop> {
        if delta.is_empty() {
            push_heartbeat(delta.to()?, &mut self.body);
        }
        let mut line = Vec::new();
        for (table, _) in delta.altered() {
            // Names the table in the part's headers, also where no row of it changed.
            push_heartbeat(delta.to()?, &mut line);
            self.push(table, &mut line).await?;
        }
        for table in delta.truncated() {
            table.writer.push_truncate(&mut line);
            self.push(table, &mut line).await?;
        }
        for table in delta.read_anew() {
            self.send_all(delta, table).await?;
        }
        let mut cursor = Cursor::with_old_rows();
        while let Some(groups) = delta.next(&mut cursor).await? {
            for group in &groups {
                match group.table.shape.is_keyless() {
                    true => self.send_nameless(group).await?,
                    false => self.send_group(delta, group).await?,
                }
            }
            // Two spellings of one key may come in two fetches, each with the row: a replica must not
            // meet them in one part.
            self.sealed = true;
        }
        Ok(())
    }

    /// Sends all rows that a table without a key has after it was truncated.
    async fn send_all(&mut self, delta: &Delta<'_>, table: &Table) -> Result<(), Stop> {
        let mut line = Vec::new();
        let mut rows = delta.all_rows(table, self.limits.change_bytes, false).await?;
        while let Some(row) = rows.next().await? {
            if let Some(text) = row.whole() {
                table.writer.push_present(text, None, &mut line).map_err(not_a_row(table))?;
            }
            self.push_sized(table, &Key::new(), &mut line).await?;
        }
        Ok(())
    }

    /// Sends which rows came and went of a table without a key.
    async fn send_nameless(&mut self, group: &Group) -> Result<(), Stop> {
        let (table, mut line) = (&group.table, Vec::new());
        for changed in &group.keys {
            let (Some(Some(text)), Some(transaction)) = (changed.key.first(), changed.transaction) else {
                continue;
            };
            for _ in 0..changed.net.unsigned_abs() {
                let pushed = table.writer.push_nameless(text, changed.net > 0, transaction, &mut line);
                pushed.map_err(not_a_row(table))?;
                self.push_sized(table, &Key::new(), &mut line).await?;
            }
        }
        Ok(())
    }

    async fn send_group(&mut self, delta: &Delta<'_>, group: &Group) -> Result<(), Stop> {
        let mut line = Vec::new();
        let mut present = vec![false; group.keys.len()];
        if !group.is_gone() {
            self.send_present(delta, group, &mut present).await?;
        }
        // Rows that came and went within the batch are deleted, too: a replica that caught up in
        // between may have them.
        let absent = group.keys.iter().zip(&present).filter(|(_, present)| !**present && !group.truncated);
        for (changed, _) in absent {
            let before = Before { key: &changed.key, old: changed.old.as_deref() };
            group.table.writer.push_absent(before, &mut line);
            self.push(&group.table, &mut line).await?;
        }
        Ok(())
    }

    /// Sends the rows of the group that are there, and notes which.
    async fn send_present(
        &mut self,
        delta: &Delta<'_>,
        group: &Group,
        present: &mut [bool],
    ) -> Result<(), Stop> {
        let mut line = Vec::new();
        // Of a row that is too large for a message no more than that much is read.
        let mut rows = delta.rows(group, self.limits.change_bytes, false).await?;
        while let Some(row) = rows.next().await? {
            let (Some(changed), Some(found)) = (group.keys.get(row.at), present.get_mut(row.at)) else {
                continue;
            };
            *found = true;
            let existed = changed.existed(true) && !group.truncated;
            let before = existed.then_some(Before { key: &changed.key, old: changed.old.as_deref() });
            if let Some(text) = row.whole() {
                let pushed = group.table.writer.push_present(text, before, &mut line);
                pushed.map_err(not_a_row(&group.table))?;
            }
            self.push_sized(&group.table, &changed.key, &mut line).await?;
        }
        for &at in rows.other_spellings() {
            if let Some(found) = present.get_mut(at) {
                *found = true;
            }
        }
        Ok(())
    }

    /// Adds a line, or a reference to the row where the line is too large, or is none because the row was.
    async fn push_sized(&mut self, table: &Table, key: &Key, line: &mut Vec<u8>) -> Result<(), Stop> {
        if line.is_empty() || line.len() as u64 > self.limits.change_bytes {
            line.clear();
            table.writer.push_reference(key, line);
        }
        self.push(table, line).await
    }

    /// Adds a line, in a new part if this one is full.
    async fn push(&mut self, table: &Table, line: &mut Vec<u8>) -> Result<(), Stop> {
        let full = self.body.len() + line.len() > PART_BYTES
            || self.changes >= self.limits.changes
            || self.tables.len() == PART_TABLES;
        if self.changes > 0 && (full || self.sealed) {
            self.publish(false).await?;
        }
        self.body.append(line);
        self.changes += 1;
        let known = (table.id, table.definition);
        if self.tables.last() != Some(&known) && !self.tables.contains(&known) {
            self.tables.push(known);
        }
        Ok(())
    }

    /// Publishes what is gathered; with the last part, returns who hears of them all.
    async fn publish(&mut self, last: bool) -> Result<Option<Confirmed>, Stop> {
        if let Some(named) = self.named.take() {
            self.batch = named.await.ok();
        }
        let part = Part {
            batch: self.batch.clone().ok_or(Stop::GivenUp)?,
            number: self.number,
            last,
            tables: std::mem::take(&mut self.tables),
            body: std::mem::take(&mut self.body),
        };
        self.number += 1;
        self.changes = 0;
        self.sealed = false;
        match self.publisher.send(Publish(part)).await {
            Ok(Ok(confirmed)) => Ok(confirmed),
            Ok(Err(Failed)) | Err(_) => Err(Stop::GivenUp),
        }
    }
}
