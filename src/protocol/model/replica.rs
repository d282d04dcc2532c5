//! A replica of the model: what is delivered, written, caught up and set aside.

use std::collections::VecDeque;

use super::{Due, Flaw, Open, Rows, World, is_fragile};
use crate::{batch::Part, snapshot::Snapshot};

/// What a replica lacks in the model is a name, and an error.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) rows: Rows,
    pub(super) position: Snapshot,
    pub(super) open: Open,
    /// The rows as the open transaction sees them.
    pub(super) working: Rows,
    pub(super) queue: VecDeque<Part>,
    /// Delivered and not acknowledged.
    pub(super) unacknowledged: VecDeque<Part>,
    /// The position that the primary knows of.
    pub(super) reported: Snapshot,
    /// Where the first of two tables stands while it is set aside.
    pub(super) own: Option<Snapshot>,
    /// Whether it is mended, and joins when the replica catches up next.
    pub(super) mended: bool,
}

impl World {
    /// Offers the next messages to the applier, as many as happen to be there.
    pub(super) fn deliver(&mut self, at: usize) -> Result<(), String> {
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

    pub(super) fn apply(&mut self, at: usize, part: &Part) -> Result<(), String> {
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
    pub(super) fn commit(&mut self, at: usize) -> Result<(), String> {
        let replica = &mut self.replicas[at];
        let Open::Whole(batch, _) = &replica.open else { return Ok(()) };
        let to = batch.to.clone();
        replica.open = Open::Nothing;
        let rows = replica.working.clone();
        self.commit_rows(at, rows, to)
    }

    /// What every reader of the replica sees from now on: a moment of the primary, and never an earlier one.
    pub(super) fn commit_rows(&mut self, at: usize, rows: Rows, to: Snapshot) -> Result<(), String> {
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
    pub(super) fn catch_up(&mut self, at: usize) -> Result<(), String> {
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
    pub(super) fn caught_up(
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
    pub(super) fn isolate(&mut self, at: usize) -> Result<(), String> {
        self.commit(at)?;
        let replica = &mut self.replicas[at];
        (replica.open, replica.working) = (Open::Nothing, replica.rows.clone());
        // It may fail again while it joins.
        (replica.own, replica.mended) = (replica.own.take().or(Some(replica.position.clone())), false);
        self.catch_up(at)
    }

    /// A table that is set aside takes the changes since, by itself.
    pub(super) fn mend(&mut self, at: usize) -> Result<(), String> {
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
    pub(super) fn report(&mut self, at: usize) -> Result<(), String> {
        let replica = &mut self.replicas[at];
        let own = replica.own.clone().filter(|own| own.is_subset_of(&replica.position));
        replica.reported = own.unwrap_or(replica.position.clone());
        let published = self.primary.batches.iter().rfind(|batch| batch.for_all && batch.published);
        let behind = published.is_some_and(|batch| !batch.to.is_subset_of(&replica.position));
        if behind && self.flaw != Flaw::NotReported { self.catch_up(at) } else { Ok(()) }
    }

    pub(super) fn crash_replica(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        (replica.open, replica.working) = (Open::Nothing, replica.rows.clone());
        for part in std::mem::take(&mut replica.unacknowledged).into_iter().rev() {
            replica.queue.push_front(part);
        }
    }
}
