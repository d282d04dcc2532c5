//! Connections to PostgreSQL: silence is noticed, session settings are pinned, identifiers quoted.

mod backend;
mod link;
mod meter;
mod password;
pub(crate) mod pgpass;
mod session;

use std::{
    error::Error as _,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_postgres::{Config, Connection, Socket, error::SqlState};

use self::{backend::Backend, link::Opening};
pub use self::{
    link::{Link, Tls},
    password::Password,
    session::{COPY_MESSAGE, Session},
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
    /// None: what passes is readable on the way.
    tls: Option<Tls>,
    password: Password,
    /// Sessions that were dropped here since the last one was opened: the server may not know yet.
    left: Arc<Mutex<Vec<Backend>>>,
}

impl Database {
    /// The database that this connection string means.
    #[must_use]
    pub fn new(name: &str, config: Config) -> Self {
        Self { name: name.to_owned(), config, tls: None, password: Password::Given, left: Arc::default() }
    }

    /// The same, reached by TLS.
    #[must_use]
    pub fn secured(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// The same, with the password from there.
    #[must_use]
    pub fn with_password(self, password: Password) -> Self {
        Self { password, ..self }
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
    pub async fn open(&self, application: &str) -> Result<(Session, Connection<Socket, Link>)> {
        let mut config = self.logging_in()?;
        config.application_name(application);
        bound_silence(&mut config);
        Opening::apply(&mut config);
        let opening = Opening::new(self.tls.clone());
        let meter = Arc::clone(&opening.meter);
        let connecting =
            async { config.connect(opening).await.map_err(|error| self.refused(&config, error)) };
        let (client, connection) =
            within(ANSWER_LIMIT, &format!("{}: connecting", self.name), connecting).await?;
        Ok((Session::new(client, self.clone(), meter), connection))
    }

    /// The connection string with the password that is valid now.
    pub(crate) fn logging_in(&self) -> Result<Config> {
        let mut config = self.config.clone();
        let password = self.password.now(&config);
        // Whoever changes it may be in the middle of that, so it is tried again soon.
        let password =
            password.map_err(|why| Error::Disconnected(format!("{}: connecting: {why}", self.name)))?;
        if let Some(password) = password {
            config.password(password.expose());
        }
        Ok(config)
    }

    /// Names the file where the password belongs, if it is about the password.
    fn refused(&self, config: &Config, error: tokio_postgres::Error) -> Error {
        // The driver has no other sign of it.
        let is_missing = error.source().is_some_and(|why| why.to_string() == "password missing");
        match self.password.file() {
            Some(file) if is_missing => Error::Disconnected(format!(
                "{}: connecting: the server asks for a password, and there is none: add the line {} to {}, which \
                 nobody but its owner may read, or name a password_file",
                self.name,
                pgpass::missing(config),
                file.display()
            )),
            Some(file) if error.code() == Some(&SqlState::INVALID_PASSWORD) => {
                let doing = format!(
                    "connecting with the password in {}, which is read each time: correct it there",
                    file.display()
                );
                Error::postgres(&self.name, &doing)(error)
            }
            _ => Error::postgres(&self.name, "connecting")(error),
        }
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
