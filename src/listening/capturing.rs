//! Which tables are captured.

use std::time::Instant;

use super::{CAPTURE_LOCK_LIMIT, Listening};
use crate::{
    config::Config,
    error::Result,
    prepare::{Wanted, wanted_tables},
    primary::capture,
};

/// Which captured tables may be captured otherwise than they should be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Suspects<'a> {
    /// At the start: a trigger may have been disabled meanwhile.
    All,
    /// Those that were altered: the DDL may have been in no position to have the capture follow.
    These(&'a [i32]),
    None,
}

/// What the log tells of tables that were made, and may be wanted.
#[derive(Debug, Default)]
pub(super) struct NewTables {
    /// How often it tells so since the last batch, as far as that is known.
    logged: i64,
    /// Whether they are to be looked for.
    pub(super) due: bool,
}

impl NewTables {
    /// The log was read: it tells so as often as this since the last batch.
    pub(super) fn note(&mut self, logged: i64) {
        self.due |= logged > self.logged;
        self.logged = self.logged.max(logged);
    }

    /// What was logged up to now is in a batch.
    pub(super) fn pass_on(&mut self) {
        self.logged = 0;
    }
}

impl Suspects<'_> {
    fn has(self, id: i32) -> bool {
        match self {
            Self::All => true,
            Self::These(ids) => ids.contains(&id),
            Self::None => false,
        }
    }
}

impl Listening {
    /// Compares the tables that the configuration names with those that are captured, and looks into some of these.
    pub(super) async fn resolve(&mut self, config: &Config, suspects: Suspects<'_>) -> Result<()> {
        (self.resolved, self.new_tables.due) = (Instant::now(), false);
        let (wanted, problems) = wanted_tables(&self.control, config).await?;
        // The start refuses them; what the application creates later must not stop the rest.
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::error!(event = "table_refused", "{problem}");
        }
        self.problems = problems;
        // Whoever disables a trigger where event triggers are off, or writes the catalog, is not noticed otherwise.
        let statement = "SELECT t.id, t.relation, format('%I.%I', t.schema_name, t.table_name) AS name, \
            g.id IS NULL AS complete FROM pgfanout.captured_table t LEFT JOIN pgfanout.gaps() g ON g.id = t.id \
            WHERE t.broken IS NULL";
        let rows = self.control.query("reading the captured tables", statement, &[]).await?;
        let captured: Vec<(i32, u32)> = rows.iter().map(|row| (row.get("id"), row.get("relation"))).collect();
        let mut gaps = Vec::new();
        for row in rows.iter().filter(|row| !row.get::<_, bool>("complete")) {
            gaps.push(row.get::<_, i32>("id"));
            let table: &str = row.get("name");
            tracing::warn!(
                event = "capture_gap",
                table,
                "a trigger of pgfanout was disabled or gone, and changes may be missing: the table is captured and \
                 copied anew"
            );
        }
        for (id, _) in
            captured.iter().filter(|(_, relation)| !wanted.iter().any(|table| table.relation == *relation))
        {
            match capture::release(&self.control, *id, CAPTURE_LOCK_LIMIT).await {
                Err(error) if !capture::was_locked(&error) => return Err(error),
                // A table that stays captured a while longer does no harm: the next time tries again.
                _ => {}
            }
        }
        let id = |table: &Wanted| captured.iter().find(|(_, relation)| *relation == table.relation);
        let waits = |table: &Wanted| self.uncaptured.iter().any(|other| other.relation == table.relation);
        let is_current = |table: &Wanted| {
            id(table).is_some_and(|&(id, _)| !suspects.has(id) && !gaps.contains(&id)) && !waits(table)
        };
        self.uncaptured = wanted.into_iter().filter(|table| !is_current(table)).collect();
        if self.uncaptured.is_empty() { Ok(()) } else { self.capture().await }
    }

    /// Captures what is to be captured, as far as its writers let us.
    pub(super) async fn capture(&mut self) -> Result<()> {
        self.capture_tried = Instant::now();
        let mut waiting = Vec::new();
        for table in std::mem::take(&mut self.uncaptured) {
            match capture::capture(&self.control, table.relation, table.old_record, CAPTURE_LOCK_LIMIT).await
            {
                Ok(_) => {}
                Err(error) if capture::was_locked(&error) => waiting.push(table),
                Err(error) => return Err(error),
            }
        }
        if !waiting.is_empty() {
            let tables = waiting.iter().map(|table| table.name.as_str()).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                event = "capture_waits",
                tables,
                "waiting for transactions that wrote these tables to end, to capture them"
            );
        }
        self.uncaptured = waiting;
        Ok(())
    }
}
