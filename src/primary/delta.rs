//! Reading a delta: what changed between two snapshots, each row as it stands at the later one.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use tokio_postgres::{Row, types::ToSql};

use super::{
    keys::{Group, groups},
    look::{Since, snapshot},
    reader::Table,
    rows::{Rows, pieces},
};
use crate::{
    error::{Error, Result},
    postgres::Session,
    snapshot::Snapshot,
};

/// Keys fetched at once. With old rows of at most 16 KiB each it bounds the memory of a delta.
pub const KEYS_AT_ONCE: i64 = 4000;

/// Of rows without a key, whose text may have a million bytes, fewer are fetched at once: so many bytes at most.
const BYTES_AT_ONCE: i64 = 32_000_000;

/// A statement that is told of the tables of a delta.
macro_rules! told {
    ($statement:expr) => {
        concat!(
            "WITH entry AS (\n",
            include_str!("../../sql/primary/delta_entries.sql"),
            "),\ntold AS (\n",
            include_str!("../../sql/primary/delta_tables.sql"),
            ")\n",
            $statement
        )
    };
}

/// A statement that reads keys of a delta, and the same where entries of the log have many.
macro_rules! of_keys {
    ($file:literal, $packed:expr) => {
        match $packed {
            false => concat!(
                "WITH entry AS (\n",
                include_str!("../../sql/primary/delta_entries.sql"),
                ")\n",
                include_str!(concat!("../../sql/primary/", $file))
            ),
            true => concat!(
                "WITH logged AS (\n",
                include_str!("../../sql/primary/delta_entries.sql"),
                "),\nentry AS (\n",
                include_str!("../../sql/primary/delta_unpacked.sql"),
                ")\n",
                include_str!(concat!("../../sql/primary/", $file))
            ),
        }
    };
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
    /// Those that were altered, and how often.
    altered: Vec<(Rc<Table>, i64)>,
    /// How often it was logged that a table was made.
    made: i64,
    /// How many changes were logged; there may be fewer keys.
    changes: i64,
    /// Whether entries of the log have many of the keys.
    packed: bool,
    /// How many keys may be fetched at once.
    at_once: i64,
    /// The table that has most of the changes, and how many, if they are too many to be fetched at once and the table has
    /// a key.
    largest: Option<(Rc<Table>, i64)>,
    /// Whether each key was logged once: then they need not be compared.
    distinct: bool,
}

/// What was found out about a start.
pub(super) enum Added {
    All,
    Unknown,
    Trimmed,
}

/// The table of a row that tells of one, with the number of its definition.
pub(super) fn named(row: &Row) -> Option<(i32, i64)> {
    row.get::<_, Option<i32>>("table_id").map(|id| (id, row.get("definition")))
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

impl<'a> Delta<'a> {
    /// One without any start.
    pub(super) fn new(primary: &'a Session) -> Self {
        Self { primary, to: None, starts: Vec::new(), first: RefCell::default(), opened: RefCell::default() }
    }

    /// Takes the keys of the first start with their old rows, if they are all there is.
    pub(super) fn keep(&self, first: Option<Vec<Row>>) {
        *self.first.borrow_mut() = first.filter(|_| self.is_small());
    }

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

    /// How many changes were logged; there may be fewer keys.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.starts.iter().map(|start| start.changes.unsigned_abs()).sum()
    }

    /// Whether all its keys come at once.
    #[must_use]
    pub fn is_small(&self) -> bool {
        let at_once = self.starts.iter().map(|start| start.at_once).min().unwrap_or(KEYS_AT_ONCE);
        self.changes() <= at_once.unsigned_abs()
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

    /// The tables that were altered on the way, and how often that was logged.
    pub fn altered(&self) -> impl Iterator<Item = &(Rc<Table>, i64)> {
        self.starts.iter().flat_map(|start| &start.altered)
    }

    /// How often it was logged on the way that a table was made, whichever tables matter.
    #[must_use]
    pub fn made(&self) -> i64 {
        self.starts.iter().map(|start| start.made).sum()
    }

    /// The tables that changed since.
    pub(super) async fn changed_tables(&self, since: &Since) -> Result<Vec<Row>> {
        self.told(since, None, told!("SELECT * FROM told ORDER BY table_id")).await
    }

    /// The tables that changed since and have keys, and the keys with their old rows; nothing if these are too many to be
    /// fetched at once.
    pub(super) async fn few_changes(&self, since: &Since) -> Result<Option<(Vec<Row>, Vec<Row>)>> {
        let statement = told!(include_str!("../../sql/primary/delta_few.sql"));
        let rows = self.told(since, Some(KEYS_AT_ONCE + 1), statement).await?;
        // Rows of keys do not say.
        let (tables, keys): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| row.get::<_, Option<bool>>("too_many").is_some());
        let too_many = tables.iter().any(|row| row.get("too_many"));
        Ok((!too_many).then_some((tables, keys)))
    }

    async fn told(&self, since: &Since, most: Option<i64>, statement: &str) -> Result<Vec<Row>> {
        let from = since.from.to_string();
        let parameters: [&(dyn ToSql + Sync); 4] = [&from, &since.tables, &since.but, &most];
        self.primary.query("reading which tables changed", statement, &parameters).await
    }

    /// Adds a start, with the tables that changed since.
    pub(super) fn add(&mut self, since: Since, known: &[Rc<Table>], rows: &[Row]) -> Result<Added> {
        let (mut tables, mut altered, mut made) = (Vec::new(), Vec::new(), 0);
        let (mut changes, mut packed, mut longest, mut largest) = (0, false, 1, None);
        for row in rows {
            if row.get("trimmed") {
                return Ok(Added::Trimmed);
            }
            self.to = Some(snapshot(row.get("until"))?);
            made = row.get("made");
            let Some((id, definition)) = named(row) else { continue };
            let Some(table) = known.iter().find(|table| table.id == id && table.definition == definition)
            else {
                return Ok(Added::Unknown);
            };
            tables.push((Rc::clone(table), row.get("truncated")));
            let alterations: i64 = row.get("alterations");
            altered.extend((alterations > 0).then(|| (Rc::clone(table), alterations)));
            let logged: i64 = row.get("changes");
            let most = largest.as_ref().map_or(KEYS_AT_ONCE, |(_, most)| *most);
            if logged > most && !table.shape.is_keyless() {
                largest = Some((Rc::clone(table), logged));
            }
            changes += logged;
            packed |= row.get::<_, bool>("packed");
            longest = longest.max(row.get::<_, Option<i32>>("longest").unwrap_or_default().into());
        }
        let at_once = (BYTES_AT_ONCE / longest).clamp(1, KEYS_AT_ONCE);
        let largest = largest.filter(|(_, most)| *most > changes / 2);
        self.starts.push(Start {
            since,
            tables,
            altered,
            made,
            changes,
            packed,
            at_once,
            largest,
            distinct: false,
        });
        Ok(Added::All)
    }

    /// Looks whether there is a table with very many changes whose keys come each once, as those of one statement do.
    /// Their comparison would take longer than all that was waited for before.
    pub(super) async fn look_for_distinct_keys(&mut self) -> Result<()> {
        let mut apart = Vec::new();
        for start in &mut self.starts {
            let Some((table, changes)) = start.largest.take() else { continue };
            let (doing, from) = ("looking whether keys came twice", start.since.from.to_string());
            let statement = include_str!("../../sql/primary/keys_are_distinct.sql");
            let row = self.primary.query_one(doing, statement, &[&from, &table.id]).await?;
            if !row.get::<_, bool>("are_distinct") {
                continue;
            }
            let (distinct, others) = start.tables.drain(..).partition(|(one, _)| one.id == table.id);
            start.tables = others;
            start.changes -= changes;
            apart.push(Start {
                since: start.since.clone(),
                tables: distinct,
                altered: Vec::new(),
                made: 0,
                changes,
                packed: start.packed,
                at_once: start.at_once,
                largest: None,
                distinct: true,
            });
        }
        self.starts.extend(apart);
        Ok(())
    }

    /// The next keys of the delta, by table; `None` at the end.
    ///
    /// # Errors
    /// When the link breaks, or a key is not what capture writes.
    pub async fn next(&self, cursor: &mut Cursor) -> Result<Option<Vec<Group>>> {
        while let Some(start) = self.starts.get(cursor.start) {
            let keys = if start.changes == 0 {
                Vec::new()
            } else if start.changes > start.at_once {
                let name = format!("changed_keys_{}_{}", cursor.start, i32::from(cursor.olds));
                if !cursor.opened {
                    self.open(start, cursor.olds, &name).await?;
                }
                self.fetch(&name, start.at_once).await?
            } else if cursor.opened {
                Vec::new()
            } else {
                match self.first.take().filter(|_| cursor.start == 0 && cursor.olds) {
                    Some(keys) => keys,
                    None => self.keys_of(start, cursor.olds, "").await?,
                }
            };
            cursor.opened = true;
            if !keys.is_empty() {
                return groups(&start.tables, &keys).map(Some);
            }
            (cursor.start, cursor.opened) = (cursor.start + 1, false);
        }
        Ok(None)
    }

    /// Runs the query of the keys, or declares a cursor for it.
    async fn keys_of(&self, start: &Start, olds: bool, declare: &str) -> Result<Vec<Row>> {
        let ids: Vec<i32> = start.tables.iter().map(|(table, _)| table.id).collect();
        let (doing, from) = ("reading the changed keys", start.since.from.to_string());
        let (but, most): ([i32; 0], Option<i64>) = ([], None);
        let but = but.as_slice();
        let run = async |statement: &str, more: Option<&(dyn ToSql + Sync)>| {
            let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&from, &ids, &but, &most];
            parameters.extend(more);
            self.primary.query(doing, &format!("{declare}{statement}"), &parameters).await
        };
        if start.distinct {
            return run(of_keys!("distinct_keys.sql", start.packed), Some(&olds)).await;
        }
        let keyless = start.tables.iter().filter(|(table, _)| table.shape.is_keyless());
        let mut keyless: Vec<i32> = keyless.map(|(table, _)| table.id).collect();
        if olds || !keyless.is_empty() {
            // Who needs no old rows stands at the start: what matters is what became of equal rows in all.
            keyless.retain(|_| olds);
            return run(of_keys!("delta_keys.sql", start.packed), Some(&keyless)).await;
        }
        run(of_keys!("changed_keys.sql", start.packed), None).await
    }

    /// Opens the server's cursor of this name, or takes it back to its beginning: the log is read once, however often
    /// its keys are.
    async fn open(&self, start: &Start, olds: bool, name: &str) -> Result<()> {
        if self.opened.borrow_mut().insert(name.to_owned()) {
            return self.keys_of(start, olds, &format!("DECLARE {name} SCROLL CURSOR FOR ")).await.map(drop);
        }
        self.primary.run("reading the changed keys again", &format!("MOVE ABSOLUTE 0 IN {name}")).await
    }

    async fn fetch(&self, name: &str, most: i64) -> Result<Vec<Row>> {
        let fetch = format!("FETCH {most} FROM {name}");
        // Not prepared: the plan of a FETCH would outlive the cursor that it names.
        let fetched = self.primary.client().query(&fetch, &[]);
        self.primary.limited("reading the changed keys", fetched).await
    }

    /// The rows of the group's keys that are there at the delta's end, in no order; long ones in pieces of so many bytes,
    /// of each all of them, or only the first.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn rows<'g>(&'g self, group: &'g Group, piece_bytes: u64, all: bool) -> Result<Rows<'g>> {
        Rows::by_keys(self.primary, group, (piece_bytes, all)).await
    }

    /// The tables without a key that were truncated: all their rows are their changes.
    pub fn read_anew(&self) -> impl Iterator<Item = &Rc<Table>> {
        self.truncated().filter(|table| table.shape.is_keyless())
    }

    /// All rows of a table as they are at the delta's end, as [`Self::rows`].
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn all_rows(&self, table: &Table, piece_bytes: u64, all: bool) -> Result<Rows<'_>> {
        let (doing, select) = ("reading all rows of a table", table.shape.select_all());
        let stream = self.primary.stream(doing, &select, &pieces(piece_bytes, all)).await?;
        Ok(Rows::in_pieces(self.primary, stream))
    }

    /// Ends the delta.
    ///
    /// # Errors
    /// When the link breaks: what was read is right all the same.
    pub async fn end(self) -> Result<()> {
        self.primary.commit().await
    }
}
