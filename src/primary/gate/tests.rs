//! Every interleaving of a few writers with the publisher: none leaves a change behind while the publisher
//! waits for a word that nobody says.

use std::collections::HashSet;

use super::*;

fn snapshot(text: &str) -> Snapshot {
    text.parse().expect("a snapshot")
}

#[test]
fn waiting_is_safe_only_when_all_have_ended_that_may_not_have_seen_the_flag() {
    let gate = Gate { asleep_since: Some(snapshot("10:13:10,12")) };
    assert!(!gate.may_wait(&snapshot("10:13:10,12")));
    assert!(!gate.may_wait(&snapshot("12:20:12")));
    assert!(gate.may_wait(&snapshot("13:20:13,19")));
    assert!(!Gate::default().may_wait(&snapshot("13:20:")), "the flag is not set");
    let none_in_progress = Gate { asleep_since: Some(snapshot("14:14:")) };
    assert!(
        !none_in_progress.may_wait(&snapshot("13:13:")),
        "13 ended before M, and may not have seen the flag"
    );
    assert!(none_in_progress.may_wait(&snapshot("14:14:")));
}

/// A part of the protocol that is left out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// The publisher waits as soon as the flag is set.
    NotWaitingForM,
    /// M is taken before the flag is set.
    MBeforeTheFlag,
    /// A writer reads the flag before it has a number.
    FlagBeforeTheNumber,
    /// What was cut before M counts as if it were cut after it.
    CutBeforeM,
}

/// A transaction: it has a number, has read the flag, has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Writer {
    xid: Option<u64>,
    notifies: Option<bool>,
    ended: bool,
}

/// What the publisher does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Next {
    /// A process that was killed may have left the flag set.
    Clear,
    Listen,
    Look,
    SetFlag,
    TakeM,
    ClearFlag,
    Cut,
    /// Little was cut: the flag is set, M is taken, and then it is seen whether it may wait.
    SetFlagAfterCut,
    TakeMAfterCut,
    Settle,
    /// Until it is notified: the safety poll is left out.
    Wait,
}

#[derive(Clone, Debug)]
struct State {
    writers: [Writer; 3],
    flag: bool,
    listening: bool,
    notified: bool,
    next: Next,
    from: Snapshot,
    gate: Gate,
}

impl State {
    fn new(flag: bool) -> Self {
        Self {
            writers: [Writer::default(); 3],
            flag,
            listening: false,
            notified: false,
            next: Next::Clear,
            from: snapshot("1:1:"),
            gate: Gate::default(),
        }
    }

    fn now(&self) -> Snapshot {
        let xmax = self.writers.iter().filter_map(|writer| writer.xid).max().unwrap_or(0) + 1;
        let mut running: Vec<u64> =
            self.writers.iter().filter(|writer| !writer.ended).filter_map(|writer| writer.xid).collect();
        running.sort_unstable();
        let xmin = running.first().copied().unwrap_or(xmax);
        let running: Vec<String> = running.iter().map(u64::to_string).collect();
        snapshot(&format!("{xmin}:{xmax}:{}", running.join(",")))
    }

    fn is_behind(&self) -> bool {
        let ended = self.writers.iter().filter(|writer| writer.ended).filter_map(|writer| writer.xid);
        ended.into_iter().any(|xid| !self.from.contains(xid))
    }

    /// A writer writes, which gives it a number, then reads the flag, then commits.
    fn write(&self, at: usize, flaw: Flaw) -> Option<Self> {
        let mut then = self.clone();
        let number = 1 + self.writers.iter().filter(|writer| writer.xid.is_some()).count() as u64;
        let writer = &mut then.writers[at];
        let reads_first = flaw == Flaw::FlagBeforeTheNumber;
        match (writer.xid, writer.notifies) {
            _ if writer.ended => return None,
            (None, None) if reads_first => writer.notifies = Some(self.flag),
            (None, _) => writer.xid = Some(number),
            (Some(_), None) => writer.notifies = Some(self.flag),
            (Some(_), Some(notifies)) => {
                writer.ended = true;
                then.notified |= notifies && self.listening;
            }
        }
        Some(then)
    }

    /// The publisher's next step; while little is committed it leaves the flag set.
    fn publish(&self, flaw: Flaw) -> Vec<Self> {
        let busy = [false, true].into_iter().filter_map(|busy| self.publish_when(busy, flaw));
        busy.collect()
    }

    fn publish_when(&self, busy: bool, flaw: Flaw) -> Option<Self> {
        let mut then = self.clone();
        then.next = match self.next {
            Next::Clear | Next::ClearFlag => {
                (then.flag, then.gate) = (false, Gate::default());
                if self.next == Next::Clear { Next::Listen } else { Next::Cut }
            }
            Next::Listen => {
                then.listening = true;
                Next::Look
            }
            Next::Look if self.is_behind() => {
                if self.gate.is_asleep() && busy {
                    Next::ClearFlag
                } else {
                    Next::Cut
                }
            }
            Next::Look if !self.gate.is_asleep() => {
                if flaw == Flaw::MBeforeTheFlag {
                    then.gate.asleep_since = Some(self.now());
                }
                Next::SetFlag
            }
            Next::Look if self.gate.may_wait(&self.now()) || flaw == Flaw::NotWaitingForM => Next::Wait,
            Next::Look => Next::Look,
            Next::SetFlag => {
                then.flag = true;
                if flaw == Flaw::MBeforeTheFlag { Next::Look } else { Next::TakeM }
            }
            Next::TakeM => {
                then.gate.asleep_since = Some(self.now());
                Next::Look
            }
            Next::Cut => {
                then.from = self.now();
                if self.gate.is_asleep() || busy { Next::Settle } else { Next::SetFlagAfterCut }
            }
            Next::SetFlagAfterCut => {
                then.flag = true;
                Next::TakeMAfterCut
            }
            Next::TakeMAfterCut => {
                then.gate.asleep_since = Some(self.now());
                Next::Settle
            }
            Next::Settle => {
                let ended = |m: &Snapshot| m.in_progress().iter().all(|&xid| self.from.contains(xid));
                let waits = match flaw {
                    Flaw::NotWaitingForM => self.gate.is_asleep(),
                    Flaw::CutBeforeM => self.gate.asleep_since.as_ref().is_some_and(ended),
                    _ => self.gate.may_wait(&self.from),
                };
                if waits { Next::Wait } else { Next::Look }
            }
            Next::Wait if self.notified => {
                then.notified = false;
                Next::Look
            }
            Next::Wait => return None,
        };
        Some(then)
    }

    fn key(&self) -> String {
        format!("{self:?}")
    }
}

/// Whether some interleaving ends with a change that nobody will tell of. Also how many states there were.
fn search(flaw: Flaw) -> (bool, usize) {
    let mut open: Vec<State> = [false, true].map(State::new).into();
    let mut met: HashSet<String> = open.iter().map(State::key).collect();
    let mut lost = false;
    while let Some(state) = open.pop() {
        let steps: Vec<State> =
            (0..3).filter_map(|at| state.write(at, flaw)).chain(state.publish(flaw)).collect();
        lost |= steps.is_empty() && state.is_behind();
        open.extend(steps.into_iter().filter(|step| met.insert(step.key())));
    }
    (lost, met.len())
}

#[test]
fn no_interleaving_loses_a_wake_up() {
    let (lost, states) = search(Flaw::None);
    assert!(!lost);
    assert!(states > 1000, "{states}");
}

#[test]
fn each_part_of_the_protocol_is_needed() {
    for flaw in [Flaw::NotWaitingForM, Flaw::MBeforeTheFlag, Flaw::FlagBeforeTheNumber, Flaw::CutBeforeM] {
        assert!(search(flaw).0, "{flaw:?} goes unnoticed");
    }
}
