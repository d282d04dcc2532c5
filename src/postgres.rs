//! Connections to PostgreSQL: time limits, pinned session settings, prepared statements, quoting.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use tokio_postgres::{
    Client, Config, Connection, CopyInSink, NoTls, Row, RowStream, Socket, Statement, tls::NoTlsStream,
    types::ToSql,
};

use crate::error::{Error, Result};

/// How long a connection may take to open, and a short statement to answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How long a statement over many rows may take to answer.
pub const WORK_LIMIT: Duration = Duration::from_secs(600);

/// The advisory lock of the session that publishes (on the primary) or applies (on a replica): others
/// stand by. Chosen once, at random.
pub const SESSION_LOCK: i64 = 0x7067_6661_6e6f_7574;

/// What both ends of a row's journey must agree on, so that the text of a value means the same on
/// both; and no name is left to a search path that somebody else chose.
pub const SETTINGS: &str = include_str!("../sql/session.sql");

/// Where a connection leads and how errors name it.
#[derive(Clone, Debug)]
pub struct Database {
    /// `primary`, or `replica NAME`.
    pub name: String,
    /// Parsed connection string; its `Debug` hides the password.
    pub config: Config,
}

impl Database {
    /// Opens a connection with the pinned settings and drives it in a task of its own, which ends when
    /// the session is dropped. `application` appears in `pg_stat_activity`; `limit` is how long a
    /// statement may take to answer.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses, or does not answer in time.
    pub async fn connect(&self, application: &str, limit: Duration) -> Result<Session> {
        let (session, connection) = self.open(application, limit).await?;
        actix_rt::spawn(connection);
        session.run("setting up the session", SETTINGS).await?;
        Ok(session)
    }

    /// As [`Self::connect`], but the caller drives the connection and applies no settings: for a
    /// connection whose notifications matter.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn open(
        &self,
        application: &str,
        limit: Duration,
    ) -> Result<(Session, Connection<Socket, NoTlsStream>)> {
        let mut config = self.config.clone();
        config.application_name(application);
        bound_silence(&mut config);
        let opening =
            async { config.connect(NoTls).await.map_err(Error::postgres(&self.name, "connecting")) };
        let (client, connection) =
            within(ANSWER_LIMIT, &format!("{}: connecting", self.name), opening).await?;
        Ok((
            Session {
                client,
                database: self.name.clone(),
                limit,
                in_transaction: Cell::new(false),
                statements: RefCell::default(),
            },
            connection,
        ))
    }
}

/// A link that went silent is noticed by keep-alives when idle and by TCP's timeout when not.
fn bound_silence(config: &mut Config) {
    config
        .connect_timeout(Duration::from_secs(10))
        .tcp_user_timeout(Duration::from_secs(20))
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
}

/// An open connection. Each statement is prepared once, has a time limit, and errors say where and what
/// for. `doing` continues "while …".
#[derive(Debug)]
pub struct Session {
    client: Client,
    database: String,
    limit: Duration,
    /// Whether a transaction was begun here and not ended.
    in_transaction: Cell<bool>,
    statements: RefCell<HashMap<String, Statement>>,
}

impl Session {
    /// `primary`, or `replica NAME`.
    #[must_use]
    pub fn database(&self) -> &str {
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

    /// Waits for an answer of this session for as long as it may take.
    ///
    /// # Errors
    /// Its error with the place and `doing`, or that no answer came.
    pub async fn limited<T>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        match tokio::time::timeout(self.limit, work).await {
            Ok(result) => result.map_err(Error::postgres(&self.database, doing)),
            Err(_) => Err(Error::Timeout { doing: format!("{}: {doing}", self.database), limit: self.limit }),
        }
    }

    async fn prepare(&self, doing: &str, sql: &str) -> Result<Statement> {
        let known = self.statements.borrow().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.limited(doing, self.client.prepare(sql)).await?;
        self.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Runs `work` with a time limit.
///
/// # Errors
/// That of `work`, or [`Error::Timeout`].
pub async fn within<T>(limit: Duration, doing: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Error::Timeout { doing: doing.to_owned(), limit }))
}

/// Quotes an identifier for SQL.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
