//! How long changes took to a replica in the last minutes, as its applier told the primary, and how many it applied.

use std::collections::HashMap;

use serde::Serialize;
use tokio_postgres::Row;

use crate::{error::Result, postgres::Session};

/// What the view `pgfanout_status.recent` shows, with the time on the primary.
const RECENT: &str = concat!(
    "SELECT s.*, extract(epoch FROM clock_timestamp())::float8 AS now FROM (\n",
    include_str!("../../sql/primary/status_recent.sql"),
    ") s"
);

/// How long each of the intervals is; `sql/primary/report.sql` has it, too.
const INTERVAL: f64 = 30.0;

/// How many of them are told: a quarter of an hour.
const INTERVALS: usize = 30;

/// How many whole ones count for a rate: a minute.
const FOR_RATE: i64 = 2;

/// The heights of a bar, from the lowest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last minutes of a replica.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recent {
    /// How many seconds each of the delays is of.
    pub interval_seconds: f64,
    /// The longest delay of each interval, the last one up to now; none where it is not known.
    pub delays: Vec<Option<f64>>,
    /// How many changes a second were applied in about the last minute.
    pub applied_per_second: f64,
}

/// An interval in which a replica moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    /// How many intervals ago: 0 is the one that goes on.
    pub(super) ago: i64,
    pub(super) delay: f64,
    pub(super) changes: i64,
}

/// By replica; and for how long the interval goes on.
pub(super) type Told = (HashMap<String, Vec<Moved>>, f64);

/// Reads what the primary was told.
pub(super) async fn read(primary: &Session) -> Result<Told> {
    let (mut told, mut elapsed) = (HashMap::<String, Vec<Moved>>::new(), 0.0);
    for row in primary.query("reading the last minutes", RECENT, &[]).await? {
        elapsed = row.get::<_, f64>("now") % INTERVAL;
        told.entry(row.get("name")).or_default().push(moved(&row));
    }
    Ok((told, elapsed))
}

fn moved(row: &Row) -> Moved {
    Moved { ago: row.get("half_minutes_ago"), delay: row.get("delay_seconds"), changes: row.get("changes") }
}

impl Recent {
    /// Puts together what the primary was told, and how far behind the replica is `now`.
    ///
    /// Whoever is behind by some seconds now was so by less before; and what was applied at some time tells that nothing
    /// else was waiting before for longer. So where a replica did not move its delay is known nevertheless, once it
    /// moved, or turns out to lack nothing; but before the primary knew of it.
    pub(super) fn new(moved: &[Moved], elapsed: f64, now: Option<f64>) -> Self {
        let first = moved.iter().map(|moved| moved.ago).max().unwrap_or(0);
        let (mut delays, mut later) = (Vec::new(), now.map(|now| now + INTERVAL));
        for ago in 0..INTERVALS as i64 {
            let told = moved.iter().filter(|moved| moved.ago == ago).map(|moved| moved.delay);
            let waited = later.map(|later| (later - INTERVAL).max(0.0));
            let waited = waited.filter(|waited| ago <= first || *waited > 0.0);
            later = told.chain(waited).reduce(f64::max);
            delays.insert(0, later);
        }
        let applied: i64 =
            moved.iter().filter(|moved| moved.ago <= FOR_RATE).map(|moved| moved.changes).sum();
        let applied_per_second = applied as f64 / (FOR_RATE as f64).mul_add(INTERVAL, elapsed);
        Self { interval_seconds: INTERVAL, delays, applied_per_second }
    }

    /// A bar for each interval, the highest for the longest delay; a gap where it is not known.
    pub(super) fn bars(&self) -> String {
        let most = self.most().unwrap_or_default().max(f64::MIN_POSITIVE);
        let bar = |delay: &Option<f64>| match delay {
            // Who is behind at all is shown to be.
            Some(seconds) if *seconds > 0.0 => {
                let height = (seconds / most * (BARS.len() - 1) as f64).ceil();
                BARS.get(height as usize).copied().unwrap_or('█')
            }
            Some(_) => BARS[0],
            None => ' ',
        };
        self.delays.iter().map(bar).collect()
    }

    /// The longest delay.
    pub(super) fn most(&self) -> Option<f64> {
        self.delays.iter().flatten().copied().reduce(f64::max)
    }
}
