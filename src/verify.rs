//! `pgfanout verify`: proving that replicas equal the primary, while both are written.
//!
//! Nothing is stopped for it, and nothing has to stand still. A replica says at which moment of the primary
//! its rows are, and the changelog says which rows changed since. So a row that differs between what a replica
//! shows and what the primary shows a moment later is wrong, if no change of it lies between the two moments;
//! and if one does, the row is looked at again.
//!
//! 1. Each table is compared in ranges of its key (`verify::table`): one number of each side, the sum of the hashes
//!    of the rows' texts. That is fast, and proves nothing when the numbers differ: the moments differ.
//! 2. Where they do, the keys whose hashes differ are collected, and looked at by `verify::pair`: on the
//!    replica the rows with the position that they are at, on the primary the rows and the changes
//!    since that position, each in one snapshot. What differs without a change is a difference.
//! 3. What did change is looked at again when the replica moved on, for some seconds. A row that changed each
//!    time is told as `changing`: every change replaces it as a whole.
//!
//! A repair logs the keys as changed, and replication does the rest: it
//! brings the rows as they are to all replicas, in a batch like any other.
//!
//! TRUNCATE is not MVCC-safe: a look locks the table in the weakest mode before its snapshot is
//! taken. It lasts for a few thousand keys, and gives way (`lock_timeout`).
//!
//! What came of a table is noted on the replica, for `status`. So a [schedule] needs no memory: each table is due when
//! it was not verified for long enough, and a restart goes on with the next.

use std::io::{self, Write as _};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{Failure, VerifyOptions as Options, named_replica, table_patterns},
    config::{Config, Replica},
    error::{Error, Result},
    pattern::Pattern,
    primary::source::Captured,
    status::text::plain,
};

use self::{
    outcome::{Outcome, ReplicaOutcome, TableOutcome},
    pair::Pair,
    table::Reached,
};

mod outcome;
mod pair;
pub mod schedule;
mod table;

/// Compares, prints, and says whether all replicas are proved to be right, until told to end by SIGINT or SIGTERM.
///
/// # Errors
/// When there is no such replica or table, a database fails, or it is told to end: with the command that goes on.
pub async fn verify(config: Config, options: &Options) -> Result<bool, Failure> {
    let waiting = |error| Error::Unfit(format!("waiting for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(waiting)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(waiting)?;
    let reached = Reached::default();
    tokio::select! {
        done = verify_all(&config, options, &reached) => return done,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Err(reached.resumable(Error::Disconnected("interrupted".to_owned())).into())
}

async fn verify_all(config: &Config, options: &Options, reached: &Reached) -> Result<bool, Failure> {
    let replicas = replicas(config, options)?;
    let patterns = table_patterns(config, &options.tables)?;
    let mut outcome = Outcome { right: true, replicas: Vec::new() };
    for replica in replicas {
        let mut found = ReplicaOutcome { name: replica.name.clone(), not_compared: None, tables: Vec::new() };
        if !options.json {
            let _ = writeln!(io::stdout(), "replica {}", replica.name);
        }
        // The others are compared also where one is out of reach.
        match verify_replica(config, replica, &patterns, options, reached, &mut found.tables).await {
            Err(Failure::Failed(error)) => {
                let why = reached.resumable(error).chain();
                if !options.json {
                    let _ = writeln!(io::stdout(), "  not compared: {}", plain(&why));
                }
                found.not_compared = Some(why);
            }
            done => done?,
        }
        outcome.right &= found.is_right();
        outcome.replicas.push(found);
    }
    if options.json {
        let json = serde_json::to_string(&outcome).map_err(|error| Error::Unfit(error.to_string()))?;
        let _ = writeln!(io::stdout(), "{json}");
    }
    Ok(outcome.right)
}

fn replicas<'a>(config: &'a Config, options: &Options) -> Result<Vec<&'a Replica>, Failure> {
    match options.replicas.is_empty() {
        true => Ok(config.replicas.iter().collect()),
        false => options.replicas.iter().map(|name| named_replica(config, name)).collect(),
    }
}

async fn verify_replica(
    config: &Config,
    replica: &Replica,
    patterns: &[Pattern],
    options: &Options,
    reached: &Reached,
    outcomes: &mut Vec<TableOutcome>,
) -> Result<(), Failure> {
    let pair = Pair::connect(&config.primary.database, replica).await?;
    let captured = pair.captured().await?;
    for (pattern, source) in patterns.iter().zip(&options.tables) {
        if !captured.iter().any(|table| pattern.matches(&table.schema, &table.table)) {
            let text = format!("{source} matches none of the tables that are captured");
            return Err(config.problem("table", text).into());
        }
    }
    let is_meant = |table: &&Captured| {
        patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&table.schema, &table.table))
    };
    let meant: Vec<&Captured> = captured.iter().filter(is_meant).collect();
    if options.after.is_some() && meant.len() != 1 {
        let text = format!("--after is for one table, and {} are meant; name it with --table", meant.len());
        return Err(config.problem("after", text).into());
    }
    for captured in meant {
        let found = table::verify(&pair, captured, options, reached).await?;
        if !options.json {
            let _ = write!(io::stdout(), "{}", found.text());
        }
        outcomes.push(found);
    }
    Ok(())
}
