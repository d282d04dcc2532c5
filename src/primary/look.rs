//! Looking whether anything changed, and what time it is on the primary: no transaction is held for it.

use std::collections::BTreeMap;

use crate::{
    error::{Error, Result},
    postgres::Session,
    snapshot::Snapshot,
};

/// Where a delta starts, for which tables; `None` is all.
#[derive(Clone, Debug)]
pub struct Since {
    /// The earlier snapshot.
    pub from: Snapshot,
    /// The tables by their number in `pgfanout.captured_table`.
    pub tables: Option<Vec<i32>>,
    /// Those that do not matter.
    pub but: Vec<i32>,
}

impl Since {
    /// For all tables.
    #[must_use]
    pub fn all(from: Snapshot) -> Self {
        Self { from, tables: None, but: Vec::new() }
    }

    /// For one table.
    #[must_use]
    pub fn of(table: i32, from: Snapshot) -> Self {
        Self { from, tables: Some(vec![table]), but: Vec::new() }
    }
}

/// For a session that looks. Plans are made once: of the changelog, which has no statistics that last, that takes
/// longer than to look.
pub const SETTINGS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
    SET enable_bitmapscan = off; SET max_parallel_workers_per_gather = 0";

/// Tables that changed: by their number in `pgfanout.captured_table` that of their definition.
pub type Changed = BTreeMap<i32, i64>;

/// What a look found.
#[derive(Clone, Debug)]
pub struct Look {
    /// The moment of the look.
    pub now: Snapshot,
    /// Tables that changed; of very many changes not all tables are told.
    pub tables: Changed,
    /// Those of them that were altered.
    pub altered: Vec<i32>,
    /// How often it was logged that a table was made.
    pub made: i64,
    /// Whether changes since the start are gone from the changelog, so that no delta has them all.
    pub trimmed: bool,
}

/// Whether and where anything changed, in one statement that holds nothing.
///
/// # Errors
/// When the link breaks or does not answer.
pub async fn look(primary: &Session, since: &Since) -> Result<Look> {
    let statement = include_str!("../../sql/primary/look.sql");
    let from = since.from.to_string();
    let row =
        primary.query_one("looking for changes", statement, &[&from, &since.tables, &since.but]).await?;
    let (tables, definitions): (Vec<i32>, Vec<i64>) = (row.get("tables"), row.get("definitions"));
    let tables = tables.into_iter().zip(definitions).collect();
    let (mut altered, more): (Vec<i32>, bool) = (row.get("altered"), row.get("more"));
    if more {
        let statement = include_str!("../../sql/primary/altered.sql");
        let rows = primary.query("looking for tables that were altered", statement, &[&from]).await?;
        altered = rows.iter().map(|row| row.get("table_id")).collect();
    }
    let (now, made, trimmed) = (snapshot(row.get("now"))?, row.get("made"), row.get("trimmed"));
    Ok(Look { now, tables, altered, made, trimmed })
}

/// The primary's present.
///
/// # Errors
/// When the link breaks.
pub async fn present(primary: &Session) -> Result<Snapshot> {
    let row = primary.query_one("reading the time", "SELECT pg_current_snapshot()::text", &[]).await?;
    snapshot(row.get(0))
}

/// Reads a snapshot that the primary printed.
///
/// # Errors
/// When it is none.
pub fn snapshot(text: &str) -> Result<Snapshot> {
    text.parse().map_err(|error| Error::Unfit(format!("primary: {text:?}: {error}")))
}
