//! Capturing a table's changes, and giving it up.

use std::{future::Future, time::Duration};

use tokio_postgres::error::SqlState;

use crate::{
    config::OldRecord,
    error::{Error, Result},
    postgres::Session,
};

/// Captures a table, or renews its capture where the table or what is asked changed, and returns its
/// number. Does nothing, and takes no lock, where it is captured as asked.
///
/// It waits for every writer of the table, for at most `lock_timeout`, since others queue behind it:
/// try again while [`was_locked`]. Another number than before means that the old capture had a gap, and
/// the table has to be copied anew.
///
/// # Errors
/// [`Error::Unfit`], with the table, the reason and the remedy, when it can't be captured.
pub async fn capture(
    primary: &Session,
    relation: u32,
    old_record: OldRecord,
    lock_timeout: Duration,
) -> Result<i32> {
    let old_record = match old_record {
        OldRecord::Full => "full",
        OldRecord::Key => "key",
    };
    let statement = "SELECT pgfanout.capture($1, $2)";
    bounded(primary, lock_timeout, async {
        primary.query_one("capturing a table", statement, &[&relation, &old_record]).await
    })
    .await
    .map(|row| row.get(0))
    .map_err(refused)
}

/// Gives up a table: its triggers and its registration go, what was logged stays. Returns whether it
/// was captured. It waits for readers too, as [`capture`] does for writers.
///
/// # Errors
/// When the lock is not to be had in time, or the link breaks.
pub async fn release(primary: &Session, id: i32, lock_timeout: Duration) -> Result<bool> {
    let statement = "SELECT pgfanout.release($1)";
    bounded(primary, lock_timeout, primary.query_one("releasing a table", statement, &[&id]))
        .await
        .map(|row| row.get(0))
}

/// Whether a lock was not to be had, so that trying again may help.
#[must_use]
pub fn was_locked(error: &Error) -> bool {
    matches!(error.sqlstate(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED))
}

/// Has an autovacuum that is in the way told to give way: PostgreSQL does so when it looks for a deadlock. Before any limit
/// of ours passes, or a large table would be captured hours later. Only superusers may set it, as our role on the primary
/// is.
const AUTOVACUUM_GIVES_WAY: &str =
    "SELECT set_config('deadlock_timeout', '100ms', true) WHERE current_setting('is_superuser') = 'on'";

/// Runs `work` in a transaction that waits no longer for a lock than `lock_timeout`.
pub(super) async fn bounded<T>(
    primary: &Session,
    lock_timeout: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let begin =
        format!("BEGIN; SET LOCAL lock_timeout = {}; {AUTOVACUUM_GIVES_WAY}", lock_timeout.as_millis());
    primary.run("beginning", &begin).await?;
    let result = work.await;
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    if !primary.is_closed() {
        primary.run("ending", end).await?;
    }
    result
}

/// What the primary's functions refuse has a text for the operator.
fn refused(error: Error) -> Error {
    let answer = match &error {
        Error::Postgres { source, .. } => source.as_db_error(),
        _ => None,
    };
    match answer {
        Some(answer)
            if [SqlState::FEATURE_NOT_SUPPORTED, SqlState::UNDEFINED_TABLE].contains(answer.code()) =>
        {
            Error::Unfit(format!("primary: {}", answer.message()))
        }
        _ => error,
    }
}
