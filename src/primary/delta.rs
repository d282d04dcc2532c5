//! Reading a delta: what changed between two snapshots, each row as it stands at the later one.

use std::{collections::HashMap, rc::Rc, time::Duration};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tokio_postgres::{Client, IsolationLevel, Portal, Row, Statement, Transaction, types::ToSql};

use crate::{
    error::{Error, Result},
    postgres::{ANSWER_LIMIT, Database, within},
    record,
    shape::{Key, Shape, key_arrays},
    snapshot::Snapshot,
};

/// Keys fetched at once. With old rows of at most 16 KiB each it bounds the memory of a delta.
pub const KEYS_AT_ONCE: i32 = 4000;

/// How long a row may take to come: PostgreSQL may have to sort a large delta before the first.
const READ_LIMIT: Duration = Duration::from_secs(600);

/// The reader forbids every plan but index scans and nested loops: a delta joins few keys with large
/// tables, and a plan made while a table was small must not stay. A lock that is not to be had at once is
/// tried again later, so that nobody queues behind us.
const SETTINGS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
    SET enable_hashjoin = off; SET enable_mergejoin = off; SET lock_timeout = '500ms'";

/// Where a delta starts, for which tables; `None` is all.
#[derive(Clone, Debug)]
pub struct Since {
    /// The earlier snapshot.
    pub from: Snapshot,
    /// The tables by their number in `pgfanout.captured_table`.
    pub tables: Option<Vec<i32>>,
}

/// What a look found.
#[derive(Clone, Debug)]
pub struct Look {
    /// The moment of the look.
    pub now: Snapshot,
    /// The tables that changed.
    pub tables: Vec<i32>,
}

/// Whether and where anything changed, in one statement that holds nothing.
///
/// # Errors
/// When the link breaks or does not answer.
pub async fn look(client: &Client, since: &Since) -> Result<Look> {
    let query = client.query_one(include_str!("../../sql/primary/look.sql"), &[&text(&since.from), &since.tables]);
    let doing = "looking for changes";
    let row = within(READ_LIMIT, doing, async { query.await.map_err(primary(doing)) }).await?;
    Ok(Look { now: snapshot(row.get("now"))?, tables: row.get("tables") })
}

/// A connection to the primary that reads deltas, with the shapes of the tables it met.
#[derive(Debug)]
pub struct Reader {
    client: Client,
    /// By table: the number of the definition, and what follows from it.
    tables: HashMap<i32, Rc<Table>>,
}

/// A captured table as the reader knows it.
#[derive(Debug)]
pub struct Table {
    /// Its number in `pgfanout.captured_table`.
    pub id: i32,
    /// Its columns and key.
    pub shape: Shape,
    definition: i64,
    key_is_row: bool,
    select: Statement,
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
        let client = primary.connect(application).await?;
        client.batch_execute(SETTINGS).await.map_err(Error::postgres("primary", "setting up the reader"))?;
        Ok(Self { client, tables: HashMap::new() })
    }

    /// The connection, for statements between deltas.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Begins a delta over the tables that changed, from several earlier snapshots at once; its end is
    /// now. `None` when tables turned up that were not known to have changed, or a table was altered
    /// meanwhile: look and cut again.
    ///
    /// # Errors
    /// When the link breaks, a lock is not to be had at once, or a table does not fit.
    pub async fn cut(&mut self, starts: Vec<Since>, changed: &[i32]) -> Result<Option<Delta<'_>>> {
        let mut known = Vec::new();
        for &id in changed {
            known.extend(self.table(id).await?);
        }
        let begin = self.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = within(ANSWER_LIMIT, "beginning a delta", async {
            begin.start().await.map_err(primary("beginning a delta"))
        })
        .await?;
        // Before the first query: TRUNCATE and rewrites are not MVCC-safe, without the lock a table
        // that is being emptied would look empty at a snapshot at which it is not.
        if !known.is_empty() {
            let names: Vec<_> = known.iter().map(|table| table.shape.quoted()).collect();
            let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
            within(ANSWER_LIMIT, "locking tables", async {
                transaction.batch_execute(&lock).await.map_err(primary("locking tables"))
            })
            .await?;
        }
        let mut delta = Delta { transaction, to: None, starts: Vec::new() };
        for since in starts {
            if !delta.add(since, &known).await? {
                return Ok(None);
            }
        }
        Ok(Some(delta))
    }

    /// The table by its number, prepared; `None` if it is not captured any more.
    async fn table(&mut self, id: i32) -> Result<Option<Rc<Table>>> {
        let row = self
            .client
            .query_opt(include_str!("../../sql/primary/captured_table.sql"), &[&id])
            .await
            .map_err(primary("reading a table's registration"))?;
        let Some(row) = row else { return Ok(None) };
        let definition: i64 = row.get("definition");
        if let Some(table) = self.tables.get(&id).filter(|table| table.definition == definition) {
            return Ok(Some(Rc::clone(table)));
        }
        let (columns, key): (Vec<String>, Vec<String>) = (row.get("columns"), row.get("key_columns"));
        let name = (row.get("schema_name"), row.get("table_name"));
        let shape = Shape::read(&self.client, "primary", name, row.get("relation"), &columns, &key).await?;
        let select = self.client.prepare(&shape.select_by_keys()).await.map_err(primary("preparing to read a table"))?;
        let table = Rc::new(Table { id, shape, definition, key_is_row: row.get("key_is_row"), select });
        self.tables.insert(id, Rc::clone(&table));
        Ok(Some(table))
    }
}

/// What changed up to one snapshot, open for reading as long as it lives.
#[derive(Debug)]
pub struct Delta<'a> {
    transaction: Transaction<'a>,
    to: Option<Snapshot>,
    starts: Vec<Start>,
}

/// The changes since one earlier snapshot.
#[derive(Debug)]
struct Start {
    since: Since,
    tables: Vec<(Rc<Table>, bool)>,
}

/// How far the keys of a delta were read.
#[derive(Default)]
pub struct Cursor {
    start: usize,
    portal: Option<Portal>,
}

impl Delta<'_> {
    /// The later snapshot.
    ///
    /// # Errors
    /// Never for a delta that [`Reader::cut`] gave.
    pub fn to(&self) -> Result<&Snapshot> {
        self.to.as_ref().ok_or_else(|| Error::Unfit("a delta without a start".to_owned()))
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.iter().all(|start| start.tables.is_empty())
    }

    /// The tables that were truncated on the way.
    pub fn truncated(&self) -> impl Iterator<Item = &Rc<Table>> {
        let tables = self.starts.iter().flat_map(|start| &start.tables);
        tables.filter(|(_, truncated)| *truncated).map(|(table, _)| table)
    }

    /// Finds the tables that changed since the start; false if one of them is not among the known.
    async fn add(&mut self, since: Since, known: &[Rc<Table>]) -> Result<bool> {
        let doing = "reading which tables changed";
        let statement = include_str!("../../sql/primary/delta_tables.sql");
        let rows = within(READ_LIMIT, doing, async {
            let query = self.transaction.query(statement, &[&text(&since.from), &since.tables]);
            query.await.map_err(primary(doing))
        })
        .await?;
        let mut tables = Vec::new();
        for row in &rows {
            self.to = Some(snapshot(row.get("until"))?);
            let Some(id) = row.get::<_, Option<i32>>("table_id") else { continue };
            let definition: i64 = row.get("definition");
            let Some(table) = known.iter().find(|table| table.id == id && table.definition == definition) else {
                return Ok(false);
            };
            tables.push((Rc::clone(table), row.get("truncated")));
        }
        self.starts.push(Start { since, tables });
        Ok(true)
    }

    /// The next keys of the delta, by table; `None` at the end.
    ///
    /// # Errors
    /// When the link breaks, or a key is not what capture writes.
    pub async fn next(&self, cursor: &mut Cursor) -> Result<Option<Vec<Group>>> {
        while let Some(start) = self.starts.get(cursor.start) {
            if !start.tables.is_empty() {
                let groups = self.fetch(start, &mut cursor.portal).await?;
                if !groups.is_empty() {
                    return Ok(Some(groups));
                }
            }
            *cursor = Cursor { start: cursor.start + 1, portal: None };
        }
        Ok(None)
    }

    async fn fetch(&self, start: &Start, portal: &mut Option<Portal>) -> Result<Vec<Group>> {
        let doing = "reading the changed keys";
        let rows = within(READ_LIMIT, doing, async {
            let portal = match portal {
                Some(portal) => portal,
                None => {
                    let ids: Vec<i32> = start.tables.iter().map(|(table, _)| table.id).collect();
                    let statement = include_str!("../../sql/primary/delta_keys.sql");
                    let bound = self.transaction.bind(statement, &[&text(&start.since.from), &ids]).await;
                    portal.insert(bound.map_err(primary(doing))?)
                }
            };
            self.transaction.query_portal(portal, KEYS_AT_ONCE).await.map_err(primary(doing))
        })
        .await?;
        let mut groups: Vec<Group> = Vec::new();
        for row in &rows {
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

    /// The rows that are there at the delta's end, as (place in the group's keys, row), in no order.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn rows(&self, group: &Group) -> Result<impl Stream<Item = Result<Present>> + use<>> {
        let table = &group.table;
        let arrays = key_arrays(table.shape.key.len(), group.keys.iter().map(|changed| &changed.key));
        let parameters = arrays.iter().map(|array| array as &(dyn ToSql + Sync));
        let doing = "reading the changed rows";
        let rows = within(READ_LIMIT, doing, async {
            self.transaction.query_raw(&table.select, parameters).await.map_err(primary(doing))
        })
        .await?;
        let mut met = Met::new(table.shape.is_respellable());
        let rows = rows.map_err(primary_named).map_ok(move |row| met.present(row));
        Ok(rows.map(|row| row))
    }

    /// Ends the delta.
    ///
    /// # Errors
    /// When the link breaks: what was read is right all the same.
    pub async fn end(self) -> Result<()> {
        let doing = "ending a delta";
        within(ANSWER_LIMIT, doing, async { self.transaction.commit().await.map_err(primary(doing)) }).await
    }
}

/// A row that is there.
#[derive(Debug)]
pub struct Present {
    /// Which of the group's keys asked for it.
    pub at: usize,
    /// Another spelling of its key asked for it before.
    pub again: bool,
    row: Row,
}

impl Present {
    /// The row's text, `(…)`.
    #[must_use]
    pub fn text(&self) -> &str {
        self.row.get(2)
    }
}

/// Where the rows that were met lie, if a row may be met twice.
struct Met(Option<std::collections::HashSet<String>>);

impl Met {
    fn new(respellable: bool) -> Self {
        Self(respellable.then(Default::default))
    }

    fn present(&mut self, row: Row) -> Present {
        let number: i64 = row.get(0);
        let again = self.0.as_mut().is_some_and(|places| !places.insert(row.get(1)));
        Present { at: usize::try_from(number - 1).unwrap_or(usize::MAX), again, row }
    }
}

fn changed_key(table: &Table, row: &Row) -> Result<ChangedKey> {
    let text: &str = row.get("key");
    let key: Key = if table.key_is_row {
        let malformed = |_| Error::Unfit(format!("primary: a logged key of {} is malformed", table.shape.quoted()));
        let fields = record::fields(text).map_err(malformed)?;
        fields.into_iter().map(|field| field.map(|value| value.into_owned().into())).collect()
    } else {
        vec![Some(text.to_owned().into())]
    };
    if key.len() != table.shape.key.len() {
        return Err(Error::Unfit(format!(
            "primary: the key of {} changed while changes under the old one were waiting",
            table.shape.quoted()
        )));
    }
    Ok(ChangedKey { key, net: row.get("net"), old: row.get("old") })
}

fn text(snapshot: &Snapshot) -> String {
    snapshot.to_string()
}

/// Reads a snapshot that the primary printed.
///
/// # Errors
/// When it is none.
pub fn snapshot(text: &str) -> Result<Snapshot> {
    text.parse().map_err(|error| Error::Unfit(format!("primary: {text:?}: {error}")))
}

fn primary(doing: &str) -> impl FnOnce(tokio_postgres::Error) -> Error {
    Error::postgres("primary", doing)
}

fn primary_named(error: tokio_postgres::Error) -> Error {
    primary("reading the changed rows")(error)
}
