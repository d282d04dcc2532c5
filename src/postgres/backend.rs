//! The server's end of a session: whether it works for us, and that it ends when we are gone.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::{Database, Session, within};
use crate::error::{Error, Result};

/// How long the server may take to say what a session does. Connecting included; it is asked because it was
/// silent already.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked whether sessions that were told to end have ended, and how many times.
const END_INTERVAL: Duration = Duration::from_millis(50);
const MAX_LOOKS_FOR_END: u32 = 100;

/// What tells a session from all that ever were on its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pid: i32,
    started: String,
}

/// What the server says of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It executes a statement.
    Working,
    /// It waits for us.
    Waiting {
        /// How many bytes it has of what a `COPY … FROM STDIN` sends, where it tells.
        copied: Option<i64>,
    },
    /// It is gone, or the server cannot be reached.
    Gone,
    /// The server is there and does not tell.
    Unknown,
}

impl Seen {
    /// How many bytes of a copy the server has, where that is known.
    pub(super) const fn copied(self) -> Option<i64> {
        match self {
            Self::Waiting { copied } => copied,
            _ => None,
        }
    }
}

impl Backend {
    /// The query that returns it, to be run with the first statements of a session.
    pub(super) const QUERY: &'static str = include_str!("../../sql/backend.sql");

    /// Finds it in the answer.
    pub(super) fn read(messages: &[SimpleQueryMessage]) -> Option<Self> {
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })?;
        Some(Self { pid: row.get("pid")?.parse().ok()?, started: row.get("backend_start")?.to_owned() })
    }

    /// Asks for it on a connection of its own.
    pub(super) async fn look(&self, database: &Database) -> Seen {
        let looking = async {
            let session = database.connect("pgfanout look").await?;
            let statement = include_str!("../../sql/backend_works.sql");
            let rows =
                session.query("looking after a session", statement, &[&self.pid, &self.started]).await?;
            let Some(row) = rows.first() else { return Ok(Seen::Gone) };
            Ok(match row.get::<_, Option<bool>>("works") {
                Some(true) => Seen::Working,
                Some(false) if row.get("tells_of_copies") => {
                    Seen::Waiting { copied: self.copied(&session).await? }
                }
                Some(false) => Seen::Waiting { copied: None },
                None => Seen::Unknown,
            })
        };
        match Box::pin(within(LOOK_LIMIT, "looking after a session", looking)).await {
            Ok(seen) => seen,
            Err(error) => refused(&error),
        }
    }

    /// How much of a `COPY … FROM STDIN` it has, if it runs one.
    async fn copied(&self, session: &Session) -> Result<Option<i64>> {
        let statement = include_str!("../../sql/backend_copied.sql");
        let rows = session.query("looking after a copy", statement, &[&self.pid]).await?;
        Ok(rows.first().map(|row| row.get("bytes")))
    }
}

/// A server that has no room for one more session has the one we ask for; one that starts has none.
fn refused(error: &Error) -> Seen {
    match error.sqlstate().map(tokio_postgres::error::SqlState::code) {
        None | Some("57P03") => Seen::Gone,
        Some(_) => Seen::Unknown,
    }
}

/// Ends sessions that this process left behind: what they hold, such as locks, would stand in our own way
/// for as long as the server takes them for alive, which over a link that went silent may be hours.
pub(super) async fn end(session: &Session, backends: &[Backend]) -> Result<()> {
    let pids: Vec<i32> = backends.iter().map(|backend| backend.pid).collect();
    let started: Vec<&str> = backends.iter().map(|backend| backend.started.as_str()).collect();
    let statement = include_str!("../../sql/end_backends.sql");
    for _ in 0..MAX_LOOKS_FOR_END {
        let row = session.query_one("ending lost sessions", statement, &[&pids, &started]).await?;
        if row.get::<_, i64>(0) == 0 {
            break;
        }
        tokio::time::sleep(END_INTERVAL).await;
    }
    Ok(())
}
