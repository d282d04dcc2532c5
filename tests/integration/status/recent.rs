//! What became of changes in the last minutes, told by a single look, that comes later.

use std::time::Duration;

use pgfanout_testbed::{eventually, world::World};
use serde_json::Value;
use tokio_postgres::Client;

use super::{TABLE, follow, printed, status};
use crate::{
    bounds::number,
    broker_faults::assert_no_copy,
    support::{Mode, PATIENCE, begin, program, until_same, world},
    watching::FIRST_PRIMARY,
};

/// How long something is held up.
const HELD: f64 = 3.0;

/// The longest delay that a look tells of a replica; 0 where none is known.
fn longest(status: &Value, replica: usize) -> f64 {
    let delays = status["replicas"][replica]["recent"]["delays"].as_array();
    delays.into_iter().flatten().filter_map(Value::as_f64).fold(0.0, f64::max)
}

/// Waits until a server's clock says that a transaction there is so old.
async fn until_old(transaction: &Client, seconds: f64) {
    let asked = "SELECT extract(epoch FROM clock_timestamp() - now())::float8";
    eventually(PATIENCE, "a transaction is old", async || {
        let age: f64 = transaction.query_one(asked, &[]).await.unwrap().get(0);
        if age > seconds { Ok(()) } else { Err(age) }
    })
    .await;
}

/// Waits until all replicas follow, and what they applied is told.
async fn until_told(world: &World, is_told: impl Fn(&Value) -> bool) -> Value {
    eventually(PATIENCE, "they follow, and what they applied is told", async || {
        let status = status(world).await;
        if status["follows"] == true && is_told(&status) { Ok(status) } else { Err(status) }
    })
    .await
}

async fn who_looks_later_sees_that_a_replica_was_held_up(mode: Mode) {
    let world = world(mode, 2).build().await;
    world.primary().execute(TABLE).await;
    let _running = follow(&world, 1).await;
    let holder = world.replica(1).client().await;
    holder.batch_execute("BEGIN; LOCK pgfanout.position IN EXCLUSIVE MODE").await.unwrap();
    world.primary().execute("UPDATE users SET name = 'waits'").await;
    until_old(&holder, HELD).await;
    holder.batch_execute("COMMIT").await.unwrap();
    let found = until_told(&world, |status| longest(status, 0) > HELD * 0.9).await;
    let (held, other) = (longest(&found, 0), longest(&found, 1));
    assert!((HELD * 0.9..HELD * 10.0).contains(&held) && other < HELD, "{found}");
    let recent = &found["replicas"][0]["recent"];
    assert!(recent["applied_per_second"].as_f64() > Some(0.0), "{found}");
    let shown = printed(&world, &[]).await.stdout;
    assert!(shown.contains("█") && shown.contains(" up to 3."), "{shown}");
}

#[tokio::test]
async fn who_looks_later_sees_that_a_replica_was_held_up_with_a_broker() {
    who_looks_later_sees_that_a_replica_was_held_up(Mode::Broker).await;
}

#[tokio::test]
async fn who_looks_later_sees_that_a_replica_was_held_up_without_a_broker() {
    who_looks_later_sees_that_a_replica_was_held_up(Mode::Postgres).await;
}

/// Also what waited while nobody was there; but not for how long a transaction went on before its commit.
async fn a_change_waits_since_its_commit(mode: Mode) {
    let world = world(mode, 1).build().await;
    world.primary().execute(TABLE).await;
    // Nothing but a commit has the listener look.
    let mut running = program().run(&world.config().primary("safety_poll_seconds = 60").write());
    until_told(&world, |_| true).await;
    let asleep = "SELECT last_value FROM pgfanout.asleep";
    eventually(PATIENCE, "the listener sleeps", async || {
        let value = number(world.primary(), asleep).await;
        if value == 1 { Ok(()) } else { Err(value) }
    })
    .await;
    let long = world.primary().client().await;
    long.batch_execute("BEGIN; INSERT INTO users VALUES (2, 'long')").await.unwrap();
    until_old(&long, HELD * 2.0).await;
    long.batch_execute("COMMIT").await.unwrap();
    until_same(&world, &["users"]).await;
    eventually(PATIENCE, "the replica reported that it has it", async || {
        let lacks = number(world.primary(), "SELECT changes FROM pgfanout_status.replicas").await;
        if lacks == 0 { Ok(()) } else { Err(lacks) }
    })
    .await;
    let found = until_told(&world, |_| true).await;
    assert!(longest(&found, 0) < HELD, "{found}");

    running.kill9().await;
    world.primary().execute("INSERT INTO users VALUES (3, 'waits')").await;
    long.batch_execute("BEGIN").await.unwrap();
    until_old(&long, HELD).await;
    let _running = begin(&world);
    let found = until_told(&world, |status| longest(status, 0) > HELD * 0.9).await;
    assert!(longest(&found, 0) < HELD * 10.0, "{found}");
}

#[tokio::test]
async fn a_change_waits_since_its_commit_with_a_broker() {
    a_change_waits_since_its_commit(Mode::Broker).await;
}

#[tokio::test]
async fn a_change_waits_since_its_commit_without_a_broker() {
    a_change_waits_since_its_commit(Mode::Postgres).await;
}

/// A primary as it was before there was any of this is upgraded, with batches that do not tell since when they waited.
#[tokio::test]
async fn a_primary_with_the_first_schema_is_upgraded() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(TABLE).await;
    let mut running = follow(&world, 1).await;
    running.terminate().await;
    world.primary().execute(FIRST_PRIMARY).await;
    world.primary().execute("UPDATE users SET name = 'before'").await;
    let pgfanout = begin(&world);
    until_same(&world, &["users"]).await;
    assert_no_copy(&pgfanout, 0);
    let found = until_told(&world, |status| longest(status, 0) > 0.0).await;
    assert!(longest(&found, 0) < Duration::from_secs(60).as_secs_f64(), "{found}");
}
