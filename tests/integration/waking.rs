//! No wake-up is ever lost: every commit arrives by itself, with no later one to push it.
//!
//! Nothing looks by itself in these tests for an hour: a commit that wakes nobody stays where it is.

use std::time::{Duration, Instant};

use pgfanout_testbed::{eventually, world::World};

use crate::{
    load::{self, Load},
    messages::until_following,
    support::{Mode, PATIENCE, program, until_same, world},
};

const NEVER: &str = "safety_poll_seconds = 3600";

/// How long the writers go on.
const DURATION: Duration = Duration::from_secs(15);

/// A few transactions, the last one awaited on the replica before the next few: each writes while the
/// publisher is about to fall asleep after the one before, and commits when it may be asleep.
async fn commit_and_await(world: &World, writer: i32, started: Instant) -> i32 {
    let (primary, replica) = (world.primary().client().await, world.replica(1).client().await);
    let mut random = fastrand::Rng::with_seed(writer.unsigned_abs().into());
    let mut number = 0;
    while started.elapsed() < DURATION {
        for _ in 0..random.u8(1..4) {
            number += 1;
            // As long as it takes to cut a batch, or to fall asleep.
            tokio::time::sleep(Duration::from_millis(random.u64(0..20))).await;
            let insert = format!("BEGIN; INSERT INTO mark VALUES ({writer}, {number})");
            primary.batch_execute(&insert).await.unwrap();
            tokio::time::sleep(Duration::from_millis(random.u64(0..30))).await;
            primary.batch_execute("COMMIT").await.unwrap();
        }
        let arrived = "SELECT EXISTS (SELECT FROM mark WHERE writer = $1 AND number = $2)";
        eventually(PATIENCE, "the commit arrives", async || {
            replica.query_one(arrived, &[&writer, &number]).await.unwrap().get::<_, bool>(0)
        })
        .await;
    }
    number
}

async fn no_wake_up_is_lost(mode: Mode, writers: i32) {
    let world = world(mode, 1).build().await;
    world.primary().execute("CREATE TABLE mark (writer int, number int, PRIMARY KEY (writer, number))").await;
    let _pgfanout = program().run(&world.config().primary(NEVER).write());
    until_same(&world, &["mark"]).await;
    let started = Instant::now();
    let running = (1..=writers).map(|writer| commit_and_await(&world, writer, started));
    let commits: i32 = futures_util::future::join_all(running).await.into_iter().sum();
    assert!(commits > 10, "only {commits} commits");
}

#[tokio::test]
async fn a_single_writer_always_wakes_the_publisher() {
    no_wake_up_is_lost(Mode::Broker, 1).await;
}

#[tokio::test]
async fn transactions_that_overlap_always_wake_the_publisher() {
    no_wake_up_is_lost(Mode::Broker, 3).await;
}

#[tokio::test]
async fn transactions_that_overlap_always_wake_the_appliers() {
    no_wake_up_is_lost(Mode::Postgres, 2).await;
}

/// Where NOTIFY would forbid PREPARE TRANSACTION, the publisher looks by itself.
#[tokio::test]
async fn prepared_transactions_arrive_when_they_are_committed() {
    let world = world(Mode::Broker, 1).own_primary(&[("max_prepared_transactions", "10")]).build().await;
    world.primary().execute("CREATE TABLE mark (writer int, number int, PRIMARY KEY (writer, number))").await;
    let _pgfanout = program().run(&world.config().primary(NEVER).write());
    until_same(&world, &["mark"]).await;
    let prepare = "BEGIN; INSERT INTO mark VALUES (1, 1); PREPARE TRANSACTION 'one'";
    world.primary().execute(prepare).await;
    for number in 2..30 {
        world.primary().execute(&format!("INSERT INTO mark VALUES (1, {number})")).await;
        until_same(&world, &["mark"]).await;
    }
    world.primary().execute("COMMIT PREPARED 'one'").await;
    until_same(&world, &["mark"]).await;
    let rows = world.replica(1).client().await.query_one("SELECT count(*) FROM mark", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 29);
}

/// Transactions that notify commit one after the other: where that takes as long as the disk does, they are to do so
/// together, which none of them may notify for.
async fn writers_do_not_wait_for_one_anothers_disk(mode: Mode) {
    // A disk on which a commit takes 20 ms, for however many at once.
    let slow = [("fsync", "on"), ("commit_delay", "20000"), ("commit_siblings", "0")];
    let world = world(mode, 1).own_primary(&slow).build().await;
    world.primary().execute(load::SCHEMA).await;
    let _pgfanout = program().run(&world.config().write());
    until_following(&world).await;
    let primary = world.primary().client().await;
    let notify = async || {
        let row = primary.query_one("SELECT last_value = 1 FROM pgfanout.asleep", &[]).await.unwrap();
        row.get::<_, bool>(0)
    };
    eventually(PATIENCE, "the publisher sleeps", async || notify().await).await;
    let load = Load::start(world.primary(), 8);
    eventually(PATIENCE, "none notifies", async || !notify().await).await;
    for _ in 0..10 {
        load.more(20).await;
        assert!(!notify().await, "there is always more");
    }
    load.stop().await;
    until_same(&world, load::TABLES).await;
    eventually(PATIENCE, "the publisher sleeps again", async || notify().await).await;
}

#[tokio::test]
async fn writers_do_not_wait_for_one_anothers_disk_with_a_broker() {
    writers_do_not_wait_for_one_anothers_disk(Mode::Broker).await;
}

#[tokio::test]
async fn writers_do_not_wait_for_one_anothers_disk_without_a_broker() {
    writers_do_not_wait_for_one_anothers_disk(Mode::Postgres).await;
}
