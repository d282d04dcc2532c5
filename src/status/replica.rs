//! What a replica tells of itself.

use serde::Serialize;
use tokio_postgres::Row;

use super::{
    LIMIT,
    broker::Queue,
    judge::State,
    primary::{Behind, Reported, is_installed},
    recent::Recent,
};
use crate::{
    error::Result,
    postgres::{Database, Session, within},
    replica::session::is_paused,
};

/// What the view `pgfanout_status.replica` shows, with texts as they are printed.
const POSITION: &str = concat!(
    "SELECT s.*, s.snapshot::text AS snapshot_text, \
     to_char(s.applied_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS applied_at_utc FROM (\n",
    include_str!("../../sql/replica/status_position.sql"),
    ") s"
);

/// What the view `pgfanout_status.verified_tables` shows of those that were verified, with times as they are printed.
const VERIFIED: &str = concat!(
    "SELECT s.*, to_char(s.verified_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS verified_at_utc FROM (\n",
    include_str!("../../sql/replica/verified_tables.sql"),
    ") s WHERE s.verified_at IS NOT NULL ORDER BY s.verified_at, s.id"
);

/// A replica.
#[derive(Clone, Debug, Serialize)]
pub struct Replica {
    /// Its name in the configuration.
    pub name: String,
    /// See [the module](super).
    pub state: State,
    /// What more there is to say.
    pub reason: Option<String>,
    /// Where it stands; none before its first table.
    pub position: Option<Position>,
    /// How long a commit on the primary took until it was seen here, tried just now; none if it was not tried, or
    /// not seen in time.
    pub delay_seconds: Option<f64>,
    /// It was tried, and not seen in time.
    #[serde(skip)]
    pub(super) overdue: bool,
    /// What it lacks; none if either side could not say.
    pub behind: Option<Behind>,
    /// Its queue; none if there is no broker.
    pub queue: Option<Queue>,
    /// What its applier last told the primary.
    pub reported: Option<Reported>,
    /// How it did in the last minutes, if it ever reported.
    pub recent: Option<Recent>,
    /// How many tables it has taken up.
    pub tables: Option<usize>,
    /// How many captured tables it has not.
    pub missing_tables: Option<usize>,
    /// The tables that do not stand where the others stand.
    pub copies: Vec<Copy>,
    /// The tables that are set aside.
    pub isolated: Vec<Isolated>,
    /// What came of verifying; none if no table was verified since it was copied.
    pub verified: Option<Verified>,
}

/// What came of verifying a replica's tables, each when that was last done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verified {
    /// Whether all rows of these tables were proved to be right.
    pub right: bool,
    /// How many tables were verified since they were copied.
    pub tables: usize,
    /// When the first of them was, in UTC: the others were later.
    pub since: String,
    /// How long ago that is.
    pub seconds_ago: f64,
    /// Those that were not right.
    pub wrong: Vec<Wrong>,
}

/// A table that was not right when it was last verified.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wrong {
    /// The table's name, quoted where it must be.
    pub table: String,
    /// How many rows differ.
    pub differences: i64,
    /// Why rows could not be compared.
    pub unproved: Option<String>,
    /// When that was.
    pub seconds_ago: f64,
}

/// A table that is set aside.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Isolated {
    /// The table's name, quoted where it must be.
    pub table: String,
    /// What is wrong, with the remedy.
    pub cause: String,
    /// Since when.
    pub seconds_ago: f64,
}

/// Where a replica stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The installation on the primary that it follows.
    #[serde(skip)]
    pub(super) epoch: String,
    /// The moment of the primary's history.
    pub snapshot: String,
    /// The batch that brought it there.
    pub batch: i64,
    /// Its token.
    #[serde(skip)]
    pub(super) token: String,
    /// When, in UTC.
    pub applied_at: String,
}

/// How far the copy of a table is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Copy {
    /// The table's name, quoted where it must be.
    pub table: String,
    /// What is being done.
    pub phase: Phase,
    /// Copied so far.
    pub rows: i64,
    /// The primary's estimate when the copy began; 0 if it had none.
    pub rows_expected: i64,
    /// Of the rows' texts, copied so far.
    pub bytes: i64,
    /// The table's size on the primary when the copy began.
    pub bytes_expected: i64,
    /// How much of it is copied.
    pub percent: Option<f64>,
    /// In the last minute.
    pub rows_per_second: Option<f64>,
    /// In the last minute.
    pub bytes_per_second: Option<f64>,
    /// Until all rows are copied, at that rate.
    pub seconds_left: Option<f64>,
}

/// What is being done for a table that does not stand where the others stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing yet.
    Waiting,
    /// Rows are copied.
    Rows,
    /// All rows are there; changes since the copy's start, and indexes, follow.
    Completing,
    /// It is whole, and about to be brought to where the others stand.
    Joining,
}

/// A replica's answer.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// To ask more.
    pub(super) session: Option<Session>,
    /// Whether nothing is to be applied.
    pub(super) paused: bool,
    /// Whether our schema is there.
    pub(super) installed: bool,
    /// Whether a process applies.
    pub(super) applied_to: bool,
    pub(super) position: Option<Position>,
    /// The numbers of the tables that it has taken up.
    pub(super) tables: Vec<i32>,
    pub(super) copies: Vec<Copy>,
    pub(super) isolated: Vec<Isolated>,
    pub(super) verified: Option<Verified>,
}

/// Asks a replica.
pub(super) async fn ask(database: &Database) -> Result<Told> {
    within(LIMIT, &format!("{}: asking for its state", database.name), read(database)).await
}

async fn read(database: &Database) -> Result<Told> {
    let session = database.connect("pgfanout status").await?;
    let paused = is_paused(&session).await?;
    if !is_installed(&session, "pgfanout.isolated_table").await? {
        return Ok(Told { paused, ..Told::default() });
    }
    let row = session.query_one("reading the position", POSITION, &[]).await?;
    let mut told = Told { paused, installed: true, applied_to: row.get("applied_to"), ..Told::default() };
    told.position = position(&row);
    let statement = include_str!("../../sql/replica/status_tables.sql");
    for row in session.query("reading the replicated tables", statement, &[]).await? {
        told.tables.push(row.get("id"));
        if row.get("apart") {
            told.copies.push(copy(&row));
        }
    }
    let statement = include_str!("../../sql/replica/isolated_tables.sql");
    let rows = session.query("reading which tables are set aside", statement, &[]).await?;
    let isolated = |row: &Row| Isolated {
        table: row.get("name"),
        cause: row.get("cause"),
        seconds_ago: row.get("seconds_ago"),
    };
    told.isolated = rows.iter().map(isolated).collect();
    if is_installed(&session, "pgfanout.verified_table").await? {
        told.verified = verified(&session.query("reading what was verified", VERIFIED, &[]).await?);
    }
    told.session = Some(session);
    Ok(told)
}

/// From a row for each table that was verified, the first of them first.
fn verified(rows: &[Row]) -> Option<Verified> {
    let first = rows.first()?;
    let is_right = |row: &&Row| {
        row.get::<_, i64>("differences") == 0 && row.get::<_, Option<&str>>("unproved").is_none()
    };
    let wrong = |row: &Row| Wrong {
        table: row.get("name"),
        differences: row.get("differences"),
        unproved: row.get("unproved"),
        seconds_ago: row.get("seconds_ago"),
    };
    Some(Verified {
        right: rows.iter().all(|row| is_right(&row)),
        tables: rows.len(),
        since: first.get("verified_at_utc"),
        seconds_ago: first.get("seconds_ago"),
        wrong: rows.iter().filter(|row| !is_right(row)).map(wrong).collect(),
    })
}

fn position(row: &Row) -> Option<Position> {
    Some(Position {
        epoch: row.get::<_, Option<String>>("epoch")?,
        snapshot: row.get("snapshot_text"),
        batch: row.get("batch"),
        token: row.get("token"),
        applied_at: row.get("applied_at_utc"),
    })
}

fn copy(row: &Row) -> Copy {
    let mut copy = Copy {
        table: row.get("name"),
        phase: Phase::from_word(row.get("phase")),
        rows: row.get("rows"),
        rows_expected: row.get("rows_expected"),
        bytes: row.get("bytes"),
        bytes_expected: row.get("bytes_expected"),
        percent: None,
        rows_per_second: row.get("rows_per_second"),
        bytes_per_second: row.get("bytes_per_second"),
        seconds_left: None,
    };
    copy.estimate();
    copy
}

impl Phase {
    /// As `status_tables.sql` says it.
    fn from_word(word: &str) -> Self {
        match word {
            "waiting" => Self::Waiting,
            "completing" => Self::Completing,
            "joining" => Self::Joining,
            _ => Self::Rows,
        }
    }
}

impl Copy {
    /// Works out percent and time left. Rows are better than bytes: a row's text is not as large as the
    /// row on disk.
    pub(super) fn estimate(&mut self) {
        if matches!(self.phase, Phase::Completing | Phase::Joining) {
            (self.percent, self.seconds_left) = (Some(100.0), Some(0.0));
            return;
        }
        let (done, expected, rate) = match self.rows_expected {
            0 => (self.bytes, self.bytes_expected, self.bytes_per_second),
            rows => (self.rows, rows, self.rows_per_second),
        };
        let (done, expected) = (done as f64, expected as f64);
        self.percent = (expected > 0.0).then(|| (1000.0 * done / expected).floor().min(1000.0) / 10.0);
        self.seconds_left = rate
            .filter(|rate| *rate > 0.0 && expected > 0.0)
            .map(|rate| ((expected - done).max(0.0) / rate).round());
    }
}
