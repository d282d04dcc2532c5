//! What is to be reached.

use std::fmt;

use super::stage::System::{self, Bare, CaptureFull, CaptureKey, Logical, OneAway, Pgfanout};

/// Something to be reached in a workload.
pub(crate) struct Goal {
    pub(crate) workload: &'static str,
    /// How the name of the measure ends.
    pub(crate) what: &'static str,
    pub(crate) subject: System,
    /// The yardstick of the ratio; none: the value itself counts.
    pub(crate) against: Option<System>,
    reach: Reach,
}

enum Reach {
    AtLeast(f64),
    AtMost(f64),
}
use Reach::{AtLeast, AtMost};

impl Goal {
    pub(crate) fn is_reached_by(&self, value: f64) -> bool {
        match self.reach {
            AtLeast(least) => value >= least,
            AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, value) = match self.reach {
            AtLeast(least) => ("at least", least),
            AtMost(most) => ("at most", most),
        };
        match self.against {
            Some(yardstick) => write!(formatter, "{} / {yardstick}, {words} {value}", self.subject),
            None => write!(formatter, "{}, {words} {value}", self.subject),
        }
    }
}

const fn goal(
    workload: &'static str,
    what: &'static str,
    subject: System,
    against: Option<System>,
    reach: Reach,
) -> Goal {
    Goal { workload, what, subject, against, reach }
}

pub(crate) const GOALS: [Goal; 31] = [
    goal("B1", "tps", Pgfanout, Some(Logical), AtLeast(1.2)),
    goal("B1", "tps", CaptureFull, Some(Bare), AtLeast(0.8)),
    goal("B1", "tps", CaptureKey, Some(Bare), AtLeast(0.88)),
    goal("B1", "CPU of the primary a change, µs", Pgfanout, Some(Bare), AtMost(1.31)),
    goal("B1", "CPU of a replica a change, µs", Pgfanout, Some(Logical), AtMost(0.48)),
    goal("B1", "longest delay, ms", Pgfanout, None, AtMost(1000.0)),
    goal("B1", "drained after, ms", Pgfanout, None, AtMost(1000.0)),
    goal("B2", "CPU of a replica a change, µs", Pgfanout, Some(Logical), AtMost(0.5)),
    goal("B3", "INSERT statement, s", Pgfanout, Some(Bare), AtMost(1.8)),
    goal("B3", "UPDATE statement, s", Pgfanout, Some(Bare), AtMost(2.0)),
    goal("B3", "DELETE statement, s", Pgfanout, Some(Bare), AtMost(4.0)),
    goal("B3", "INSERT until seen, s", Pgfanout, Some(Logical), AtMost(0.9)),
    goal("B3", "UPDATE until seen, s", Pgfanout, Some(Logical), AtMost(0.7)),
    goal("B3", "DELETE until seen, s", Pgfanout, Some(Logical), AtMost(0.9)),
    goal("B4", "delay p50, ms", Pgfanout, Some(Logical), AtMost(2.2)),
    goal("B4", "delay p50, ms", Pgfanout, None, AtMost(5.0)),
    goal("B4", "delay p99, ms", Pgfanout, None, AtMost(15.0)),
    goal("B5", "rows a second to each replica", Pgfanout, Some(Logical), AtLeast(1.0)),
    goal("B5", "rows a second to each replica", Pgfanout, Some(Bare), AtLeast(0.9)),
    goal("B6", "caught up after, s", Pgfanout, Some(Logical), AtMost(0.25)),
    goal("B7", "CPU of the primary a change, of that with one", Pgfanout, None, AtMost(1.1)),
    goal("B8", "tps, of those without", Pgfanout, None, AtLeast(0.95)),
    goal("B8", "median delay, of that without", Pgfanout, None, AtMost(1.1)),
    goal("B8", "CPU of the primary a change, of that without", Pgfanout, None, AtMost(1.05)),
    goal("B1", "RSS, MiB", Pgfanout, None, AtMost(80.0)),
    goal("B3", "RSS, MiB", Pgfanout, None, AtMost(256.0)),
    goal("B9", "idle CPU of pgfanout, % of a core", Pgfanout, None, AtMost(0.5)),
    goal("B10", "tps", OneAway, Some(Pgfanout), AtLeast(0.95)),
    goal("B10", "median delay, ms", OneAway, Some(Pgfanout), AtMost(1.1)),
    goal("B11", "narrow rows verified a second", Pgfanout, None, AtLeast(300_000.0)),
    goal("B9", "RSS, MiB", Pgfanout, None, AtMost(80.0)),
];
