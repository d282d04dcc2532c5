//! Where everything stands, asked of the databases and the broker themselves: `run` need not be up.
//!
//! All are asked at the same time, with a time limit each; whoever does not answer is `unreachable`, and
//! the others are told nevertheless. Nothing is changed, and neither secrets nor keys nor rows appear.
//!
//! # A replica's state
//!
//! The first that holds:
//!
//! | state | when |
//! |---|---|
//! | `unreachable` | its database could not be asked |
//! | `paused` | `pgfanout pause` was said, and `pgfanout resume` was not yet; it counts as one that does not follow |
//! | `halted` | no process applies to it, the one that does last reported that it cannot go on, or it stands in another history than the primary has |
//! | `isolating` | tables are set aside, on which it failed (`on_table_error = "isolate"`); the others go on |
//! | `copying` | a table is being copied, about to join the others, or not yet taken up; or there is none yet |
//! | `catching-up` | a change that it lacks was logged more than ten seconds ago, or was trimmed; or the primary could not say; or a commit there, done to find out, was not seen on the replica within four seconds; or nobody passes changes on, or the broker takes none |
//! | `following` | otherwise |
//!
//! A change's age counts from its statement, not from its commit. So after a transaction of minutes its
//! replicas are told to catch up for the moment that they take to apply it.
//!
//! # The JSON object
//!
//! Keys may be added, but none is renamed or removed. What is not known is `null`; numbers of bytes and
//! seconds are called so; points in time are UTC.
//!
//! ```json
//! {
//!   "follows": false,                       every replica follows, and no table is broken; the exit code is 0
//!   "primary": {
//!     "state": "reachable",                 or "not-installed", "unreachable"
//!     "error": null,                        why it is unreachable
//!     "publisher": "waiting",               or "publishing", "blocked", "disconnected", "down"; without a
//!                                           [broker] it wakes the appliers
//!     "reason": null,                       what holds it up, with the remedy
//!     "tables": 2,                          captured tables
//!     "broken_tables": [{"table": "public.t", "reason": "…"}],     not all is captured, with the remedy
//!     "changelog": {"entries": 1200, "bytes": 524288, "logged": 90000, "logged_per_second": 12.5},
//!     "last_batch": {"number": 7, "published": true, "cut_at": "2026-01-02T03:04:05.678Z",
//!                    "seconds_ago": 1.5}
//!   },
//!   "broker": {"state": "reachable", "error": null, "rejected": 0},        null: there is no [broker]
//!   "replicas": [{
//!     "name": "r1",
//!     "state": "copying",
//!     "reason": null,                       one sentence where there is more to say than the state
//!     "position": {"snapshot": "731:740:735", "batch": 7, "applied_at": "2026-01-02T03:04:06.001Z"},
//!     "delay_seconds": 0.012,
//!     "behind": {"changes": 12, "at_least": false, "bytes": 480, "seconds": 0.2, "trimmed": false},
//!     "queue": {"name": "replication.r1", "state": "present", "messages": 3, "consumers": 1},
//!     "reported": {"state": "copying", "error": null, "seconds_ago": 2.0},
//!     "recent": {"interval_seconds": 30.0, "delays": [null, 0.0, 3.1, 0.008], "applied_per_second": 12.4},
//!     "tables": 2,                          taken up by the replica
//!     "missing_tables": 0,                  captured and not taken up yet
//!     "copies": [{"table": "public.users", "phase": "rows", "rows": 500, "rows_expected": 1000,
//!                 "bytes": 20480, "bytes_expected": 40960, "percent": 50.0,
//!                 "rows_per_second": 250.0, "bytes_per_second": 10240.0, "seconds_left": 2.0}],
//!     "isolated": [{"table": "public.t", "cause": "…", "seconds_ago": 60.0}],        set aside, with the remedy
//!     "verified": {"right": false, "tables": 2, "since": "2026-01-02T02:00:00.000Z", "seconds_ago": 3846.0,
//!                  "wrong": [{"table": "public.t", "differences": 3, "unproved": null, "seconds_ago": 60.0}]}
//!   }]
//! }
//! ```
//!
//! - `delay_seconds` is how long a commit on the primary, done to find out, took until it was seen on the replica,
//!   by the way of all changes; null if it was not tried, as where nothing is applied, or not seen within four
//!   seconds: then the replica is told to catch up.
//! - `behind.changes` counts the changes that the position does not contain, in up to a million entries of the
//!   changelog: then `at_least` is true. `bytes` is what their keys and old rows take as they are stored.
//!   `seconds` is the age of the oldest. `trimmed`: some that it lacks are gone, so it is copied anew.
//! - `changelog`: an estimate of its entries, its size on disk, how many entries were ever logged, by the server's
//!   statistics, and how fast that grew in about the last minute; null where no replica moved in it. Of a statement
//!   that changes more than 10,000 rows, or inserts 4,000, an entry stands for a hundred.
//! - `publisher` is `blocked` while the broker is short of memory or disk and accepts nothing, and
//!   `disconnected` while it has no connection to the broker, both only while changes wait for it.
//! - `broker.rejected` is how many messages are in the queue `EXCHANGE.rejected`: those that were refused, and
//!   those that a full queue dropped. Null while there is no such queue.
//! - `queue` is null without a `[broker]`. Its `state` is `present`, `missing` or `unreachable`;
//!   `messages` are those ready to be delivered, not those delivered and unacknowledged.
//! - `reported` is what the replica's applier last told the primary.
//! - `recent` is what it told of the last quarter of an hour, by the primary's clock; null if it never told anything.
//!   `delays` are the longest delay in each of 30 intervals, from a change's commit to that on the replica, the last one up
//!   to this look; null where nothing is known, as before a replica came, or in the end while it cannot be asked. What waited
//!   shows in all intervals in which it did. Ten times a second one is measured, to a tenth of a second. `applied_per_second`
//!   is the rate of changes of about the last minute. All of it is a few seconds late, but for this look.
//! - `verified` tells what `pgfanout verify`, or the schedule in `[verify]`, last found in each table: `tables` were
//!   compared since they were copied, the first of them at `since`, `seconds_ago`. `wrong` are those of which rows differed,
//!   or could not be compared (`unproved`). Null where none was. It does not change the state.
//! - A copy's `phase` is `waiting`, `rows`, `completing` (changes since its start, and indexes) or
//!   `joining`. `percent` goes by rows where the table's statistics on the primary know their number, and
//!   else by bytes. Rates are those of the last minute; null if nothing was copied in it.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use self::{
    primary::Source,
    probe::{Probed, probe},
    replica::Told,
};
use crate::{
    config::{self, Config},
    error::Result,
    postgres::within,
};

mod broker;
mod judge;
mod primary;
mod probe;
mod recent;
mod replica;
#[cfg(test)]
mod tests;
pub(crate) mod text;
pub(crate) mod units;
mod watch;

pub use broker::{Broker, Queue, QueueState};
pub use judge::State;
pub use primary::{Behind, BrokenTable, Changelog, LastBatch, Primary, PrimaryState, Publisher, Reported};
pub use recent::Recent;
pub use replica::{Copy, Isolated, Phase, Position, Replica, Verified, Wrong};
pub use watch::watch;

/// How long anybody may take to connect and to answer. The primary is asked twice: what it says of
/// itself, and how far behind the positions are that the replicas told.
const LIMIT: Duration = Duration::from_millis(4500);

/// Everything there is to tell.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Whether every replica follows, and all changes of all tables are captured.
    pub follows: bool,
    /// The primary.
    pub primary: Primary,
    /// The broker, if there is one.
    pub broker: Option<Broker>,
    /// The replicas, in the order of the configuration.
    pub replicas: Vec<Replica>,
}

/// What to print, for eyes or as a JSON object in one line, and whether all is followed. Takes ten
/// seconds at most.
pub async fn status(config: &Config, json: bool) -> (String, bool) {
    let status = Status::read(config).await;
    let printed = if json { object(&status) } else { text::print(&status, text::Paper::output()) };
    (printed, status.follows)
}

/// One line.
fn object(status: &Status) -> String {
    serde_json::to_string(status).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

impl Status {
    /// Asks everybody.
    pub async fn read(config: &Config) -> Self {
        let ((primary, source), broker, replicas) = tokio::join!(
            primary::ask(&config.primary.database, config.broker.is_some()),
            broker::ask(config),
            join_all(config.replicas.iter().map(|replica| replica::ask(&replica.database))),
        );
        let (broker, queues) = broker.unzip();
        let source = source.as_ref();
        let (behind, probed) = tokio::join!(
            join_all(replicas.iter().map(|told| behind(source, told))),
            probed(source, config, &replicas),
        );
        let mut queues = queues.into_iter().flatten();
        let replicas: Vec<Replica> = config
            .replicas
            .iter()
            .zip(replicas)
            .zip(behind.into_iter().zip(probed))
            .map(|((replica, told), (behind, probed))| {
                judge::judge(&replica.name, told, source, behind, probed, queues.next())
            })
            .collect();
        // What is not captured nobody can follow.
        let follows = primary.broken_tables.is_empty()
            && replicas.iter().all(|replica| replica.state == State::Following);
        Self { follows, primary, broker, replicas }
    }
}

/// How long a commit takes to the replicas that changes go to; nothing for the others.
async fn probed<'a>(
    source: Option<&Source>,
    config: &Config,
    told: &'a [Result<Told>],
) -> Vec<Option<Probed>> {
    let Some(source) = source.filter(|source| source.held_up.is_none()) else {
        return vec![None; told.len()];
    };
    let flows = |(replica, told): (&config::Replica, &'a Result<Told>)| {
        let told = told.as_ref().ok()?;
        let report = source.reports.get(&replica.name);
        let is_there = told.position.as_ref().is_some_and(|position| position.epoch == source.epoch);
        let halted = report.is_some_and(|report| report.state == "halted");
        (told.applied_to && is_there && !halted && !told.paused).then_some(told)
    };
    probe(source, &config.replicas.iter().zip(told).map(flows).collect::<Vec<_>>()).await
}

/// What a replica lacks; nothing where it has no position on this primary.
async fn behind(source: Option<&Source>, told: &Result<Told>) -> Option<Result<Behind>> {
    let (source, position) = (source?, told.as_ref().ok()?.position.as_ref()?);
    if position.epoch != source.epoch {
        return None;
    }
    Some(within(LIMIT, "primary: counting what a replica lacks", source.behind(position)).await)
}
