//! B11: how fast `pgfanout verify` compares a table of narrow rows.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pgfanout_testbed::eventually;
use serde_json::Value;

use super::{
    Scope,
    results::Results,
    stage::{Stage, System, program},
};

/// For what takes minutes at most.
const PATIENCE: Duration = Duration::from_secs(900);

/// At the usual scale two million.
const ROWS_PER_SCALE: u32 = 200_000;

/// One replica at a time, as the command does it; nothing else is written meanwhile.
pub(crate) async fn narrow(stage: &mut Stage, scope: &Scope, results: &mut Results) {
    let system = System::Pgfanout;
    let rows = scope.scale * ROWS_PER_SCALE;
    stage.begin(system).await;
    let primary = stage.client(system).await;
    let fill = format!(
        "CREATE TABLE narrow (id bigint PRIMARY KEY, a int, b int); INSERT INTO narrow SELECT g, g % 7, g % 1000 \
         FROM generate_series(1, {rows}) g; VACUUM ANALYZE narrow"
    );
    for statement in fill.split(';') {
        primary.batch_execute(statement).await.expect("a superuser's");
    }
    let replicas = join_all(stage.replicas().map(|replica| replica.client(system.name()))).await;
    let there = format!("SELECT count(*) = {rows} FROM narrow");
    let left = "SELECT count(*) = 0 FROM pgfanout.replicated_table WHERE table_name = 'narrow'";
    for replica in &replicas {
        eventually(PATIENCE, "the rows are there", async || {
            replica.query_one(&there, &[]).await.is_ok_and(|row| row.get(0))
        })
        .await;
        replica.batch_execute("VACUUM ANALYZE narrow").await.expect("it is there");
    }
    let started = Instant::now();
    let arguments = ["--replica", "r1", "--table", "public.narrow", "--json"];
    let finished = program().once("verify", &stage.config(system), &arguments).await;
    let seconds = started.elapsed().as_secs_f64();
    let outcome: Value = serde_json::from_str(&finished.stdout).expect("an object");
    assert_eq!(
        (&outcome["right"], &outcome["replicas"][0]["tables"][0]["rows"]),
        (&true.into(), &rows.into())
    );
    results.add("B11", "narrow rows verified a second", system, f64::from(rows) / seconds);
    primary.batch_execute("DROP TABLE narrow").await.expect("it is there");
    for replica in &replicas {
        eventually(PATIENCE, "the table has left", async || {
            replica.query_one(left, &[]).await.is_ok_and(|row| row.get(0))
        })
        .await;
        replica.batch_execute("DROP TABLE narrow").await.expect("it is there");
    }
    stage.end(system).await;
}
