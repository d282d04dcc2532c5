//! What is left to chance, and comes again with its seed.

use std::ops::Range;

/// The dice of one case.
#[derive(Clone, Debug)]
pub(super) struct Dice(fastrand::Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// One time in so many.
    pub(super) fn once_in(&mut self, many: u32) -> bool {
        self.0.u32(0..many) == 0
    }

    pub(super) fn number(&mut self, range: Range<i32>) -> i32 {
        self.0.i32(range)
    }

    pub(super) fn many(&mut self, range: Range<usize>) -> usize {
        self.0.usize(range)
    }

    /// One of these, of which there are some.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.0.usize(0..items.len())]
    }

    /// Takes one of these away, of which there are some.
    pub(super) fn take<T>(&mut self, items: &mut Vec<T>) -> T {
        items.swap_remove(self.0.usize(0..items.len()))
    }
}
