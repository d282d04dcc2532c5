//! Cutting deltas: a connection to the primary, the tables it met, and the moments that it compares.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use futures_util::future::join;
use tokio_postgres::error::SqlState;

use super::{
    delta::{Added, Delta, named},
    look::{Changed, Since},
};
use crate::{
    change::Writer,
    error::Result,
    postgres::{Database, Session},
    shape::Shape,
};

/// The reader forbids every plan but index scans and nested loops: a delta joins few keys with large
/// tables, and a plan made while a table was small must not stay. A lock that is not to be had at once is
/// tried again later, so that nobody queues behind us.
const SETTINGS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
    SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off; \
    SET max_parallel_workers_per_gather = 0; SET lock_timeout = '500ms'";

/// What is said where a table is not there under its name.
const MISSING: [SqlState; 2] = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];

/// A connection to the primary that reads deltas, with the shapes of the tables it met.
#[derive(Debug)]
pub struct Reader {
    primary: Session,
    /// By table: the number of the definition, and what follows from it.
    tables: RefCell<HashMap<i32, Rc<Table>>>,
}

/// A captured table as the reader knows it.
#[derive(Debug)]
pub struct Table {
    /// Its number in `pgfanout.captured_table`.
    pub id: i32,
    /// Its columns and key.
    pub shape: Shape,
    /// Raised whenever the table was altered.
    pub definition: i64,
    /// Writes its changes' messages.
    pub writer: Writer,
    pub(super) select: String,
    /// The same rows in pieces.
    pub(super) select_pieces: String,
}

impl Reader {
    /// Connects to the primary.
    ///
    /// # Errors
    /// When the primary cannot be reached.
    pub async fn connect(primary: &Database, application: &str) -> Result<Self> {
        let primary = primary.connect(application).await?;
        primary.run("setting up the reader", SETTINGS).await?;
        Ok(Self { primary, tables: RefCell::default() })
    }

    /// The connection, for statements between deltas.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.primary
    }

    /// Begins a delta over the tables that changed, from several earlier snapshots at once; its end is
    /// now. Where it is hoped to have few changes since the first of them, their keys are asked for in the same
    /// round trip, with old rows.
    ///
    /// # Errors
    /// When the link breaks, a lock is not to be had at once, or a table does not fit.
    pub async fn cut(&self, starts: Vec<Since>, changed: &Changed, few: bool) -> Result<Cut<'_>> {
        let cut = self.try_cut(starts, changed, few).await;
        // Nobody's ALTER TABLE waits for a delta that there is not. Whether the link broke, the next one sees.
        if !matches!(cut, Ok(Cut::Open(_))) && !self.primary.is_closed() {
            let _ = self.primary.roll_back().await;
        }
        cut
    }

    async fn try_cut(&self, starts: Vec<Since>, changed: &Changed, few: bool) -> Result<Cut<'_>> {
        // What an earlier delta left open, because it failed or is to be cut again: in it, everything would
        // fail, or be as it was then.
        self.primary.roll_back().await?;
        let mut known = Vec::new();
        for (&id, &definition) in changed {
            known.extend(self.table(id, definition).await?);
        }
        // Before the first query: TRUNCATE and rewrites are not MVCC-safe, without the lock a table, or a
        // segment of the changelog, that is being emptied would look empty at a snapshot at which it is not.
        let names: String = known.iter().map(|table| format!(", {}", table.shape.quoted())).collect();
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
             LOCK TABLE pgfanout.changelog{names} IN ACCESS SHARE MODE"
        );
        let mut delta = Delta::new(&self.primary);
        // Polled together they are sent in this order; where the first fails, so do the others.
        let beginning = self.primary.begin("beginning a delta", &begin);
        // What a row without a key has is not known before.
        let few = few && !known.iter().any(|table| table.shape.is_keyless());
        let reading = async {
            let (mut tables, mut first) = (Vec::new(), None);
            for (n, since) in starts.iter().enumerate() {
                let all = if few && n == 0 { delta.few_changes(since).await? } else { None };
                tables.push(match all {
                    Some((rows, keys)) => {
                        first = Some(keys);
                        rows
                    }
                    None => delta.changed_tables(since).await?,
                });
            }
            Ok((tables, first))
        };
        let (begun, read) = join(beginning, reading).await;
        match begun {
            // A table was renamed, moved or dropped since it was looked at.
            Err(error)
                if MISSING.iter().any(|missing| error.sqlstate() == Some(missing)) && !known.is_empty() =>
            {
                self.tables.borrow_mut().clear();
                return Ok(Cut::Again(Changed::new()));
            }
            begun => begun?,
        }
        let (tables, first) = read?;
        for (since, rows) in starts.into_iter().zip(&tables) {
            match delta.add(since, &known, rows)? {
                Added::All => {}
                Added::Unknown => return Ok(Cut::Again(tables.iter().flatten().filter_map(named).collect())),
                Added::Trimmed => return Ok(Cut::Trimmed),
            }
        }
        delta.keep(first);
        delta.look_for_distinct_keys().await?;
        Ok(Cut::Open(delta))
    }

    /// The table by its number; `None` if it is not captured any more.
    async fn table(&self, id: i32, definition: i64) -> Result<Option<Rc<Table>>> {
        let known = |definition| {
            self.tables.borrow().get(&id).filter(|table| table.definition == definition).cloned()
        };
        if let Some(known) = known(definition) {
            return Ok(Some(known));
        }
        let statement = include_str!("../../sql/primary/captured_table.sql");
        let rows = self.primary.query("reading a table's registration", statement, &[&id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let definition: i64 = row.get("definition");
        if let Some(known) = known(definition) {
            return Ok(Some(known));
        }
        let (columns, key): (Vec<String>, Vec<String>) = (row.get("columns"), row.get("key_columns"));
        let name = (row.get("schema_name"), row.get("table_name"));
        let shape = Shape::read(&self.primary, name, row.get("relation"), &columns, &key).await?;
        let (select, select_pieces) = (shape.select_by_keys(), shape.select_pieces_by_keys());
        let writer = shape.writer();
        let table = Rc::new(Table { id, shape, definition, writer, select, select_pieces });
        self.tables.borrow_mut().insert(id, Rc::clone(&table));
        Ok(Some(table))
    }
}

/// What came of cutting a delta.
#[derive(Debug)]
pub enum Cut<'a> {
    /// It is open.
    Open(Delta<'a>),
    /// Tables turned up that were not known to have changed, or a table was altered meanwhile: cut again, over all
    /// these; look before if there are none.
    Again(Changed),
    /// Changes since one of the starts are gone from the changelog: there is no such delta any more.
    Trimmed,
}
