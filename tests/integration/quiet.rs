//! What has nothing to do costs nothing, and what fails again and again says so seldom.

use std::{
    fs,
    time::{Duration, Instant},
};

use pgfanout_testbed::{
    eventually,
    process::Pgfanout,
    world::{Database, World},
};

use serde_json::Value;

use crate::{
    bounds::{admit, changelog_bytes, number},
    load::{self, Load, until_arrived},
    support::{Mode, PATIENCE, begin, program, until_same, world},
};

/// How long idleness is watched; longer by hand.
fn watch() -> Duration {
    let seconds = std::env::var("PGFANOUT_IDLE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(12))
}

/// The time that the process has computed so far.
fn computed(pgfanout: &Pgfanout) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pgfanout.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Who watches the log is told by every stage, also where nothing happens; its silence is the alarm.
#[tokio::test]
async fn every_stage_says_every_30_seconds_how_it_is() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute("CREATE TABLE item (id int PRIMARY KEY)").await;
    let mut pgfanout = begin(&world);
    let stages = [
        ("pg_listener", None),
        ("publisher", None),
        ("consumer", Some("r1")),
        ("applier", Some("r1")),
        ("applier", Some("r2")),
    ];
    for (stage, replica) in stages {
        let is_its = |line: &Value| {
            line["event"] == "status" && line["stage"] == stage && line["replica"].as_str() == replica
        };
        let mut times = Vec::<String>::new();
        for _ in 0..2 {
            let line = pgfanout
                .wait_for(0, &format!("status of {stage}"), PATIENCE, |line| {
                    is_its(line) && !times.contains(&line["timestamp"].to_string())
                })
                .await;
            times.push(line["timestamp"].to_string());
        }
        let seconds = |time: &str| -> f64 {
            let clock: Vec<f64> =
                time[12..].trim_matches(['"', 'Z']).split(':').map(|n| n.parse().unwrap()).collect();
            clock[0] * 3600.0 + clock[1] * 60.0 + clock[2]
        };
        let apart = (seconds(&times[1]) - seconds(&times[0])).rem_euclid(86400.0);
        assert!((28.0..35.0).contains(&apart), "{stage}: {times:?}");
    }
}

async fn kept(primary: &Database) -> (i64, i64) {
    (changelog_bytes(primary).await, number(primary, "SELECT count(*) FROM pgfanout.batch").await)
}

/// How long changes take from their commit on, one after the other.
async fn changes_arrive(world: &World, ids: std::ops::Range<i32>) -> Vec<Duration> {
    let (primary, replica) = (world.primary().client().await, world.replica(1).client().await);
    let insert = primary.prepare("INSERT INTO item VALUES ($1)").await.unwrap();
    let find = replica.prepare("SELECT EXISTS (SELECT FROM item WHERE id = $1)").await.unwrap();
    let mut delays = Vec::new();
    for id in ids {
        primary.execute(&insert, &[&id]).await.unwrap();
        let committed = Instant::now();
        while !replica.query_one(&find, &[&id]).await.unwrap().get::<_, bool>(0) {
            assert!(committed.elapsed() < PATIENCE, "change {id} does not arrive");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        delays.push(committed.elapsed());
    }
    delays
}

async fn idleness_costs_nothing(mode: Mode) {
    let world = world(mode, 1).build().await;
    world.primary().execute("CREATE TABLE item (id int PRIMARY KEY); CREATE TABLE other (id int)").await;
    let pgfanout = program().run(&world.config().primary("tables = [\"item\"]").write());
    until_same(&world, &["item"]).await;
    let usual = changes_arrive(&world, 1..10).await;
    let other = world.primary().client().await;
    let settled = "SELECT last_value * (SELECT count(*) FROM pgfanout.replica WHERE state = 'following')
        FROM pgfanout.asleep";
    eventually(PATIENCE, "the publisher sleeps, and the replica follows", async || {
        let value = number(world.primary(), settled).await;
        if value == 1 { Ok(()) } else { Err(value) }
    })
    .await;
    let (before, memory, room) = (computed(&pgfanout), pgfanout.rss_bytes(), kept(world.primary()).await);
    let (start, mut commits) = (Instant::now(), 0);
    while start.elapsed() < watch() {
        other.execute("INSERT INTO other VALUES (1)", &[]).await.unwrap();
        commits += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (elapsed, used) = (start.elapsed(), computed(&pgfanout) - before);
    let grown = pgfanout.rss_bytes().saturating_sub(memory);
    eprintln!("{used:?} in {elapsed:?} beside {commits} commits, {grown} bytes more memory");
    // A build for debugging computes for longer than others.
    assert!(used < elapsed.mul_f64(0.02), "{used:?} in {elapsed:?}");
    assert!(grown < 8 << 20, "{grown} bytes more");
    assert_eq!(kept(world.primary()).await, room, "nothing was written on the primary");
    let first = changes_arrive(&world, 10..11).await;
    eprintln!("the first change arrives after {first:?}, others did after {usual:?}");
}

#[tokio::test]
async fn idleness_costs_nothing_with_a_broker() {
    idleness_costs_nothing(Mode::Broker).await;
}

#[tokio::test]
async fn idleness_costs_nothing_without_a_broker() {
    idleness_costs_nothing(Mode::Postgres).await;
}

#[tokio::test]
async fn what_fails_under_load_is_told_at_the_pace_of_its_retries() {
    let world = world(Mode::Broker, 3).build().await;
    world.primary().execute(load::SCHEMA).await;
    let load = Load::start(world.primary(), 3);
    let pgfanout = begin(&world);
    until_arrived(world.primary(), world.replicas()).await;
    // One is away, another one's table does not fit.
    admit(world.replica(2), false).await;
    world.replica(3).execute("ALTER TABLE note RENAME body TO mind").await;
    let mark = pgfanout.mark();
    load.more(400).await;
    until_arrived(world.primary(), &world.replicas()[..1]).await;
    let told = pgfanout.log_after(mark);
    let failures = told.iter().filter(|line| line["event"] == "failed" || line["event"] == "halted").count();
    assert!(failures >= 2, "both are told: {told:?}");
    assert!(told.len() < 100, "{} lines for some 400 transactions", told.len());
    admit(world.replica(2), true).await;
    world.replica(3).execute("ALTER TABLE note RENAME mind TO body").await;
    until_arrived(world.primary(), world.replicas()).await;
    load.stop().await;
    until_same(&world, load::TABLES).await;
}
