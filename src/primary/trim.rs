//! Trimming the changelog: what every replica has is not needed any more.
//!
//! The changelog is a ring of segments. One is written; when it has some size, another one is, and it is
//! truncated once nobody needs any of its entries. So its room is free at once, whatever transactions are open on
//! the primary, and nothing has to be vacuumed.

use std::time::Duration;

use super::capture::was_locked;
use crate::{
    error::{Error, Result},
    postgres::Session,
};

/// How many segments there are: one that is written, one that is still needed, and one that is free. Each more
/// would be looked into by every query of the changelog.
const SEGMENTS: u64 = 3;

/// How large a segment grows while all replicas follow, but no more than an eighth of the limit.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How long readers of the changelog may have to wait behind the truncation of a segment.
const LOCK_LIMIT: Duration = Duration::from_millis(100);

/// At which parts of a limit, in percent, a warning is due.
const WARNINGS: [u64; 3] = [90, 75, 50];

/// Trims, and warns before it has to take what a replica still needs.
#[derive(Debug)]
pub struct Trimmer {
    hours: u32,
    bytes: u64,
    /// The part of the limit that was warned of.
    warned: u64,
    /// Records of batches up to this number are deleted.
    deleted: i64,
}

/// A segment of the changelog.
#[derive(Clone, Debug)]
struct Segment {
    number: i64,
    written: bool,
    bytes: u64,
    /// The highest transaction in it; `None` if it is empty.
    newest: Option<u64>,
    /// How old the last entry is, in seconds.
    age: f64,
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Segments that nobody needs.
    free: Vec<i64>,
    /// Segments that go though they are needed.
    forced: Vec<i64>,
    /// The segment to be written from now on.
    next: Option<i64>,
}

impl Trimmer {
    /// A trimmer that keeps entries for replicas that are away for so many hours, and up to so many bytes.
    #[must_use]
    pub fn new(hours: u32, bytes: u64) -> Self {
        Self { hours, bytes, warned: 0, deleted: 0 }
    }

    /// Truncates segments that all replicas have, or that are older or more than is to be kept for those that are
    /// away: they are copied anew when they come back. Records of batches go, too, but for the last.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn trim(&mut self, primary: &Session, publishes: bool) -> Result<()> {
        let statement = include_str!("../../sql/primary/segments.sql");
        let rows = primary.query("looking what can be trimmed", statement, &[&publishes]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let needed = xid(row.get("needed"))?;
        let (holder, behind): (Option<String>, f64) = (row.get("holder"), row.get("behind"));
        let mut segments = Vec::new();
        for row in &rows {
            segments.push(Segment {
                number: row.get("number"),
                written: row.get("written"),
                bytes: row.get::<_, i64>("bytes").unsigned_abs(),
                newest: row.get::<_, Option<&str>>("newest").map(xid).transpose()?,
                age: row.get("age"),
            });
        }
        let total = segments.iter().map(|segment| segment.bytes).sum();
        self.warn(total, behind, holder.as_deref());
        let plan = self.plan(&segments, needed);
        for number in plan.free {
            truncate(primary, number, needed).await?;
        }
        for number in plan.forced {
            if truncate(primary, number, u64::MAX).await? {
                tracing::warn!(
                    event = "changelog_limit",
                    hours = self.hours,
                    bytes = self.bytes,
                    "the changelog reached its limit: replicas that are away will be copied anew; \
                     raise changelog_retention_hours or changelog_max_bytes, or bring them back"
                );
            }
        }
        if let Some(next) = plan.next {
            let statement = "SELECT setval('pgfanout.segment', $1)";
            primary.execute("going on to another segment", statement, &[&next]).await?;
        }
        let statement = include_str!("../../sql/primary/trim_batches.sql");
        let row = primary.query_one("trimming the batches", statement, &[&self.deleted]).await?;
        self.deleted = row.get("deleted");
        Ok(())
    }

    fn plan(&self, segments: &[Segment], needed: u64) -> Plan {
        let mut plan = Plan::default();
        let too_old = f64::from(self.hours) * 3600.0;
        let mut total: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut filled: Vec<_> =
            segments.iter().filter_map(|segment| segment.newest.map(|newest| (newest, segment))).collect();
        filled.sort_by_key(|(newest, _)| *newest);
        let mut waiting = 0;
        for (newest, segment) in filled.iter().filter(|(_, segment)| !segment.written) {
            if *newest < needed {
                plan.free.push(segment.number);
                total = total.saturating_sub(segment.bytes);
            } else if total > self.bytes || segment.age > too_old {
                plan.forced.push(segment.number);
                total = total.saturating_sub(segment.bytes);
            } else {
                waiting += 1;
            }
        }
        let Some((_, written)) = filled.iter().find(|(_, segment)| segment.written) else { return plan };
        let full = if waiting == 0 { SEGMENT_BYTES.min(self.bytes / 8) } else { self.bytes / SEGMENTS };
        // One that is truncated only now is taken the next time: its lock may not be to be had.
        let empty = segments.iter().find(|segment| segment.newest.is_none() && !segment.written);
        if written.bytes >= full || total > self.bytes || written.age > too_old {
            plan.next = empty.map(|segment| segment.number);
        }
        plan
    }

    /// Says in time that the limit comes near, each time another part of it is reached.
    fn warn(&mut self, bytes: u64, behind: f64, holder: Option<&str>) {
        let limit_seconds = f64::from(self.hours) * 3600.0;
        let (of_bytes, of_time) = (bytes as f64 / self.bytes as f64, behind / limit_seconds);
        let percent = (of_bytes.max(of_time) * 100.0) as u64;
        let reached = WARNINGS.into_iter().find(|part| percent >= *part).unwrap_or(0);
        if reached > self.warned {
            let left = (limit_seconds - behind).min(behind / of_bytes.max(f64::MIN_POSITIVE) - behind);
            tracing::warn!(
                event = "changelog_grows",
                holder = holder.filter(|name| !name.is_empty()).unwrap_or("the broker"),
                bytes,
                limit_bytes = self.bytes,
                behind_seconds = behind as u64,
                limit_seconds = limit_seconds as u64,
                seconds_left = left.max(0.0) as u64,
                "the changelog keeps changes for one that is away, and has reached {percent} % of its limit; \
                 in about that many seconds it will be trimmed, and replicas that lack changes copied anew"
            );
        }
        self.warned = reached;
    }
}

/// Truncates a segment unless it is in use, or entries of this transaction or later ones came.
async fn truncate(primary: &Session, number: i64, before: u64) -> Result<bool> {
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = {}; LOCK TABLE pgfanout.changelog_{number} IN ACCESS EXCLUSIVE MODE",
        LOCK_LIMIT.as_millis()
    );
    match primary.begin("locking a segment of the changelog", &begin).await {
        // A delta is being read: the next time tries again.
        Err(error) if was_locked(&error) => return primary.roll_back().await.map(|()| false),
        other => other?,
    }
    let statement = include_str!("../../sql/primary/trim.sql");
    let free = primary.query_one("trimming", statement, &[&number, &before.to_string()]).await?;
    if !free.get::<_, bool>("free") {
        return primary.roll_back().await.map(|()| false);
    }
    primary.run("trimming", &format!("TRUNCATE pgfanout.changelog_{number}")).await?;
    primary.commit().await.map(|()| true)
}

fn xid(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Error::Unfit(format!("primary: {text:?}: not a transaction")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(filled: &[(i64, u64, u64)], written: i64) -> Vec<Segment> {
        let segment = |number| {
            let found = filled.iter().find(|(filled, ..)| *filled == number);
            let (bytes, newest) = found.map_or((0, None), |(_, bytes, newest)| (*bytes, Some(*newest)));
            Segment { number, written: number == written, bytes, newest, age: 10.0 }
        };
        (0..3).map(segment).collect()
    }

    #[test]
    fn what_nobody_needs_goes_and_another_one_is_written_when_one_is_full() {
        let trimmer = Trimmer::new(1, 800 << 20);
        let plan = |filled: &[_], written, needed| trimmer.plan(&segments(filled, written), needed);
        let nothing = Plan::default();
        assert_eq!(plan(&[], 0, 10), nothing);
        assert_eq!(plan(&[(0, 1 << 20, 5)], 0, 10), nothing, "a little stays");
        assert_eq!(plan(&[(0, 20 << 20, 50)], 0, 10), Plan { next: Some(1), ..Plan::default() });
        let two = [(0, 20 << 20, 50), (1, 20 << 20, 60)];
        assert_eq!(plan(&two, 1, 10), nothing, "while a replica is away a segment has a larger share");
        assert_eq!(plan(&two, 1, 55), Plan { free: vec![0], next: Some(2), ..Plan::default() });
    }

    #[test]
    fn beyond_the_limit_the_oldest_go_first() {
        let trimmer = Trimmer::new(1, 100 << 20);
        let full = [(0, 40 << 20, 50), (1, 40 << 20, 70), (2, 40 << 20, 30)];
        let plan = trimmer.plan(&segments(&full, 1), 10);
        assert_eq!(plan, Plan { forced: vec![2], ..Plan::default() });
        let plan = trimmer.plan(&segments(&full[..2], 1), 10);
        assert_eq!(plan, Plan { next: Some(2), ..Plan::default() });
        let one = trimmer.plan(&segments(&[(0, 200 << 20, 50)], 0), 10);
        assert_eq!(one, Plan { next: Some(1), ..Plan::default() }, "the one that is written goes next time");
        let mut old = segments(&full[..2], 1);
        old[0].age = 4000.0;
        assert_eq!(trimmer.plan(&old, 10).forced, [0]);
    }
}
