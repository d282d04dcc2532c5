//! A replica's view of the primary: what it reads there, and what it tells it.

use tokio_postgres::error::SqlState;

use super::{delta::Reader, look::snapshot};
use crate::{
    error::{Error, Result},
    postgres::{Database, Session},
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
    /// Why it can't be captured any more, with the remedy.
    pub broken: Option<String>,
    /// About how many rows it has.
    pub rows: i64,
    /// How many bytes it takes.
    pub bytes: i64,
}

/// What the primary knows of a replica's place in its history.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The primary's present.
    pub now: Snapshot,
    /// Changes of older transactions are gone from the changelog.
    pub trimmed_before: u64,
    /// Whether the batch that the replica applied last was cut here.
    pub batch_is_known: bool,
}

impl Source {
    /// Connects for the replica of this name.
    ///
    /// # Errors
    /// When the primary cannot be reached, or pgfanout is not installed there (yet).
    pub async fn connect(primary: &Database, replica: &str) -> Result<Self> {
        let control = primary.connect(&format!("pgfanout applier {replica}")).await?;
        let statement = "SELECT epoch::text FROM pgfanout.installation";
        let found = control.query_one("reading the installation", statement, &[]).await;
        let row = found.map_err(|error| match error.sqlstate() {
            // The listener installs it at its start.
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => {
                Error::Disconnected("primary: pgfanout is not installed there yet".to_owned())
            }
            _ => error,
        })?;
        let reader = Reader::connect(primary, &format!("pgfanout applier {replica} reader")).await?;
        Ok(Self { reader, control, epoch: row.get(0) })
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
        let statement = include_str!("../../sql/primary/captured_tables.sql");
        let rows = self.control.query("reading the captured tables", statement, &[]).await?;
        let captured = rows.iter().map(|row| Captured {
            id: row.get("id"),
            relation: row.get("relation"),
            schema: row.get("schema_name"),
            table: row.get("table_name"),
            columns: row.get("columns"),
            key: row.get("key_columns"),
            definition: row.get("definition"),
            rewritten: row.get::<_, Option<&str>>("rewritten").and_then(|xid| xid.parse().ok()),
            broken: row.get("broken"),
            rows: row.get("rows"),
            bytes: row.get("bytes"),
        });
        Ok(captured.collect())
    }

    /// How the primary's history and a replica's last batch go together.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn standing(&self, batch: Option<&(i64, String)>) -> Result<Standing> {
        let statement = include_str!("../../sql/primary/standing.sql");
        let (number, token) = (batch.map(|batch| batch.0), batch.map(|batch| &batch.1));
        let row = self.control.query_one("comparing histories", statement, &[&number, &token]).await?;
        let trimmed: &str = row.get("trimmed_before");
        Ok(Standing {
            now: snapshot(row.get("now"))?,
            trimmed_before: trimmed
                .parse()
                .map_err(|_| Error::Unfit(format!("primary: {trimmed:?}: not a transaction")))?,
            batch_is_known: row.get("batch_is_known"),
        })
    }

    /// The primary's present, from which on no change is trimmed for this replica.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn hold(&self, replica: &str) -> Result<Snapshot> {
        let statement = include_str!("../../sql/primary/hold.sql");
        let row = self.control.query_one("registering the replica", statement, &[&replica]).await?;
        snapshot(row.get(0))
    }

    /// Tells where the replica stands: what is older is not needed here any more.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn report(&self, replica: &str, report: &Report<'_>) -> Result<Told> {
        let statement = include_str!("../../sql/primary/report.sql");
        let (oldest, number) = (report.oldest.to_string(), report.batch.map(|batch| batch.0));
        let token = report.batch.map(|batch| &batch.1);
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&replica, &oldest, &number, &token, &report.state];
        let row = self.control.query_one("reporting the position", statement, &parameters).await?;
        Ok(Told { published: snapshot(row.get("published"))?, registry: self.registry().await? })
    }
}

/// What a replica tells the primary.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The oldest snapshot from which it still needs changes.
    pub oldest: &'a Snapshot,
    /// The name of the batch it applied last.
    pub batch: Option<&'a (i64, String)>,
    /// `following`, `catching-up`, `copying` or `halted`.
    pub state: &'a str,
}

/// What the primary tells in return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The end of the last batch that was cut for all: a replica that does not reach it missed something.
    pub published: Snapshot,
    /// Changes whenever a table comes, goes or is altered.
    pub registry: String,
}
