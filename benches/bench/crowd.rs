//! B7: more replicas. The primary is read once for all of them, and each batch published once.

use std::{path::PathBuf, time::Duration};

use pgfanout_testbed::{config::ReplicaSection, eventually, postgres::Cluster};

use super::{
    Scope,
    load::load,
    probe,
    results::Results,
    stage::{Stage, System, program},
};

const COUNTS: [usize; 3] = [1, 4, 8];

/// Transactions a second: what all replicas can follow on the benchmark's one machine.
const RATE: u32 = 200;

/// For copies of all tables to new replicas.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) async fn replicas(stage: &mut Stage, scope: &Scope, results: &mut Results) {
    let mut one = None;
    for count in COUNTS {
        begin(stage, count).await;
        // Of one replica, probes are looked for there alone.
        let system = if count == 1 { System::OneAway } else { System::Pgfanout };
        let loaded = load(stage, system, ("simple-update", 2.0), (4, scope.seconds, Some(RATE))).await;
        stage.end(System::Pgfanout).await;
        let mut add = |what: &str, value: f64| {
            results.add("B7", &format!("{count} replicas: {what}"), System::Pgfanout, value);
        };
        add("CPU of the primary a change, µs", loaded.primary());
        add("median delay, ms", loaded.median_delay());
        match one {
            None => one = Some(loaded.primary()),
            Some(one) => add("CPU of the primary a change, of that with one", loaded.primary() / one),
        }
    }
    // Their queues would fill while other workloads are measured.
    for extra in &crowd(stage, COUNTS[2])[2..] {
        let config = config(stage, COUNTS[2]);
        let removed = program().once("uninstall", &config, &["--replica", &extra.name]).await;
        assert_eq!(removed.code, Some(0), "{removed:?}");
    }
}

/// The database of a replica, by its number from 0: beside the two that there are always others on the same clusters.
fn place(stage: &Stage, number: usize) -> (&Cluster, String) {
    let database = if number < 2 { System::Pgfanout.name().to_owned() } else { format!("crowd_{number}") };
    (stage.replicas()[number % 2], database)
}

fn crowd(stage: &Stage, count: usize) -> Vec<ReplicaSection> {
    let section = |number| {
        let (cluster, database) = place(stage, number);
        ReplicaSection { name: format!("r{}", number + 1), url: cluster.url(&database), more: String::new() }
    };
    (0..count).map(section).collect()
}

fn config(stage: &Stage, count: usize) -> PathBuf {
    let mut config = stage.world.config();
    config.primary.url = stage.primary().url(System::Pgfanout.name());
    config.replicas = crowd(stage, count);
    config.write_as("crowd.toml")
}

/// Starts the program with so many replicas; returns when all follow.
async fn begin(stage: &mut Stage, count: usize) {
    for number in 2..count {
        let (cluster, database) = place(stage, number);
        let there = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";
        let postgres = cluster.client("postgres").await;
        if !postgres.query_one(there, &[&database]).await.unwrap().get::<_, bool>(0) {
            cluster.create_database(&database).await;
        }
    }
    stage.pgfanout = Some(program().run(&config(stage, count)));
    for number in 0..count {
        let (cluster, database) = place(stage, number);
        let replica = cluster.client(&database).await;
        eventually(PATIENCE, "the tables follow", async || {
            let joined = "SELECT count(*) FILTER (WHERE snapshot IS NULL) = 6 FROM pgfanout.replicated_table";
            replica.query_one(joined, &[]).await.is_ok_and(|row| row.get(0))
        })
        .await;
        probe::tell(&replica).await;
    }
}
