//! Reading a delta: what changed between two snapshots, each row as it stands at the later one.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use tokio_postgres::Row;

use super::{
    look::{Since, snapshot},
    rows::{Rows, pieces},
};
use crate::{
    change::Writer,
    error::{Error, Result},
    postgres::{Database, Session},
    record,
    shape::{Key, Shape, key_arrays},
    snapshot::Snapshot,
};

/// Keys fetched at once. With old rows of at most 16 KiB each it bounds the memory of a delta.
pub const KEYS_AT_ONCE: i64 = 4000;

/// The reader forbids every plan but index scans and nested loops: a delta joins few keys with large
/// tables, and a plan made while a table was small must not stay. A lock that is not to be had at once is
/// tried again later, so that nobody queues behind us.
const SETTINGS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
    SET enable_hashjoin = off; SET enable_mergejoin = off; SET lock_timeout = '500ms'";

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

/// The keys of one table that changed, a part of the delta.
#[derive(Debug)]
pub struct Group {
    /// The table.
    pub table: Rc<Table>,
    /// Whether it was truncated between the snapshots: then keys without a row need no delete.
    pub truncated: bool,
    /// The keys, each once, if no key can be spelled in two ways.
    pub keys: Vec<ChangedKey>,
}

/// A key that changed.
#[derive(Debug)]
pub struct ChangedKey {
    /// Its values.
    pub key: Key,
    /// How many more times it came than went.
    net: i64,
    /// The row at the start in JSON, where it was logged.
    pub old: Option<String>,
}

impl ChangedKey {
    /// Whether the row was there at the delta's start, given whether it is at its end.
    #[must_use]
    pub fn existed(&self, exists: bool) -> bool {
        i64::from(exists) - self.net > 0
    }
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
    /// now.
    ///
    /// # Errors
    /// When the link breaks, a lock is not to be had at once, or a table does not fit.
    pub async fn cut(&self, starts: Vec<Since>, changed: &[i32]) -> Result<Cut<'_>> {
        // What an earlier delta left open, because it failed or is to be cut again: in it, everything would
        // fail, or be as it was then.
        self.primary.roll_back().await?;
        let mut known = Vec::new();
        for &id in changed {
            known.extend(self.table(id).await?);
        }
        // Before the first query: TRUNCATE and rewrites are not MVCC-safe, without the lock a table, or a
        // segment of the changelog, that is being emptied would look empty at a snapshot at which it is not.
        let names: String = known.iter().map(|table| format!(", {}", table.shape.quoted())).collect();
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
             LOCK TABLE pgfanout.changelog{names} IN ACCESS SHARE MODE"
        );
        self.primary.begin("beginning a delta", &begin).await?;
        let mut delta = Delta { primary: &self.primary, to: None, starts: Vec::new() };
        for since in starts {
            match delta.add(since, &known).await? {
                Added::All => {}
                Added::Unknown => return Ok(Cut::Again),
                Added::Trimmed => return Ok(Cut::Trimmed),
            }
        }
        Ok(Cut::Open(delta))
    }

    /// The table by its number; `None` if it is not captured any more.
    async fn table(&self, id: i32) -> Result<Option<Rc<Table>>> {
        let statement = include_str!("../../sql/primary/captured_table.sql");
        let rows = self.primary.query("reading a table's registration", statement, &[&id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let definition: i64 = row.get("definition");
        let known = self.tables.borrow().get(&id).filter(|table| table.definition == definition).cloned();
        if known.is_some() {
            return Ok(known);
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

    /// Whether all its keys come at once.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.starts.iter().map(|start| start.entries).sum::<i64>() <= KEYS_AT_ONCE
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

    /// Finds the tables that changed since the start.
    async fn add(&mut self, since: Since, known: &[Rc<Table>]) -> Result<Added> {
        let statement = include_str!("../../sql/primary/delta_tables.sql");
        let from = since.from.to_string();
        let doing = "reading which tables changed";
        let rows = self.primary.query(doing, statement, &[&from, &since.tables]).await?;
        let (mut tables, mut entries) = (Vec::new(), 0);
        for row in &rows {
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
                1..=KEYS_AT_ONCE => groups(start, &self.keys(start, cursor.olds, "").await?)?,
                _ => {
                    if !cursor.opened {
                        self.keys(start, cursor.olds, "DECLARE changed_keys NO SCROLL CURSOR FOR ").await?;
                    }
                    groups(start, &self.fetch().await?)?
                }
            };
            cursor.opened = true;
            if !groups.is_empty() {
                return Ok(Some(groups));
            }
            if start.entries > KEYS_AT_ONCE {
                self.primary.run("reading the changed keys", "CLOSE changed_keys").await?;
            }
            (cursor.start, cursor.opened) = (cursor.start + 1, false);
        }
        Ok(None)
    }

    /// Runs the query of the keys, or declares a cursor for it.
    async fn keys(&self, start: &Start, olds: bool, declare: &str) -> Result<Vec<Row>> {
        let statement = format!("{declare}{}", include_str!("../../sql/primary/delta_keys.sql"));
        let ids: Vec<i32> = start.tables.iter().map(|(table, _)| table.id).collect();
        let from = start.since.from.to_string();
        self.primary.query("reading the changed keys", &statement, &[&from, &ids, &olds]).await
    }

    async fn fetch(&self) -> Result<Vec<Row>> {
        let fetch = format!("FETCH {KEYS_AT_ONCE} FROM changed_keys");
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

fn groups(start: &Start, rows: &[Row]) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let id: i32 = row.get("table_id");
        if groups.last().is_none_or(|group| group.table.id != id) {
            let found = start.tables.iter().find(|(table, _)| table.id == id);
            let Some((table, truncated)) = found else { continue };
            groups.push(Group { table: Rc::clone(table), truncated: *truncated, keys: Vec::new() });
        }
        if let Some(group) = groups.last_mut() {
            group.keys.push(changed_key(&group.table, row)?);
        }
    }
    Ok(groups)
}

fn changed_key(table: &Table, row: &Row) -> Result<ChangedKey> {
    let (text, width) = (row.get::<_, String>("key"), table.shape.key.len());
    let key: Key = match width {
        1 => vec![Some(text.into())],
        _ => {
            let fields = record::fields(&text).unwrap_or_default();
            fields.into_iter().map(|field| field.map(|field| field.into_owned().into())).collect()
        }
    };
    if key.len() != width {
        return Err(Error::Unfit(format!(
            "primary: the key of {} changed while changes under the old one were waiting",
            table.shape.quoted()
        )));
    }
    Ok(ChangedKey { key, net: row.get("net"), old: row.get("old") })
}
