//! What is left of a case that fails when all that can go is gone.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    bench::replay,
    failure::{Failure, Kind},
    script::Case,
    statements::Step,
};

/// A step of a case: round, transaction, step.
type Id = (usize, usize, usize);

fn steps(case: &Case) -> impl Iterator<Item = (Id, &Step)> {
    let rounds = case.rounds.iter().enumerate();
    let transactions = rounds.flat_map(|(r, round)| {
        round.transactions.iter().enumerate().map(move |(t, transaction)| ((r, t), transaction))
    });
    transactions.flat_map(|((r, t), transaction)| {
        transaction.steps.iter().enumerate().map(move |(s, step)| ((r, t, s), step))
    })
}

fn ids(case: &Case) -> BTreeSet<Id> {
    steps(case).map(|(id, _)| id).collect()
}

/// Takes away all steps but these, and what is empty then. The first round comes before pgfanout in any case.
fn keep(case: &mut Case, kept: impl Fn(Id) -> bool) {
    for (r, round) in case.rounds.iter_mut().enumerate() {
        for (t, transaction) in round.transactions.iter_mut().enumerate() {
            let mut s = 0..;
            transaction.steps.retain(|_| s.next().is_some_and(|s| kept((r, t, s))));
        }
        round.transactions.retain(|transaction| !transaction.steps.is_empty());
    }
    let mut first = true;
    case.rounds.retain(|round| {
        std::mem::take(&mut first) || !round.transactions.is_empty() || !round.faults.is_empty()
    });
}

/// Tries smaller cases until none of them fails in the same way, or the time is over.
struct Shrinking<'a> {
    kind: Kind,
    harm: Option<&'a str>,
    until: Instant,
    smallest: Case,
    /// What was taken away from the smallest in vain.
    needed: BTreeSet<BTreeSet<Id>>,
}

impl Shrinking<'_> {
    /// Takes the case as it is after the change if it fails likewise.
    async fn attempt(&mut self, change: impl FnOnce(&mut Case)) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        let mut other = self.smallest.clone();
        change(&mut other);
        if left.is_zero() || steps(&other).next().is_none() {
            return false;
        }
        let played = tokio::time::timeout(left, replay(&other, self.harm)).await;
        let fails = matches!(played, Ok(Err(failure)) if failure.kind == self.kind);
        if fails {
            self.smallest = other;
            self.needed.clear();
        }
        fails
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
                let parts: BTreeSet<Id> = all.into_iter().rev().skip(stay).take(size).collect();
                if parts.is_empty() {
                    break;
                }
                let dropped =
                    ids(&self.smallest).into_iter().filter(|id| parts.contains(&part(*id))).collect();
                if self.needed.contains(&dropped)
                    || !self.attempt(|case| keep(case, |id| !dropped.contains(&id))).await
                {
                    stay += parts.len();
                    self.needed.insert(dropped);
                }
            }
        }
    }

    /// Drops tables of which nothing is said, or each with what is said of it.
    async fn drop_tables(&mut self, silent: bool) {
        for place in self.smallest.made.clone().into_iter().rev() {
            let about = steps(&self.smallest).filter(|(_, step)| step.tables.contains(&place));
            let about: BTreeSet<Id> = about.map(|(id, _)| id).collect();
            if !silent || about.is_empty() {
                self.attempt(|case| {
                    case.made.remove(&place);
                    keep(case, |id| !about.contains(&id));
                })
                .await;
            }
        }
    }
}

fn without_faults(case: &mut Case) {
    case.rounds.iter_mut().for_each(|round| round.faults.clear());
}

fn one_after_the_other(case: &mut Case) {
    case.sequential = true;
}

fn without_settings(case: &mut Case) {
    let transactions = case.rounds.iter_mut().flat_map(|round| &mut round.transactions);
    transactions.for_each(|transaction| transaction.begin = "BEGIN".to_owned());
}

/// The smallest case that was found in so much time and fails as this one did.
pub(super) async fn shrink(case: &Case, found: &Failure, harm: Option<&str>, limit: Duration) -> Case {
    let mut shrinking = Shrinking {
        kind: found.kind,
        harm,
        until: Instant::now() + limit,
        smallest: case.clone(),
        needed: BTreeSet::new(),
    };
    // What it is about is known often enough, and then nearly all goes at once.
    let alone = |case: &mut Case| keep(case, |(r, t, _)| found.places.contains(&(r, t)));
    let mut changes: Vec<&dyn Fn(&mut Case)> = vec![&without_faults, &one_after_the_other, &without_settings];
    if !found.places.is_empty() {
        changes.push(&alone);
    }
    if !shrinking.attempt(|case| changes.iter().for_each(|change| change(case))).await {
        for change in changes {
            shrinking.attempt(change).await;
        }
    }
    shrinking.drop_tables(false).await;
    shrinking.drop_parts(|(round, ..)| (round, 0, 0)).await;
    shrinking.drop_parts(|(round, transaction, _)| (round, transaction, 0)).await;
    shrinking.drop_parts(|id| id).await;
    shrinking.drop_tables(true).await;
    shrinking.smallest
}
