//! Reading from the primary what a replica lacks, after its list of tables was compared with the replica's.

use std::time::Instant;

use tokio_postgres::error::SqlState;

use super::{Applying, Open};
use crate::{
    error::Result,
    primary::source::Source,
    replica::{
        catch_up::{Caught, catch_up},
        join::{cause, compare_histories, join},
        state::Replica,
    },
};

impl Applying {
    /// [Catches up](Self::catch_up), with what the listener found, which was committed `since` then.
    ///
    /// # Errors
    /// As there.
    pub async fn catch_up_hinted(&mut self, probed: bool, since: Option<Instant>) -> Result<()> {
        // What it found before is hinted at before, and read from the primary since.
        self.since = self.since.max(self.since.and(since));
        self.catch_up(probed).await
    }

    /// Reads from the primary what the replica lacks; if `probed`, the position moves in any case.
    ///
    /// # Errors
    /// When a database fails, or a table does not fit.
    pub async fn catch_up(&mut self, probed: bool) -> Result<()> {
        self.seat.check()?;
        if self.registry.is_none() || self.replica.has_unfit() {
            self.join().await?;
        }
        // The beginning of a batch is under way: the rest of it is, too.
        match self.open {
            Open::Begun(..) => Ok(()),
            Open::Nothing | Open::Whole(..) => self.catch_up_fully(probed).await,
        }
    }

    /// Catches up with all that is committed now; if `forced`, the position moves even where nothing changed
    /// in the replica's tables. What comes later is told later: under load there is always more.
    pub(super) async fn catch_up_fully(&mut self, mut forced: bool) -> Result<()> {
        self.commit().await?;
        self.give_up().await?;
        loop {
            self.source().await?;
            if self.registry.is_none() {
                self.join().await?;
                continue;
            }
            let Some(source) = &self.source else { continue };
            let replica = &mut self.replica;
            if self.unproven && compare_histories(replica, source).await?.is_some() {
                self.registry = None;
                continue;
            }
            self.unproven = false;
            // Batches of an earlier term may still come, of a history that was lost: no more of them fit then.
            forced |= self.newly_connected
                && replica.position.as_ref().is_some_and(|position| position.term != source.term);
            self.newly_connected = false;
            let began = Instant::now();
            match catch_up(replica, source, forced, self.since).await {
                Ok(Caught::Nothing) => {
                    self.since = Some(began);
                    return Ok(());
                }
                Ok(Caught::Unfit) => self.registry = None,
                Ok(Caught::To(_, changes)) => {
                    self.since = Some(began);
                    self.count(&self.caught_up, changes);
                    return Ok(());
                }
                // Queued behind a TRUNCATE or an ALTER TABLE; nothing of ours is broken.
                Err(error)
                    if error.sqlstate() == Some(&SqlState::LOCK_NOT_AVAILABLE) && error.is_of("primary") => {}
                Err(error) => match cause(replica, source, error).await {
                    error if replica.isolate(&error).await? => replica.reload().await?,
                    error => return Err(error),
                },
            }
        }
    }

    /// Compares the primary's list of tables with the replica's.
    async fn join(&mut self) -> Result<()> {
        self.commit().await?;
        self.give_up().await?;
        let existing_rows = self.existing_rows;
        let (replica, source) = self.source().await?;
        let registry = source.registry().await?;
        let joined = join(replica, source, existing_rows).await?;
        let name = &replica.name;
        if let Some(reason) = joined.anew {
            tracing::warn!(event = "copy_anew", replica = name, "{reason}; all tables are copied anew");
        }
        for table in joined.copying {
            tracing::info!(
                event = "table_entered",
                replica = name,
                table,
                "the table is copied to the replica, then follows"
            );
        }
        for (table, reason) in joined.waiting {
            tracing::error!(
                event = "table_waits",
                replica = name,
                table,
                "changes of the table do not arrive: {reason}"
            );
        }
        for table in joined.left {
            tracing::info!(
                event = "table_left",
                replica = name,
                table,
                "the table is not captured any more; it stays as it is"
            );
        }
        self.registry = Some(registry);
        self.unproven = false;
        Ok(())
    }

    /// The replica, and the primary within reach. Where the connection is a new one, another server may
    /// have answered, or the same put back to a backup: the two are to be compared.
    pub(super) async fn source(&mut self) -> Result<(&mut Replica, &Source)> {
        let usable = self.source.take().filter(|source| !source.is_closed());
        let source = match usable {
            Some(source) => source,
            None => {
                (self.registry, self.newly_connected) = (None, true);
                Source::connect(&self.primary, &self.replica.name).await?
            }
        };
        Ok((&mut self.replica, self.source.insert(source)))
    }
}
