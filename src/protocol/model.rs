//! A model of the primary, the broker and the replicas around the real decisions: random histories with
//! every fault that a message, a process or a server can have. After each commit of a replica its rows are
//! compared with the primary's at the position; in the end with the primary's present. And each decision is
//! broken once, to see that the model notices.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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

/// A committed transaction: its entries of the changelog are its keys.
#[derive(Clone, Debug)]
struct Commit {
    xid: u64,
    rows: Vec<(u8, Option<u64>)>,
}

/// A batch's row on the primary.
#[derive(Clone, Debug)]
struct Recorded {
    number: i64,
    from: Snapshot,
    to: Snapshot,
    for_all: bool,
    published: bool,
}

#[derive(Debug, Default)]
struct Primary {
    last_xid: u64,
    running: BTreeMap<u64, Vec<(u8, Option<u64>)>>,
    /// In the order of their commits; the first `flushed` survive a crash, as do the batches.
    commits: Vec<Commit>,
    flushed: usize,
    flushed_xid: u64,
    batches: Vec<Recorded>,
    tokens: u64,
    /// Entries of lower transactions are gone.
    trimmed_before: u64,
}

impl Primary {
    fn now(&self) -> Snapshot {
        let xmax = self.last_xid + 1;
        let running: Vec<String> = self.running.keys().map(u64::to_string).collect();
        let xmin = self.running.keys().next().copied().unwrap_or(xmax);
        format!("{xmin}:{xmax}:{}", running.join(",")).parse().expect("a snapshot")
    }

    /// What the tables hold at a moment.
    fn state(&self, at: &Snapshot) -> Rows {
        let mut state = Rows::new();
        for (key, row) in self.commits.iter().filter(|commit| at.contains(commit.xid)).flat_map(|c| &c.rows) {
            match row {
                Some(value) => state.insert(*key, *value),
                None => state.remove(key),
            };
        }
        state
    }

    fn delta(&self, from: &Snapshot, to: &Snapshot) -> Vec<(u8, Option<u64>)> {
        let changed = |commit: &&Commit| {
            commit.xid >= self.trimmed_before && to.contains(commit.xid) && !from.contains(commit.xid)
        };
        let keys: BTreeSet<u8> =
            self.commits.iter().filter(changed).flat_map(|c| c.rows.iter().map(|row| row.0)).collect();
        let state = self.state(to);
        keys.into_iter().map(|key| (key, state.get(&key).copied())).collect()
    }

    fn is_trimmed(&self, from: &Snapshot) -> bool {
        self.trimmed_before > from.xmin()
    }

    /// Records a batch in a transaction of its own, whose commit is synchronous.
    fn record(&mut self, from: &Snapshot, to: &Snapshot, for_all: bool, flaw: Flaw) -> Batch {
        self.last_xid += 1;
        self.tokens += 1;
        let number = self.batches.last().map_or(1, |last| last.number + 1);
        let published = false;
        self.batches.push(Recorded { number, from: from.clone(), to: to.clone(), for_all, published });
        if flaw != Flaw::NotFlushed {
            (self.flushed, self.flushed_xid) = (self.commits.len(), self.last_xid);
        }
        let (from, to) = (from.clone(), to.clone());
        Batch { epoch: String::new(), number, token: self.tokens.to_string(), term: String::new(), from, to }
    }

    fn resume_from(&mut self, flaw: Flaw) -> Snapshot {
        let known = self.batches.iter().rfind(|batch| batch.for_all).cloned();
        match known {
            Some(last) if last.published || flaw == Flaw::ResumedAtTheEnd => last.to,
            Some(last) => last.from,
            None => self.anchor(flaw),
        }
    }

    /// Notes the present as where batches start.
    fn anchor(&mut self, flaw: Flaw) -> Snapshot {
        let now = self.now();
        self.record(&now, &now, true, flaw);
        if let Some(anchor) = self.batches.last_mut() {
            anchor.published = true;
        }
        now
    }

    fn crash(&mut self) {
        self.running.clear();
        self.commits.truncate(self.flushed);
        let last = self.commits.iter().map(|commit| commit.xid).max().unwrap_or(0);
        self.last_xid = self.flushed_xid.max(last);
    }
}

/// What a replica lacks in the model is a name, and an error.
#[derive(Debug)]
struct Replica {
    rows: Rows,
    position: Snapshot,
    open: Open,
    /// The rows as the open transaction sees them.
    working: Rows,
    queue: VecDeque<Part>,
    /// Delivered and not acknowledged.
    unacknowledged: VecDeque<Part>,
    /// The position that the primary knows of.
    reported: Snapshot,
    /// Where the first of two tables stands while it is set aside.
    own: Option<Snapshot>,
    /// Whether it is mended, and joins when the replica catches up next.
    mended: bool,
}

struct World {
    random: fastrand::Rng,
    flaw: Flaw,
    primary: Primary,
    replicas: Vec<Replica>,
    /// Where the publisher goes on.
    from: Snapshot,
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
        Self { random, flaw, primary, replicas, from, unnoted: None, values: 0 }
    }

    fn step(&mut self) -> Result<(), String> {
        let at = self.random.usize(..self.replicas.len());
        match self.random.u32(..100) {
            0..20 => self.write(),
            20..40 => self.end_transaction(),
            40..52 => self.publish(),
            52..55 => self.note(),
            55..78 => return self.deliver(at),
            78..82 => return self.report(at),
            82 => return self.isolate(at),
            83 => return self.mend(at),
            84..86 => self.crash_replica(at),
            86..88 => {
                self.from = self.primary.resume_from(self.flaw);
                self.unnoted = None;
            }
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

    /// Cuts a batch and publishes its parts; the publisher, its link, or the answer may fail at any of them.
    fn publish(&mut self) {
        let to = self.primary.now();
        if self.primary.is_trimmed(&self.from) && self.flaw != Flaw::TrimmedIgnored {
            self.from = self.primary.anchor(self.flaw);
            self.unnoted = None;
            return;
        }
        let delta = self.primary.delta(&self.from, &to);
        if delta.is_empty() {
            return;
        }
        let batch = self.primary.record(&self.from, &to, true, self.flaw);
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
        // The last confirm may be lost, too.
        if stop > chunks.len() {
            self.unnoted = Some(batch.number);
            self.from = to;
        }
    }

    /// Notes on the primary that the last batch was published.
    fn note(&mut self) {
        let Some(number) = self.unnoted.take() else { return };
        for batch in self.primary.batches.iter_mut().filter(|batch| batch.number == number) {
            batch.published = true;
        }
    }

    /// Offers the next messages to the applier, as many as happen to be there.
    fn deliver(&mut self, at: usize) -> Result<(), String> {
        for _ in 0..self.random.usize(1..4) {
            let replica = &mut self.replicas[at];
            let Some(part) = replica.queue.pop_front() else { break };
            replica.unacknowledged.push_back(part.clone());
            self.apply(at, &part)?;
        }
        self.commit(at)?;
        // The acknowledgement may be lost: the messages come again when the link is new.
        let lost = self.random.u8(..8) == 0;
        let replica = &mut self.replicas[at];
        let parts = std::mem::take(&mut replica.unacknowledged);
        if lost {
            for part in parts.into_iter().rev() {
                replica.queue.push_front(part);
            }
        }
        Ok(())
    }

    fn apply(&mut self, at: usize, part: &Part) -> Result<(), String> {
        let replica = &mut self.replicas[at];
        if replica.open.is_broken_by(part) && self.flaw != Flaw::PartsNotCounted {
            (replica.open, replica.working) = (Open::Nothing, replica.rows.clone());
        }
        let due = match replica.open.due(&replica.position, part) {
            Due::CatchUp if self.flaw == Flaw::HolesIgnored => Due::Write,
            Due::CatchUp
                if self.flaw == Flaw::PartsNotCounted && part.batch.from.is_subset_of(&replica.position) =>
            {
                Due::Write
            }
            Due::Skip if self.flaw == Flaw::WrittenTwice => Due::Write,
            due => due,
        };
        match due {
            Due::Skip => Ok(()),
            Due::CatchUp => self.catch_up(at),
            Due::Write => {
                let alone = !part.last || part.number > 0;
                if alone && matches!(replica.open, Open::Whole(..)) {
                    self.commit(at)?;
                }
                let replica = &mut self.replicas[at];
                if replica.open == Open::Nothing {
                    replica.working = replica.rows.clone();
                }
                let rows: Vec<(u8, Option<u64>)> =
                    serde_json::from_slice(&part.body).map_err(|e| e.to_string())?;
                for (key, row) in rows {
                    if replica.own.is_some() && is_fragile(key) {
                        continue;
                    }
                    match row {
                        Some(value) => replica.working.insert(key, value),
                        None => replica.working.remove(&key),
                    };
                }
                replica.open = std::mem::take(&mut replica.open).with(part, 1);
                Ok(())
            }
        }
    }

    /// Commits whole batches; the beginning of one stays open.
    fn commit(&mut self, at: usize) -> Result<(), String> {
        let replica = &mut self.replicas[at];
        let Open::Whole(batch, _) = &replica.open else { return Ok(()) };
        let to = batch.to.clone();
        replica.open = Open::Nothing;
        let rows = replica.working.clone();
        self.commit_rows(at, rows, to)
    }

    /// What every reader of the replica sees from now on: a moment of the primary, and never an earlier one.
    fn commit_rows(&mut self, at: usize, rows: Rows, to: Snapshot) -> Result<(), String> {
        let mut expected = self.primary.state(&to);
        if let Some(own) = &self.replicas[at].own {
            expected.retain(|key, _| !is_fragile(*key));
            expected.extend(self.primary.state(own).into_iter().filter(|(key, _)| is_fragile(*key)));
        }
        let replica = &mut self.replicas[at];
        if rows != expected {
            return Err(format!("replica {at} at {to}: {rows:?}, the primary had {expected:?}"));
        }
        if !replica.position.is_subset_of(&to) {
            return Err(format!("replica {at} went back from {} to {to}", replica.position));
        }
        (replica.rows, replica.position) = (rows, to);
        Ok(())
    }

    /// Reads from the primary what the replica lacks; what was trimmed is copied anew.
    fn catch_up(&mut self, at: usize) -> Result<(), String> {
        self.commit(at)?;
        let now = self.primary.now();
        let replica = &mut self.replicas[at];
        replica.open = Open::Nothing;
        let position = replica.position.clone();
        let joins = std::mem::take(&mut replica.mended).then(|| replica.own.take()).flatten();
        let apart = joins.is_some() || replica.own.is_some();
        self.primary.record(&position, &now, false, self.flaw);
        let rows = self.replicas[at].rows.clone();
        let mut rows = self.caught_up(rows, &position, &now, |key| !apart || !is_fragile(key), false);
        if let Some(own) = joins {
            let from = if self.flaw == Flaw::JoinedAtThePosition { &position } else { &own };
            rows = self.caught_up(rows, from, &now, is_fragile, self.flaw == Flaw::IsolatedTrimmed);
        }
        self.commit_rows(at, rows, now)
    }

    /// The rows with the delta of some keys written to them; those keys are copied anew if it was trimmed.
    fn caught_up(
        &self,
        mut rows: Rows,
        from: &Snapshot,
        to: &Snapshot,
        of: impl Fn(u8) -> bool,
        blind: bool,
    ) -> Rows {
        if self.primary.is_trimmed(from) && self.flaw != Flaw::TrimmedIgnored && !blind {
            rows.retain(|key, _| !of(*key));
            rows.extend(self.primary.state(to).into_iter().filter(|(key, _)| of(*key)));
            return rows;
        }
        for (key, row) in self.primary.delta(from, to).into_iter().filter(|(key, _)| of(*key)) {
            match row {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        rows
    }

    /// The replica fails on one table, which is set aside where it stands; what is open is rolled back, and
    /// the others catch up.
    fn isolate(&mut self, at: usize) -> Result<(), String> {
        self.commit(at)?;
        let replica = &mut self.replicas[at];
        (replica.open, replica.working) = (Open::Nothing, replica.rows.clone());
        // It may fail again while it joins.
        (replica.own, replica.mended) = (replica.own.take().or(Some(replica.position.clone())), false);
        self.catch_up(at)
    }

    /// A table that is set aside takes the changes since, by itself.
    fn mend(&mut self, at: usize) -> Result<(), String> {
        let Some(own) = self.replicas[at].own.clone() else { return Ok(()) };
        let now = self.primary.now();
        self.primary.record(&own, &now, false, self.flaw);
        let rows = self.replicas[at].rows.clone();
        let rows = self.caught_up(rows, &own, &now, is_fragile, self.flaw == Flaw::IsolatedTrimmed);
        let replica = &mut self.replicas[at];
        // Another session writes; what is open touches none of its rows.
        replica.working.retain(|key, _| !is_fragile(*key));
        replica.working.extend(rows.iter().filter(|(key, _)| is_fragile(**key)));
        (replica.own, replica.mended) = (Some(now), true);
        let position = replica.position.clone();
        self.commit_rows(at, rows, position)
    }

    /// Tells the primary where the replica stands, and hears how far batches were published.
    fn report(&mut self, at: usize) -> Result<(), String> {
        let replica = &mut self.replicas[at];
        let own = replica.own.clone().filter(|own| own.is_subset_of(&replica.position));
        replica.reported = own.unwrap_or(replica.position.clone());
        let published = self.primary.batches.iter().rfind(|batch| batch.for_all && batch.published);
        let behind = published.is_some_and(|batch| !batch.to.is_subset_of(&replica.position));
        if behind && self.flaw != Flaw::NotReported { self.catch_up(at) } else { Ok(()) }
    }

    fn crash_replica(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        (replica.open, replica.working) = (Open::Nothing, replica.rows.clone());
        for part in std::mem::take(&mut replica.unacknowledged).into_iter().rev() {
            replica.queue.push_front(part);
        }
    }

    fn crash_primary(&mut self) {
        self.primary.crash();
        self.from = self.primary.resume_from(self.flaw);
        self.unnoted = None;
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
        self.from = self.primary.resume_from(self.flaw);
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
