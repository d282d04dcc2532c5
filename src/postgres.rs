//! Connections to PostgreSQL: time limits, pinned session settings, quoting.

use std::{future::Future, time::Duration};

use tokio_postgres::{Client, Config, NoTls};

use crate::error::{Error, Result};

/// How long a connection may take to open, and a short statement to answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What both ends of a row's journey must agree on, so that the text of a value means the same on
/// both; and no name is left to a search path that somebody else chose.
const SESSION: &str = include_str!("../sql/session.sql");

/// Where a connection leads and how errors name it.
#[derive(Clone, Debug)]
pub struct Database {
    /// `primary`, or `replica NAME`.
    pub name: String,
    /// Parsed connection string; its `Debug` hides the password.
    pub config: Config,
}

impl Database {
    /// Opens a connection with the pinned session and drives it in a task of its own, which ends when
    /// the client is dropped. `application` appears in `pg_stat_activity`.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses, or does not answer in time.
    pub async fn connect(&self, application: &str) -> Result<Client> {
        let mut config = self.config.clone();
        config.application_name(application);
        bound_silence(&mut config);
        let opening = async {
            let (client, connection) =
                config.connect(NoTls).await.map_err(Error::postgres(&self.name, "connecting"))?;
            actix_rt::spawn(connection);
            client
                .batch_execute(SESSION)
                .await
                .map_err(Error::postgres(&self.name, "setting up the session"))?;
            Ok(client)
        };
        within(ANSWER_LIMIT, &format!("{}: connecting", self.name), opening).await
    }
}

/// A link that went silent is noticed by keep-alives when idle and by TCP's timeout when not.
pub fn bound_silence(config: &mut Config) {
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
