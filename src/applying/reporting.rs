//! What an applier tells: to the primary, which trims by it and answers with what the applier should know,
//! and to the log.

use std::{rc::Rc, time::Instant};

use super::{Applying, Open};
use crate::{
    error::Result,
    postgres::Database,
    primary::source::{Name, Report},
    replica::followed::Followed,
    snapshot::Snapshot,
};

/// For how many reports in a row the primary may say that more was published, while nothing comes, before
/// it is taken for lost.
const PATIENCE: u32 = 3;

/// For how many reports in a row nothing may come before the beginning of a batch is given up.
const MAX_QUIET: u32 = 30;

impl Applying {
    /// Tells the primary where the replica stands, and looks whether something got lost.
    ///
    /// # Errors
    /// As [`Self::catch_up`]. That the primary is away is no error here: its listener says so.
    pub async fn report(&mut self) -> Result<()> {
        self.seat.check()?;
        self.quiet += 1;
        if self.quiet >= MAX_QUIET {
            // No transaction stays open on the replica because a publisher is gone.
            self.give_up_begun().await?;
        }
        let idle = matches!(self.open, Open::Nothing);
        let look_anew = idle && (self.replica.feel_pulse().await? || self.replica.is_retry_due());
        let Some(position) = self.position().cloned() else {
            // No table was captured yet when we last looked.
            self.registry = None;
            return self.catch_up(false).await;
        };
        // It may have been idle for long, and what comes next is not to wait for a link that died silently.
        self.replica.session.prove().await?;
        match self.source().await {
            Ok(_) => {}
            Err(error) if error.needs_operator() => return Err(error),
            Err(_) => return Ok(()),
        }
        if look_anew {
            self.replica.reload().await?;
            self.registry = None;
        }
        if self.registry.is_none() {
            // Before it is reported: another primary must not trim by it.
            return self.catch_up(false).await;
        }
        let (replica, Some(source)) = (&self.replica, &self.source) else { return Ok(()) };
        let Some(reach) = replica.moments(false).map(|(snapshot, _)| snapshot.xmin()).min() else {
            return Ok(());
        };
        // What is set aside holds the changelog as a replica does that is away; in vain once that was trimmed.
        let held = |(snapshot, _): &(&Snapshot, &Name)| {
            snapshot.xmin() >= self.trimmed_before || snapshot.xmin() >= reach
        };
        let Some((oldest, _)) =
            replica.moments(true).filter(held).min_by_key(|(snapshot, _)| snapshot.xmin())
        else {
            return Ok(());
        };
        let name = replica.moments(true).filter(held).map(|(_, name)| name).min_by_key(|name| name.0);
        let moves = replica.moves.told(Instant::now());
        let report = Report { oldest, name, state: self.state(), moves, changes: self.untold.get() };
        let reporting = async {
            source.reader.session().prove().await?;
            source.report(&replica.name, &report).await
        };
        let Ok(told) = reporting.await else {
            self.source = None;
            return Ok(());
        };
        self.trimmed_before = told.trimmed_before;
        if !report.moves.since.is_empty() {
            self.untold.set(0);
            self.replica.moves.forget();
        }
        let is_ready = |table: &Rc<Followed>| {
            table.own.is_some() && !table.copying && !self.replica.is_isolated(table.id)
        };
        let ready = self.replica.tables.iter().any(is_ready);
        if self.registry.as_ref() != Some(&told.registry) || reach < told.trimmed_before {
            self.registry = None;
            return self.catch_up(false).await;
        }
        self.missed = if told.published.is_subset_of(&position) { 0 } else { self.missed + 1 };
        let lost = self.missed >= PATIENCE;
        if lost || ready {
            self.missed = 0;
            // What is lost may be a batch without changes, which the replica has to pass all the same.
            return self.catch_up(lost).await;
        }
        Ok(())
    }

    /// In a word.
    fn state(&self) -> &'static str {
        if !self.replica.isolated.is_empty() {
            "isolating"
        } else if self.replica.tables.iter().any(|table| table.own.is_some()) {
            "copying"
        } else {
            "following"
        }
    }

    /// Commits what is whole; the beginning of a batch is given up.
    ///
    /// # Errors
    /// When the replica fails.
    pub async fn drain(&mut self) -> Result<()> {
        self.commit().await?;
        if self.source.is_some() { self.report().await } else { Ok(()) }
    }

    /// Says how it is.
    pub fn say_status(&self) {
        let position =
            self.replica.position.as_ref().map(|position| position.snapshot.to_string()).unwrap_or_default();
        let copying = |table: &&Rc<Followed>| table.own.is_some() && !self.replica.is_isolated(table.id);
        let copying = self.replica.tables.iter().filter(copying).count();
        tracing::info!(
            event = "status",
            stage = "applier",
            replica = self.replica.name,
            position,
            copying,
            isolated = self.replica.isolated.len(),
            tables = self.replica.tables.len(),
            changes = self.applied.take(),
            caught_up = self.caught_up.take(),
            "changes applied and caught up since the last status"
        );
    }

    /// Leaves word on the primary that the replica is paused.
    pub async fn report_paused(primary: &Database, replica: &str) {
        let Ok(session) = primary.connect("pgfanout applier").await else { return };
        let statement = include_str!("../../sql/primary/report_paused.sql");
        // Best effort: the replica has it.
        let _ = session.execute("reporting a pause", statement, &[&replica]).await;
    }

    /// Leaves word on the primary that the replica needs an operator, for `status` to show.
    pub async fn report_halted(primary: &Database, replica: &str, reason: &str) {
        let Ok(session) = primary.connect("pgfanout applier").await else { return };
        let statement = include_str!("../../sql/primary/report_halted.sql");
        // Best effort: the log has it.
        let _ = session.execute("reporting a halt", statement, &[&replica, &reason]).await;
    }
}
