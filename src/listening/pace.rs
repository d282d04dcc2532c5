//! How soon one batch follows another, and whether commits are to notify.

use std::time::{Duration, Instant};

/// How many batches follow one another at once before commits no longer notify: there is always more then, and a
/// commit that notifies makes others wait.
const BUSY: u32 = 4;

/// How many looks in a row find nothing before commits notify again.
const QUIET: u32 = 5;

/// The same where those that notify made others wait: writers that commit together may be silent for as long as their
/// disk takes.
const LONG_QUIET: u32 = 50;

/// How often to ask whether commits that notify make others wait.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// How often in a row some wait before that is no chance.
const SURE: u32 = 2;

/// For how long none notifies, as long as there are changes, after some made others wait.
const CONTENDED: Duration = Duration::from_secs(10);

/// Between looks while none notifies.
const TICK: Duration = Duration::from_millis(2);

/// From the beginning of a batch to that of the next one while it is the delay that counts: each costs all processes
/// on its way some milliseconds together, whatever is in it.
const BEAT: Duration = Duration::from_millis(3);

/// Up to so many changes a second each is passed on as soon as can be.
const LIGHT: f64 = 1000.0;

/// Up to so many changes a second commits notify again, so that each is passed on at once.
const CALM: f64 = 700.0;

/// From so many changes a second on batches grow for as long as they may.
const HEAVY: f64 = 3000.0;

/// Over how long the changes a second are reckoned.
const WINDOW: Duration = Duration::from_millis(500);

/// The batches so far.
#[derive(Debug)]
pub(super) struct Pace {
    /// How long a batch may grow at most.
    longest: Duration,
    /// How many followed one another at once.
    in_a_row: u32,
    /// How many looks since found nothing.
    in_vain: u32,
    began: Instant,
    ended: Instant,
    /// Changes a second, lately.
    rate: f64,
    /// When it was last asked whether commits that notify make others wait.
    asked: Option<Instant>,
    /// How often in a row some did.
    waits: u32,
    /// When they last did for sure.
    contended: Option<Instant>,
}

impl Pace {
    /// A pace at which a batch grows for so long at most.
    pub(super) fn new(longest: Duration) -> Self {
        let now = Instant::now();
        Self {
            longest,
            in_a_row: 0,
            in_vain: 0,
            began: now,
            ended: now,
            rate: 0.0,
            asked: None,
            waits: 0,
            contended: None,
        }
    }

    /// Whether there is always more.
    pub(super) fn is_busy(&self) -> bool {
        self.in_a_row >= BUSY && self.rate >= LIGHT
    }

    /// Whether there are so few changes that it does no harm if commits notify.
    pub(super) fn is_calm(&self) -> bool {
        self.rate < CALM && !self.is_contended()
    }

    /// Whether commits that notified made others wait, lately.
    fn is_contended(&self) -> bool {
        self.contended.is_some_and(|at| self.ended.duration_since(at) < CONTENDED)
    }

    /// Whether it is time to ask whether commits that notify make others wait.
    pub(super) fn is_to_ask(&self) -> bool {
        self.asked.is_none_or(|at| self.ended.duration_since(at) >= ASK_INTERVAL)
    }

    /// That was asked, and some wait or not. Returns whether none is to notify for a while.
    pub(super) fn note_waits(&mut self, waits: bool) -> bool {
        self.asked = Some(self.ended);
        self.waits = if waits { self.waits + 1 } else { 0 };
        if self.waits >= SURE {
            self.contended = self.asked;
        }
        self.waits >= SURE
    }

    /// Looks for changes from now on.
    pub(super) const fn begin(&mut self, now: Instant) {
        self.began = now;
    }

    /// When it last looked for changes.
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// Passed on so many changes. Returns how long to let the next batch grow if commits do not notify: the more
    /// changes share one the less each costs, and where there are few, it is the delay that counts.
    pub(super) fn found(&mut self, changes: u64, now: Instant) -> Duration {
        self.in_vain = 0;
        self.in_a_row = match self.began.duration_since(self.ended) < TICK {
            true => self.in_a_row.saturating_add(1),
            false if self.in_a_row >= BUSY => self.in_a_row,
            false => 0,
        };
        let since = std::mem::replace(&mut self.ended, now);
        self.note(changes, self.ended.duration_since(since));
        self.room().unwrap_or_else(|| BEAT.saturating_sub(now.duration_since(self.began)))
    }

    /// Found nothing. Returns when to look again if commits do not notify; nothing if it is time that they do.
    pub(super) fn found_nothing(&mut self) -> Option<Duration> {
        self.in_vain += 1;
        if self.in_vain < if self.is_contended() { LONG_QUIET } else { QUIET } {
            return Some(TICK);
        }
        self.in_a_row = 0;
        None
    }

    /// Reckons with so many changes in such a time: the older, the less they count.
    fn note(&mut self, changes: u64, time: Duration) {
        let seconds = time.as_secs_f64().max(1e-3);
        let weight = 1.0 - (-seconds / WINDOW.as_secs_f64()).exp();
        self.rate += weight * (changes as f64 / seconds - self.rate);
    }

    /// How long a batch may grow under the load of late, if that is heavy.
    fn room(&self) -> Option<Duration> {
        let room = self.longest.mul_f64(((self.rate - LIGHT) / (HEAVY - LIGHT)).clamp(0.0, 1.0));
        Some(room).filter(|room| *room > BEAT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_follow_one_another_are_busy_until_nothing_comes_for_a_while() {
        let mut pace = Pace::new(Duration::ZERO);
        let mut now = pace.ended + TICK;
        pace.begin(now);
        for _ in 0..BUSY {
            assert!(!pace.is_busy());
            pace.begin(now);
            now += TICK;
            assert_eq!(pace.found(1000, now), BEAT - TICK, "from the beginning of one to that of the next");
            now += TICK / 2;
        }
        pace.begin(now);
        pace.found(1000, now);
        assert!(pace.is_busy());
        for _ in 1..QUIET {
            assert_eq!(pace.found_nothing(), Some(TICK));
        }
        pace.begin(now + TICK * 4);
        pace.found(1000, now + TICK * 5);
        assert!(pace.is_busy(), "it is, until looks find nothing");
        for _ in 1..QUIET {
            assert_eq!(pace.found_nothing(), Some(TICK));
        }
        assert_eq!(pace.found_nothing(), None);
        assert!(!pace.is_busy());
        pace.begin(now + TICK * 7);
        pace.found(1, now + TICK * 8);
        assert!(!pace.is_busy(), "one alone");
    }

    #[test]
    fn none_notifies_for_a_while_where_some_had_to_wait() {
        let mut pace = Pace::new(Duration::ZERO);
        let mut now = pace.ended + Duration::from_millis(100);
        pace.begin(now);
        pace.found(1, now);
        assert!(pace.is_calm() && pace.is_to_ask());
        assert!(!pace.note_waits(true), "two may meet by chance");
        assert!(pace.is_calm() && !pace.is_to_ask());
        assert!(pace.note_waits(true));
        assert!(!pace.is_calm());
        for _ in 1..LONG_QUIET {
            assert_eq!(pace.found_nothing(), Some(TICK), "they may all wait for the disk");
        }
        assert_eq!(pace.found_nothing(), None);
        now += CONTENDED;
        pace.begin(now);
        pace.found(1, now);
        assert!(pace.is_calm() && pace.is_to_ask());
        assert!(!pace.note_waits(false));
        assert!(!pace.note_waits(true));
        assert!(pace.is_calm());
        assert_eq!((1..=QUIET).filter_map(|_| pace.found_nothing()).count() as u32, QUIET - 1);
    }

    #[test]
    fn batches_grow_with_the_load_and_not_for_ever() {
        let longest = Duration::from_millis(100);
        // What becomes of batches of a load, when one is published every 5 ms and after the pause.
        let under = |rate: f64| {
            let (mut pace, mut pause) = (Pace::new(longest), Duration::ZERO);
            for _ in 0..1000 {
                let time = pause + Duration::from_millis(5);
                pace.note((rate * time.as_secs_f64()).round() as u64, time);
                pause = pace.room().unwrap_or_default();
            }
            pause
        };
        assert_eq!(under(600.0), Duration::ZERO, "few changes do not wait");
        let some = under(2000.0);
        assert!((40..60).contains(&some.as_millis()), "{some:?}");
        assert_eq!(under(50_000.0), longest);
    }
}
