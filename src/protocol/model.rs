//! A model of the primary, the broker and the replicas around the real decisions: random histories with
//! every fault that a message, a process or a server can have. After each commit of a replica its rows are
//! compared with the primary's at the position; in the end with the primary's present. And each decision is
//! broken once, to see that the model notices.

mod primary;
mod replica;

use std::collections::{BTreeMap, VecDeque};

use primary::{Commit, Primary};
use replica::Replica;

use super::{Due, Open};
use crate::{
    batch::{Batch, Part},
    snapshot::Snapshot,
};

type Rows = BTreeMap<u8, u64>;

/// A promise that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// A batch is seen by others before it is recorded with a flush.
    NotFlushed,
    /// After a crash batches go on where the last one ended, published or not.
    ResumedAtTheEnd,
    /// A part is written whatever lies before it.
    HolesIgnored,
    /// A part is written although the one before it was not.
    PartsNotCounted,
    /// A batch that ends within the position is written again.
    WrittenTwice,
    /// What is cut does not ask how far back the changelog goes.
    TrimmedIgnored,
    /// A replica that stays behind is not noticed.
    NotReported,
    /// A table that was set aside joins as if it stood where the others stand.
    JoinedAtThePosition,
    /// What a table that is set aside lacks is trimmed unnoticed.
    IsolatedTrimmed,
}

struct World {
    random: fastrand::Rng,
    flaw: Flaw,
    primary: Primary,
    replicas: Vec<Replica>,
    /// Where the publisher goes on.
    from: Snapshot,
    /// Batches that are handed over and not confirmed, oldest first: their numbers and where they start.
    under_way: VecDeque<(i64, Snapshot)>,
    unnoted: Option<i64>,
    values: u64,
}

const KEYS: u8 = 8;

/// Whether a key is one of the table that may be set aside.
fn is_fragile(key: u8) -> bool {
    key < 3
}

fn encode(rows: &[(u8, Option<u64>)]) -> Vec<u8> {
    serde_json::to_vec(rows).expect("it is plain")
}

impl World {
    fn new(seed: u64, flaw: Flaw) -> Self {
        let mut primary = Primary { last_xid: 2, ..Primary::default() };
        let from = primary.resume_from(flaw);
        let replica = || Replica {
            rows: Rows::new(),
            position: from.clone(),
            open: Open::Nothing,
            working: Rows::new(),
            queue: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            reported: from.clone(),
            own: None,
            mended: false,
        };
        let replicas = vec![replica(), replica()];
        let random = fastrand::Rng::with_seed(seed);
        Self { random, flaw, primary, replicas, from, under_way: VecDeque::new(), unnoted: None, values: 0 }
    }

    fn step(&mut self) -> Result<(), String> {
        let at = self.random.usize(..self.replicas.len());
        match self.random.u32(..100) {
            0..20 => self.write(),
            20..40 => self.end_transaction(),
            40..50 => self.publish(),
            50..54 => self.confirm(),
            54 => self.note(),
            55..78 => return self.deliver(at),
            78..82 => return self.report(at),
            82 => return self.isolate(at),
            83 => return self.mend(at),
            84..86 => self.crash_replica(at),
            86..88 => self.resume(),
            88..90 => self.crash_primary(),
            90..96 => self.harm_queue(at),
            96..99 => self.trim(),
            _ => self.trim_by_force(),
        }
        Ok(())
    }

    /// Begins a transaction, or goes on with one; rows that others write are locked.
    fn write(&mut self) {
        let begin = self.primary.running.len() < 4 && self.random.bool();
        let xid = match self.primary.running.keys().nth(self.random.usize(..4)) {
            Some(&xid) if !begin => xid,
            _ => {
                self.primary.last_xid += 1;
                self.primary.last_xid
            }
        };
        let key = self.random.u8(..KEYS);
        let others = self.primary.running.iter().filter(|(other, _)| **other != xid);
        let locked = others.flat_map(|(_, rows)| rows).any(|row| row.0 == key);
        self.values += 1;
        let rows = self.primary.running.entry(xid).or_default();
        if !locked {
            rows.push((key, (self.random.u8(..3) > 0).then_some(self.values)));
        }
    }

    fn end_transaction(&mut self) {
        let Some(&xid) = self.primary.running.keys().nth(self.random.usize(..3)) else { return };
        let rows = self.primary.running.remove(&xid).unwrap_or_default();
        // An empty one, or one that is rolled back, leaves nothing.
        if !rows.is_empty() && self.random.u8(..6) > 0 {
            self.primary.commits.push(Commit { xid, rows });
            if self.random.bool() {
                self.primary.flushed = self.primary.commits.len();
                self.primary.flushed_xid = self.primary.flushed_xid.max(xid);
            }
        }
    }

    /// Another publisher begins.
    fn resume(&mut self) {
        self.from = self.primary.resume_from(self.flaw);
        self.under_way.clear();
        self.unnoted = None;
    }

    /// Cuts a batch and hands over its parts; the publisher, or its link, may fail at any of them.
    fn publish(&mut self) {
        let to = self.primary.now();
        if self.primary.is_trimmed(&self.from) && self.flaw != Flaw::TrimmedIgnored {
            self.from = self.primary.anchor(self.flaw);
            self.under_way.clear();
            self.unnoted = None;
            return;
        }
        let delta = self.primary.delta(&self.from, &to);
        if delta.is_empty() {
            return;
        }
        let again_from = self.under_way.front().map_or(&self.from, |(_, from)| from);
        let recorded = self.primary.record(again_from, &to, true, self.flaw);
        let batch = Batch { from: self.from.clone(), ..recorded };
        let size = self.random.usize(1..=delta.len());
        let chunks: Vec<_> = delta.chunks(size).collect();
        let stop = self.random.usize(..chunks.len() * 4 + 2);
        for (number, rows) in chunks.iter().enumerate().take(stop) {
            let last = number + 1 == chunks.len();
            let number = u32::try_from(number).expect("few");
            let part = Part { batch: batch.clone(), number, last, tables: Vec::new(), body: encode(rows) };
            for replica in &mut self.replicas {
                replica.queue.push_back(part.clone());
            }
        }
        if stop > chunks.len() {
            self.under_way.push_back((batch.number, std::mem::replace(&mut self.from, to)));
        }
    }

    /// Hears of the oldest batch under way that the broker has it, or that it may not.
    fn confirm(&mut self) {
        let Some((number, from)) = self.under_way.pop_front() else { return };
        if self.random.u8(..4) > 0 {
            self.unnoted = Some(number);
        } else {
            self.under_way.clear();
            self.from = from;
        }
    }

    /// Notes on the primary that the last batch was published, when all are confirmed.
    fn note(&mut self) {
        while !self.under_way.is_empty() {
            self.confirm();
        }
        let Some(number) = self.unnoted.take() else { return };
        for batch in self.primary.batches.iter_mut().filter(|batch| batch.number == number) {
            batch.published = true;
        }
    }

    fn crash_primary(&mut self) {
        self.primary.crash();
        self.resume();
    }

    /// Messages get lost, come twice or out of order; a queue is emptied.
    fn harm_queue(&mut self, at: usize) {
        let queue = &mut self.replicas[at].queue;
        if queue.is_empty() {
            return;
        }
        let (one, other) = (self.random.usize(..queue.len()), self.random.usize(..queue.len()));
        match self.random.u8(..8) {
            0..3 => drop(queue.remove(one)),
            3..5 => queue.insert(other, queue[one].clone()),
            5..7 => queue.swap(one, other),
            _ => queue.clear(),
        }
    }

    fn trim(&mut self) {
        let positions = self.replicas.iter().map(|replica| replica.reported.xmin());
        let last = self.primary.batches.iter().rfind(|batch| batch.for_all).map(|batch| batch.from.xmin());
        let before = positions.chain(last).chain([self.primary.now().xmin()]).min().unwrap_or(0);
        self.primary.trimmed_before = self.primary.trimmed_before.max(before);
    }

    /// The changelog reached its limit.
    fn trim_by_force(&mut self) {
        if self.random.u8(..4) == 0 {
            let before = self.primary.now().xmin();
            self.primary.trimmed_before = self.primary.trimmed_before.max(before);
        }
    }

    /// All faults end: everybody has to get there.
    fn settle(&mut self) -> Result<(), String> {
        while !self.primary.running.is_empty() {
            self.end_transaction();
        }
        for at in 0..self.replicas.len() {
            self.crash_replica(at);
        }
        self.resume();
        for _ in 0..200 {
            self.publish();
            self.note();
            for at in 0..self.replicas.len() {
                if self.replicas[at].own.is_some() {
                    self.mend(at)?;
                    self.catch_up(at)?;
                }
                self.deliver(at)?;
                self.report(at)?;
            }
        }
        let present = self.primary.state(&self.primary.now());
        match self.replicas.iter().position(|replica| replica.rows != present) {
            None => Ok(()),
            Some(at) => Err(format!("replica {at} never got there: {:?}", self.replicas[at])),
        }
    }
}

fn history(seed: u64, flaw: Flaw) -> Result<(), String> {
    let mut world = World::new(seed, flaw);
    for _ in 0..world.random.usize(20..400) {
        world.step()?;
    }
    world.settle()
}

#[test]
fn no_history_loses_doubles_or_puts_back_a_change() {
    for seed in 0..1000 {
        if let Err(problem) = history(seed, Flaw::None) {
            panic!("seed {seed}: {problem}");
        }
    }
}

#[test]
fn a_broken_promise_is_noticed() {
    for flaw in [
        Flaw::NotFlushed,
        Flaw::ResumedAtTheEnd,
        Flaw::HolesIgnored,
        Flaw::PartsNotCounted,
        Flaw::WrittenTwice,
        Flaw::TrimmedIgnored,
        Flaw::NotReported,
        Flaw::JoinedAtThePosition,
        Flaw::IsolatedTrimmed,
    ] {
        assert!((0..500).any(|seed| history(seed, flaw).is_err()), "{flaw:?} goes unnoticed");
    }
}
