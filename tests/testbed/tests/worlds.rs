//! The test bed's worlds, its grip on a program, its comparison and its proxy.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use lapin::{ExchangeKind, options::*, types::FieldTable};
use pgfanout_testbed::{compare, eventually, postgres, process::Program, proxy::Proxy, world::World};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn worlds_are_private_and_leave_nothing_in_shared_servers() {
    let (one, other) = tokio::join!(World::new(1), World::new(1));
    one.primary().execute("create table t(a int)").await;
    assert!(compare::digest(&other.primary().client().await, "t").await.is_err());
    let channel = one.broker().connect().await.create_channel().await.unwrap();
    let queue = one.queue(1);
    channel.queue_declare(queue.as_str().into(), Default::default(), FieldTable::default()).await.unwrap();
    let exchange = one.exchange().to_owned();
    let (fanout, options) = (ExchangeKind::Fanout, ExchangeDeclareOptions::default());
    channel.exchange_declare(exchange.as_str().into(), fanout, options, FieldTable::default()).await.unwrap();
    let (databases, directory) = ([one.primary().url(), one.replica(1).url()], one.directory().to_owned());

    drop(one);
    for url in databases {
        let refused = postgres::connect(&url).await.err().unwrap();
        assert_eq!(refused.code().unwrap().code(), "3D000", "the database does not exist");
    }
    assert!(!directory.exists());
    assert!(!other.broker().ctl(&["list_queues", "name"]).await.contains(&queue));
    assert!(!other.broker().ctl(&["list_exchanges", "name"]).await.contains(&exchange));
}

#[tokio::test]
async fn a_world_may_have_servers_of_its_own() {
    let world =
        World::plan(2).without_broker().own_primary(&[("max_connections", "17")]).own_replicas().build();
    let world = world.await;
    let client = world.primary().client().await;
    let connections: String = client.query_one("show max_connections", &[]).await.unwrap().get(0);
    assert_eq!(connections, "17");
    world.replica(1).cluster().kill9().await;
    assert!(world.replica(1).try_client().await.is_err());
    assert!(world.replica(2).try_client().await.is_ok());
    world.replica(1).cluster().start_again().await;
    assert!(world.replica(1).try_client().await.is_ok());

    let config = world.config().primary("tables = [\"public.*\"]").replicas(1).more("[copy]\nworkers = 1");
    let text = fs::read_to_string(config.write()).unwrap();
    let expected = format!(
        "[primary]\nurl = \"{}\"\ntables = [\"public.*\"]\n\n[[replica]]\nname = \"r1\"\nurl = \"{}\"\n\n\
         [log]\nformat = \"json\"\nlevel = \"info\"\n\n[copy]\nworkers = 1\n",
        world.primary().url(),
        world.replica(1).url(),
    );
    assert_eq!(text, expected);
}

/// A program that knows `run` and ends well on SIGTERM, and every other command of which fails.
fn stand_in(world: &World) -> PathBuf {
    let script = r#"#!/bin/sh
[ "$1" = run ] || { echo "$1 $3 $4 $GREETING"; echo failed >&2; exit 2; }
trap 'echo "{\"event\":\"ended\"}"; exit 0' TERM
echo "not JSON" >&2
echo '{"event":"ready","tables":3}'
while :; do sleep 0.01; done
"#;
    let path = world.directory().join("program");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn a_program_is_run_and_its_events_are_awaited() {
    let world = World::plan(0).without_broker().build().await;
    let program = Program::new(stand_in(&world)).env("GREETING", "hello");
    let config = world.config().write();
    let mut running = program.run(&config);
    assert_eq!(running.wait_for_event("ready", SOON).await["tables"], 3);
    assert!(running.rss_bytes() > 0 && running.peak_rss_bytes() >= running.rss_bytes());
    let mark = running.mark();
    let (status, _) = running.terminate().await;
    assert!(status.success());
    running.wait_for_event_after(mark, "ended", SOON).await;
    assert_eq!(running.events("ready").len(), 1);
    assert!(running.lines().contains(&"not JSON".to_owned()));

    let finished = program.once("status", &config, &["--json"]).await;
    assert_eq!(finished.code, Some(2));
    assert_eq!(finished.stdout, format!("status {} --json hello\n", config.display()));
    assert_eq!(finished.stderr, "failed\n");
}

#[tokio::test]
#[should_panic = "without logging copied"]
async fn waiting_for_a_program_that_ended_fails_at_once() {
    let world = World::plan(0).without_broker().build().await;
    let mut running = Program::new(stand_in(&world)).run(&world.config().write());
    running.wait_for_event("ready", SOON).await;
    running.kill9().await;
    running.wait_for_event("copied", Duration::from_secs(3600)).await;
}

const TABLE: &str = r#"
    create type mood as enum ('sad', 'happy'); create type pair as (a mood, b int);
    create domain moods as mood[];
    create table "Odd ""name"""(x int primary key, "a b" text, n numeric, f float8, m mood, ms mood[], p pair,
        d moods, r regclass, ts timestamptz, b bytea, c char(5), i int[], g int generated always as (x * 2) stored);
    insert into "Odd ""name""" values (1, 'a', 1.0, '-0', 'sad', '{sad,happy}', '(sad,1)', '{happy}', 'pg_class',
        '2020-01-01 12:00+02', '\x00ff', 'ab', '[0:1]={1,2}');
    insert into "Odd ""name""" values (2, '', 'NaN', 0.1, null);"#;

#[tokio::test]
async fn comparing_sees_every_difference_and_no_other() {
    let world = World::plan(1).without_broker().build().await;
    let (primary, replica) = (world.primary(), &world.replicas()[0]);
    let table = r#""Odd ""name""""#;
    primary.execute(TABLE).await;
    // Object ids differ from here on.
    replica.execute("create type other as enum ('x')").await;
    replica.execute(TABLE).await;
    compare::assert_same_tables(primary, world.replicas(), &[table]).await;

    let (here, there) = (primary.client().await, replica.client().await);
    for change in ["n = 1.00", "f = 0", "\"a b\" = null", "m = 'happy'", "i = '{1,2}'", "c = 'abc'"] {
        replica.execute(&format!("update {table} set {change}")).await;
        let difference = compare::same_tables(&here, &there, &[table]).await.unwrap_err();
        assert!(difference.contains("only on the replica: ("), "{change}: {difference}");
        replica.execute(&format!("drop table {table}; drop type pair, moods, mood; {TABLE}")).await;
        // Its types are new ones, and sessions cache what they knew.
        compare::same_tables(&here, &replica.client().await, &[table]).await.unwrap();
    }
}

#[tokio::test]
async fn a_proxy_stalls_cuts_and_resumes() {
    let world = World::plan(0).without_broker().build().await;
    let port = world.primary().cluster().port();
    let proxy = Proxy::start(port);
    let url = proxy.detour(&world.primary().url(), port);
    let client = postgres::connect(&url).await.unwrap();
    client.batch_execute("select 1").await.unwrap();

    proxy.stall();
    let answer = client.query_one("select 2", &[]);
    tokio::pin!(answer);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut answer).await.is_err());
    proxy.resume();
    assert_eq!(answer.await.unwrap().get::<_, i32>(0), 2);

    proxy.cut();
    assert!(client.batch_execute("select 3").await.is_err());
    assert!(postgres::connect(&url).await.is_err());
    proxy.resume();
    eventually(SOON, "a connection through the proxy", async || postgres::connect(&url).await).await;
}

#[tokio::test]
#[should_panic = "the sea is dry: not within 50ms; last seen: \"wet\""]
async fn what_does_not_happen_in_time_is_told_with_what_was_seen() {
    eventually(Duration::from_millis(50), "the sea is dry", async || Err::<(), _>("wet")).await;
}
