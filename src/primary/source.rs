//! A replica's view of the primary: what it reads there, and what it tells it.

use tokio_postgres::{error::SqlState, types::ToSql};

use super::{
    batch::hold,
    look::{SETTINGS, snapshot},
    reader::Reader,
};
use crate::{
    batch::Batch,
    error::{Error, Result},
    postgres::{Database, Session},
    replica::moves::Told as Moves,
    snapshot::Snapshot,
};

/// The connections of one replica to the primary.
#[derive(Debug)]
pub struct Source {
    /// Reads deltas; in a transaction while one is open.
    pub reader: Reader,
    /// For short statements at any time.
    pub control: Session,
    /// The installation found there.
    pub epoch: String,
    /// The publisher's term when we connected; empty: none.
    pub term: String,
}

/// A table that is captured on the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its number.
    pub id: i32,
    /// Its oid there.
    pub relation: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The replicated columns.
    pub columns: Vec<String>,
    /// The columns of its key.
    pub key: Vec<String>,
    /// Raised whenever any of this changed.
    pub definition: i64,
    /// The last transaction that changed rows without a trigger's knowledge.
    pub rewritten: Option<u64>,
    /// The definition that it had since then.
    pub rewritten_definition: Option<i64>,
    /// Why it can't be captured any more, with the remedy.
    pub broken: Option<String>,
}

impl Captured {
    /// About how many rows it has, and how many bytes it takes. Waits while the table is locked against readers: who
    /// asks is about to read it.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn size(&self, primary: &Session) -> Result<(i64, i64)> {
        let statement = include_str!("../../sql/primary/table_size.sql");
        let row = primary.query_one("reading a table's size", statement, &[&self.id]).await?;
        Ok((row.get("rows"), row.get("bytes")))
    }
}

/// The name of a moment of the primary's history: the number and the token of a batch.
pub type Name = (i64, String);

/// What the primary knows of a replica's place in its history.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The primary's present.
    pub now: Snapshot,
    /// Changes of older transactions are gone from the changelog.
    pub trimmed_before: u64,
    /// The first batch that the replica noted and that is not of this history.
    pub unknown: Option<i64>,
    /// Whether the replica noted a batch that is older than all on record.
    pub forgotten: bool,
}

impl Standing {
    /// Compares the histories of the primary and of a replica that noted these names.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn read(primary: &Session, names: &[&Name]) -> Result<Self> {
        let statement = include_str!("../../sql/primary/standing.sql");
        let numbers: Vec<i64> = names.iter().map(|name| name.0).collect();
        let tokens: Vec<&str> = names.iter().map(|name| name.1.as_str()).collect();
        let row = primary.query_one("comparing histories", statement, &[&numbers, &tokens]).await?;
        Ok(Self {
            now: snapshot(row.get("now"))?,
            trimmed_before: transaction(row.get("trimmed_before"))?,
            unknown: row.get("unknown"),
            forgotten: row.get("forgotten"),
        })
    }
}

/// Which installation is there, and the publisher's term.
///
/// # Errors
/// When the link breaks, or pgfanout is not installed there (yet).
pub async fn installation(primary: &Session) -> Result<(String, String)> {
    let statement = include_str!("../../sql/primary/installation.sql");
    // The listener installs it at its start, also where a dump brought another database's along.
    let absent = || Error::Disconnected("primary: pgfanout is not installed there yet".to_owned());
    let found = primary.query_one("reading the installation", statement, &[]).await;
    let row = found.map_err(|error| match error.sqlstate() {
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME | &SqlState::UNDEFINED_FUNCTION) => {
            absent()
        }
        _ => error,
    })?;
    if row.get("in_place") { Ok((row.get("epoch"), row.get("term"))) } else { Err(absent()) }
}

/// The tables that are captured on the primary.
///
/// # Errors
/// When the link breaks.
pub async fn captured(primary: &Session) -> Result<Vec<Captured>> {
    let statement = include_str!("../../sql/primary/captured_tables.sql");
    let rows = primary.query("reading the captured tables", statement, &[]).await?;
    let captured = rows.iter().map(|row| Captured {
        id: row.get("id"),
        relation: row.get("relation"),
        schema: row.get("schema_name"),
        table: row.get("table_name"),
        columns: row.get("columns"),
        key: row.get("key_columns"),
        definition: row.get("definition"),
        rewritten_definition: row.get("rewritten_definition"),
        rewritten: row.get::<_, Option<&str>>("rewritten").and_then(|xid| xid.parse().ok()),
        broken: row.get("broken"),
    });
    Ok(captured.collect())
}

fn transaction(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Error::Unfit(format!("primary: {text:?}: not a transaction")))
}

impl Source {
    /// Connects for the replica of this name.
    ///
    /// # Errors
    /// When the primary cannot be reached, or pgfanout is not installed there (yet).
    pub async fn connect(primary: &Database, replica: &str) -> Result<Self> {
        let control = primary.connect(&format!("pgfanout applier {replica}")).await?;
        let (epoch, term) = installation(&control).await?;
        control.run("setting up the session", SETTINGS).await?;
        let reader = Reader::connect(primary, &format!("pgfanout applier {replica} reader")).await?;
        Ok(Self { reader, control, epoch, term })
    }

    /// Whether a connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.control.is_closed() || self.reader.session().is_closed()
    }

    /// A text that changes whenever a captured table comes, goes or is altered.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn registry(&self) -> Result<String> {
        let statement = include_str!("../../sql/primary/registry.sql");
        Ok(self.control.query_one("reading the registry", statement, &[]).await?.get("registry"))
    }

    /// The tables that are captured there.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn captured(&self) -> Result<Vec<Captured>> {
        captured(&self.control).await
    }

    /// Names the primary's present, from which on no change is trimmed for this replica.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn hold(&self, replica: &str) -> Result<Batch> {
        hold(&self.control, &self.epoch, replica).await
    }

    /// Tells where the replica stands: what is older is not needed here any more.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn report(&self, replica: &str, report: &Report<'_>) -> Result<Told> {
        let statement = include_str!("../../sql/primary/report.sql");
        let (oldest, number) = (report.oldest.to_string(), report.name.map(|name| name.0));
        let token = report.name.map(|name| &name.1);
        let Moves { since, until, ago } = &report.moves;
        let changes = i64::try_from(report.changes).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 9] =
            [&replica, &oldest, &number, &token, &report.state, since, until, ago, &changes];
        let row = self.control.query_one("reporting the position", statement, &parameters).await?;
        Ok(Told {
            published: snapshot(row.get("published"))?,
            trimmed_before: transaction(row.get("trimmed_before"))?,
            registry: self.registry().await?,
        })
    }
}

/// What a replica tells the primary.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The oldest snapshot from which it still needs changes.
    pub oldest: &'a Snapshot,
    /// The oldest name that it noted.
    pub name: Option<&'a Name>,
    /// `following`, `catching-up`, `copying`, `isolating` or `halted`.
    pub state: &'a str,
    /// How it moved since the last report.
    pub moves: Moves,
    /// How many changes it applied with that.
    pub changes: u64,
}

/// What the primary tells in return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The end of the last batch that was cut for all: a replica that does not reach it missed something.
    pub published: Snapshot,
    /// Changes of older transactions are gone from the changelog.
    pub trimmed_before: u64,
    /// Changes whenever a table comes, goes or is altered.
    pub registry: String,
}
