//! What an applier tells: to the primary, which trims by it and answers with what the applier should know,
//! and to the log.

use super::{Applying, Open};
use crate::{error::Result, postgres::Database, primary::source::Report};

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
        let resync = matches!(self.open, Open::Nothing) && self.replica.feel_pulse().await?;
        let Some(position) = self.position().cloned() else {
            // No table was captured yet when we last looked.
            self.registry = None;
            return self.catch_up().await;
        };
        // It may have been idle for long, and what comes next is not to wait for a link that died silently.
        self.replica.session.prove().await?;
        match self.source().await {
            Ok(_) => {}
            Err(error) if error.needs_operator() => return Err(error),
            Err(_) => return Ok(()),
        }
        if resync {
            self.replica.reload().await?;
            self.registry = None;
        }
        if self.registry.is_none() {
            // Before it is reported: another primary must not trim by it.
            return self.catch_up().await;
        }
        let (replica, Some(source)) = (&self.replica, &self.source) else { return Ok(()) };
        let Some(oldest) = replica.oldest() else { return Ok(()) };
        let state =
            if replica.tables.iter().any(|table| table.own.is_some()) { "copying" } else { "following" };
        let name = replica.names().into_iter().min_by_key(|name| name.0);
        let oldest_xmin = oldest.xmin();
        let report = Report { oldest, name, state };
        let reporting = async {
            source.reader.session().prove().await?;
            source.report(&replica.name, &report).await
        };
        let Ok(told) = reporting.await else {
            self.source = None;
            return Ok(());
        };
        let ready = self.replica.tables.iter().any(|table| table.own.is_some() && !table.copying);
        if self.registry.as_ref() != Some(&told.registry) || oldest_xmin < told.trimmed_before {
            self.registry = None;
            return self.catch_up().await;
        }
        self.missed = if told.published.is_subset_of(&position) { 0 } else { self.missed + 1 };
        if self.missed >= PATIENCE || ready {
            self.missed = 0;
            return self.catch_up().await;
        }
        Ok(())
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
        let copying = self.replica.tables.iter().filter(|table| table.own.is_some()).count();
        tracing::info!(
            event = "status",
            stage = "applier",
            replica = self.replica.name,
            position,
            copying,
            tables = self.replica.tables.len(),
            changes = self.applied.take(),
            caught_up = self.caught_up.take(),
            "changes applied and caught up since the last status"
        );
    }

    /// Leaves word on the primary that the replica needs an operator, for `status` to show.
    pub async fn report_halted(primary: &Database, replica: &str, reason: &str) {
        let Ok(session) = primary.connect("pgfanout applier").await else { return };
        let statement = include_str!("../../sql/primary/report_halted.sql");
        // Best effort: the log has it.
        let _ = session.execute("reporting a halt", statement, &[&replica, &reason]).await;
    }
}
