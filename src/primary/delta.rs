//! Reading a delta: what changed between two snapshots, each row as it stands at the later one.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    rc::Rc,
};

use futures_util::future::{join, try_join};
use tokio_postgres::Row;

use super::{
    keys::{Group, groups},
    look::{Changed, Since, snapshot},
    rows::{Rows, pieces},
};
use crate::{
    change::Writer,
    error::{Error, Result},
    postgres::{Database, Session},
    shape::{Shape, key_arrays},
    snapshot::Snapshot,
};

/// Keys fetched at once. With old rows of at most 16 KiB each it bounds the memory of a delta.
pub const KEYS_AT_ONCE: i64 = 4000;

/// The reader forbids every plan but index scans and nested loops: a delta joins few keys with large
/// tables, and a plan made while a table was small must not stay. A lock that is not to be had at once is
/// tried again later, so that nobody queues behind us.
const SETTINGS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
    SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off; \
    SET max_parallel_workers_per_gather = 0; SET lock_timeout = '500ms'";

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
    select: String,
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
        let mut delta = Delta {
            primary: &self.primary,
            to: None,
            starts: Vec::new(),
            first: RefCell::default(),
            opened: RefCell::default(),
        };
        // Polled together they are sent in this order; where the first fails, so do the others.
        let beginning = self.primary.begin("beginning a delta", &begin);
        let reading = async {
            let mut tables = Vec::new();
            for since in &starts {
                tables.push(delta.changed_tables(since).await?);
            }
            Ok(tables)
        };
        let keys = async {
            match starts.first().filter(|_| few) {
                Some(since) => delta.keys(since, &known, true, "", Some(KEYS_AT_ONCE)).await.map(Some),
                None => Ok(None),
            }
        };
        let (begun, read) = join(beginning, try_join(reading, keys)).await;
        begun?;
        let (tables, first) = read?;
        for (since, rows) in starts.into_iter().zip(tables) {
            match delta.add(since, &known, &rows)? {
                Added::All => {}
                Added::Unknown => return Ok(Cut::Again),
                Added::Trimmed => return Ok(Cut::Trimmed),
            }
        }
        delta.first = RefCell::new(first.filter(|_| delta.is_small()));
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
        let (select, writer) = (shape.select_by_keys(), shape.writer());
        let table = Rc::new(Table { id, shape, definition, writer, select });
        self.tables.borrow_mut().insert(id, Rc::clone(&table));
        Ok(Some(table))
    }
}

/// What came of cutting a delta.
#[derive(Debug)]
pub enum Cut<'a> {
    /// It is open.
    Open(Delta<'a>),
    /// Tables turned up that were not known to have changed, or a table was altered meanwhile: look and
    /// cut again.
    Again,
    /// Changes since one of the starts are gone from the changelog: there is no such delta any more.
    Trimmed,
}

/// What changed up to one snapshot, open for reading as long as it lives.
#[derive(Debug)]
pub struct Delta<'a> {
    primary: &'a Session,
    to: Option<Snapshot>,
    starts: Vec<Start>,
    /// The keys of the first start with their old rows, if they were asked for and are few.
    first: RefCell<Option<Vec<Row>>>,
    /// The server's cursors that were opened.
    opened: RefCell<BTreeSet<String>>,
}

/// The changes since one earlier snapshot.
#[derive(Debug)]
struct Start {
    since: Since,
    tables: Vec<(Rc<Table>, bool)>,
    /// How many changes were logged; there may be fewer keys.
    entries: i64,
}

/// What was found out about a start.
enum Added {
    All,
    Unknown,
    Trimmed,
}

/// How far the keys of a delta were read.
#[derive(Debug, Default)]
pub struct Cursor {
    start: usize,
    opened: bool,
    /// Whether old rows are wanted: messages tell of them, replicas do not need them.
    olds: bool,
}

impl Cursor {
    /// One that brings the old rows, too.
    #[must_use]
    pub fn with_old_rows() -> Self {
        Self { olds: true, ..Self::default() }
    }
}

impl Delta<'_> {
    /// The later snapshot.
    ///
    /// # Errors
    /// For a delta without any start.
    pub fn to(&self) -> Result<&Snapshot> {
        self.to.as_ref().ok_or_else(|| Error::Unfit("a delta without a start".to_owned()))
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.iter().all(|start| start.tables.is_empty())
    }

    /// How many entries of the log it holds; there may be fewer keys.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.starts.iter().map(|start| start.entries.unsigned_abs()).sum()
    }

    /// Whether all its keys come at once.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.entries() <= KEYS_AT_ONCE.unsigned_abs()
    }

    /// The tables that changed.
    pub fn tables(&self) -> impl Iterator<Item = &Rc<Table>> {
        self.starts.iter().flat_map(|start| &start.tables).map(|(table, _)| table)
    }

    /// The tables that were truncated on the way.
    pub fn truncated(&self) -> impl Iterator<Item = &Rc<Table>> {
        let tables = self.starts.iter().flat_map(|start| &start.tables);
        tables.filter(|(_, truncated)| *truncated).map(|(table, _)| table)
    }

    async fn changed_tables(&self, since: &Since) -> Result<Vec<Row>> {
        let statement = include_str!("../../sql/primary/delta_tables.sql");
        let from = since.from.to_string();
        self.primary.query("reading which tables changed", statement, &[&from, &since.tables]).await
    }

    /// Adds a start, with the tables that changed since.
    fn add(&mut self, since: Since, known: &[Rc<Table>], rows: &[Row]) -> Result<Added> {
        let (mut tables, mut entries) = (Vec::new(), 0);
        for row in rows {
            if row.get("trimmed") {
                return Ok(Added::Trimmed);
            }
            self.to = Some(snapshot(row.get("until"))?);
            let Some(id) = row.get::<_, Option<i32>>("table_id") else { continue };
            let definition: i64 = row.get("definition");
            let Some(table) = known.iter().find(|table| table.id == id && table.definition == definition)
            else {
                return Ok(Added::Unknown);
            };
            tables.push((Rc::clone(table), row.get("truncated")));
            entries += row.get::<_, i64>("entries");
        }
        self.starts.push(Start { since, tables, entries });
        Ok(Added::All)
    }

    /// The next keys of the delta, by table; `None` at the end.
    ///
    /// # Errors
    /// When the link breaks, or a key is not what capture writes.
    pub async fn next(&self, cursor: &mut Cursor) -> Result<Option<Vec<Group>>> {
        while let Some(start) = self.starts.get(cursor.start) {
            let groups = match start.entries {
                0 => Vec::new(),
                1..=KEYS_AT_ONCE if cursor.opened => Vec::new(),
                1..=KEYS_AT_ONCE => {
                    let first = self.first.take().filter(|_| cursor.start == 0 && cursor.olds);
                    let keys = match first {
                        Some(keys) => keys,
                        None => self.keys_of(start, cursor.olds, "").await?,
                    };
                    groups(&start.tables, &keys)?
                }
                _ => {
                    let name = format!("changed_keys_{}_{}", cursor.start, i32::from(cursor.olds));
                    if !cursor.opened {
                        self.open(start, cursor.olds, &name).await?;
                    }
                    groups(&start.tables, &self.fetch(&name).await?)?
                }
            };
            cursor.opened = true;
            if !groups.is_empty() {
                return Ok(Some(groups));
            }
            (cursor.start, cursor.opened) = (cursor.start + 1, false);
        }
        Ok(None)
    }

    async fn keys_of(&self, start: &Start, olds: bool, declare: &str) -> Result<Vec<Row>> {
        let tables: Vec<_> = start.tables.iter().map(|(table, _)| Rc::clone(table)).collect();
        self.keys(&start.since, &tables, olds, declare, None).await
    }

    /// Runs the query of the keys, or declares a cursor for it; with old rows of so many entries of the log at most.
    async fn keys(
        &self,
        since: &Since,
        tables: &[Rc<Table>],
        olds: bool,
        declare: &str,
        most: Option<i64>,
    ) -> Result<Vec<Row>> {
        let ids: Vec<i32> = tables.iter().map(|table| table.id).collect();
        let (doing, from) = ("reading the changed keys", since.from.to_string());
        if olds {
            let statement = format!("{declare}{}", include_str!("../../sql/primary/delta_keys.sql"));
            return self.primary.query(doing, &statement, &[&from, &ids, &most]).await;
        }
        let statement = format!("{declare}{}", include_str!("../../sql/primary/changed_keys.sql"));
        self.primary.query(doing, &statement, &[&from, &ids]).await
    }

    /// Opens the server's cursor of this name, or takes it back to its beginning: the log is read once, however often
    /// its keys are.
    async fn open(&self, start: &Start, olds: bool, name: &str) -> Result<()> {
        if self.opened.borrow_mut().insert(name.to_owned()) {
            return self.keys_of(start, olds, &format!("DECLARE {name} SCROLL CURSOR FOR ")).await.map(drop);
        }
        self.primary.run("reading the changed keys again", &format!("MOVE ABSOLUTE 0 IN {name}")).await
    }

    async fn fetch(&self, name: &str) -> Result<Vec<Row>> {
        let fetch = format!("FETCH {KEYS_AT_ONCE} FROM {name}");
        // Not prepared: the plan of a FETCH would outlive the cursor that it names.
        let fetched = self.primary.client().query(&fetch, &[]);
        self.primary.limited("reading the changed keys", fetched).await
    }

    /// The rows of the group's keys that are there at the delta's end, in no order, in pieces of so many bytes;
    /// of each row all of them, or only the first.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn rows(&self, group: &Group, piece_bytes: u64, all: bool) -> Result<Rows<'_>> {
        let table = &group.table;
        let keys = group.keys.iter().map(|changed| &changed.key);
        let mut parameters = key_arrays(table.shape.key.len(), keys);
        parameters.extend(pieces(piece_bytes, all));
        let doing = format!("reading changed rows of {}", table.shape.quoted());
        let stream = self.primary.stream(&doing, &table.select, &parameters).await?;
        Ok(Rows::new(self.primary, stream, table.shape.is_respellable()))
    }

    /// Ends the delta.
    ///
    /// # Errors
    /// When the link breaks: what was read is right all the same.
    pub async fn end(self) -> Result<()> {
        self.primary.commit().await
    }
}
