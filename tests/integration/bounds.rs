//! What must not grow does not: memory with replicas that are stuck, the changelog.

use std::time::Instant;

use pgfanout_testbed::{
    eventually,
    world::{Database, World},
};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{
    broker_faults::assert_no_copy,
    large::assert_small,
    messages::until_following,
    support::{Mode, PATIENCE, begin, program, until_same, world},
};

/// How many rows of 15 kB are written: more for the stuck replicas alone than may wait in memory for all.
const ROWS: i64 = 1600;

/// What may wait in memory for all replicas, with its copies on the way.
const IN_MEMORY: u64 = 112 << 20;

async fn wait_for_rows(world: &World, number: usize) {
    let replica = world.replica(number).client().await;
    eventually(PATIENCE, &format!("all rows on replica {number}"), async || {
        let found: i64 = replica.query_one("SELECT count(*) FROM item", &[]).await.unwrap().get(0);
        if found == ROWS { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Half of the replicas are stuck: some wait for a lock, the server of others answers nothing.
async fn half_are_stuck(replicas: usize) {
    let (half, paused) = (replicas / 2, replicas / 4);
    let world = world(Mode::Broker, replicas).replicas_apart(paused).build().await;
    world.primary().execute("CREATE TABLE item (id int PRIMARY KEY, text text)").await;
    let pgfanout = begin(&world);
    until_following(&world).await;
    let before = pgfanout.peak_rss_bytes();
    let mut locked = Vec::new();
    for replica in &world.replicas()[half..replicas - paused] {
        let client = replica.client().await;
        client.batch_execute("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE").await.unwrap();
        locked.push(client);
    }
    world.replica(replicas).cluster().pause();
    for part in 0..4 {
        let (first, last) = (part * ROWS / 4 + 1, (part + 1) * ROWS / 4);
        let rows = format!("SELECT n, repeat('x', 15000) FROM generate_series({first}, {last}) n");
        world.primary().execute(&format!("INSERT INTO item {rows}")).await;
    }
    for number in 1..=half {
        wait_for_rows(&world, number).await;
    }
    let stuck = pgfanout.peak_rss_bytes();
    world.replica(replicas).cluster().resume();
    for client in locked {
        client.batch_execute("COMMIT").await.unwrap();
    }
    for number in half + 1..=replicas {
        wait_for_rows(&world, number).await;
    }
    let after = pgfanout.peak_rss_bytes();
    eprintln!(
        "{replicas} replicas: peak of {} MiB, {} while stuck, {} before",
        after >> 20,
        stuck >> 20,
        before >> 20
    );
    assert_small(&pgfanout);
    assert!(after - before < IN_MEMORY, "{} MiB more", (after - before) >> 20);
}

#[tokio::test]
async fn replicas_that_are_stuck_cost_little_memory_and_the_others_nothing() {
    half_are_stuck(6).await;
}

#[tokio::test]
#[ignore = "takes minutes: make large"]
async fn ten_of_twenty_replicas_that_are_stuck_cost_little_memory_and_the_others_nothing() {
    half_are_stuck(20).await;
}

/// How many pages a statement of pgfanout's visits, executed with these values and taken back.
async fn pages(client: &Client, types: &str, statement: &str, values: &str) -> u64 {
    let execute = format!(
        "DEALLOCATE ALL; PREPARE s {types} AS {statement}; BEGIN; EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE s {values}"
    );
    let answer = client.simple_query(&execute).await.unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    let plan = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: serde_json::Value = serde_json::from_str(plan.unwrap()).unwrap();
    let plan = &plan[0]["Plan"];
    plan["Shared Hit Blocks"].as_u64().unwrap() + plan["Shared Read Blocks"].as_u64().unwrap()
}

/// What each batch and each report changes stays in its tables as long as anybody may see it.
#[tokio::test]
async fn old_transactions_do_not_slow_what_is_done_with_each_batch() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute("CREATE TABLE item (id int PRIMARY KEY)").await;
    let mut pgfanout = begin(&world);
    until_following(&world).await;
    pgfanout.terminate().await;
    let (replica, reader) = (world.replica(1).client().await, world.replica(1).client().await);
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM item").await.unwrap();
    let moves = "DO $$ BEGIN FOR n IN 1..3000 LOOP
        UPDATE pgfanout.position SET number = number + 1, token = gen_random_uuid(); END LOOP; END $$";
    replica.batch_execute(moves).await.unwrap();
    // As the session of the applier is set.
    replica
        .batch_execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
        .await
        .unwrap();
    let form = concat!("WITH form AS NOT MATERIALIZED (", include_str!("../../sql/replica/form.sql"), ")");
    let name = format!(
        "{form} SELECT format('(%L, %L, %s, %L, %L, %s, ARRAY[%s::oid], ARRAY[%s::int8])',
            token, snapshot, number + 1, token, term, number, form.oid, form.form)
            FROM pgfanout.position, form WHERE form.oid = 'item'::regclass"
    );
    let name: String = replica.query_one(&name, &[]).await.unwrap().get(0);
    let save = format!("{form}, {}", include_str!("../../sql/replica/save_position.sql"));
    let save = pages(&replica, "(text, text, int8, text, text, int8, oid[], int8[])", &save, &name).await;
    let pulse = pages(&replica, "", include_str!("../../sql/replica/pulse.sql"), "").await;
    reader.batch_execute("COMMIT").await.unwrap();

    let primary = world.primary().client().await;
    let batches = "INSERT INTO pgfanout.batch (replica, to_snapshot)
        SELECT 'r1', pg_current_snapshot() FROM generate_series(1, 20000); ANALYZE pgfanout.batch";
    primary.batch_execute(batches).await.unwrap();
    let report = include_str!("../../sql/primary/report.sql");
    let name = "SELECT format('(%L, %L, %s, %L, %L, ARRAY[%s], ARRAY[%s], ARRAY[0.1], 1)', name, \"position\", number, token,
        state, number - 1, number) FROM pgfanout.replica";
    let name: String = primary.query_one(name, &[]).await.unwrap().get(0);
    let report =
        pages(&primary, "(text, text, int8, text, text, int8[], int8[], float8[], int8)", report, &name)
            .await;
    eprintln!("pages: {save} to save a position, {pulse} to look at it, {report} to report it");
    assert!(save < 25 && pulse < 25 && report < 25, "pages: {save}, {pulse}, {report}");
}

#[tokio::test]
#[ignore = "takes minutes: make large"]
async fn a_million_changes_while_the_broker_is_away_cost_no_memory_and_no_copy() {
    let world = world(Mode::Broker, 2).own_broker().build().await;
    let rows = "INSERT INTO item SELECT n, repeat('x', 50) FROM generate_series(1, 100000) n";
    world.primary().execute(&format!("CREATE TABLE item (id int PRIMARY KEY, text text); {rows}")).await;
    let pgfanout = begin(&world);
    until_same(&world, &["item"]).await;
    until_following(&world).await;
    let mark = pgfanout.mark();
    world.broker().kill9().await;
    for _ in 0..10 {
        world.primary().execute("UPDATE item SET text = md5(text)").await;
    }
    let memory = pgfanout.peak_rss_bytes();
    assert_small(&pgfanout);
    world.broker().start_again().await;
    let started = Instant::now();
    until_same(&world, &["item"]).await;
    let (elapsed, peak) = (started.elapsed(), pgfanout.peak_rss_bytes());
    eprintln!(
        "the same {elapsed:?} after the broker came back; a peak of {} MiB, {} before",
        peak >> 20,
        memory >> 20
    );
    assert_small(&pgfanout);
    assert_no_copy(&pgfanout, mark);
}

/// The least that the configuration allows is 1 MiB; a segment is written anew from an eighth of it on.
pub(crate) const SMALL_CHANGELOG: &str = "changelog_max_bytes = 8_388_608";

pub(crate) async fn number(database: &Database, query: &str) -> i64 {
    database.client().await.query_one(query, &[]).await.unwrap().get(0)
}

pub(crate) async fn changelog_bytes(primary: &Database) -> i64 {
    let sum = "SELECT sum(pg_total_relation_size(inhrelid))::int8 FROM pg_inherits
        WHERE inhparent = 'pgfanout.changelog'::regclass";
    number(primary, sum).await
}

/// Changes all rows, which takes about 1.4 MiB of the changelog.
pub(crate) async fn change_all(primary: &Database) {
    primary.execute("UPDATE item SET text = reverse(text) || 'x'").await;
}

pub(crate) const ITEM: &str = "CREATE TABLE item (id int PRIMARY KEY, text text);
    INSERT INTO item SELECT n, repeat('x', 200) FROM generate_series(1, 4000) n";

#[tokio::test]
async fn the_changelog_stays_flat_while_an_old_transaction_is_open() {
    let world = world(Mode::Broker, 1).own_primary(&[]).build().await;
    let primary = world.primary();
    primary.execute(ITEM).await;
    let _pgfanout = program().run(&world.config().primary(SMALL_CHANGELOG).write());
    until_same(&world, &["item"]).await;
    let reader = primary.client().await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM item").await.unwrap();
    let mut most = 0;
    for _ in 0..5 {
        let segment = "SELECT last_value FROM pgfanout.segment";
        let before = number(primary, segment).await;
        change_all(primary).await;
        most = most.max(changelog_bytes(primary).await);
        eventually(PATIENCE, "another segment is written", async || {
            let now = number(primary, segment).await;
            if now == before { Err(now) } else { Ok(()) }
        })
        .await;
    }
    eventually(PATIENCE, "what was written before is truncated", async || {
        let bytes = changelog_bytes(primary).await;
        if bytes < 1 << 20 { Ok(()) } else { Err(bytes) }
    })
    .await;
    assert!(most < 5 << 20, "the changelog had {most} bytes");
    reader.batch_execute("COMMIT").await.unwrap();
    until_same(&world, &["item"]).await;
}

/// Closes or opens a database for everybody.
pub(crate) async fn admit(database: &Database, whether: bool) {
    let admin = database.cluster().client("postgres").await;
    let name = database.name();
    admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {whether}")).await.unwrap();
    if !whether {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1";
        admin.query_one(end, &[&name]).await.unwrap();
    }
}

#[tokio::test]
async fn a_replica_that_stays_away_is_warned_of_then_trimmed_past_and_copied_anew_when_it_returns() {
    let world = world(Mode::Broker, 2).own_primary(&[]).build().await;
    let primary = world.primary();
    primary.execute(ITEM).await;
    let mut pgfanout = program().run(&world.config().primary(SMALL_CHANGELOG).write());
    until_same(&world, &["item"]).await;
    until_following(&world).await;
    admit(world.replica(2), false).await;
    // Until a batch is cut that replica 2 lacks, it may be the broker that changes wait for.
    let one = world.replica(1).client().await;
    let arrives = async |text: &'static str| {
        primary.execute(&format!("UPDATE item SET text = '{text}' WHERE id = 1")).await;
        eventually(PATIENCE, "replica 1 follows", async || {
            let row = one.query_one("SELECT text FROM item WHERE id = 1", &[]).await.unwrap();
            if row.get::<_, String>(0) == text { Ok(()) } else { Err("not yet") }
        })
        .await;
    };
    arrives("before").await;
    // What it waits for is what replicas have reported.
    let reported = "SELECT count(DISTINCT pg_snapshot_xmax(position)) FROM pgfanout.replica";
    eventually(PATIENCE, "replica 1 reports that it has more", async || {
        let positions = number(primary, reported).await;
        if positions == 2 { Ok(()) } else { Err(positions) }
    })
    .await;
    for _ in 0..4 {
        change_all(primary).await;
    }
    let warning = pgfanout.wait_for_event("changelog_grows", PATIENCE).await;
    assert_eq!(warning["holder"], "r2", "{warning}");
    assert!(warning["seconds_left"].is_u64() && warning["bytes"].is_u64(), "{warning}");
    assert!(pgfanout.events("changelog_limit").is_empty(), "the warning comes first");
    for _ in 0..3 {
        change_all(primary).await;
    }
    pgfanout.wait_for_event("changelog_limit", PATIENCE).await;
    // The other one follows.
    arrives("meanwhile").await;
    admit(world.replica(2), true).await;
    pgfanout.wait_for_event("copy_anew", PATIENCE).await;
    until_same(&world, &["item"]).await;
    assert!(changelog_bytes(primary).await < 16 << 20);
}
