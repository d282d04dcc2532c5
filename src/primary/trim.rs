//! Trimming the changelog: what every replica has is not needed any more.

use crate::{error::Result, postgres::Session};

/// How many entries go in one statement: each is short, so that nothing waits for it.
const ENTRIES_AT_ONCE: i64 = 50_000;

/// Deletes what all replicas have, or what is older or more than is to be kept (hours, bytes) for those
/// that are away: they are copied anew when they come back. Records of batches go, too, but for the last.
///
/// # Errors
/// When the link breaks.
pub async fn trim(primary: &Session, (hours, bytes): (u32, u64), publishes: bool) -> Result<()> {
    let (hours, bytes) = (i32::try_from(hours).unwrap_or(i32::MAX), i64::try_from(bytes).unwrap_or(i64::MAX));
    let limit = include_str!("../../sql/primary/trim_limit.sql");
    let row = primary.query_one("looking what can be trimmed", limit, &[&hours, &bytes, &publishes]).await?;
    let (before, forced): (Option<String>, bool) = (row.get("before"), row.get("forced"));
    let Some(before) = before else { return Ok(()) };
    if forced {
        tracing::warn!(
            event = "changelog_limit",
            hours,
            bytes,
            "the changelog reached its limit: replicas that are away will be copied anew; \
             raise changelog_retention_hours or changelog_max_bytes, or bring them back"
        );
    }
    let statement = include_str!("../../sql/primary/trim.sql");
    // Bounded, so that cutting goes on in between: the rest goes next time.
    for _ in 0..20 {
        if primary.query_one("trimming", statement, &[&before, &ENTRIES_AT_ONCE]).await?.get::<_, i64>(0)
            < ENTRIES_AT_ONCE
        {
            break;
        }
    }
    primary
        .execute("trimming the batches", include_str!("../../sql/primary/trim_batches.sql"), &[])
        .await
        .map(drop)
}
