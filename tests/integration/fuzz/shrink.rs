//! What is left of a case that fails when all that can go is gone.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    bench::{Harm, replay},
    failure::Kind,
    script::Case,
};

/// A step of a case: round, transaction, step.
type Id = (usize, usize, usize);

fn ids(case: &Case) -> Vec<Id> {
    let mut ids = Vec::new();
    for (r, round) in case.rounds.iter().enumerate() {
        for (t, transaction) in round.transactions.iter().enumerate() {
            ids.extend((0..transaction.steps.len()).map(|s| (r, t, s)));
        }
    }
    ids
}

/// The case with these steps alone.
fn keep(case: &Case, kept: &BTreeSet<Id>) -> Case {
    let mut case = case.clone();
    for (r, round) in case.rounds.iter_mut().enumerate() {
        for (t, transaction) in round.transactions.iter_mut().enumerate() {
            let mut s = 0..;
            transaction.steps.retain(|_| s.next().is_some_and(|s| kept.contains(&(r, t, s))));
        }
        round.transactions.retain(|transaction| !transaction.steps.is_empty());
    }
    case
}

/// Tries smaller cases until none of them fails in the same way, or the time is over.
struct Shrinking {
    kind: Kind,
    harm: Option<Harm>,
    until: Instant,
    smallest: Case,
}

impl Shrinking {
    /// Takes the other case if it fails likewise.
    async fn attempt(&mut self, other: Case) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        let played = tokio::time::timeout(left, replay(&other, self.harm)).await;
        let fails = matches!(played, Ok(Err(failure)) if failure.kind == self.kind);
        if fails {
            self.smallest = other;
        }
        fails
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Drops halves, quarters and so on, down to single ones, of what a `part` tells apart.
    async fn drop_parts(&mut self, part: impl Fn(Id) -> Id) {
        let mut size = ids(&self.smallest).into_iter().map(&part).collect::<BTreeSet<_>>().len();
        while size > 1 {
            size = size.div_ceil(2);
            // How many of the last parts have to stay: what comes last needs what came before.
            let mut stay = 0;
            loop {
                let all: BTreeSet<Id> = ids(&self.smallest).into_iter().map(&part).collect();
                let dropped: BTreeSet<Id> = all.into_iter().rev().skip(stay).take(size).collect();
                if dropped.is_empty() || self.is_over() {
                    break;
                }
                let kept = ids(&self.smallest).into_iter().filter(|id| !dropped.contains(&part(*id)));
                let other = keep(&self.smallest, &kept.collect());
                if !self.attempt(other).await {
                    stay += dropped.len();
                }
            }
        }
    }
}

/// The smallest case of this kind of failure that was found in so much time.
pub(super) async fn shrink(case: &Case, kind: Kind, harm: Option<Harm>, limit: Duration) -> Case {
    let mut shrinking = Shrinking { kind, harm, until: Instant::now() + limit, smallest: case.clone() };
    let mut quiet = case.clone();
    quiet.rounds.iter_mut().for_each(|round| round.faults.clear());
    shrinking.attempt(quiet).await;
    let sequential = Case { sequential: true, ..shrinking.smallest.clone() };
    shrinking.attempt(sequential).await;
    shrinking.drop_parts(|(round, ..)| (round, 0, 0)).await;
    shrinking.drop_parts(|(round, transaction, _)| (round, transaction, 0)).await;
    shrinking.drop_parts(|id| id).await;
    for place in case.made.iter().rev() {
        let mut other = shrinking.smallest.clone();
        other.made.remove(place);
        let spoken_of = other.rounds.iter().flat_map(|round| &round.transactions).flat_map(|one| &one.steps);
        if !spoken_of.flat_map(|step| &step.tables).any(|table| table == place) && !shrinking.is_over() {
            shrinking.attempt(other).await;
        }
    }
    shrinking.smallest
}
