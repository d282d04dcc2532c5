//! Two processes with the same configuration, and the first one is stopped where it is: its connections stay.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use pgfanout_testbed::{
    eventually,
    process::Pgfanout,
    world::{Database, World},
};
use serde_json::Value;

use super::{at_work, ends_well};
use crate::{
    bank::until_joined,
    load::{self, Load, until_arrived},
    support::{Mode, PATIENCE, begin, program, world},
};

/// One statement, one snapshot: transfers move money, and the entries of a writer are numbered.
const OBSERVE: &str =
    "SELECT (SELECT sum(balance) FROM account)::bigint, max(number) FROM entry WHERE writer = 1";

/// Looks until it is told to stop: never a part of a transaction, never anything older than before.
async fn observe(replica: tokio_postgres::Client, stop: Arc<AtomicBool>) -> usize {
    let (mut looks, mut last) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let row = replica.query_one(OBSERVE, &[]).await.unwrap();
        let (money, number): (i64, Option<i64>) = (row.get(0), row.get(1));
        let number = number.unwrap_or(0);
        assert_eq!(money, 0, "look {looks}");
        assert!(number >= last, "look {looks}: back from {last} to {number}");
        (looks, last) = (looks + 1, number);
    }
    looks
}

async fn stands_by(process: &mut Pgfanout, mark: usize) {
    for (stage, replica) in [("pg_listener", ""), ("applier", "r1"), ("applier", "r2")] {
        let stands_by = |line: &Value| {
            line["event"] == "standing_by" && line["stage"] == stage && line["replica"] == replica
        };
        process.wait_for(mark, &format!("that {stage} {replica} stands by"), PATIENCE, stands_by).await;
    }
}

/// Waits until the process is in the middle of a transaction there.
async fn until_it_waits(replica: &Database) {
    let client = replica.client().await;
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'pgfanout applier%' AND wait_event_type = 'Lock')";
    eventually(PATIENCE, "it writes", async || {
        client.query_one(waiting, &[]).await.is_ok_and(|row| row.get::<_, bool>(0))
    })
    .await;
}

/// Who stands by keeps no messages from the one that applies.
async fn until_one_consumes(world: &World) {
    let config = world.config().write();
    eventually(PATIENCE, "each queue has one consumer", async || {
        let status = program().once("status", &config, &["--json"]).await.stdout;
        let status: Value = serde_json::from_str(&status).unwrap();
        let consumers = [0, 1].map(|n| status["replicas"][n]["queue"]["consumers"].clone());
        if consumers == [1, 1] { Ok(()) } else { Err(format!("{consumers:?}")) }
    })
    .await;
}

async fn a_stopped_process_is_replaced(mode: Mode) {
    let (world, load, mut first) = at_work(mode).await;
    until_joined(&world, load::TABLES.len()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut observers = Vec::new();
    for replica in world.replicas() {
        observers.push(tokio::spawn(observe(replica.client().await, Arc::clone(&stop))));
    }
    let mut second = begin(&world);
    stands_by(&mut second, 0).await;
    load.more(20).await;
    let obstacle = world.replica(1).client().await;
    // As a whole: who locks row after row may meet who writes them in another order.
    obstacle.batch_execute("BEGIN; LOCK TABLE account IN SHARE MODE").await.unwrap();
    until_it_waits(world.replica(1)).await;
    first.pause();
    for job in ["publisher", "r1", "r2"] {
        let taken = |line: &Value| line["event"] == "took_over" && line["job"] == job;
        second.wait_for(0, &format!("that it took the seat of {job}"), PATIENCE, taken).await;
    }
    obstacle.batch_execute("ROLLBACK").await.unwrap();
    load.more(20).await;
    until_arrived(world.primary(), world.replicas()).await;
    let mark = first.mark();
    first.resume();
    load.more(20).await;
    stands_by(&mut first, mark).await;
    if mode == Mode::Broker {
        until_one_consumes(&world).await;
    }
    until_arrived(world.primary(), world.replicas()).await;
    second.kill9().await;
    load.more(20).await;
    until_arrived(world.primary(), world.replicas()).await;
    stop.store(true, Ordering::Relaxed);
    for observer in observers {
        assert!(observer.await.unwrap() > 100);
    }
    ends_well(&world, load).await;
}

#[tokio::test]
async fn a_stopped_process_is_replaced_and_does_no_harm_when_it_goes_on_with_a_broker() {
    a_stopped_process_is_replaced(Mode::Broker).await;
}

#[tokio::test]
async fn a_stopped_process_is_replaced_and_does_no_harm_when_it_goes_on_without_a_broker() {
    a_stopped_process_is_replaced(Mode::Postgres).await;
}

#[tokio::test]
async fn of_two_that_start_at_once_one_works() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(load::SCHEMA).await;
    let load = Load::start(world.primary(), 2);
    let both = [begin(&world), begin(&world)];
    until_arrived(world.primary(), world.replicas()).await;
    load.more(20).await;
    for (stage, replica) in [("pg_listener", ""), ("applier", "r1"), ("applier", "r2")] {
        let works = |process: &&Pgfanout| {
            process
                .events("connected")
                .iter()
                .any(|line| line["stage"] == stage && line["replica"] == replica)
        };
        assert_eq!(both.iter().filter(works).count(), 1, "{stage} {replica}");
    }
    ends_well(&world, load).await;
}
