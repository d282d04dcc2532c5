//! An open connection, and what is done on it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    mem::replace,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join;
use tokio_postgres::{Client, CopyInSink, CopyOutStream, Row, RowStream, Statement, types::ToSql};

use super::{
    Database,
    backend::{Backend, Seen, end},
    meter::Meter,
};
use crate::error::{Error, Result};

/// What both ends of a row's journey must agree on, so that the text of a value means the same on
/// both; and no name is left to a search path that somebody else chose.
const SETTINGS: &str = include_str!("../../sql/session.sql");

/// How long an answer may take before we ask whether anybody works on it, and from one question to the next.
const DOUBT: Duration = Duration::from_secs(5);

/// The slowest link on which a statement still gets through, in bytes per second.
const SLOWEST: u64 = 16_000;

/// How many bytes may be on their way unseen, in the buffers of the systems between us and the server.
const BUFFERED: u64 = 4 << 20;

/// How long a copy may stand still at a server that tells how far it is. On the slowest link, a message of
/// [`COPY_MESSAGE`] bytes takes a fifth of that.
const STANDSTILL: Duration = Duration::from_secs(20);

/// How many bytes of a copy go into one message: the server counts what it has of a copy by messages.
pub const COPY_MESSAGE: usize = 64 << 10;

/// An open connection. Each statement is prepared once, is awaited for as long as the server works on it and
/// no longer, and errors say where and what for. `doing` continues "while …".
#[derive(Debug)]
pub struct Session {
    client: Client,
    database: Database,
    meter: Arc<Meter>,
    /// The server's end, once the session is set up.
    backend: Option<Backend>,
    /// Whether a transaction was begun here and not ended.
    in_transaction: Cell<bool>,
    statements: RefCell<HashMap<String, Statement>>,
}

impl Session {
    pub(super) fn new(client: Client, database: Database, meter: Arc<Meter>) -> Self {
        let (in_transaction, statements) = (Cell::new(false), RefCell::default());
        Self { client, database, meter, backend: None, in_transaction, statements }
    }

    /// Applies the pinned settings, and ends sessions of this process that were left behind.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn set_up(&mut self) -> Result<()> {
        let first = format!("{SETTINGS}\n{}", Backend::QUERY);
        let answer = self.limited("setting up the session", self.client.simple_query(&first)).await?;
        self.backend = Backend::read(&answer);
        let left = self.database.left();
        if !left.is_empty() {
            end(self, &left).await?;
            self.database.forget(&left);
        }
        Ok(())
    }

    /// `primary`, or `replica NAME`.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database.name
    }

    /// What it is connected to.
    #[must_use]
    pub const fn server(&self) -> &Database {
        &self.database
    }

    /// The driver's client, for what needs it.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs statements without parameters, one round trip for all.
    ///
    /// # Errors
    /// When one fails or the link breaks.
    pub async fn run(&self, doing: &str, statements: &str) -> Result<()> {
        self.limited(doing, self.client.batch_execute(statements)).await
    }

    /// Begins a transaction by these statements, one round trip for all. What an earlier one left open,
    /// because it was given up, ends here.
    ///
    /// # Errors
    /// When one fails or the link breaks.
    pub async fn begin(&self, doing: &str, statements: &str) -> Result<()> {
        let ending = if self.in_transaction.replace(true) { "ROLLBACK; " } else { "" };
        self.run(doing, &format!("{ending}{statements}")).await
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// When it cannot be committed; when the link breaks, whether it was is not known.
    pub async fn commit(&self) -> Result<()> {
        self.run("committing", "COMMIT").await?;
        self.in_transaction.set(false);
        Ok(())
    }

    /// Whether a transaction was begun here and not ended.
    #[must_use]
    pub const fn is_in_transaction(&self) -> bool {
        self.in_transaction.get()
    }

    /// Runs the transaction's last statement and commits, in one round trip: where the statement fails, so
    /// does the transaction, and the server takes the COMMIT for a ROLLBACK.
    ///
    /// # Errors
    /// When the statement fails: nothing is committed then; otherwise as [`Self::commit`].
    pub async fn query_one_and_commit(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row> {
        // Before both: preparing takes a round trip, in which the COMMIT would overtake the statement.
        let statement = self.prepare(doing, sql).await?;
        // What is polled together is sent in this order.
        let (last, committed) =
            join(self.limited(doing, self.client.query_one(&statement, parameters)), self.commit()).await;
        let row = last?;
        committed.map(|()| row)
    }

    /// Gives up the transaction, if there is one.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn roll_back(&self) -> Result<()> {
        match self.in_transaction.replace(false) {
            true => self.run("giving up a transaction", "ROLLBACK").await,
            false => Ok(()),
        }
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// When it fails or the link breaks.
    pub async fn query(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let statement = self.prepare(doing, sql).await?;
        self.limited(doing, self.client.query(&statement, parameters)).await
    }

    /// The one row of a query that has exactly one.
    ///
    /// # Errors
    /// When it fails, has another number of rows, or the link breaks.
    pub async fn query_one(&self, doing: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let statement = self.prepare(doing, sql).await?;
        self.limited(doing, self.client.query_one(&statement, parameters)).await
    }

    /// How many rows a statement affected.
    ///
    /// # Errors
    /// When it fails or the link breaks.
    pub async fn execute(&self, doing: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        let statement = self.prepare(doing, sql).await?;
        self.limited(doing, self.client.execute(&statement, parameters)).await
    }

    /// The rows of a query as they come; each must be awaited with a time limit.
    ///
    /// # Errors
    /// When it fails or the link breaks.
    pub async fn stream<P: ToSql>(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[P],
    ) -> Result<Pin<Box<RowStream>>> {
        let statement = self.prepare(doing, sql).await?;
        self.limited(doing, self.client.query_raw(&statement, parameters)).await.map(Box::pin)
    }

    /// A `COPY … FROM STDIN`, to be finished.
    ///
    /// # Errors
    /// When it fails or the link breaks.
    pub async fn copy_in(&self, doing: &str, sql: &str) -> Result<CopyInSink<Bytes>> {
        let statement = self.prepare(doing, sql).await?;
        self.limited(doing, self.client.copy_in(&statement)).await
    }

    /// What a `COPY … TO STDOUT` sends, a row each; to be awaited with a time limit.
    ///
    /// # Errors
    /// When it fails or the link breaks.
    pub async fn copy_out(&self, doing: &str, sql: &str) -> Result<Pin<Box<CopyOutStream>>> {
        let statement = self.prepare(doing, sql).await?;
        self.limited(doing, self.client.copy_out(&statement)).await.map(Box::pin)
    }

    /// Shows that the session lives, if nothing else is to be done with it: a link may die silently.
    ///
    /// # Errors
    /// When it is dead.
    pub async fn prove(&self) -> Result<()> {
        self.run("asking for a sign of life", "").await
    }

    /// Waits for an answer of this session, for as long as something moves or the server works on it. A
    /// statement may take hours, and a link may swallow everything in silence: so whoever waits for long
    /// asks the server, on another connection, whether it is the server's turn or ours.
    ///
    /// # Errors
    /// Its error with the place and `doing`, or that no answer will come.
    pub async fn limited<T>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let mut work = pin!(work);
        let (started, mut waits_since) = (Instant::now(), None::<Instant>);
        let (mut moved, mut copied) = (self.meter.moved(), None);
        loop {
            let looking = async {
                tokio::time::sleep(DOUBT).await;
                match &self.backend {
                    Some(backend) => backend.look(&self.database).await,
                    None => Seen::Gone,
                }
            };
            let seen = tokio::select! {
                biased;
                result = &mut work => return result.map_err(Error::postgres(self.database(), doing)),
                seen = looking => seen,
            };
            let before = (replace(&mut moved, self.meter.moved()), replace(&mut copied, seen.copied()));
            let (stands, limit) = match seen {
                // What we sent may vanish on its way, while more of it is taken: what counts is what arrives.
                Seen::Waiting { copied: Some(_) } => (copied == before.1, STANDSTILL),
                // What one side sent may not have reached the other one yet.
                Seen::Waiting { copied: None } => {
                    let under_way = self.meter.unanswered().min(BUFFERED) / SLOWEST;
                    (moved == before.0, DOUBT + Duration::from_secs(under_way))
                }
                _ => (false, DOUBT),
            };
            waits_since = if stands { waits_since.or_else(|| Some(Instant::now())) } else { None };
            let lost = waits_since.is_some_and(|since| since.elapsed() >= limit);
            if lost || seen == Seen::Gone {
                let (doing, limit) = (format!("{}: {doing}", self.database()), started.elapsed());
                return Err(Error::Timeout { doing, limit });
            }
        }
    }

    /// Prepares a statement unless it is. What is prepared before is sent at once when it is run: of several
    /// statements that are polled together, in this order.
    ///
    /// # Errors
    /// When it makes no sense to the server, or the link breaks.
    pub async fn prepare(&self, doing: &str, sql: &str) -> Result<Statement> {
        let known = self.statements.borrow().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.limited(doing, self.client.prepare(sql)).await?;
        self.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

impl Drop for Session {
    /// Its connection is closed, but the server hears of that only if the link still works.
    fn drop(&mut self) {
        if let Some(backend) = self.backend.take() {
            self.database.leave(backend);
        }
    }
}
