//! Sessions that may write a replica, unless it is paused.

use tokio_postgres::error::SqlState;

use crate::{
    error::{Error, Result},
    postgres::{Database, Session},
};

/// Settings of a session that writes. Foreign keys and ordinary triggers were obeyed on the primary.
/// Keys are always looked up by index, also where a plan was made while the table was small. And nothing is
/// written outside of a transaction that was [begun](super::state::begin): what is sent along with a BEGIN must not be
/// committed bit by bit should the BEGIN alone fail.
const SETTINGS: &str = "SET session_replication_role = replica; SET plan_cache_mode = force_generic_plan; \
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
    SET lock_timeout = '10s'; SET default_transaction_read_only = on";

/// Opens a session that may write the replica's tables.
///
/// # Errors
/// When the replica cannot be reached or is paused, or the role lacks a privilege.
pub async fn connect(database: &Database, application: &str) -> Result<Session> {
    let session = database.connect(application).await?;
    session.run("setting up the session", SETTINGS).await.map_err(|error| match error.sqlstate() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::Unfit(format!(
            "{}: the role may not set session_replication_role; run as superuser: \
             GRANT SET ON PARAMETER session_replication_role TO the role (PostgreSQL 15 or newer), \
             or make the role a superuser",
            database.name
        )),
        _ => error,
    })?;
    if is_paused(&session).await? { Err(Error::Paused) } else { Ok(session) }
}

/// Whether nothing is to be applied to the replica, until that is taken back.
///
/// # Errors
/// When the link breaks.
pub async fn is_paused(session: &Session) -> Result<bool> {
    let statement = include_str!("../../sql/replica/is_paused.sql");
    Ok(session.query_one("looking whether it is paused", statement, &[]).await?.get(0))
}
