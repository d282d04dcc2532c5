//! What an applier does with its connections: to its replica, and, when it needs it, to the primary.

mod catching_up;
mod reporting;

use std::{cell::Cell, rc::Rc, time::Instant};

use futures_util::future;

use crate::{
    batch::Part,
    config,
    error::{Error, Result},
    postgres::Database,
    primary::source::Source,
    protocol::{Due, Open},
    replica::{
        apply::{Malformed, Written, is_conflict, read, write},
        followed::Followed,
        isolate::Told,
        nameless::Nameless,
        state::{Position, Replica},
    },
    seat::Seat,
    snapshot::Snapshot,
};

/// How many changes of waiting batches may share a transaction.
const CHANGES_AT_ONCE: u64 = 20_000;

/// An applier's session.
pub struct Applying {
    /// Keeps other processes away.
    seat: Seat,
    replica: Replica,
    primary: Database,
    existing_rows: config::ExistingRows,
    /// Open while the primary is within reach.
    source: Option<Source>,
    /// The primary's list of tables when it was last compared with ours.
    registry: Option<String>,
    /// Whether nothing was read from the primary since it was connected.
    newly_connected: bool,
    /// Whether batches came from the queue since the histories were last compared.
    unproven: bool,
    /// What is written in the open transaction.
    open: Open,
    /// What is still to be written there of the batch that is begun.
    nameless: Nameless,
    /// What was not read from the primary then was committed since; not known of what was there before us.
    since: Option<Instant>,
    /// Reports since something came, though more was published.
    missed: u32,
    /// Reports since anything came.
    quiet: u32,
    /// From which transaction on the changelog is whole, as the primary told last.
    trimmed_before: u64,
    applied: Cell<u64>,
    caught_up: Cell<u64>,
    /// Of these two, those that the primary was not told of.
    untold: Cell<u64>,
}

impl Applying {
    /// Connects to the replica; the primary is connected when it is needed: a replica takes what is in its
    /// queue also while the primary is gone.
    ///
    /// # Errors
    /// When the replica cannot be reached, does not fit, or another process applies to it.
    pub async fn connect(replica: config::Replica, primary: Database, told: Told) -> Result<Self> {
        let existing_rows = replica.existing_rows;
        let (database, name) = (&replica.database, &replica.name);
        let workers = ["applier", "copy"].map(|job| format!("pgfanout {job} {name}"));
        let Some(seat) = Seat::take(database, name, &workers).await? else {
            return Err(Error::StandBy(format!("replica {name}: another pgfanout applies")));
        };
        let replica = Replica::connect(&replica, &primary, told).await?;
        let open = Open::Nothing;
        Ok(Self {
            seat,
            replica,
            primary,
            existing_rows,
            source: None,
            registry: None,
            newly_connected: true,
            unproven: false,
            open,
            nameless: Nameless::default(),
            since: None,
            missed: 0,
            quiet: 0,
            trimmed_before: 0,
            applied: Cell::default(),
            caught_up: Cell::default(),
            untold: Cell::default(),
        })
    }

    /// Applies parts in order; returns which are to be rejected, and why.
    ///
    /// # Errors
    /// When a database fails: nothing that is not committed counts.
    pub async fn apply(&mut self, parts: &[Part]) -> Result<Vec<(usize, String)>> {
        self.seat.check()?;
        (self.missed, self.quiet) = (0, 0);
        let mut rejected = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            if let Some(reason) = self.apply_part(part, at + 1 == parts.len()).await? {
                rejected.push((at, reason));
            }
        }
        self.commit().await?;
        Ok(rejected)
    }

    /// Applies one part, the `last` one that is at hand or not; returns why it is to be rejected, if it is.
    async fn apply_part(&mut self, part: &Part, last: bool) -> Result<Option<String>> {
        let Some(Position { epoch, snapshot, term, .. }) = self.replica.position.clone() else {
            self.catch_up_fully(false).await?;
            return Ok(None);
        };
        if part.batch.epoch != epoch {
            return Ok(Some("a batch of another installation of pgfanout".to_owned()));
        }
        if part.batch.term.is_empty() || part.batch.term != term {
            // Another publisher began since: perhaps on a primary that was put back, while batches of the
            // history that was lost are still in the queue. Only the primary can tell.
            self.catch_up_fully(true).await?;
            return Ok(None);
        }
        if self.open.is_broken_by(part) {
            self.give_up_begun().await?;
        }
        match self.open.due(&snapshot, part) {
            Due::Skip => Ok(None),
            Due::Write => self.write_part(part, last).await,
            Due::CatchUp => {
                tracing::info!(
                    event = "gap",
                    replica = self.replica.name,
                    batch = part.batch.number,
                    "changes before this batch are missing here; catching up from the primary"
                );
                self.catch_up_fully(true).await?;
                Ok(None)
            }
        }
    }

    /// The rest of the batch that is being written is not coming; it is cut again, or caught up.
    async fn give_up_begun(&mut self) -> Result<()> {
        if matches!(self.open, Open::Begun(..)) { self.give_up().await } else { Ok(()) }
    }

    /// Gives up whatever is written and not committed.
    async fn give_up(&mut self) -> Result<()> {
        self.open = Open::Nothing;
        self.replica.session.roll_back().await
    }

    async fn write_part(&mut self, part: &Part, last: bool) -> Result<Option<String>> {
        let nameless = std::mem::take(&mut self.nameless);
        let Some(position) = self.position() else { return Ok(None) };
        // Of a batch that was given up nothing is left.
        let kept = if self.open.goes_on_with(part) { nameless } else { Nameless::default() };
        let Ok(mut work) = read(&self.replica, position, part, kept) else {
            let Malformed = Malformed;
            if matches!(self.open, Open::Begun(..)) {
                self.catch_up_fully(true).await?;
            }
            return Ok(Some("a body that is not a list of changes".to_owned()));
        };
        self.nameless = std::mem::take(&mut work.nameless);
        // A batch of several parts has a transaction of its own: parts are acknowledged before it ends.
        let alone = !part.last || part.number > 0;
        let full = matches!(&self.open, Open::Whole(_, changes) if changes + work.changes > CHANGES_AT_ONCE);
        if full || (alone && matches!(self.open, Open::Whole(..))) {
            self.commit().await?;
        }
        let altered = self.is_altered(part);
        let (changes, before) = (work.changes, std::mem::take(&mut self.open));
        let written = match (altered, &before) {
            (true, _) => {
                self.registry = None;
                Ok(Written::CatchUp)
            }
            (false, Open::Nothing) if last && !alone && work.is_little() => {
                self.replica.write_at_once(&work, &part.batch).await.map(|()| Written::Committed)
            }
            (false, Open::Nothing) => {
                // Polled together, the first statement is sent along.
                let (begun, written) = future::join(self.replica.begin(), write(&self.replica, work)).await;
                begun.and(written)
            }
            (false, _) => write(&self.replica, work).await,
        };
        match written {
            Ok(Written::All) => {
                self.count(&self.applied, changes);
                self.open = before.with(part, changes);
            }
            Ok(Written::Committed) => {
                self.count(&self.applied, changes);
                self.unproven = true;
            }
            Ok(Written::CatchUp) => self.catch_up_fully(true).await?,
            Err(error) if is_conflict(&error) => {
                tracing::info!(
                    event = "conflict",
                    replica = self.replica.name,
                    batch = part.batch.number,
                    "rows of this batch meet others: a later part removes them, or somebody wrote them here; catching up \
                     from the primary, which replaces them"
                );
                self.replica.renew().await?;
                self.catch_up_fully(true).await?;
            }
            // Catching up tells on which table and why, and goes on without it if that is wanted.
            Err(error) if error.is_refusal() => {
                self.replica.renew().await?;
                // The primary may be away: what was refused stays so.
                let caught_up = self.catch_up_fully(true).await;
                caught_up.map_err(|other| if other.needs_operator() { other } else { error })?;
            }
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// Whether a table in the part was altered since it was compared, or is unknown here: one of its name is another.
    fn is_altered(&self, part: &Part) -> bool {
        let is_known = |&(id, definition): &(i32, i64)| {
            let followed = self.replica.tables.iter().find(|table| table.id == id);
            self.replica.is_isolated(id) || followed.is_some_and(|table| table.definition == definition)
        };
        !part.tables.iter().all(is_known)
    }

    /// The moment at which the replica stands, with what is written and not committed.
    fn position(&self) -> Option<&Snapshot> {
        self.replica.position.as_ref().map(|position| self.open.position(&position.snapshot))
    }

    /// Commits whole batches that are written; the beginning of one stays open.
    async fn commit(&mut self) -> Result<()> {
        if let Open::Whole(batch, _) = &self.open {
            self.replica.commit(batch).await?;
            self.open = Open::Nothing;
            self.unproven = true;
        }
        Ok(())
    }

    fn count(&self, of: &Cell<u64>, changes: u64) {
        for counted in [of, &self.untold] {
            counted.set(counted.get() + changes);
        }
    }

    /// A table whose copy is due.
    #[must_use]
    pub fn next_to_copy(&self) -> Option<Rc<Followed>> {
        self.replica.next_to_copy()
    }

    /// A table that is set aside, and is to be tried again.
    #[must_use]
    pub fn next_to_mend(&self) -> Option<Rc<Followed>> {
        self.replica.next_to_mend()
    }

    /// Takes note of how a copy ended, or trying a table that is set aside; one that is complete joins the
    /// others.
    ///
    /// # Errors
    /// As [`Self::catch_up`].
    pub async fn after_copy(&mut self, id: i32, table: &str, failure: Option<Error>) -> Result<()> {
        let mut refused = false;
        if let Some(error) = failure {
            // It may be that the table, or how far the changelog goes back, does not fit any more.
            self.registry = None;
            self.replica.tried(id, false);
            refused = self.replica.isolates(&error).is_some();
            if refused {
                self.give_up_begun().await?;
                self.commit().await?;
                self.replica.isolate(&error).await?;
            }
        } else if self.replica.is_isolated(id) {
            tracing::info!(
                event = "table_mended",
                replica = self.replica.name,
                table,
                "the table takes its changes again; it joins the others"
            );
        }
        if matches!(self.open, Open::Begun(..)) {
            // Between the parts of a batch: reading through the same session does not disturb it.
            return self.replica.look().await;
        }
        self.commit().await?;
        self.replica.reload().await?;
        // What was given up of a batch is not coming again.
        if refused { self.catch_up_fully(true).await } else { self.catch_up(false).await }
    }
}
