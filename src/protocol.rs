//! What is due with a part of a batch, given what a replica holds: the decisions on which it rests that
//! nothing is lost, doubled or put back. They are pure; `protocol/model.rs` runs them, with the gate of
//! [`primary::gate`](crate::primary::gate), against a model of everything around them.
//!
//! # Why no change is lost, doubled or put back
//!
//! **Words.** A snapshot is the set of transactions that have ended. `state(s)` is what the primary's tables
//! hold at snapshot `s`. The delta from `f` to `t`, where `f ⊆ t`, is every key that a transaction in `t` and
//! not in `f` changed, each with its row in `state(t)`, or its absence. A replica's position `p` is stored in
//! the transaction that writes its rows.
//!
//! **Snapshots are a chain.** Of two snapshots that one primary ever took, one includes the other, since
//! transactions only end. A crash of the primary may take back transactions that nobody was promised, and
//! their numbers come round again. So a batch is recorded on the primary, with a synchronous commit, after
//! its snapshot `t` is taken and before anybody sees it: that flushes every commit that `t` sees and gives
//! the record a number above all that `t` knows as ended. What is in a recorded snapshot stays true for ever.
//! A replica only ever stands at recorded snapshots.
//!
//! **The delta is complete.** Triggers log a key in the transaction that changes it, so that the entry is
//! visible exactly where the change is. Entries go only when every position, and the start of the next
//! batch, contain them; where a limit takes more, the primary notes how far, in the same transaction, and
//! a delta whose snapshot sees that its start lies before is refused: the replica is copied anew.
//!
//! **Lemma.** *If a replica holds `state(p)` and `f ⊆ p ⊆ t`, then writing the delta from `f` to `t` makes it
//! hold `state(t)`.* A key that differs between `state(p)` and `state(t)` was changed by a transaction in `t`
//! and not in `p`, hence not in `f`: it is in the delta. Every key in the delta gets its row of `state(t)`,
//! whatever was there. Every other key is the same at `f`, `p` and `t`. With a TRUNCATE
//! in the delta the table is emptied first: as it waits for all writers, every row of `state(t)` was inserted
//! after it, by a transaction in `t` and not in `f`, and so is in the delta.
//!
//! **Tables without a key** hold equal rows, which have no state but their number. Their delta is every transaction in
//! `t` and not in `f` with the rows that came and went in it, and a replica at `p` leaves out those of transactions in
//! `p` ([`replica::apply::read`](crate::replica::apply::read)): the rest is what happened in `t` and not in `p`, and
//! brings `state(p)` to `state(t)`. Of rows that are equal those that came are written first. Catching up has `f = p`.
//! Where the table was truncated, or a row was too large to be logged, it is emptied, and the delta is all of its rows
//! at `t`. It is copied as one piece: it stands where that was read, and what came before is not written again.
//!
//! **Invariant.** *Whenever a replica commits, its tables hold `state(p)`, and `p` only grows.* It holds at
//! the end of the first copy (below). Each commit keeps it:
//!
//! - *A batch* from `f` to `t` is written only where `f ⊆ p`, and not `t ⊆ p`, thus `p ⊂ t` ([`Open::due`]):
//!   the lemma, and `p` becomes `t`. Where `t ⊆ p` it is skipped: a message that comes twice or late. Where
//!   not `f ⊆ p` something before it is missing, and the replica catches up.
//! - *A batch in parts* is written in one transaction, which goes on only with the very next part of the very
//!   same batch (number and token), and commits only with its last one. Anything else rolls it back first.
//! - *Catching up* reads the delta from `p` to now: the lemma with `f = p`.
//! - *Several batches in one transaction* are several steps of which readers see the last.
//!
//! The update of the position names the one it replaces: should two processes ever apply at once, one of
//! them finds another position than it knows and rolls back.
//!
//! **Copying.** Let `c` be the snapshot before the first chunk. A row that no transaction outside `c` changed
//! was copied right, whenever its chunk was read; the key of any other is in the delta from `c` to any later
//! `t`. So writing that delta makes the table hold `state(t)`: from then on the invariant is the table's, too.
//! Until then it is named by `status`, and excepted.
//!
//! **A table that is set aside** ([`replica::isolate`](crate::replica::isolate)) is left where it stands: in one
//! statement it gets the replica's position `p` as its own snapshot `o`, unless it has one already, after the
//! transaction in which it failed was rolled back. From then on the replica's position speaks of the other tables
//! alone, and for them nothing changes: the lemma holds for any set of tables, if deltas and states are those of
//! that set, and a delta leaves out whole tables, never a part of one. So a commit shows all others at one `p`.
//! The table itself holds `state(o)`, as nothing is written to it but the delta from `o` to some `t`, with `o`
//! becoming `t` in the same transaction, which names the `o` that it replaces. It returns as a table does that
//! was copied: one transaction writes its delta from `o`, and that of the others from `p`, to the same `t`, and
//! takes its own snapshot away. Entries after `o` stay in the changelog, as the replica reports the oldest of
//! `p` and `o`; where a limit took them, or the table lost what it held, it is copied. That it is set aside is
//! committed before anything is applied without it; should the process believe in it longer than the note is
//! there, it only waits longer.
//!
//! **Nothing is lost.** Let a transaction be committed on the primary and not on a replica, everything being
//! up again. Either the publisher has not cut it yet: it looks at the changelog whenever it is notified, and
//! at times anyway. Or it has, in a batch to `t`, which is published, cut again from the same start, or lost.
//! Batches form a chain: the next one starts where the last one ended that was handed to the broker, and what is not
//! known to be published starts again: the record of a batch holds where the first one started of which that was not
//! known when it was cut. If every part reaches the replica, it applies them. If one does not, then
//! either a later part or batch does not fit and the replica catches up; or none follows, and the replica,
//! which reports its position and hears how far batches were published, catches up since it stays behind.
//! Messages are acknowledged after the commit, or when they are written in an open transaction: if that one
//! is rolled back, they are lost, which is the case above.
//!
//! **Answers that are lost.** Each act may be done again without harm. The outcome of a commit on the replica
//! unknown: the position is read anew, and says. A confirm: the batch is cut again from the same start, an
//! overlap. The record of a batch: a name without a batch. An acknowledgement: the message comes again and is
//! skipped. The note that a batch was published: it is cut again.
//!
//! **Wake-ups** are argued in [`primary::gate`](crate::primary::gate).
//!
//! **Another history.** A primary that was put back to a backup goes on with the same numbers and other
//! changes. Positions therefore carry the installation's epoch and the name of the last batch, whose token is
//! random: where the primary does not know them, nothing is applied until an operator has decided. And a batch
//! is looked at only if it is of the term in which the last one was cut, as terms never span two histories;
//! at any other the replica catches up instead, after it compared names. See "One history" on the front page.

use crate::{
    batch::{Batch, Part},
    snapshot::Snapshot,
};

/// What a replica's open transaction holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Open {
    /// There is none.
    #[default]
    Nothing,
    /// Whole batches up to this one, of so many changes.
    Whole(Batch, u64),
    /// The beginning of this batch, up to the part before this number.
    Begun(Batch, u32),
}

/// What is due with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// All of it is here.
    Skip,
    /// It follows, perhaps with an overlap.
    Write,
    /// Something before it is missing.
    CatchUp,
}

impl Open {
    /// Whether the part shows that the rest of the batch that is begun does not come: its transaction is to
    /// be rolled back first.
    #[must_use]
    pub fn is_broken_by(&self, part: &Part) -> bool {
        matches!(self, Self::Begun(..)) && !self.goes_on_with(part)
    }

    /// What is due with a part, where the last commit brought the replica to `committed`. A delta carries
    /// states, so one that starts earlier than the position is harmless; one that starts later would leave
    /// a hole.
    #[must_use]
    pub fn due(&self, committed: &Snapshot, part: &Part) -> Due {
        let position = self.position(committed);
        if part.batch.to.is_subset_of(position) {
            Due::Skip
        } else if part.batch.from.is_subset_of(position) && (part.number == 0 || self.goes_on_with(part)) {
            Due::Write
        } else {
            Due::CatchUp
        }
    }

    /// What the transaction holds when the part, of so many changes, is written too.
    #[must_use]
    pub fn with(self, part: &Part, changes: u64) -> Self {
        let before = if let Self::Whole(_, before) = self { before } else { 0 };
        match part.last {
            true => Self::Whole(part.batch.clone(), before + changes),
            false => Self::Begun(part.batch.clone(), part.number + 1),
        }
    }

    /// Where the replica stands, with what is written and not committed; the beginning of a batch moves
    /// nothing.
    #[must_use]
    pub fn position<'a>(&'a self, committed: &'a Snapshot) -> &'a Snapshot {
        match self {
            Self::Whole(batch, _) => &batch.to,
            Self::Nothing | Self::Begun(..) => committed,
        }
    }

    /// Whether the part is the very next one of the batch that is begun.
    #[must_use]
    pub fn goes_on_with(&self, part: &Part) -> bool {
        matches!(self, Self::Begun(batch, next) if *batch == part.batch && *next == part.number)
    }
}

#[cfg(test)]
#[allow(clippy::panic, clippy::indexing_slicing)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    fn part(from: &str, to: &str, number: u32) -> Part {
        let snapshot = |text: &str| text.parse().expect("a snapshot");
        let (epoch, token, term) = (String::new(), String::new(), String::new());
        let batch = Batch { epoch, number: 1, token, term, from: snapshot(from), to: snapshot(to) };
        Part { batch, number, last: false, tables: Vec::new(), body: Vec::new() }
    }

    #[test]
    fn a_batch_is_applied_only_where_no_hole_is_left() {
        let position: Snapshot = "10:12:10".parse().expect("a snapshot");
        let due = |from, to| Open::Nothing.due(&position, &part(from, to, 0));
        assert_eq!(due("5:5:", "9:9:"), Due::Skip);
        assert_eq!(due("5:5:", "10:12:10"), Due::Skip, "the very place");
        assert_eq!(due("10:12:10", "13:13:"), Due::Write, "the very next");
        assert_eq!(due("9:9:", "13:13:"), Due::Write, "an overlap");
        assert_eq!(due("11:12:", "13:13:"), Due::CatchUp, "10 is missing");
        assert_eq!(due("12:12:", "13:13:"), Due::CatchUp);
    }

    #[test]
    fn a_batch_goes_on_only_with_its_very_next_part() {
        let position: Snapshot = "10:10:".parse().expect("a snapshot");
        let parts = [0, 1, 2].map(|number| part("10:10:", "11:11:", number));
        let open = Open::Nothing.with(&parts[0], 1);
        assert_eq!(open, Open::Begun(parts[0].batch.clone(), 1));
        assert!(
            !open.is_broken_by(&parts[1]) && open.is_broken_by(&parts[2]) && open.is_broken_by(&parts[0])
        );
        assert_eq!(open.due(&position, &parts[1]), Due::Write);
        assert_eq!(open.due(&position, &parts[2]), Due::CatchUp);
        assert_eq!(Open::Nothing.due(&position, &parts[1]), Due::CatchUp, "its beginning is missing");
        let mut other = parts[1].clone();
        other.batch.token.push('x');
        assert!(open.is_broken_by(&other), "a part of another batch of the same number");
    }
}
