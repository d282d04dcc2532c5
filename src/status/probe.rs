//! How long a commit on the primary takes until it is seen on the replicas, tried.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_postgres::types::ToSql;

use super::{primary::Source, replica::Told};
use crate::{
    error::Result,
    postgres::{Session, within},
};

/// How long a commit may take to arrive until it is told that it did not.
pub(super) const LIMIT: Duration = Duration::from_secs(4);

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Probed {
    /// It was seen, so long after it was done.
    After(Duration),
    /// It was not seen in time.
    Missed,
}

/// Commits on the primary, and waits for it on the replicas: by the way of every change, through publisher,
/// broker, consumer and applier. Nothing for those that are not asked; whoever does not answer has not shown it.
pub(super) async fn probe(source: &Source, replicas: &[Option<&Told>]) -> Vec<Option<Probed>> {
    if replicas.iter().all(Option::is_none) {
        return vec![None; replicas.len()];
    }
    let deadline = Instant::now() + LIMIT;
    let committed = within(LIMIT, "primary: committing", commit(source)).await;
    let since = Instant::now();
    let committed = committed.as_deref();
    join_all(replicas.iter().map(|told| async move {
        let session = told.as_ref()?.session.as_ref()?;
        let left = deadline.saturating_duration_since(since);
        let arrived = async {
            let transaction = committed.ok()?;
            within(left, "replica: waiting for a commit", arrived(session, transaction, left)).await.ok()
        };
        Some(match arrived.await {
            Some(true) => Probed::After(since.elapsed()),
            Some(false) | None => Probed::Missed,
        })
    }))
    .await
}

async fn commit(source: &Source) -> Result<String> {
    let statement = include_str!("../../sql/primary/probe.sql");
    Ok(source.session.query_one("committing on the primary", statement, &[]).await?.get("transaction"))
}

async fn arrived(replica: &Session, transaction: &str, timeout: Duration) -> Result<bool> {
    let statement = "SELECT pgfanout.wait_for($1::text::xid8, $2 * interval '1 second')";
    let parameters: [&(dyn ToSql + Sync); 2] = [&transaction, &timeout.as_secs_f64()];
    Ok(replica.query_one("waiting for a commit", statement, &parameters).await?.get(0))
}
