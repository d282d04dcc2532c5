//! Databases that are put back to a backup, moved or replaced: nothing is skipped as if it were there already,
//! nothing is applied over a hole, and what needs a word of the operator says so.

mod resync;

use std::path::Path;

use pgfanout_testbed::{
    eventually,
    postgres::Shutdown,
    process::{Finished, Pgfanout},
    world::{Database, World},
};
use serde_json::Value;

use crate::{
    load::{self, Load, until_arrived},
    supervision::end_sessions,
    support::{Mode, PATIENCE, begin, program, until_same, world},
};

const TABLES: &[&str] = &["t", "u"];
const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, text text); CREATE TABLE u (id int PRIMARY KEY);
    INSERT INTO t SELECT n, 'old' FROM generate_series(1, 100) n";

/// The command that an operator is told to run.
const REMEDY: &str = "pgfanout resync --config FILE --replica";

/// Stops the server, and does something with its files.
async fn while_stopped(database: &Database, work: impl FnOnce()) {
    database.cluster().stop(Shutdown::Fast).await;
    work();
    database.cluster().start_again().await;
}

async fn count(database: &Database, of: &str) -> i64 {
    database.client().await.query_one(&format!("SELECT count(*) FROM {of}"), &[]).await.unwrap().get(0)
}

async fn until_count(database: &Database, of: &str, expected: i64) {
    eventually(PATIENCE, &format!("{database}: {expected} of {of}"), async || {
        let client = database.look().await.map_err(|error| error.to_string())?;
        let row = client.query_one(&format!("SELECT count(*) FROM {of}"), &[]).await;
        match row.map(|row| row.get::<_, i64>(0)) {
            Ok(found) if found == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// It says once and loudly that this replica needs a word of the operator, and which.
async fn halts(pgfanout: &mut Pgfanout, mark: usize, replica: &str) -> String {
    let halted = |line: &Value| line["event"] == "halted" && line["replica"] == replica;
    let line = pgfanout.wait_for(mark, &format!("that {replica} halted"), PATIENCE, halted).await;
    let message = line["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&format!("{REMEDY} {replica}")), "{message}");
    message
}

/// `status` shows the replica halted, with the remedy, whether or not a process runs.
async fn is_shown(config: &Path, replica: usize) {
    eventually(PATIENCE, "status tells", async || {
        let status = program().once("status", config, &["--json"]).await;
        let status: Value = serde_json::from_str(&status.stdout).map_err(|error| error.to_string())?;
        let told = &status["replicas"][replica - 1];
        let remedied = told["reason"].as_str().is_some_and(|reason| reason.contains(REMEDY));
        if told["state"] == "halted" && remedied { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

async fn resync(config: &Path, arguments: &[&str]) -> Finished {
    program().once("resync", config, arguments).await
}

async fn resynced(config: &Path, replica: &str) {
    let Finished { code, stdout, stderr } = resync(config, &["--replica", replica, "--yes"]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
}

/// Some of its changes come through the queue, and some are trimmed from the changelog.
#[tokio::test]
async fn a_replica_that_is_put_back_heals_by_itself() {
    let world = world(Mode::Broker, 1).own_replicas().build().await;
    world.primary().execute(load::SCHEMA).await;
    world.primary().execute("CREATE TABLE bulk AS SELECT id, 0 AS v FROM generate_series(1, 2000) id").await;
    world.primary().execute("ALTER TABLE bulk ADD PRIMARY KEY (id)").await;
    let load = Load::start(world.primary(), 2);
    let mut pgfanout = program().run(&world.config().primary("changelog_max_bytes = 1_048_576").write());
    until_arrived(world.primary(), world.replicas()).await;
    let replica = world.replica(1);
    while_stopped(replica, || replica.cluster().back_up()).await;
    until_arrived(world.primary(), world.replicas()).await;
    while_stopped(replica, || replica.cluster().put_back()).await;
    until_arrived(world.primary(), world.replicas()).await;
    let mark = pgfanout.mark();
    let stands = "SELECT pg_snapshot_xmin(snapshot)::text FROM pgfanout.position";
    while_stopped(replica, || replica.cluster().put_back()).await;
    until_arrived(world.primary(), world.replicas()).await;
    let reached: String = replica.client().await.query_one(stands, &[]).await.unwrap().get(0);
    // A segment of the changelog is filled.
    world.primary().execute("UPDATE bulk SET v = v + 1; UPDATE bulk SET v = v + 1").await;
    let trimmed = format!("pgfanout.installation WHERE trimmed_before::text::bigint > {reached}");
    until_count(world.primary(), &trimmed, 1).await;
    while_stopped(replica, || replica.cluster().put_back()).await;
    pgfanout.wait_for_event_after(mark, "copy_anew", PATIENCE).await;
    until_arrived(world.primary(), world.replicas()).await;
    load.stop().await;
    until_same(&world, load::TABLES).await;
    assert!(pgfanout.events("halted").is_empty(), "nobody has to do anything");
}

/// While all works: the replicas have what the primary forgets.
async fn a_primary_is_put_back(mode: Mode) {
    let world = world(mode, 2).own_primary(&[]).build().await;
    let primary = world.primary();
    primary.execute(SETUP).await;
    let config = world.config().write();
    let mut pgfanout = program().run(&config);
    until_same(&world, TABLES).await;
    while_stopped(primary, || primary.cluster().back_up()).await;
    primary
        .execute(
            "INSERT INTO t SELECT n, 'lost' FROM generate_series(101, 200) n; DELETE FROM t WHERE id = 1",
        )
        .await;
    until_same(&world, TABLES).await;
    let mark = pgfanout.mark();
    while_stopped(primary, || primary.cluster().put_back()).await;
    primary.execute("UPDATE t SET text = 'new' WHERE id < 10; INSERT INTO u VALUES (1)").await;
    for replica in ["r1", "r2"] {
        let message = halts(&mut pgfanout, mark, replica).await;
        assert!(message.contains("put back"), "{message}");
    }
    is_shown(&config, 1).await;
    resynced(&config, "r1").await;
    until_count(world.replica(1), "u", 1).await;
    assert_eq!(count(world.replica(2), "t WHERE text = 'lost'").await, 100, "the other one is left alone");
    assert_eq!(count(world.replica(2), "t WHERE text = 'new'").await, 0);
    // Also if nothing runs, and nothing is waiting.
    pgfanout.kill9().await;
    is_shown(&config, 2).await;
    resynced(&config, "r2").await;
    primary.execute("INSERT INTO u VALUES (2)").await;
    let _pgfanout = program().run(&config);
    until_same(&world, TABLES).await;
}

#[tokio::test]
async fn a_primary_that_is_put_back_is_noticed_with_a_broker() {
    a_primary_is_put_back(Mode::Broker).await;
}

#[tokio::test]
async fn a_primary_that_is_put_back_is_noticed_without_a_broker() {
    a_primary_is_put_back(Mode::Postgres).await;
}

/// Uses up so many transactions, and numbers of batches.
async fn run_past(primary: &Database, transactions: u32) {
    let burn = format!(
        "DO $$ BEGIN FOR n IN 1..{transactions} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
    );
    primary.execute(&burn).await;
    let numbers = "INSERT INTO pgfanout.batch (replica, to_snapshot)
        SELECT 'other', pg_current_snapshot() FROM generate_series(1, 1000)";
    primary.execute(numbers).await;
}

/// Meanwhile nothing runs, and when it does, transactions and batches have the numbers of lost ones. A backup
/// taken at work knows the publisher that published what is lost; the queue of a replica that was away still
/// holds it.
#[tokio::test]
async fn numbers_that_come_round_again_are_not_taken_for_what_they_were() {
    let world = world(Mode::Broker, 2).own_primary(&[]).build().await;
    let primary = world.primary();
    let Some(pg_basebackup) = primary.cluster().program_if_there("pg_basebackup", "a primary put back")
    else {
        return;
    };
    primary.execute(SETUP).await;
    let config = world.config().write();
    let mut pgfanout = program().run(&config);
    until_same(&world, TABLES).await;
    until_follows(&config, world.replicas().len()).await;
    // Stops r2 where it is: what is published waits in its queue.
    let away = world.replica(2).client().await;
    away.batch_execute("BEGIN; LOCK TABLE pgfanout.position").await.unwrap();
    primary.cluster().back_up_online(&pg_basebackup).await;
    for lost in 101..110 {
        primary
            .execute(&format!("INSERT INTO t VALUES ({lost}, 'lost'); DELETE FROM t WHERE id = {lost} - 100"))
            .await;
        until_count(world.replica(1), &format!("t WHERE id = {lost}"), 1).await;
    }
    pgfanout.kill9().await;
    // A server does not notice that its client died while it waits, and goes on with what was sent to it.
    end_sessions(world.replica(2)).await;
    away.batch_execute("ROLLBACK").await.unwrap();
    while_stopped(primary, || primary.cluster().put_back()).await;
    run_past(primary, 500).await;
    is_shown(&config, 1).await;
    let mut pgfanout = program().run(&config);
    halts(&mut pgfanout, 0, "r1").await;
    primary.execute("INSERT INTO t VALUES (101, 'new'); INSERT INTO u VALUES (1)").await;
    until_count(world.replica(2), "t WHERE text = 'new'", 1).await;
    assert_eq!(count(world.replica(2), "t WHERE text = 'lost'").await, 0);
    assert_eq!(count(world.replica(1), "t WHERE text = 'lost'").await, 9, "nothing is applied");
    resynced(&config, "r1").await;
    until_same(&world, TABLES).await;
    let halted = pgfanout.events("halted");
    assert!(
        halted.iter().all(|line| line["replica"] == "r1"),
        "r2 stood where the primary was put: {halted:?}"
    );
}

async fn until_follows(config: &Path, replicas: usize) {
    eventually(PATIENCE, "all follow", async || {
        let status = program().once("status", config, &["--json"]).await;
        let follows = status.code == Some(0) && status.stdout.matches("\"following\"").count() >= replicas;
        if follows { Ok(()) } else { Err(status.stdout) }
    })
    .await;
}

/// The same files, the same identity, and another history: as when a standby is promoted that lags.
#[tokio::test]
async fn a_backup_started_as_another_primary_is_told_from_it() {
    let world = world(Mode::Postgres, 1).own_primary(&[]).build().await;
    let primary = world.primary();
    let Some(pg_basebackup) = primary.cluster().program_if_there("pg_basebackup", "a backup as a primary")
    else {
        return;
    };
    primary.execute(SETUP).await;
    let mut pgfanout = begin(&world);
    until_same(&world, TABLES).await;
    primary.cluster().back_up_online(&pg_basebackup).await;
    let twin = primary.cluster().start_backup().await;
    primary.execute("INSERT INTO t VALUES (101, 'here')").await;
    until_same(&world, TABLES).await;
    pgfanout.kill9().await;
    let there = twin.client(primary.name()).await;
    there.batch_execute("INSERT INTO t VALUES (101, 'there'); INSERT INTO u VALUES (1), (2)").await.unwrap();
    let mut config = world.config();
    config.primary.url = twin.url(primary.name());
    let config = config.write_as("twin.toml");
    let mut pgfanout = program().run(&config);
    halts(&mut pgfanout, 0, "r1").await;
    assert_eq!(count(world.replica(1), "u").await, 0);
    resynced(&config, "r1").await;
    until_count(world.replica(1), "t WHERE text = 'there'", 1).await;
    until_count(world.replica(1), "u", 2).await;
}

/// A dump takes our schema along, with names, positions and oids that mean nothing elsewhere. Then the primary
/// is swapped for a database that was never one.
#[tokio::test]
async fn a_primary_moved_by_dump_and_restore_or_swapped_is_told_from_the_old_one() {
    let world = world(Mode::Broker, 1).build().await;
    let primary = world.primary();
    let Some(pg_dump) = primary.cluster().program_if_there("pg_dump", "a primary moved by it") else {
        return;
    };
    primary.execute(SETUP).await;
    let mut pgfanout = begin(&world);
    until_same(&world, TABLES).await;
    let (status, _) = pgfanout.terminate().await;
    assert!(status.success());
    let cluster = primary.cluster();
    let moved = format!("{}_moved", primary.name());
    cluster.create_database(&moved).await;
    let dump = format!(
        "'{}' --dbname '{}' | '{}' --quiet --set ON_ERROR_STOP=1 --dbname '{}'",
        pg_dump.display(),
        primary.url(),
        pg_dump.with_file_name("psql").display(),
        cluster.url(&moved)
    );
    let output = std::process::Command::new("sh").args(["-c", &dump]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What is written before anybody looks is in no changelog that means anything.
    let there = cluster.client(&moved).await;
    there.batch_execute("UPDATE t SET text = 'moved' WHERE id < 50; INSERT INTO u VALUES (1)").await.unwrap();
    let mut config = world.config();
    config.primary.url = cluster.url(&moved);
    let file = config.write();
    let mut pgfanout = program().run(&file);
    pgfanout.wait_for_event("primary_moved", PATIENCE).await;
    let message = halts(&mut pgfanout, 0, "r1").await;
    assert!(message.contains("another installation"), "{message}");
    is_shown(&file, 1).await;
    assert_eq!(count(world.replica(1), "t WHERE text = 'moved'").await, 0);
    resynced(&file, "r1").await;
    until_count(world.replica(1), "t WHERE text = 'moved'", 49).await;
    there.batch_execute("INSERT INTO u VALUES (2)").await.unwrap();
    until_count(world.replica(1), "u", 2).await;
    pgfanout.kill9().await;

    let swapped = format!("{}_swapped", primary.name());
    cluster.create_database(&swapped).await;
    cluster
        .client(&swapped)
        .await
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, text text)")
        .await
        .unwrap();
    config.primary.url = cluster.url(&swapped);
    let file = config.write();
    let mut pgfanout = program().run(&file);
    halts(&mut pgfanout, 0, "r1").await;
    assert_eq!(count(world.replica(1), "t").await, 100, "nothing is emptied without a word");
    resynced(&file, "r1").await;
    until_count(world.replica(1), "t", 0).await;
    pgfanout.kill9().await;
    drop(there);
    for database in [&moved, &swapped] {
        cluster.drop_database(database).await;
    }
}

/// The schema of a replica on what is to be the primary now.
#[tokio::test]
async fn a_replica_that_is_to_be_the_primary_is_told_how() {
    let world: World = world(Mode::Postgres, 2).build().await;
    world.primary().execute(SETUP).await;
    let mut pgfanout = begin(&world);
    until_same(&world, TABLES).await;
    pgfanout.kill9().await;
    let mut config = world.config();
    config.primary.url = world.replica(2).url();
    config.replicas.truncate(1);
    let file = config.write();
    let Finished { code, stdout, .. } = program().once("check", &file, &[]).await;
    assert_eq!(code, Some(1));
    assert!(stdout.contains("was a replica") && stdout.contains("DROP SCHEMA pgfanout CASCADE"), "{stdout}");
    world.replica(2).execute("DROP SCHEMA pgfanout CASCADE; INSERT INTO u VALUES (7)").await;
    let mut pgfanout = program().run(&file);
    halts(&mut pgfanout, 0, "r1").await;
    resynced(&file, "r1").await;
    until_count(world.replica(1), "u", 1).await;
}
