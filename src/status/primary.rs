//! What the primary tells of itself, and of what a replica lacks.

use std::collections::HashMap;

use serde::Serialize;
use tokio_postgres::Row;

use super::{LIMIT, recent, replica::Position};
use crate::{
    error::Result,
    postgres::{Database, Session, within},
    publisher::BLOCKED,
};

/// What the view `pgfanout_status.primary` shows, with times as they are printed.
const STATUS: &str = concat!(
    "SELECT s.*, to_char(s.last_batch_cut_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS last_batch_cut_at_utc, \
     to_char(s.last_batch_for_all_cut_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS last_batch_for_all_cut_at_utc FROM (\n",
    include_str!("../../sql/primary/status.sql"),
    ") s"
);

/// The primary.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Primary {
    /// Whether it could be asked.
    pub state: PrimaryState,
    /// Why it could not.
    pub error: Option<String>,
    /// Whether somebody looks for changes.
    pub publisher: Option<Publisher>,
    /// What holds it up, with the remedy.
    pub reason: Option<String>,
    /// How many tables are captured.
    pub tables: Option<usize>,
    /// Those of which not all changes are captured any more.
    pub broken_tables: Vec<BrokenTable>,
    /// How large the changelog is.
    pub changelog: Option<Changelog>,
    /// The batch that was cut last, for all replicas if there is a broker.
    pub last_batch: Option<LastBatch>,
}

/// Whether the primary could be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrimaryState {
    /// It answered.
    Reachable,
    /// It answered, and holds no schema of ours.
    NotInstalled,
    /// It did not answer, or refused.
    #[default]
    Unreachable,
}

/// What the session does that cuts batches or, without a broker, wakes the appliers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Publisher {
    /// It looks for changes.
    Publishing,
    /// It found none, and waits for a notification.
    Waiting,
    /// It has changes, and the broker is short of memory or disk and accepts none.
    Blocked,
    /// It has changes, and no connection to the broker.
    Disconnected,
    /// No process looks for changes.
    Down,
}

/// A table of which not all changes are captured any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokenTable {
    /// Its name, quoted where it must be.
    pub table: String,
    /// Why, with the remedy.
    pub reason: String,
}

/// How large the changelog is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Changelog {
    /// About how many entries.
    pub entries: i64,
    /// On disk, with its index.
    pub bytes: i64,
    /// How many were ever logged, by the server's statistics.
    pub logged: i64,
    /// How many a second were logged in about the last minute, if any was applied then.
    pub logged_per_second: Option<f64>,
}

/// The batch that was cut last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastBatch {
    /// Its number.
    pub number: i64,
    /// Whether the broker is known to have all of it.
    pub published: bool,
    /// When, in UTC.
    pub cut_at: String,
    /// How long ago.
    pub seconds_ago: f64,
}

/// What a replica lacks of the changelog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Behind {
    /// How many changes.
    pub changes: i64,
    /// There are more; they were not counted.
    pub at_least: bool,
    /// What their keys and old rows take as they are stored.
    pub bytes: i64,
    /// How long ago the oldest was logged; 0 if there is none.
    pub seconds: f64,
    /// Some that it lacks are gone.
    pub trimmed: bool,
    /// Where it stands is of another history than the primary's.
    #[serde(skip)]
    pub(super) foreign: bool,
}

/// What a replica's applier last told the primary.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reported {
    /// Its state, as the applier sees it.
    pub state: String,
    /// Why it cannot go on.
    pub error: Option<String>,
    /// How long ago.
    pub seconds_ago: f64,
}

/// A primary that answered, and has our schema.
pub(super) struct Source {
    pub(super) session: Session,
    /// Why no changes are passed on, if none are.
    pub(super) held_up: Option<&'static str>,
    /// The installation there.
    pub(super) epoch: String,
    /// The numbers of the captured tables.
    pub(super) tables: Vec<i32>,
    /// By replica.
    pub(super) reports: HashMap<String, Reported>,
    /// What the replicas told of the last minutes.
    pub(super) recent: recent::Told,
}

/// Asks the primary.
pub(super) async fn ask(database: &Database, has_broker: bool) -> (Primary, Option<Source>) {
    match within(LIMIT, "primary: asking for its state", read(database, has_broker)).await {
        Ok(Some((primary, source))) => (primary, Some(source)),
        Ok(None) => (Primary { state: PrimaryState::NotInstalled, ..Primary::default() }, None),
        Err(error) => (Primary { error: Some(error.chain()), ..Primary::default() }, None),
    }
}

async fn read(database: &Database, has_broker: bool) -> Result<Option<(Primary, Source)>> {
    let session = database.connect("pgfanout status").await?;
    if !is_installed(&session, "pgfanout.installation").await? {
        return Ok(None);
    }
    let row = session.query_one("reading the primary's state", STATUS, &[]).await?;
    let publisher = Publisher::from_word(row.get("publisher"));
    let reason = match publisher {
        Publisher::Blocked => Some(BLOCKED),
        Publisher::Disconnected => Some("it has no connection to the broker; its log tells why"),
        Publisher::Publishing | Publisher::Waiting | Publisher::Down => None,
    };
    let mut primary = Primary {
        state: PrimaryState::Reachable,
        publisher: Some(publisher),
        reason: reason.map(str::to_owned),
        changelog: Some(Changelog {
            entries: row.get("changelog_entries"),
            bytes: row.get("changelog_bytes"),
            logged: row.get("changelog_logged"),
            logged_per_second: row.get("changelog_logged_per_second"),
        }),
        last_batch: last_batch(&row, if has_broker { "last_batch_for_all" } else { "last_batch" }),
        ..Primary::default()
    };
    let held_up = reason.or((publisher == Publisher::Down).then_some("no process passes changes on"));
    let tables = read_tables(&session, &mut primary).await?;
    let (reports, recent) = (read_reports(&session).await?, recent::read(&session).await?);
    Ok(Some((primary, Source { epoch: row.get("epoch"), tables, reports, recent, session, held_up })))
}

/// Whether there is a table of ours.
pub(super) async fn is_installed(session: &Session, table: &str) -> Result<bool> {
    let statement = "SELECT to_regclass($1) IS NOT NULL";
    Ok(session.query_one("looking for our schema", statement, &[&table]).await?.get(0))
}

impl Publisher {
    /// As `status.sql` says it.
    fn from_word(word: &str) -> Self {
        match word {
            "down" => Self::Down,
            "blocked" => Self::Blocked,
            "disconnected" => Self::Disconnected,
            "waiting" => Self::Waiting,
            _ => Self::Publishing,
        }
    }
}

/// The last batch, by the columns whose names begin so.
fn last_batch(row: &Row, of: &str) -> Option<LastBatch> {
    let column = |name: &str| format!("{of}{name}");
    Some(LastBatch {
        number: row.get::<_, Option<i64>>(of)?,
        published: row.get(column("_published").as_str()),
        cut_at: row.get(column("_cut_at_utc").as_str()),
        seconds_ago: row.get(column("_seconds_ago").as_str()),
    })
}

async fn read_tables(session: &Session, primary: &mut Primary) -> Result<Vec<i32>> {
    let statement = include_str!("../../sql/primary/status_tables.sql");
    let mut captured = Vec::new();
    for row in session.query("reading the captured tables", statement, &[]).await? {
        match row.get("broken") {
            None => captured.push(row.get("id")),
            Some(reason) => primary.broken_tables.push(BrokenTable { table: row.get("name"), reason }),
        }
    }
    primary.tables = Some(captured.len());
    Ok(captured)
}

async fn read_reports(session: &Session) -> Result<HashMap<String, Reported>> {
    let statement = include_str!("../../sql/primary/status_replicas.sql");
    let rows = session.query("reading the replicas' reports", statement, &[]).await?;
    let report = |row: &Row| Reported {
        state: row.get("state"),
        error: row.get("error"),
        seconds_ago: row.get("seconds_ago"),
    };
    Ok(rows.iter().map(|row| (row.get("name"), report(row))).collect())
}

impl Source {
    /// What a replica lacks that stands at a snapshot.
    ///
    /// # Errors
    /// When the primary does not answer (in time).
    pub(super) async fn behind(&self, position: &Position) -> Result<Behind> {
        let statement = "SELECT * FROM pgfanout.behind($1::text::pg_snapshot, $2, $3)";
        let doing = "counting what a replica lacks";
        let Position { snapshot, batch, token, .. } = position;
        let row = self.session.query_one(doing, statement, &[snapshot, batch, token]).await?;
        Ok(Behind {
            changes: row.get("changes"),
            at_least: row.get("at_least"),
            bytes: row.get("bytes"),
            seconds: row.get("seconds"),
            trimmed: row.get("trimmed"),
            foreign: !row.get::<_, bool>("known"),
        })
    }
}
