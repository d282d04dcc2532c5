//! Verifying by itself: one table of one replica after the other, at a limited pace, in a task of its own with its own
//! connections. What is wrong is told, and left as it is.

use std::{collections::HashSet, rc::Rc, time::Duration};

use super::{
    outcome::TableOutcome,
    pair::Pair,
    table::{self, Reached},
};
use crate::{
    cli::VerifyOptions,
    config::{self, Config, Verify},
    error::Result,
    postgres::Session,
    replica::session::is_paused,
};

/// How often we look what is due.
const INTERVAL: Duration = Duration::from_secs(10);

/// The advisory lock of the session that verifies a replica: of several processes one does. Chosen once, at random.
const LOCK: i64 = 0x7067_6661_6e6f_7576;

/// A replica, as long as its session lasts.
struct Watched {
    session: Session,
    /// Whether this process does it.
    is_ours: bool,
}

/// Verifies all replicas whenever it is due, for ever.
pub async fn verify_when_due(config: Rc<Config>, verify: Verify) {
    let mut watched: Vec<Option<Watched>> = config.replicas.iter().map(|_| None).collect();
    let mut failing = HashSet::new();
    loop {
        for (replica, watched) in config.replicas.iter().zip(&mut watched) {
            let Err(error) = look(&config, verify, replica, watched).await else {
                failing.remove(&replica.name);
                continue;
            };
            *watched = None;
            if failing.insert(&replica.name) {
                tracing::warn!(
                    event = "verify_failed",
                    replica = replica.name,
                    "verifying is tried again until it goes on: {}",
                    error.chain()
                );
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Verifies the tables of one replica that are due.
async fn look(
    config: &Config,
    verify: Verify,
    replica: &config::Replica,
    watched: &mut Option<Watched>,
) -> Result<()> {
    let Watched { session, is_ours } = match watched {
        Some(watched) => watched,
        None => {
            let session = replica.database.connect("pgfanout verify schedule").await?;
            watched.insert(Watched { session, is_ours: false })
        }
    };
    if !*is_ours {
        let locking = "SELECT pg_try_advisory_lock($1)";
        *is_ours = session.query_one("looking who verifies", locking, &[&LOCK]).await?.get(0);
    }
    if !*is_ours {
        return Ok(());
    }
    let due = due(session, verify).await?;
    if due.is_empty() {
        return Ok(());
    }
    let pair = Pair::connect(&config.primary.database, replica).await?;
    let options = VerifyOptions { rate: Some(verify.rate), ..VerifyOptions::default() };
    let captured = pair.captured().await?;
    let (mut tables, mut rows) = (0_u64, 0);
    for (id, name) in due {
        // It may be captured no more, and leave in a moment.
        let Some(captured) = captured.iter().find(|captured| captured.id == id) else { continue };
        if is_paused(session).await? {
            break;
        }
        let outcome = table::verify(&pair, captured, &options, &Reached::default()).await?;
        say(&replica.name, &name, &outcome);
        tables += 1;
        rows += outcome.rows;
    }
    if tables > 0 {
        let replica = &replica.name;
        tracing::info!(event = "verified", replica, tables, rows, "tables were compared with the primary's");
    }
    Ok(())
}

/// Numbers and names of the tables that are due; none while the replica is paused, or was never installed.
async fn due(session: &Session, verify: Verify) -> Result<Vec<(i32, String)>> {
    let present = "SELECT to_regclass('pgfanout.verified_table') IS NOT NULL";
    let present: bool = session.query_one("looking for our schema", present, &[]).await?.get(0);
    if !present || is_paused(session).await? {
        return Ok(Vec::new());
    }
    let statement = include_str!("../../sql/replica/verify_due.sql");
    let every = verify.every.as_secs_f64();
    let rows = session.query("looking which tables are due", statement, &[&every]).await?;
    Ok(rows.iter().map(|row| (row.get("id"), row.get("name"))).collect())
}

/// What is not as it should be. Keys stay out of the log.
fn say(replica: &str, table: &str, outcome: &TableOutcome) {
    let TableOutcome { missing, extra, different, .. } = *outcome;
    if outcome.wrong() > 0 {
        tracing::error!(
            event = "table_differs",
            replica,
            table,
            missing,
            extra,
            different,
            "rows are not as on the primary; {}",
            to_see(replica, table)
        );
    }
    if let Some(why) = outcome.unproved() {
        tracing::warn!(event = "table_unproved", replica, table, "not all rows could be compared: {why}");
    }
}

/// How to see what is wrong with a table, named as in SQL.
pub(crate) fn to_see(replica: &str, table: &str) -> String {
    let table = table.replace('\'', "'\\''");
    format!(
        "to see which: pgfanout verify --config FILE --replica {replica} --table '{table}'; --repair writes them anew"
    )
}
