//! The primary of the model: its history, its changelog, its record of batches.

use std::collections::{BTreeMap, BTreeSet};

use super::{Flaw, Rows};
use crate::{batch::Batch, snapshot::Snapshot};

/// A committed transaction: its entries of the changelog are its keys.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) xid: u64,
    pub(super) rows: Vec<(u8, Option<u64>)>,
}

/// A batch's row on the primary.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) number: i64,
    pub(super) from: Snapshot,
    pub(super) to: Snapshot,
    pub(super) for_all: bool,
    pub(super) published: bool,
}

#[derive(Debug, Default)]
pub(super) struct Primary {
    pub(super) last_xid: u64,
    pub(super) running: BTreeMap<u64, Vec<(u8, Option<u64>)>>,
    /// In the order of their commits; the first `flushed` survive a crash, as do the batches.
    pub(super) commits: Vec<Commit>,
    pub(super) flushed: usize,
    pub(super) flushed_xid: u64,
    pub(super) batches: Vec<Recorded>,
    pub(super) tokens: u64,
    /// Entries of lower transactions are gone.
    pub(super) trimmed_before: u64,
}

impl Primary {
    pub(super) fn now(&self) -> Snapshot {
        let xmax = self.last_xid + 1;
        let running: Vec<String> = self.running.keys().map(u64::to_string).collect();
        let xmin = self.running.keys().next().copied().unwrap_or(xmax);
        format!("{xmin}:{xmax}:{}", running.join(",")).parse().expect("a snapshot")
    }

    /// What the tables hold at a moment.
    pub(super) fn state(&self, at: &Snapshot) -> Rows {
        let mut state = Rows::new();
        for (key, row) in self.commits.iter().filter(|commit| at.contains(commit.xid)).flat_map(|c| &c.rows) {
            match row {
                Some(value) => state.insert(*key, *value),
                None => state.remove(key),
            };
        }
        state
    }

    pub(super) fn delta(&self, from: &Snapshot, to: &Snapshot) -> Vec<(u8, Option<u64>)> {
        let changed = |commit: &&Commit| {
            commit.xid >= self.trimmed_before && to.contains(commit.xid) && !from.contains(commit.xid)
        };
        let keys: BTreeSet<u8> =
            self.commits.iter().filter(changed).flat_map(|c| c.rows.iter().map(|row| row.0)).collect();
        let state = self.state(to);
        keys.into_iter().map(|key| (key, state.get(&key).copied())).collect()
    }

    pub(super) fn is_trimmed(&self, from: &Snapshot) -> bool {
        self.trimmed_before > from.xmin()
    }

    /// Records a batch in a transaction of its own, whose commit is synchronous.
    pub(super) fn record(&mut self, from: &Snapshot, to: &Snapshot, for_all: bool, flaw: Flaw) -> Batch {
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

    pub(super) fn resume_from(&mut self, flaw: Flaw) -> Snapshot {
        let known = self.batches.iter().rfind(|batch| batch.for_all).cloned();
        match known {
            Some(last) if last.published || flaw == Flaw::ResumedAtTheEnd => last.to,
            Some(last) => last.from,
            None => self.anchor(flaw),
        }
    }

    /// Notes the present as where batches start.
    pub(super) fn anchor(&mut self, flaw: Flaw) -> Snapshot {
        let now = self.now();
        self.record(&now, &now, true, flaw);
        if let Some(anchor) = self.batches.last_mut() {
            anchor.published = true;
        }
        now
    }

    pub(super) fn crash(&mut self) {
        self.running.clear();
        self.commits.truncate(self.flushed);
        let last = self.commits.iter().map(|commit| commit.xid).max().unwrap_or(0);
        self.last_xid = self.flushed_xid.max(last);
    }
}
