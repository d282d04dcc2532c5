//! A replica that refuses for a reason that passes is asked again until it accepts, whole batches at a time.

use std::time::Duration;

use pgfanout_testbed::{eventually, process::Pgfanout, world::World};
use serde_json::Value;

use crate::{
    bank::until_joined,
    load::{self, Load, until_arrived},
    supervision::end_sessions,
    support::{Mode, PATIENCE, begin, until_same, world},
};

/// What a server may say, and takes back sooner or later.
const PASSING: [&str; 7] = ["40001", "40P01", "55P03", "53300", "57014", "57P03", "58030"];

/// The replica refuses every second row of a transaction with the code that stands in a table.
const REFUSE: &str = "
    CREATE TABLE refusal (code text);
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE code text := (SELECT min(r.code) FROM public.refusal r);
        BEGIN
            IF code IS NOT NULL AND new.id % 2 = 0 THEN RAISE 'not now' USING ERRCODE = code; END IF;
            RETURN new;
        END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON mark FOR EACH ROW EXECUTE FUNCTION refuse();
    ALTER TABLE mark ENABLE ALWAYS TRIGGER refuse";

async fn failed_with(pgfanout: &mut Pgfanout, mark: usize, code: &str) {
    let failed = |line: &Value| {
        let message = line["message"].as_str().unwrap_or_default();
        line["event"] == "failed" && message.contains(&format!("SQLSTATE {code}"))
    };
    pgfanout.wait_for(mark, &format!("that it failed with {code}"), PATIENCE, failed).await;
}

async fn following(plan: pgfanout_testbed::world::Plan) -> (World, Pgfanout) {
    let world = plan.build().await;
    world
        .primary()
        .execute("CREATE TABLE mark (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)")
        .await;
    let pgfanout = begin(&world);
    until_joined(&world, 2).await;
    (world, pgfanout)
}

async fn rows(world: &World) -> i64 {
    let client = world.replica(1).client().await;
    client.query_one("SELECT count(*) FROM mark", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_refusal_that_passes_is_retried_with_whole_batches() {
    let (world, mut pgfanout) = following(world(Mode::Broker, 1)).await;
    world.replica(1).execute(REFUSE).await;
    for (n, code) in (0..).zip(PASSING) {
        world.replica(1).execute(&format!("INSERT INTO refusal VALUES ('{code}')")).await;
        let (mark, before) = (pgfanout.mark(), rows(&world).await);
        world.primary().execute(&format!("INSERT INTO mark VALUES ({}), ({})", 2 * n + 1, 2 * n)).await;
        failed_with(&mut pgfanout, mark, code).await;
        assert_eq!(rows(&world).await, before, "a part of a transaction");
        world.replica(1).execute("DELETE FROM refusal").await;
        until_same(&world, &["mark"]).await;
    }
}

#[tokio::test]
async fn a_deadlock_and_a_lock_on_a_replica_are_survived() {
    let (world, mut pgfanout) = following(world(Mode::Broker, 1)).await;
    let insert =
        |n: i32| format!("BEGIN; INSERT INTO mark VALUES ({n}); INSERT INTO other VALUES ({n}); COMMIT");
    // Statements are prepared before a transaction begins: it would wait there, and hold nothing.
    world.primary().execute(&insert(0)).await;
    until_same(&world, &["mark", "other"]).await;
    let mut client = world.replica(1).client().await;
    let mark = pgfanout.mark();
    // The reader takes the tables in the other order than the batch, and waits longer than the applier
    // before it looks for deadlocks.
    let reader = client.transaction().await.unwrap();
    reader.batch_execute("SET LOCAL deadlock_timeout = '1h'; LOCK TABLE other").await.unwrap();
    world.primary().execute(&insert(1)).await;
    let watch = world.replica(1).client().await;
    eventually(PATIENCE, "the applier waits for the table", async || {
        let waiting =
            "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'other'::regclass AND NOT granted)";
        watch.query_one(waiting, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    reader.batch_execute("LOCK TABLE mark").await.unwrap();
    failed_with(&mut pgfanout, mark, "40P01").await;
    // It goes on to hold them for longer than the applier waits for a lock.
    failed_with(&mut pgfanout, mark, "55P03").await;
    reader.commit().await.unwrap();
    until_same(&world, &["mark", "other"]).await;
}

#[tokio::test]
async fn a_replica_without_room_for_sessions_is_asked_again() {
    let (world, mut pgfanout) = following(world(Mode::Broker, 1).own_replicas()).await;
    let mark = pgfanout.mark();
    let mut clients = vec![world.replica(1).client().await];
    let end =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgfanout%'";
    eventually(PATIENCE, "no session is left for pgfanout", async || {
        clients[0].batch_execute(end).await.unwrap();
        while let Ok(client) = world.replica(1).try_client().await {
            clients.push(client);
        }
        let refused =
            |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("SQLSTATE 53300"));
        pgfanout.log_after(mark).iter().any(refused)
    })
    .await;
    world.primary().execute("INSERT INTO mark VALUES (1)").await;
    failed_with(&mut pgfanout, mark, "53300").await;
    drop(clients);
    until_same(&world, &["mark"]).await;
}

/// A statement of ours may take as long as it takes.
#[tokio::test]
async fn a_statement_that_takes_long_is_waited_for() {
    let (world, pgfanout) = following(world(Mode::Broker, 1)).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_sleep(12); RETURN new; END';
        CREATE TRIGGER slow BEFORE INSERT ON mark FOR EACH ROW EXECUTE FUNCTION slow();
        ALTER TABLE mark ENABLE ALWAYS TRIGGER slow";
    world.replica(1).execute(slow).await;
    let mark = pgfanout.mark();
    world.primary().execute("INSERT INTO mark VALUES (1)").await;
    eventually(Duration::from_secs(40), "it arrives", async || rows(&world).await == 1).await;
    let failed: Vec<_> =
        pgfanout.log_after(mark).into_iter().filter(|line| line["event"] == "failed").collect();
    assert_eq!(failed, [Value::Null; 0]);
}

#[tokio::test]
async fn sessions_that_are_ended_each_second_come_back_each_time() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(load::SCHEMA).await;
    let load = Load::start(world.primary(), 2);
    let _pgfanout = begin(&world);
    // From the first moment on, while tables are created and copied.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for database in world.replicas().iter().chain([world.primary()]) {
            end_sessions(database).await;
        }
    }
    until_arrived(world.primary(), world.replicas()).await;
    load.stop().await;
    until_same(&world, load::TABLES).await;
}
