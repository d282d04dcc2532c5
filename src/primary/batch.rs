//! The primary's record of the batches that were cut.

use std::time::Instant;

use tokio_postgres::types::ToSql;

use super::look::snapshot;
use crate::{batch::Batch, error::Result, postgres::Session, snapshot::Snapshot};

/// Gives a delta a name, and makes everything it saw durable: the commit of the record flushes the
/// primary's log beyond every transaction visible at `to`, also those committed with
/// `synchronous_commit = off`, so that a crash cannot take back what a replica has. `replica` names the
/// one that catches up; `None` is a batch for all. Its changes were committed `since` then; `None`: that is not known.
///
/// # Errors
/// When the primary does not confirm.
pub async fn record(
    primary: &Session,
    epoch: &str,
    replica: Option<&str>,
    from: &Snapshot,
    to: &Snapshot,
    since: Option<Instant>,
) -> Result<Batch> {
    let (from_text, to_text) = (from.to_string(), to.to_string());
    let waited = since.map(|since| since.elapsed().as_secs_f64());
    let statement = include_str!("../../sql/primary/record_batch.sql");
    let parameters: [&(dyn ToSql + Sync); 4] = [&replica, &from_text, &to_text, &waited];
    let row = primary.query_one("recording a batch", statement, &parameters).await?;
    let (number, token, term) = (row.get("number"), row.get("token"), row.get("term"));
    Ok(Batch { epoch: epoch.to_owned(), number, token, term, from: from.clone(), to: to.clone() })
}

/// Names the primary's present, from which on no change is trimmed for this replica, and makes durable all
/// that could be read there before. The batch starts and ends there.
///
/// # Errors
/// When the primary does not confirm.
pub async fn hold(primary: &Session, epoch: &str, replica: &str) -> Result<Batch> {
    let statement = include_str!("../../sql/primary/hold.sql");
    let row = primary.query_one("registering the replica", statement, &[&replica]).await?;
    let (number, token, term, now) =
        (row.get("number"), row.get("token"), row.get("term"), snapshot(row.get("now"))?);
    Ok(Batch { epoch: epoch.to_owned(), number, token, term, from: now.clone(), to: now })
}

/// Begins the publisher's term: batches of earlier ones may be of a history that was lost.
///
/// # Errors
/// When the primary does not confirm.
pub async fn begin_term(primary: &Session) -> Result<()> {
    let statement = include_str!("../../sql/primary/begin_term.sql");
    primary.execute("beginning a term", statement, &[]).await.map(drop)
}

/// Where the next batch for all starts: the end of the last one if it is known to be published, else its
/// start; the first time, now, which is noted: a listener that comes after a crash must not start later.
///
/// # Errors
/// When the primary does not answer.
pub async fn resume_from(primary: &Session) -> Result<Snapshot> {
    let statement = include_str!("../../sql/primary/resume_from.sql");
    let row = primary.query_one("reading the last batch", statement, &[]).await?;
    snapshot(row.get("resume_from"))
}

/// Where batches start that leave out what came before, because it is gone from the changelog: now.
///
/// # Errors
/// When the primary does not answer.
pub async fn start_anew(primary: &Session) -> Result<Snapshot> {
    let statement = include_str!("../../sql/primary/start_anew.sql");
    let row = primary.query_one("starting batches anew", statement, &[]).await?;
    snapshot(row.get("resume_from"))
}

/// Notes that all parts of the batch were confirmed, so that it is not cut again after a restart.
///
/// # Errors
/// When the primary does not answer; it is then published twice, which does no harm.
pub async fn mark_published(primary: &Session, number: i64) -> Result<()> {
    // Without waiting for the disk: whoever comes after a crash cuts it again.
    let update = "UPDATE pgfanout.batch SET published = true \
                  WHERE number = $1 AND set_config('synchronous_commit', 'off', true) IS NOT NULL";
    primary.execute("noting that a batch was published", update, &[&number]).await.map(drop)
}
