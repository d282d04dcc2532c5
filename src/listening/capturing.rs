//! Which tables are captured.

use std::time::Instant;

use super::{CAPTURE_LOCK_LIMIT, Listening};
use crate::{
    config::Config,
    error::Result,
    prepare::{Wanted, wanted_tables},
    primary::capture,
};

impl Listening {
    /// Compares the tables that the configuration names with those that are captured. At the start `all` are
    /// looked into: a trigger may have been disabled meanwhile.
    pub(super) async fn resolve(&mut self, config: &Config, all: bool) -> Result<()> {
        self.resolved = Instant::now();
        let (wanted, problems) = wanted_tables(&self.control, config).await?;
        // The start refuses them; what the application creates later must not stop the rest.
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::error!(event = "table_refused", "{problem}");
        }
        self.problems = problems;
        let statement = "SELECT id, relation FROM pgfanout.captured_table WHERE broken IS NULL";
        let rows = self.control.query("reading the captured tables", statement, &[]).await?;
        let captured: Vec<(i32, u32)> = rows.iter().map(|row| (row.get("id"), row.get("relation"))).collect();
        for (id, _) in
            captured.iter().filter(|(_, relation)| !wanted.iter().any(|table| table.relation == *relation))
        {
            match capture::release(&self.control, *id, CAPTURE_LOCK_LIMIT).await {
                Err(error) if !capture::was_locked(&error) => return Err(error),
                // A table that stays captured a while longer does no harm: the next time tries again.
                _ => {}
            }
        }
        let is_captured = |table: &Wanted| captured.iter().any(|(_, relation)| *relation == table.relation);
        self.uncaptured = wanted.into_iter().filter(|table| all || !is_captured(table)).collect();
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
