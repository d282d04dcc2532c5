//! How long a commit on the primary takes until it is seen on the replicas, tried.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_postgres::types::ToSql;

use super::{primary::Source, replica::Told};
use crate::{error::Result, postgres::Session};

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
/// broker, consumer and applier. Nothing for a replica that could not answer.
pub(super) async fn probe<'a>(source: &Source, replicas: &[Option<&'a Told>]) -> Vec<Option<Probed>> {
    if replicas.iter().all(Option::is_none) {
        return vec![None; replicas.len()];
    }
    let statement = include_str!("../../sql/primary/probe.sql");
    let Ok(row) = source.session.query_one("committing on the primary", statement, &[]).await else {
        return vec![None; replicas.len()];
    };
    let (transaction, since): (&str, _) = (row.get("transaction"), Instant::now());
    let waiting = |told: Option<&'a Told>| {
        let session = told.and_then(|told| told.session.as_ref());
        async move {
            let arrived = arrived(session?, transaction).await.ok()?;
            Some(if arrived { Probed::After(since.elapsed()) } else { Probed::Missed })
        }
    };
    join_all(replicas.iter().copied().map(waiting)).await
}

async fn arrived(replica: &Session, transaction: &str) -> Result<bool> {
    let statement = "SELECT pgfanout.wait_for($1::text::xid8, $2 * interval '1 second')";
    let parameters: [&(dyn ToSql + Sync); 2] = [&transaction, &LIMIT.as_secs_f64()];
    Ok(replica.query_one("waiting for a commit", statement, &parameters).await?.get(0))
}
