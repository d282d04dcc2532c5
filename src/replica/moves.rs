//! How a replica moved since that was last told to the primary, which reckons how long changes took.

use std::time::{Duration, Instant};

/// How far apart moves are noted at least: what came sooner waited for hardly longer than the one before.
const APART: Duration = Duration::from_millis(100);

/// How many are noted at most, while the primary cannot be told; then half of them, further apart.
const MOST: usize = 256;

/// Moves, oldest first.
#[derive(Debug)]
pub struct Moves {
    moves: Vec<Move>,
    apart: Duration,
}

/// The replica committed a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    /// The number of the batch at which it stood.
    since: i64,
    /// The number of the one that it committed.
    until: i64,
    at: Instant,
}

/// As the primary is told: the batches before and after each move, and how many seconds ago it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// The numbers of those before.
    pub since: Vec<i64>,
    /// The numbers of those after.
    pub until: Vec<i64>,
    /// Seconds.
    pub ago: Vec<f64>,
}

impl Default for Moves {
    fn default() -> Self {
        Self { moves: Vec::new(), apart: APART }
    }
}

impl Moves {
    /// The replica moves from one batch to another.
    pub(super) fn note(&mut self, since: i64, until: i64, at: Instant) {
        if self.moves.last().is_some_and(|last| at.duration_since(last.at) < self.apart) {
            return;
        }
        if self.moves.len() == MOST {
            let mut odd = false;
            self.moves.retain(|_| {
                odd = !odd;
                odd
            });
            self.apart *= 2;
        }
        self.moves.push(Move { since, until, at });
    }

    /// What to tell.
    #[must_use]
    pub fn told(&self, now: Instant) -> Told {
        Told {
            since: self.moves.iter().map(|one| one.since).collect(),
            until: self.moves.iter().map(|one| one.until).collect(),
            ago: self.moves.iter().map(|one| now.duration_since(one.at).as_secs_f64()).collect(),
        }
    }

    /// The primary was told all of it.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_moves_of_each_second_are_told_with_how_long_ago_they_were() {
        let (mut moves, start) = (Moves::default(), Instant::now());
        for (number, ms) in [(1, 0), (2, 50), (3, 99), (4, 100), (5, 150), (6, 500)] {
            moves.note(number - 1, number, start + Duration::from_millis(ms));
        }
        let told = moves.told(start + Duration::from_secs(1));
        assert_eq!(told, Told { since: vec![0, 3, 5], until: vec![1, 4, 6], ago: vec![1.0, 0.9, 0.5] });
        moves.forget();
        assert_eq!(moves.told(start), Told::default());
    }

    #[test]
    fn they_do_not_grow_without_limit_while_the_primary_is_away() {
        let (mut moves, start) = (Moves::default(), Instant::now());
        for number in 0..100_000 {
            moves.note(number, number + 1, start + APART * u32::try_from(number).expect("small"));
        }
        let told = moves.told(start + APART * 100_000);
        assert!((MOST / 2..=MOST).contains(&told.since.len()), "{}", told.since.len());
        assert_eq!(told.since.first(), Some(&0));
        assert!(told.since.last() > Some(&90_000), "of the whole time: {told:?}");
    }
}
