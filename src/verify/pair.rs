//! The primary and a replica, side by side.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join;
use tokio_postgres::{error::SqlState, types::ToSql};

use super::outcome::{Difference, Kind, TableOutcome};
use crate::{
    config,
    error::{Error, Result},
    postgres::{Database, Session},
    primary::source::{Captured, Standing, captured, installation},
    shape::{Hashed, Shape, Text, key_arrays},
    snapshot::Snapshot,
};

/// Rows are found by key, also where a plan was made while a table was small, and nobody queues behind us.
const SETTINGS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
    SET enable_sort = off; SET plan_cache_mode = force_custom_plan; SET lock_timeout = '500ms'";

/// Why a table can't be compared that somebody keeps locked.
pub(super) const LOCKED: &str = "it is locked";

/// Connections to a primary and one of its replicas.
pub(super) struct Pair {
    /// To the primary, for statements outside of looks, and to look ahead while rows are hashed.
    pub(super) control: Session,
    /// The side that is right.
    pub(super) primary: Session,
    /// The side that is compared.
    pub(super) replica: Session,
    /// What is hashed of a row.
    pub(super) hashed: Hashed,
    epoch: String,
    name: String,
}

/// A table on both sides.
pub(super) struct Subject<'a> {
    /// As the primary knows it.
    pub(super) captured: &'a Captured,
    /// There.
    pub(super) here: Shape,
    /// On the replica.
    pub(super) there: Shape,
}

/// What a look brought.
pub(super) enum Look {
    /// The rows that are not equal.
    Seen(Vec<Finding>),
    /// The table can't be compared, for this reason, which may pass.
    NotNow(String),
}

/// A row that is not the same on both sides.
pub(super) struct Finding {
    /// What it is, if it did not change since.
    pub(super) difference: Difference,
    /// All texts of its key that were met.
    spellings: Vec<String>,
    /// Whether it changed between the replica's moment and the primary's.
    pub(super) changed: bool,
}

/// A row by its key.
struct Found {
    key: String,
    hash: Option<i64>,
    row: Option<String>,
}

impl Pair {
    /// Connects to both.
    ///
    /// # Errors
    /// When one cannot be reached, or pgfanout is not installed on the primary.
    pub(super) async fn connect(primary: &Database, replica: &config::Replica) -> Result<Self> {
        const APPLICATION: &str = "pgfanout verify";
        let control = primary.connect(APPLICATION).await?;
        let (epoch, _) = installation(&control).await?;
        let name = replica.name.clone();
        let (primary, replica) =
            try_join(primary.connect(APPLICATION), replica.database.connect(APPLICATION)).await?;
        let mut hashed = Hashed::Text;
        for session in [&control, &primary, &replica] {
            session.run("setting up the session", SETTINGS).await?;
            let statement = "SELECT getdatabaseencoding() = 'UTF8'";
            if !session.query_one("reading the encoding", statement, &[]).await?.get::<_, bool>(0) {
                hashed = Hashed::Utf8;
            }
        }
        Ok(Self { control, primary, replica, hashed, epoch, name })
    }

    /// About how many rows a table has, and how many bytes it takes.
    ///
    /// # Errors
    /// When the link breaks.
    pub(super) async fn size(&self, table: &Captured) -> Result<(i64, i64)> {
        table.size(&self.control).await
    }

    /// The tables that are captured; one whose triggers are not all there is told to be broken.
    ///
    /// # Errors
    /// When the link breaks.
    pub(super) async fn captured(&self) -> Result<Vec<Captured>> {
        let mut tables = captured(&self.control).await?;
        let statement = include_str!("../../sql/primary/verify_tables.sql");
        let rows = self.control.query("looking for triggers", statement, &[]).await?;
        let incomplete: HashSet<i32> =
            rows.iter().filter(|row| !row.get::<_, bool>("complete")).map(|row| row.get("id")).collect();
        for table in tables.iter_mut().filter(|table| incomplete.contains(&table.id)) {
            table.broken.get_or_insert_with(|| {
                "primary: a trigger of pgfanout is disabled or gone, and changes are not logged; run pgfanout install"
                    .to_owned()
            });
        }
        Ok(tables)
    }

    /// The table on both sides.
    ///
    /// # Errors
    /// When it does not fit the primary's definition on one of them.
    pub(super) async fn subject<'a>(&self, captured: &'a Captured) -> Result<Subject<'a>> {
        let name = (captured.schema.as_str(), captured.table.as_str());
        let (columns, key) = (&captured.columns, &captured.key);
        let here = Shape::read(&self.primary, name, captured.relation, columns, key).await?;
        let oid = "SELECT coalesce(to_regclass(format('%I.%I', $1::text, $2::text)), 0)::oid";
        let oid: u32 = self.replica.query_one("looking for a table", oid, &[&name.0, &name.1]).await?.get(0);
        if oid == 0 {
            return Err(Error::Unfit(format!("{}: there is no such table", self.replica.database())));
        }
        let there = Shape::read(&self.replica, name, oid, columns, key).await?;
        Ok(Subject { captured, here, there })
    }

    /// Looks at rows by key (texts of rows) on both sides, each in one snapshot, with the changes between.
    ///
    /// # Errors
    /// When a database fails, or the replica is not of the primary's history.
    pub(super) async fn look(&self, table: &Subject<'_>, keys: &[String], values: bool) -> Result<Look> {
        let looked = self.try_look(table, keys, values).await;
        // Whatever came of it: nothing stays locked.
        try_join(self.primary.roll_back(), self.replica.roll_back()).await?;
        match looked {
            Err(error) if is_locked(&error) => Ok(Look::NotNow(LOCKED.to_owned())),
            other => other,
        }
    }

    async fn try_look(&self, table: &Subject<'_>, keys: &[String], values: bool) -> Result<Look> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; LOCK TABLE";
        const MODE: &str = "IN ACCESS SHARE MODE";
        // The replica first: then the primary's moment is not earlier than the replica's.
        let begin = format!("{BEGIN} {} {MODE}", table.there.quoted());
        self.replica.begin("beginning a look", &begin).await?;
        let (position, definition) = match self.position(table.captured.id).await? {
            Ok(position) => position,
            Err(why) => return Ok(Look::NotNow(why)),
        };
        let begin = format!("{BEGIN} pgfanout.changelog, {} {MODE}", table.here.quoted());
        self.primary.begin("beginning a look", &begin).await?;
        let (here, there) = try_join(
            find(&self.primary, &table.here, self.hashed, keys, values),
            find(&self.replica, &table.there, self.hashed, keys, values),
        )
        .await?;
        let mut findings: Vec<Finding> = Vec::new();
        let mut met = HashSet::new();
        for (n, key) in keys.iter().enumerate() {
            // Two spellings of one key are one row.
            findings.extend(
                compare(key, here.get(&n), there.get(&n)).filter(|f| met.insert(f.difference.key.clone())),
            );
        }
        let mut logged = Vec::new();
        for finding in &findings {
            let texts: Result<Vec<String>> =
                finding.spellings.iter().map(|key| logged_key(&table.here, key)).collect();
            logged.push(texts?);
        }
        let all: Vec<&String> = logged.iter().flatten().collect();
        let statement = include_str!("../../sql/primary/touched.sql");
        let (from, id) = (position.to_string(), table.captured.id);
        let row = self.primary.query_one("looking for changes", statement, &[&from, &id, &all]).await?;
        let not_now = |why: &str| Ok(Look::NotNow(why.to_owned()));
        if row.get("trimmed") {
            return not_now("changes that the replica does not have yet were trimmed");
        }
        if row.get::<_, Option<i64>>("definition") != Some(definition) {
            return not_now("it was altered on the primary, and the replica has not taken that up yet");
        }
        let (whole, changed): (bool, Vec<String>) = (row.get("whole"), row.get("keys"));
        let changed: HashSet<String> = changed.into_iter().collect();
        for (finding, texts) in findings.iter_mut().zip(&logged) {
            finding.changed = whole || texts.iter().any(|text| changed.contains(text));
        }
        Ok(Look::Seen(findings))
    }

    /// The replica's position and the table's definition there; or why it can't be compared now.
    async fn position(&self, table: i32) -> Result<Result<(Snapshot, i64), String>> {
        let statement = include_str!("../../sql/replica/verify.sql");
        let rows = self.replica.query("reading the position", statement, &[&table]).await?;
        let Some(row) = rows.first().filter(|row| row.get("joined")) else {
            return Ok(Err("it is not copied there yet, or stands apart".to_owned()));
        };
        let (epoch, snapshot): (Option<&str>, Option<&str>) = (row.get("epoch"), row.get("snapshot"));
        let Some(snapshot) = snapshot.and_then(|text| text.parse::<Snapshot>().ok()) else {
            return Ok(Err("the replica has no position yet".to_owned()));
        };
        let name = (row.get("number"), row.get("token"));
        let standing = Standing::read(&self.control, &[&name]).await?;
        if epoch != Some(&*self.epoch) || standing.unknown.is_some() {
            return Err(Error::Unfit(format!(
                "{}: it is not of this primary's history; see pgfanout status, and run: \
                 pgfanout resync --config FILE --replica {}",
                self.replica.database(),
                self.name
            )));
        }
        Ok(Ok((snapshot, row.get("definition"))))
    }

    /// Where the replica stands, to see whether it moves.
    ///
    /// # Errors
    /// When the link breaks, or pgfanout never ran for it.
    pub(super) async fn stands(&self) -> Result<Option<String>> {
        let statement = "SELECT p.token::text FROM pgfanout.position p ORDER BY p.number DESC LIMIT 1";
        let rows = self.replica.query("reading the position", statement, &[]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// Notes on the replica what came of comparing a table, for `status`.
    ///
    /// # Errors
    /// When the link breaks.
    pub(super) async fn note(&self, table: i32, outcome: &TableOutcome) -> Result<()> {
        // Where an older pgfanout runs, or none ever ran, nothing is there to take it.
        let present = "SELECT to_regclass('pgfanout.verified_table') IS NOT NULL";
        if !self.replica.query_one("looking for our schema", present, &[]).await?.get::<_, bool>(0) {
            return Ok(());
        }
        let (rows, wrong) = (outcome.rows.cast_signed(), outcome.wrong().cast_signed());
        let parameters: [&(dyn ToSql + Sync); 4] = [&table, &rows, &wrong, &outcome.unproved()];
        let statement = include_str!("../../sql/replica/note_verified.sql");
        self.replica.execute("noting what was verified", statement, &parameters).await.map(drop)
    }

    /// Has rows written to the replicas anew.
    ///
    /// # Errors
    /// When the primary fails.
    pub(super) async fn touch(&self, table: &Subject<'_>, wrong: &[Difference]) -> Result<()> {
        let mut keys = Vec::new();
        for difference in wrong {
            keys.push(logged_key(&table.here, &difference.key)?);
        }
        let present: Vec<bool> = wrong.iter().map(|difference| difference.kind != Kind::Extra).collect();
        let statement = include_str!("../../sql/primary/touch.sql");
        self.control
            .query("logging rows to repair", statement, &[&table.captured.id, &keys, &present])
            .await?;
        Ok(())
    }
}

/// Whether a statement gave way to somebody's lock.
pub(super) fn is_locked(error: &Error) -> bool {
    error.sqlstate() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// A difference, to be proved; the key as the side has it that has the row.
fn compare(key: &str, here: Option<&Found>, there: Option<&Found>) -> Option<Finding> {
    let kind = match (here, there) {
        (None, None) => return None,
        (Some(_), None) => Kind::Missing,
        (None, Some(_)) => Kind::Extra,
        (Some(here), Some(there)) if here.hash == there.hash => return None,
        (Some(_), Some(_)) => Kind::Different,
    };
    let spellings: Vec<String> = std::iter::once(key)
        .chain(here.into_iter().chain(there).map(|found| &*found.key))
        .map(str::to_owned)
        .collect();
    let key = here.or(there).map_or_else(|| key.to_owned(), |found| found.key.clone());
    let row = |found: Option<&Found>| found.and_then(|found| found.row.clone());
    let difference = Difference { kind, key, primary: row(here), replica: row(there) };
    Some(Finding { difference, spellings, changed: false })
}

/// The rows with these keys, by the number of the key.
async fn find(
    session: &Session,
    shape: &Shape,
    hashed: Hashed,
    keys: &[String],
    values: bool,
) -> Result<HashMap<usize, Found>> {
    let keys: Vec<_> = keys.iter().map(|key| shape.key_values(key)).collect::<Result<_>>()?;
    let mut parameters: Vec<Text> = key_arrays(shape.key_width(), keys.iter());
    parameters.push(Text(values.to_string()));
    let parameters: Vec<&(dyn ToSql + Sync)> =
        parameters.iter().map(|parameter| parameter as &(dyn ToSql + Sync)).collect();
    let doing = format!("reading rows of {}", shape.quoted());
    let rows = session.query(&doing, &shape.select_hashes_by_keys(hashed), &parameters).await?;
    let found = rows.iter().map(|row| {
        let at = usize::try_from(row.get::<_, i64>("n") - 1).unwrap_or(usize::MAX);
        (at, Found { key: row.get("key"), hash: row.get("hash"), row: row.get("row") })
    });
    Ok(found.collect())
}

/// A key (the text of a row) as the changelog has it.
fn logged_key(shape: &Shape, key: &str) -> Result<String> {
    if shape.key.len() != 1 {
        return Ok(key.to_owned());
    }
    let value = shape.key_values(key)?.pop().flatten();
    Ok(value.map(|value| value.into_owned()).unwrap_or_default())
}
