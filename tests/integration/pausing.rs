//! `pgfanout pause` and `pgfanout resume`.

use std::path::Path;

use pgfanout_testbed::{
    compare::same_tables,
    eventually,
    process::{Finished, Pgfanout},
    world::{Database, World},
};
use serde_json::Value;

use crate::{
    broker_faults::assert_no_copy,
    load::{self, Load, until_arrived},
    messages::until_following,
    support::{Mode, PATIENCE, program, until_same, world},
};

async fn told(command: &str, config: &Path) -> String {
    let Finished { code, stdout, stderr } = program().once(command, config, &["--replica", "r1"]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command}: {stdout}");
    stdout
}

/// All that is in the replica, with the transactions that wrote it.
async fn content(replica: &Database) -> String {
    let all = "SELECT concat_ws(E'\n',
        (SELECT string_agg(concat_ws(' ', xmin, a), ',' ORDER BY id) FROM account a),
        (SELECT string_agg(concat_ws(' ', xmin, e), ',' ORDER BY writer, number) FROM entry e),
        (SELECT string_agg(concat_ws(' ', xmin, n), ',' ORDER BY id) FROM note n),
        (SELECT string_agg(concat_ws(' ', xmin, p), ',') FROM pgfanout.position p))";
    replica.client().await.query_one(all, &[]).await.unwrap().get(0)
}

async fn state(config: &Path) -> (Option<i32>, Value) {
    let Finished { code, stdout, .. } = program().once("status", config, &["--json"]).await;
    let status: Value = serde_json::from_str(&stdout).unwrap();
    (code, status["replicas"][0].clone())
}

fn told_in(pgfanout: &Pgfanout, event: &str) -> usize {
    let of_applier = |line: &&Value| line["stage"] == "applier" && line["replica"] == "r1";
    pgfanout.events(event).iter().filter(of_applier).count()
}

/// Writes until the other replica has it, and sees that the paused one has nothing of it.
async fn nothing_is_applied(world: &World, load: &Load, before: &str) {
    load.more(50).await;
    until_arrived(world.primary(), &world.replicas()[1..]).await;
    assert_eq!(content(world.replica(1)).await, before, "it changed while it was paused");
}

async fn a_paused_replica_stays_as_it_is_until_it_goes_on(mode: Mode) {
    let world = world(mode, 2).build().await;
    world.primary().execute(load::SCHEMA).await;
    let load = Load::start(world.primary(), 3);
    let config = world.config().write();
    let mut pgfanout = program().run(&config);
    until_arrived(world.primary(), world.replicas()).await;
    until_following(&world).await;
    let mark = pgfanout.mark();

    assert!(told("pause", &config).await.contains("replica r1 is paused"));
    let before = content(world.replica(1)).await;
    pgfanout.wait_for_event("paused", PATIENCE).await;
    nothing_is_applied(&world, &load, &before).await;
    told("pause", &config).await;
    let (code, replica) = state(&config).await;
    assert_eq!((code, &replica["state"]), (Some(1), &"paused".into()), "{replica}");
    assert!(replica["reason"].as_str().unwrap().contains("pgfanout resume"), "{replica}");
    let found = program().once("check", &config, &[]).await;
    assert_eq!(found.code, Some(0), "{}", found.stdout);
    assert!(found.stdout.contains("replica r1: pause: it is paused"), "{}", found.stdout);
    if mode == Mode::Broker {
        // No consumer keeps some of them from the queue's bounds.
        eventually(PATIENCE, "its messages wait in the queue", async || {
            let queue = state(&config).await.1["queue"].clone();
            if queue["consumers"] == 0 && queue["messages"].as_u64() > Some(0) { Ok(()) } else { Err(queue) }
        })
        .await;
    }
    assert!(told("resume", &config).await.contains("replica r1 goes on"));
    pgfanout.wait_for_event("resumed", PATIENCE).await;
    until_arrived(world.primary(), world.replicas()).await;
    assert_eq!((told_in(&pgfanout, "paused"), told_in(&pgfanout, "resumed")), (1, 1));
    assert_no_copy(&pgfanout, mark);

    // It outlives the process, and may begin and end without one.
    pgfanout.kill9().await;
    told("pause", &config).await;
    let before = content(world.replica(1)).await;
    for restart in 0..2 {
        let mut pgfanout = program().run(&config);
        pgfanout.wait_for_event("paused", PATIENCE).await;
        nothing_is_applied(&world, &load, &before).await;
        if restart == 0 {
            pgfanout.kill9().await;
        } else {
            assert!(pgfanout.terminate().await.0.success());
        }
    }
    told("resume", &config).await;
    assert!(told("resume", &config).await.contains("replica r1 was not paused"));
    let pgfanout = program().run(&config);
    until_arrived(world.primary(), world.replicas()).await;
    load.stop().await;
    until_same(&world, load::TABLES).await;
    assert_eq!(told_in(&pgfanout, "paused"), 0);
    assert_no_copy(&pgfanout, 0);
}

#[tokio::test]
async fn a_paused_replica_stays_as_it_is_with_a_broker() {
    a_paused_replica_stays_as_it_is_until_it_goes_on(Mode::Broker).await;
}

#[tokio::test]
async fn a_paused_replica_stays_as_it_is_without_a_broker() {
    a_paused_replica_stays_as_it_is_until_it_goes_on(Mode::Postgres).await;
}

/// Also a copy stops, which has connections of its own, and goes on where it was.
#[tokio::test]
async fn a_copy_is_paused_too() {
    let world = world(Mode::Postgres, 1).build().await;
    let big = "CREATE TABLE big (id int PRIMARY KEY, text text);
        INSERT INTO big SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n";
    world.primary().execute(big).await;
    world.replica(1).execute("CREATE TABLE big (id int PRIMARY KEY, text text)").await;
    let obstacle = world.replica(1).client().await;
    obstacle.batch_execute("BEGIN; INSERT INTO big VALUES (10000, 'in the way')").await.unwrap();
    let config = world.config().more("[copy]\nchunk_bytes = 65536\nworkers = 2").write();
    let mut pgfanout = program().run(&config);
    let count = async |of: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {of}");
        world.replica(1).look().await.unwrap().query_one(&count, &[]).await.unwrap().get(0)
    };
    let waiting = "pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'pgfanout copy%' AND wait_event_type = 'Lock'";
    eventually(PATIENCE, "the copy waits", async || count(waiting).await > 0).await;
    told("pause", &config).await;
    obstacle.batch_execute("ROLLBACK").await.unwrap();
    let before = count("big").await;
    assert!(before > 0 && before < 20000, "{before}");
    pgfanout.wait_for_event("paused", PATIENCE).await;
    assert_eq!(count("big").await, before);
    told("resume", &config).await;
    until_same(&world, &["big"]).await;
    let (here, there) = (world.primary().client().await, world.replica(1).client().await);
    until_following(&world).await;
    same_tables(&here, &there, &["big"]).await.unwrap();
}

/// A replica that never ran can be paused; one that there is not cannot.
#[tokio::test]
async fn a_replica_may_be_paused_before_it_joins() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let config = world.config().write();
    for command in ["pause", "resume"] {
        let Finished { code, stderr, .. } = program().once(command, &config, &["--replica", "r2"]).await;
        assert_eq!(code, Some(2));
        assert!(stderr.contains("those that there are: r1") && stderr.lines().count() == 1, "{stderr}");
    }
    told("pause", &config).await;
    assert_eq!(state(&config).await.1["state"], "paused");
    let mut pgfanout = program().run(&config);
    pgfanout.wait_for_event("paused", PATIENCE).await;
    let tables = "SELECT to_regclass('t') IS NOT NULL OR to_regclass('pgfanout.position') IS NOT NULL";
    let touched = world.replica(1).client().await.query_one(tables, &[]).await.unwrap();
    assert!(!touched.get::<_, bool>(0), "nothing was made there");
    told("resume", &config).await;
    until_same(&world, &["t"]).await;
}

/// As if `pause` had been killed after it noted it, and before it ended a session.
#[tokio::test]
async fn a_pause_that_was_killed_halfway_holds_all_the_same() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let config = world.config().write();
    let mut pgfanout = program().run(&config);
    until_same(&world, &["t"]).await;
    world.replica(1).execute("CREATE TABLE pgfanout.paused ()").await;
    pgfanout.wait_for_event("paused", PATIENCE).await;
    world.primary().execute("INSERT INTO t VALUES (2)").await;
    told("resume", &config).await;
    until_same(&world, &["t"]).await;
}
