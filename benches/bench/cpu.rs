//! Where the processor's time goes, from /proc.

use std::{collections::BTreeMap, fs};

use pgfanout_testbed::postgres::Cluster;

use super::stage::Stage;

/// Ticks of the processor's time a second, as Linux counts them for its users.
const TICKS: f64 = 100.0;

/// Who works on a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stagehand {
    /// Sessions that ended while it was measured: pgbench's.
    Application,
    /// Sessions that were there all along: who replicates.
    Replication,
    /// Checkpoints, the log, vacuum's launcher.
    Background,
}

/// Whose process it is, and seconds of a processor.
type ByProcess = BTreeMap<u32, (Stagehand, f64)>;

/// Seconds of a processor that were used so far: of a cluster's processes, and of those that ended.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    clusters: Vec<(ByProcess, f64)>,
    broker: f64,
    pgfanout: f64,
}

/// Seconds of a processor between two moments.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    /// By cluster, the primary first.
    pub(crate) clusters: Vec<BTreeMap<Stagehand, f64>>,
    pub(crate) broker: f64,
    pub(crate) pgfanout: f64,
}

impl Spent {
    pub(crate) fn primary(&self) -> f64 {
        self.clusters[0].values().sum()
    }

    pub(crate) fn primary_of(&self, stagehand: Stagehand) -> f64 {
        self.clusters[0].get(&stagehand).copied().unwrap_or(0.0)
    }

    /// Of each replica, on average.
    pub(crate) fn replica(&self) -> f64 {
        let replicas = &self.clusters[1..];
        replicas.iter().flat_map(BTreeMap::values).sum::<f64>() / replicas.len() as f64
    }
}

pub(crate) fn used(stage: &Stage) -> Usage {
    let replicas = stage.replicas();
    let clusters = [stage.primary()].into_iter().chain(replicas).map(cluster).collect();
    let of = |pids: Vec<u32>| pids.into_iter().filter_map(ticks).map(|(own, _)| own).sum();
    Usage {
        clusters,
        broker: of(stage.world.broker().processes()),
        pgfanout: of(stage.pgfanout.iter().map(|pgfanout| pgfanout.pid()).collect()),
    }
}

impl Usage {
    /// What was spent since.
    pub(crate) fn until(&self, now: &Self) -> Spent {
        let clusters = self.clusters.iter().zip(&now.clusters).map(|((before, gone), (after, gone_now))| {
            let mut spent = BTreeMap::from([(Stagehand::Application, gone_now - gone)]);
            for (pid, (stagehand, ticks)) in after {
                let before = before.get(pid).map_or(0.0, |(_, ticks)| *ticks);
                *spent.entry(*stagehand).or_default() += ticks - before;
            }
            spent
        });
        Spent {
            clusters: clusters.collect(),
            broker: now.broker - self.broker,
            pgfanout: now.pgfanout - self.pgfanout,
        }
    }
}

/// By process, and of those that have ended.
fn cluster(cluster: &Cluster) -> (ByProcess, f64) {
    let used = |pid| Some((pid, (stagehand(pid), ticks(pid)?.0)));
    let ended = cluster.pid().and_then(ticks).map_or(0.0, |(_, ended)| ended);
    (cluster.processes().into_iter().filter_map(used).collect(), ended)
}

fn stagehand(pid: u32) -> Stagehand {
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let replicates = ["127.0.0.1(", "walsender", "logical replication worker"];
    match replicates.iter().any(|word| title.contains(word)) {
        true => Stagehand::Replication,
        false => Stagehand::Background,
    }
}

/// Seconds that a process used itself, and that its children did which have ended.
fn ticks(pid: u32) -> Option<(f64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<f64> =
        stat.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    Some(((fields.get(11)? + fields.get(12)?) / TICKS, (fields.get(13)? + fields.get(14)?) / TICKS))
}
