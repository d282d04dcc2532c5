//! Whatever stands still, a single look tells, and does not take long.

use std::time::Duration;

use pgfanout_testbed::{eventually, process::Pgfanout, world::World};
use serde_json::{Value, json};

use super::{TABLE, follow, status, timed};
use crate::{
    broker_faults::alarm,
    support::{Mode, PATIENCE, begin, until_same, world},
};

/// A single look, within the time that is promised.
async fn look(world: &World) -> Value {
    let (found, took) = timed(world).await;
    assert!(took < Duration::from_secs(10), "{took:?}: {found}");
    found
}

async fn until_followed(world: &World) {
    eventually(PATIENCE, "it follows again", async || {
        let status = status(world).await;
        if status["follows"] == true { Ok(()) } else { Err(status) }
    })
    .await;
}

/// Its connections stay, and all that it holds.
async fn a_process_that_is_stopped_is_told(mode: Mode) {
    let world = world(mode, 1).build().await;
    world.primary().execute(TABLE).await;
    let pgfanout = follow(&world, 1).await;
    pgfanout.pause();
    let found = look(&world).await;
    let replica = &found["replicas"][0];
    assert_eq!((&found["follows"], &replica["state"]), (&json!(false), &json!("catching-up")), "{found}");
    assert!(replica["reason"].as_str().unwrap().contains("was not seen within"), "{found}");
    pgfanout.resume();
    until_followed(&world).await;
}

#[tokio::test]
async fn a_process_that_is_stopped_is_told_with_a_broker() {
    a_process_that_is_stopped_is_told(Mode::Broker).await;
}

#[tokio::test]
async fn a_process_that_is_stopped_is_told_without_a_broker() {
    a_process_that_is_stopped_is_told(Mode::Postgres).await;
}

/// Nothing is written, so that nothing but the look itself is held up; nor is the first look without an alarm before it.
#[tokio::test]
async fn a_broker_that_accepts_nothing_is_told_while_nothing_is_written() {
    let world = world(Mode::Broker, 1).own_broker().build().await;
    world.primary().execute(TABLE).await;
    let _pgfanout = follow(&world, 1).await;
    alarm(&world, true).await;
    let found = look(&world).await;
    assert_eq!(found["follows"], false, "{found}");
    eventually(PATIENCE, "the reason is told", async || {
        let found = look(&world).await;
        let told = found["primary"]["reason"].as_str().is_some_and(|reason| reason.contains("free some"));
        if told && found["follows"] == false { Ok(()) } else { Err(found) }
    })
    .await;
    alarm(&world, false).await;
    until_followed(&world).await;
}

/// A row that the replica refuses, whichever way it comes.
#[tokio::test]
async fn a_row_that_a_replica_refuses_is_told() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(TABLE).await;
    let _pgfanout = follow(&world, 1).await;
    world.replica(1).execute("ALTER TABLE users ADD CONSTRAINT short CHECK (length(name) < 9)").await;
    world.primary().execute("UPDATE users SET name = 'poisonous'").await;
    let found = look(&world).await;
    assert_eq!(
        (&found["follows"], &found["replicas"][1]["state"]),
        (&json!(false), &json!("following")),
        "{found}"
    );
    let found = eventually(PATIENCE, "the halt is reported", async || {
        let found = look(&world).await;
        if found["replicas"][0]["state"] == "halted" { Ok(found) } else { Err(found) }
    })
    .await;
    let reason = found["replicas"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("short") && !reason.contains("poisonous"), "{reason}");
}

/// Past event triggers, by the catalog itself: DDL that does so is undone at its end.
async fn disable(world: &World) {
    let disable =
        "UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'users'::regclass AND tgname LIKE 'pgfanout%'";
    world.primary().execute(disable).await;
}

#[tokio::test]
async fn a_trigger_that_is_off_is_told_and_mended() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(TABLE).await;
    let mut pgfanout: Pgfanout = follow(&world, 1).await;
    pgfanout.terminate().await;
    disable(&world).await;
    let told = |found: &Value| {
        let broken = &found["primary"]["broken_tables"][0];
        let reason = broken["reason"].as_str().unwrap_or_default();
        broken["table"] == "public.users"
            && reason.contains("is disabled or gone")
            && found["follows"] == false
    };
    let found = look(&world).await;
    assert!(told(&found), "{found}");
    world.primary().execute("UPDATE users SET name = 'unseen'").await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["users"]).await;
    until_followed(&world).await;

    // While it runs; first a transaction keeps it from being mended.
    let writer = world.primary().client().await;
    writer.batch_execute("BEGIN; INSERT INTO users VALUES (7, 'open')").await.unwrap();
    let mark = pgfanout.mark();
    disable(&world).await;
    world.primary().execute("UPDATE users SET name = 'unseen, too' WHERE id = 1").await;
    let found = look(&world).await;
    assert!(told(&found) && found["replicas"][0]["state"] == "following", "{found}");
    let line = pgfanout.wait_for_event_after(mark, "capture_gap", PATIENCE).await;
    assert_eq!(line["table"], "public.users");
    let found = look(&world).await;
    assert!(told(&found), "{found}");
    writer.batch_execute("COMMIT").await.unwrap();
    until_same(&world, &["users"]).await;
    until_followed(&world).await;
    world.primary().execute("UPDATE users SET name = 'seen'").await;
    until_same(&world, &["users"]).await;
}
