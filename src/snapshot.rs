//! One moment of the primary's history, and the algebra of such moments.

use std::{fmt, str::FromStr};

/// PostgreSQL's `pg_snapshot`: which transactions had ended at one moment.
///
/// As a set it holds the ended ones. Snapshots of one primary are totally ordered by inclusion, since
/// transactions only ever end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every transaction below has ended.
    xmin: u64,
    /// No transaction from here on has ended.
    xmax: u64,
    /// Those between the two that were in progress, ascending.
    in_progress: Vec<u64>,
}

/// The text is not a snapshot.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot (xmin:xmax:xid,xid,…)")]
pub struct ParseSnapshotError;

impl Snapshot {
    /// Every transaction below this one has ended.
    #[must_use]
    pub const fn xmin(&self) -> u64 {
        self.xmin
    }

    /// The transactions that were in progress.
    #[must_use]
    pub fn in_progress(&self) -> &[u64] {
        &self.in_progress
    }

    /// Whether the transaction had ended.
    #[must_use]
    pub fn contains(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }

    /// Whether every transaction that had ended here had ended there, too: this moment is not later.
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        if other.in_progress.iter().any(|&xid| self.contains(xid)) {
            return false;
        }
        // What lies beyond the other's end must not have ended here.
        let beyond = self.xmax.saturating_sub(other.xmax);
        let in_progress_beyond = self.in_progress.iter().filter(|&&xid| xid >= other.xmax).count() as u64;
        beyond == in_progress_beyond
    }
}

impl FromStr for Snapshot {
    type Err = ParseSnapshotError;

    fn from_str(text: &str) -> Result<Self, ParseSnapshotError> {
        let mut fields = text.split(':');
        let mut number = || fields.next().and_then(|digits| digits.parse::<u64>().ok());
        let (xmin, xmax) = (number().ok_or(ParseSnapshotError)?, number().ok_or(ParseSnapshotError)?);
        let list = fields.next().ok_or(ParseSnapshotError)?;
        let in_progress = list
            .split(',')
            .filter(|digits| !digits.is_empty())
            .map(|digits| digits.parse().map_err(|_| ParseSnapshotError))
            .collect::<Result<Vec<u64>, _>>()?;
        let ordered = in_progress.is_sorted_by(|a, b| a < b);
        let inside = in_progress.iter().all(|xid| (xmin..xmax).contains(xid));
        if fields.next().is_some() || xmin == 0 || xmin > xmax || !ordered || !inside {
            return Err(ParseSnapshotError);
        }
        Ok(Self { xmin, xmax, in_progress })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (n, xid) in self.in_progress.iter().enumerate() {
            write!(f, "{}{xid}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().expect("a snapshot")
    }

    #[test]
    fn a_snapshot_comes_back_as_it_was_printed() {
        for text in ["1:1:", "10:20:10,15", "730:731:730"] {
            assert_eq!(snapshot(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:2", "2:1:", "1:5:7", "1:9:5,3", "1:9:3,3", "a:2:", "1:2::", "0:1:", "-1:2:"]
        {
            assert_eq!(text.parse::<Snapshot>(), Err(ParseSnapshotError), "{text}");
        }
    }

    /// A history: transactions 1… end in some order, each possibly never.
    fn moments() -> impl Strategy<Value = (BTreeSet<u64>, BTreeSet<u64>)> {
        let ended = prop::collection::btree_set(1_u64..12, 0..12);
        (ended, prop::collection::btree_set(1_u64..12, 0..12))
    }

    /// Any spelling of the set of ended transactions; a server may give a later `xmax` than it must.
    fn spell(ended: &BTreeSet<u64>, slack: u64) -> Snapshot {
        let xmax = ended.last().map_or(1, |last| last + 1) + slack;
        let in_progress: Vec<u64> = (1..xmax).filter(|xid| !ended.contains(xid)).collect();
        Snapshot { xmin: in_progress.first().copied().unwrap_or(xmax), xmax, in_progress }
    }

    proptest! {
        #[test]
        fn containing_and_inclusion_are_those_of_the_sets((a, b) in moments(), slack_a in 0_u64..3, slack_b in 0_u64..3) {
            let (left, right) = (spell(&a, slack_a), spell(&b, slack_b));
            for xid in 1..16 {
                prop_assert_eq!(left.contains(xid), a.contains(&xid));
            }
            prop_assert_eq!(left.is_subset_of(&right), a.is_subset(&b));
            prop_assert_eq!(left.to_string().parse::<Snapshot>().expect("prints what parses"), left);
        }
    }
}
