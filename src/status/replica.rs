//! What a replica tells of itself.

use serde::Serialize;

use super::{
    LIMIT,
    broker::Queue,
    judge::State,
    primary::{Behind, Reported, is_installed, lock_holder},
};
use crate::{
    error::Result,
    postgres::{Database, Session, within},
    replica::session::is_paused,
};

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
    /// How many tables it has taken up.
    pub tables: Option<usize>,
    /// How many captured tables it has not.
    pub missing_tables: Option<usize>,
    /// The tables that do not stand where the others stand.
    pub copies: Vec<Copy>,
    /// The tables that are set aside.
    pub isolated: Vec<Isolated>,
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
    let applied_to = lock_holder(&session).await?.is_some();
    let mut told = Told { paused, installed: true, applied_to, ..Told::default() };
    told.position = read_position(&session).await?;
    let statement = include_str!("../../sql/replica/status_tables.sql");
    for row in session.query("reading the replicated tables", statement, &[]).await? {
        told.tables.push(row.get("id"));
        if row.get("apart") {
            told.copies.push(copy(&row));
        }
    }
    let statement = include_str!("../../sql/replica/isolated_tables.sql");
    let rows = session.query("reading which tables are set aside", statement, &[]).await?;
    let isolated = |row: &tokio_postgres::Row| Isolated {
        table: row.get("name"),
        cause: row.get("cause"),
        seconds_ago: row.get("seconds_ago"),
    };
    told.isolated = rows.iter().map(isolated).collect();
    told.session = Some(session);
    Ok(told)
}

async fn read_position(session: &Session) -> Result<Option<Position>> {
    let statement = include_str!("../../sql/replica/status_position.sql");
    let rows = session.query("reading the position", statement, &[]).await?;
    Ok(rows.first().map(|row| Position {
        epoch: row.get("epoch"),
        snapshot: row.get("snapshot"),
        batch: row.get("number"),
        token: row.get("token"),
        applied_at: row.get("applied_at"),
    }))
}

fn copy(row: &tokio_postgres::Row) -> Copy {
    let mut copy = Copy {
        table: row.get("name"),
        phase: phase(row),
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

fn phase(row: &tokio_postgres::Row) -> Phase {
    let (copying, planned): (bool, bool) = (row.get("copying"), row.get("planned"));
    let (pieces, open): (i64, i64) = (row.get("pieces"), row.get("open"));
    match (copying, pieces) {
        (false, _) => Phase::Joining,
        (true, 0) => Phase::Waiting,
        (true, _) if planned && open == 0 => Phase::Completing,
        (true, _) => Phase::Rows,
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
