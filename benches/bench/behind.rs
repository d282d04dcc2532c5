//! Replicas that lack much: B5, a table they do not have yet, and B6, changes made while nobody replicated.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use pgfanout_testbed::{eventually, postgres::Cluster};
use tokio_postgres::Client;

use super::{
    Scope,
    probe::Prober,
    results::Results,
    stage::{Stage, System},
};

/// For what takes minutes at most.
const PATIENCE: Duration = Duration::from_secs(900);

/// At the usual scale two million rows, some 400 MB.
const ROWS_PER_SCALE: u32 = 200_000;

const COPIED: &str = "CREATE TABLE copied (id bigint PRIMARY KEY, t text, n numeric, at timestamptz);
    CREATE INDEX copied_at ON copied (at)";

/// B5: how fast a table comes to both replicas, indexes included.
pub(crate) async fn copies(stage: &mut Stage, scope: &Scope, results: &mut Results) {
    let rows = scope.scale * ROWS_PER_SCALE;
    for system in [System::Bare, System::Logical, System::Pgfanout] {
        // The tables that are there already are none of it.
        stage.begin(system).await;
        stage.end(system).await;
        let primary = stage.client(system).await;
        // Vacuumed, as a table that stands for long: else whoever comes first has to do a part of that.
        let fill = format!(
            "{COPIED}; INSERT INTO copied SELECT g, repeat(md5(g::text), 4), g * 1.5, \
             '2026-01-01'::timestamptz + g * interval '1 s' FROM generate_series(1, {rows}) g; \
             VACUUM ANALYZE copied; CHECKPOINT"
        );
        for statement in fill.split(';') {
            primary.batch_execute(statement).await.expect("a superuser's");
        }
        let seconds = match system {
            System::Bare => piped(stage).await,
            System::Logical => subscribed(stage, &primary).await,
            _ => joined(stage, &primary).await,
        };
        results.add("B5", "rows a second to each replica", system, f64::from(rows) / seconds);
        for replica in stage.replicas() {
            let database = if system == System::Bare { System::Logical } else { system };
            replica
                .client(database.name())
                .await
                .batch_execute("DROP TABLE copied")
                .await
                .expect("it is there");
        }
        primary.batch_execute("DROP TABLE IF EXISTS copied").await.expect("it is its own");
    }
}

/// `COPY` to `COPY`, to both replicas at a time.
async fn piped(stage: &Stage) -> f64 {
    let primary = stage.primary();
    let pipes = stage.replicas().map(async |replica: &Cluster| {
        let (from, to) =
            (primary.client(System::Bare.name()).await, replica.client(System::Logical.name()).await);
        to.batch_execute(COPIED).await.expect("it is new");
        let started = Instant::now();
        let mut rows = std::pin::pin!(from.copy_out("COPY copied TO STDOUT").await.expect("it is there"));
        let mut into = std::pin::pin!(to.copy_in("COPY copied FROM STDIN").await.expect("it is there"));
        while let Some(piece) = rows.next().await {
            into.send(piece.expect("the primary is up")).await.expect("the replica is up");
        }
        into.as_mut().finish().await.expect("the rows fit");
        started.elapsed().as_secs_f64()
    });
    join_all(pipes).await.into_iter().fold(0.0, f64::max)
}

async fn subscribed(stage: &Stage, primary: &Client) -> f64 {
    let publish = "CREATE PUBLICATION copied FOR TABLE copied";
    primary.batch_execute(publish).await.expect("it is new");
    let replicas = join_all(stage.replicas().map(|replica| replica.client(System::Logical.name()))).await;
    let url = stage.primary().url(System::Logical.name());
    let started = Instant::now();
    for (n, replica) in replicas.iter().enumerate() {
        let subscribe = format!("CREATE SUBSCRIPTION copied{n} CONNECTION '{url}' PUBLICATION copied");
        for statement in [COPIED, &subscribe] {
            replica.batch_execute(statement).await.expect("it is new");
        }
    }
    let ready = "SELECT coalesce(bool_and(srsubstate = 'r'), false) FROM pg_subscription_rel";
    eventually(PATIENCE, "the table is copied", async || all(&replicas, ready).await).await;
    let seconds = started.elapsed().as_secs_f64();
    for (n, replica) in replicas.iter().enumerate() {
        let drop = format!("DROP SUBSCRIPTION copied{n}");
        replica.batch_execute(&drop).await.expect("it is there");
    }
    primary.batch_execute("DROP PUBLICATION copied").await.expect("it is there");
    seconds
}

/// From the start of the process on.
async fn joined(stage: &mut Stage, primary: &Client) -> f64 {
    let replicas = join_all(stage.replicas().map(|replica| replica.client(System::Pgfanout.name()))).await;
    let started = Instant::now();
    stage.start();
    let follows = "SELECT count(*) = 1 FROM pgfanout.replicated_table
        WHERE table_name = 'copied' AND snapshot IS NULL";
    eventually(PATIENCE, "the table is copied", async || all(&replicas, follows).await).await;
    let seconds = started.elapsed().as_secs_f64();
    // The replicas learn that it is gone.
    primary.batch_execute("DROP TABLE copied").await.expect("it is there");
    let left = "SELECT count(*) = 0 FROM pgfanout.replicated_table WHERE table_name = 'copied'";
    eventually(PATIENCE, "the table has left", async || all(&replicas, left).await).await;
    stage.end(System::Pgfanout).await;
    seconds
}

async fn all(replicas: &[Client], query: &str) -> bool {
    let answers = join_all(replicas.iter().map(|replica| replica.query_one(query, &[]))).await;
    answers.into_iter().all(|answer| answer.is_ok_and(|row| row.get(0)))
}

/// B6: how long it takes to catch up with ten changes of each of many rows.
pub(crate) async fn changes(stage: &mut Stage, scope: &Scope, results: &mut Results) {
    for system in [System::Logical, System::Pgfanout] {
        stage.begin(system).await;
        let mut prober = Prober::new(stage, system).await;
        stage.pause(system).await;
        let update = format!(
            "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid <= {}",
            scope.scale * 10_000
        );
        for _ in 0..10 {
            prober.writer.batch_execute(&update).await.expect("it is there");
        }
        let number = prober.write().await;
        let started = Instant::now();
        stage.go_on(system).await;
        let seconds = prober.seen(number).await.duration_since(started).as_secs_f64();
        results.add("B6", "caught up after, s", system, seconds);
        stage.end(system).await;
    }
}
