//! Connections to PostgreSQL: silence is noticed, session settings are pinned, identifiers quoted.

mod backend;
mod meter;
mod session;

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_postgres::{Config, Connection, Socket};

pub use self::session::Session;
use self::{
    backend::Backend,
    meter::{Metered, Metering},
};
use crate::error::{Error, Result};

/// How long a connection may take to open, and a server other than PostgreSQL to answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The advisory lock of the session that publishes (on the primary) or applies (on a replica): others
/// stand by. Chosen once, at random.
pub const SESSION_LOCK: i64 = 0x7067_6661_6e6f_7574;

/// Where a connection leads and how errors name it.
#[derive(Clone, Debug)]
pub struct Database {
    /// `primary`, or `replica NAME`.
    pub name: String,
    /// Parsed connection string; its `Debug` hides the password.
    pub config: Config,
    /// Sessions that were dropped here since the last one was opened: the server may not know yet.
    left: Arc<Mutex<Vec<Backend>>>,
}

impl Database {
    /// The database that this connection string means.
    #[must_use]
    pub fn new(name: &str, config: Config) -> Self {
        Self { name: name.to_owned(), config, left: Arc::default() }
    }

    /// Opens a connection with the pinned settings and drives it in a task of its own, which ends when
    /// the session is dropped. `application` appears in `pg_stat_activity`.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses, or does not answer in time.
    pub async fn connect(&self, application: &str) -> Result<Session> {
        let (mut session, connection) = self.open(application).await?;
        actix_rt::spawn(connection);
        session.set_up().await?;
        Ok(session)
    }

    /// As [`Self::connect`], but the caller drives the connection and [sets up](Session::set_up) the session:
    /// for one whose notifications matter.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn open(&self, application: &str) -> Result<(Session, Connection<Socket, Metered<Socket>>)> {
        let mut config = self.config.clone();
        config.application_name(application);
        bound_silence(&mut config);
        Metering::apply(&mut config);
        let metering = Metering::default();
        let opening = async {
            config.connect(metering.clone()).await.map_err(Error::postgres(&self.name, "connecting"))
        };
        let (client, connection) =
            within(ANSWER_LIMIT, &format!("{}: connecting", self.name), opening).await?;
        Ok((Session::new(client, self.clone(), metering.0), connection))
    }

    fn leave(&self, backend: Backend) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).push(backend);
    }

    fn left(&self) -> Vec<Backend> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self, ended: &[Backend]) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).retain(|backend| !ended.contains(backend));
    }
}

/// What the system sees of a link that went silent: nothing comes back at all. The rest is for
/// [`Session::limited`].
fn bound_silence(config: &mut Config) {
    config
        .connect_timeout(Duration::from_secs(10))
        .tcp_user_timeout(Duration::from_secs(20))
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
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

/// Quotes the name of a table for SQL.
#[must_use]
pub fn quote_names(schema: &str, table: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(table))
}
