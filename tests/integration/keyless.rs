//! Tables without a key: nothing names their rows but all that they hold, and there may be several that are equal.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use lapin::options::QueuePurgeOptions;
use pgfanout_testbed::{eventually, postgres::connect, world::World};
use tokio::task::JoinHandle;

use crate::{
    broker_faults::Vandal,
    messages::until_following,
    support::{Mode, begin, program, until_same, world},
};

/// How long statistics may take to be seen.
const LIMIT: Duration = Duration::from_secs(60);

/// All that may stand in a row's text, with values that look the same in another one.
const VALUES: &str = r#"(NULL), (''), (' '), ('a,b'), ('"'), ('\'), ('('), (')'), (E'\n'), (E'\t\u000b'), ('é🙂'),
    ('NULL'), ('{}'), ('$1'), ('''; DROP TABLE bag; --'), (U&'\00a0')"#;

const SETUP: &str = "
    CREATE TYPE mood AS ENUM ('low', 'high'); CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN positive AS int CHECK (value > 0);
    CREATE TABLE bag (v text);
    CREATE TABLE numbers (n int);
    CREATE TABLE wide (i int, n numeric, f float8, r real, b bool, c char(5), t text, y bytea, d date, ts timestamp,
        tz timestamptz, iv interval, m money, j json, jb jsonb, u uuid, x xml, l int[], e mood, p pair, o positive,
        rg int4range, bits varbit, made int GENERATED ALWAYS AS (i + 1) STORED);
    CREATE TABLE uniq (id int UNIQUE, v int);
    CREATE TABLE spread (k int, v text) PARTITION BY LIST (k);
    CREATE TABLE spread_0 PARTITION OF spread FOR VALUES IN (0);
    CREATE TABLE spread_1 PARTITION OF spread FOR VALUES IN (1);
    CREATE TABLE spread_rest PARTITION OF spread DEFAULT;
    CREATE TABLE listed (id int[] PRIMARY KEY);
    INSERT INTO bag SELECT 'old' FROM generate_series(1, 50);
";

const TABLES: [&str; 6] = ["bag", "numbers", "wide", "uniq", "spread", "listed"];

const WIDE: &str = "INSERT INTO wide SELECT n, 1.10 * n, 'NaN', -0.0, n % 2 = 0, 'a ', 't' || n, '\\x00ff', '0044-03-15 BC',
    'infinity', '2000-01-01 12:00+05', '1 mon -1 day', 12.5, '{\"a\" : 1, \"a\":2}', '{\"a\": [1e3, null]}',
    ('00000000-0000-0000-0000-00000000000' || n % 10)::uuid, '<a>&amp;</a>', '[0:1]={1,NULL}', 'high', '(,\"x y\")', 7,
    '[1,5)', B'0101' FROM generate_series(1, 5) n; INSERT INTO wide DEFAULT VALUES; INSERT INTO wide DEFAULT VALUES";

/// What a session may have set that changes how values are printed.
const HOSTILE: &str = "SET datestyle = 'SQL, DMY'; SET intervalstyle = 'sql_standard'; SET timezone = 'Asia/Kolkata';
    SET extra_float_digits = -15; SET bytea_output = 'escape'; SET xmlbinary = 'hex'; SET quote_all_identifiers = on;
    SET standard_conforming_strings = off; SET search_path = ''";

/// Each is a transaction.
const STATEMENTS: &[&str] = &[
    "DELETE FROM public.bag WHERE v = 'NULL'",
    "DELETE FROM bag WHERE ctid = (SELECT min(ctid) FROM bag WHERE v = 'old')",
    "DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE v = 'old' LIMIT 20)",
    "UPDATE bag SET v = v || '!' WHERE v = 'old'",
    "UPDATE bag SET v = v",
    "UPDATE bag SET v = NULL WHERE v = ''",
    "INSERT INTO bag SELECT 'again' FROM generate_series(1, 3); DELETE FROM bag WHERE v = 'again'",
    "INSERT INTO bag VALUES ('kept'); SAVEPOINT s; INSERT INTO bag VALUES ('lost'); DELETE FROM bag; ROLLBACK TO s",
    "WITH gone AS (DELETE FROM bag WHERE v LIKE 'old%' RETURNING v) INSERT INTO numbers SELECT length(v) FROM gone",
    "INSERT INTO numbers SELECT n % 3 FROM generate_series(1, 5000) n",
    "UPDATE numbers SET n = n + 1 WHERE n < 2",
    "DELETE FROM numbers WHERE n = 2",
    "UPDATE wide SET f = 0.1 + 0.2, r = 1e-30, d = 'infinity', tz = now(), iv = '-1 year 2:03:04.5', m = -1 WHERE i > 2",
    "DELETE FROM wide WHERE ctid = (SELECT min(ctid) FROM wide WHERE i IS NULL)",
    "INSERT INTO uniq VALUES (1, 1), (2, 2), (NULL, 3), (NULL, 3)",
    "INSERT INTO uniq VALUES (1, 5) ON CONFLICT (id) DO UPDATE SET v = 10",
    "UPDATE uniq SET id = CASE id WHEN 1 THEN 3 ELSE NULL END",
    "INSERT INTO spread SELECT n % 4, 'v' FROM generate_series(1, 12) n",
    "UPDATE spread SET k = 1 WHERE k = 0",
    "UPDATE spread SET k = k + 5",
    "INSERT INTO spread_1 VALUES (1, 'leaf'), (1, 'leaf'); DELETE FROM spread_rest WHERE k = 6",
    "TRUNCATE spread_1",
    "INSERT INTO spread VALUES (1, 'a'), (0, 'b'); TRUNCATE spread_0; INSERT INTO spread VALUES (0, 'c'), (0, 'c')",
    "SAVEPOINT s; TRUNCATE spread_0, spread_rest; INSERT INTO spread VALUES (0, 'lost'); ROLLBACK TO s; DELETE FROM spread WHERE ctid = '(0,1)' AND k = 0",
    "TRUNCATE spread_0; SAVEPOINT s; TRUNCATE spread; ROLLBACK TO s; INSERT INTO spread VALUES (0, 'd'), (0, 'd')",
    "TRUNCATE numbers, spread RESTART IDENTITY CASCADE; COPY numbers FROM PROGRAM 'printf \"1\\n1\\n\"' (FREEZE); INSERT INTO spread VALUES (1, 'e'), (2, 'e')",
    "INSERT INTO listed VALUES ('{1,2}'), ('{}'), ('{NULL}')",
    "UPDATE listed SET id = id || 3",
    "TRUNCATE numbers; INSERT INTO numbers VALUES (7), (7)",
    "INSERT INTO numbers VALUES (8); SAVEPOINT s; TRUNCATE numbers; ROLLBACK TO s; DELETE FROM numbers WHERE n = 7",
    "INSERT INTO numbers VALUES (9); TRUNCATE numbers",
    // Larger than what is logged of a row, at once and by what printing makes of it.
    "INSERT INTO bag SELECT string_agg(md5(n::text), '') FROM generate_series(1, 60000) n",
    "INSERT INTO wide (jb) SELECT jsonb_agg(1e1000) FROM generate_series(1, 2000)",
    "DELETE FROM bag WHERE length(v) > 1000000; INSERT INTO bag VALUES ('after'), ('after')",
    "UPDATE wide SET jb = '[1]' WHERE jb IS NOT NULL",
];

async fn every_statement_is_followed(mode: Mode) {
    let world = world(mode, 2).build().await;
    world.primary().execute(SETUP).await;
    let _pgfanout = begin(&world);
    until_same(&world, &TABLES).await;
    let client = world.primary().client().await;
    client
        .batch_execute(&format!("INSERT INTO bag VALUES {VALUES}; INSERT INTO bag VALUES {VALUES}"))
        .await
        .unwrap();
    let hostile = world.primary().client().await;
    hostile.batch_execute(HOSTILE).await.unwrap();
    hostile
        .batch_execute(&WIDE.replace("INTO wide", "INTO public.wide").replace("\\x", "\\\\x"))
        .await
        .unwrap();
    until_same(&world, &TABLES).await;
    for statement in STATEMENTS {
        client.batch_execute(&format!("BEGIN; {statement}; COMMIT")).await.unwrap();
        until_same(&world, &TABLES).await;
    }
}

#[tokio::test]
async fn every_statement_is_followed_with_a_broker() {
    every_statement_is_followed(Mode::Broker).await;
}

#[tokio::test]
async fn every_statement_is_followed_without_a_broker() {
    every_statement_is_followed(Mode::Postgres).await;
}

const LOADED: &str = "CREATE TABLE few (n int, v text); CREATE TABLE keyed (id int PRIMARY KEY, n int);
    CREATE TABLE history (at timestamptz DEFAULT clock_timestamp(), what text);
    INSERT INTO few SELECT n % 10, 'v' FROM generate_series(1, 200) n; INSERT INTO keyed SELECT n, 0 FROM generate_series(1, 20) n";

const LOADED_TABLES: [&str; 3] = ["few", "keyed", "history"];

/// Transactions that make equal rows come and go, all the time.
fn write(world: &World, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let writer = |seed: u64| {
        let (url, stop) = (world.primary().url(), Arc::clone(stop));
        tokio::spawn(async move {
            let (client, mut random) = (connect(&url).await.unwrap(), fastrand::Rng::with_seed(seed));
            while !stop.load(Relaxed) {
                let (n, m) = (random.u8(0..10), random.u8(0..10));
                let statement = match random.u8(0..6) {
                    0 => format!("INSERT INTO few SELECT {n}, 'v' FROM generate_series(1, {m})"),
                    1 => format!(
                        "DELETE FROM few WHERE ctid IN (SELECT ctid FROM few WHERE n = {n} LIMIT {m})"
                    ),
                    2 => format!(
                        "UPDATE few SET n = {m} WHERE ctid IN (SELECT ctid FROM few WHERE n = {n} LIMIT 3)"
                    ),
                    3 => format!("INSERT INTO history (what) VALUES ('{n}'), ('{m}')"),
                    4 => format!(
                        "UPDATE keyed SET n = n + 1 WHERE id = {n}; INSERT INTO few VALUES ({m}, NULL)"
                    ),
                    _ => format!(
                        "INSERT INTO few VALUES ({n}, 'x'); DELETE FROM few WHERE n = {n} AND v = 'x'"
                    ),
                };
                // Two may wait for one another.
                if client.batch_execute(&format!("BEGIN; {statement}; COMMIT")).await.is_err() {
                    client.batch_execute("ROLLBACK").await.unwrap();
                }
            }
        })
    };
    (1..=3).map(writer).collect()
}

/// What is written twice, or not at all, stays so for ever: nothing puts it right again.
async fn nothing_is_doubled(mode: Mode) {
    let world = world(mode, 2).build().await;
    world.primary().execute(LOADED).await;
    let stop = Arc::<AtomicBool>::default();
    let writers = write(&world, &stop);
    // Copied under load.
    let mut pgfanout = begin(&world);
    until_following(&world).await;
    for round in 0..6 {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        match (round % 3, mode) {
            // What was published is cut again, over what replicas have.
            (0, _) => {
                pgfanout.kill9().await;
                pgfanout = begin(&world);
            }
            (1, Mode::Broker) => {
                // The replica reads what it misses from the primary, and stands between two batches then.
                let Vandal { channel, .. } = &Vandal::new(&world).await;
                let purge = QueuePurgeOptions::default();
                channel.queue_purge(world.queue(1).into(), purge).await.unwrap();
            }
            _ => {
                crate::supervision::end_sessions(world.replica(2)).await;
            }
        }
    }
    stop.store(true, Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    until_same(&world, &LOADED_TABLES).await;
}

#[tokio::test]
async fn nothing_is_doubled_with_a_broker() {
    nothing_is_doubled(Mode::Broker).await;
}

#[tokio::test]
async fn nothing_is_doubled_without_a_broker() {
    nothing_is_doubled(Mode::Postgres).await;
}

/// Each row is looked for among all: not by comparing each with each.
#[tokio::test]
async fn very_many_rows_change_at_once() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int, v text)").await;
    let _pgfanout = begin(&world);
    until_following(&world).await;
    for statement in [
        "INSERT INTO t SELECT n / 2, 'v' FROM generate_series(1, 40000) n",
        "UPDATE t SET v = v || '.'",
        "DELETE FROM t WHERE ctid IN (SELECT min(ctid) FROM t GROUP BY id)",
    ] {
        world.primary().execute(statement).await;
        until_same(&world, &["t"]).await;
    }
    world.replica(1).execute("DELETE FROM t WHERE id < 3500").await;
    let wrong = program().once("verify", &world.config().write(), &[]).await;
    assert!(wrong.stdout.contains(" 3,499 missing"), "{}{}", wrong.stdout, wrong.stderr);
}

/// However many messages tell of a batch: removing rows reads all of the replica's table.
#[tokio::test]
async fn a_batch_of_many_messages_reads_a_table_once() {
    let world = world(Mode::Broker, 1).build().await;
    world
        .primary()
        .execute(
            "CREATE TABLE t (id int, v text); INSERT INTO t SELECT n % 200, 'v' FROM generate_series(1, 400) n;
             CREATE TABLE keyed (id int PRIMARY KEY)",
        )
        .await;
    let config = world.config().broker("max_changes_per_message = 1").write();
    let _pgfanout = program().run(&config);
    until_following(&world).await;
    let client = world.replica(1).client().await;
    let counts = "SELECT seq_scan, n_tup_del FROM pg_stat_user_tables WHERE relname = 't'";
    let before: i64 = client.query_one(counts, &[]).await.unwrap().get(0);
    world
        .primary()
        .execute(
            "BEGIN; DELETE FROM t WHERE id < 100; INSERT INTO t SELECT n, 'new' FROM generate_series(150, 180) n;
             INSERT INTO keyed SELECT n FROM generate_series(1, 50) n; COMMIT",
        )
        .await;
    // Before anybody compares, which reads it too.
    let looks = eventually(LIMIT, "the replica's statistics", async || {
        let row = client.query_one(counts, &[]).await.unwrap();
        let (looks, deleted): (i64, i64) = (row.get(0), row.get(1));
        if deleted == 200 { Ok(looks - before) } else { Err(deleted) }
    });
    let looks = looks.await;
    assert!(looks < 100, "{looks} times for 281 messages");
    until_same(&world, &["t", "keyed"]).await;
}

/// 200 MB that have one text: what is gathered of a batch stays small.
#[tokio::test]
async fn very_many_equal_rows_cost_little_memory() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (v text)").await;
    let pgfanout = begin(&world);
    until_following(&world).await;
    world.primary().execute("INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 200000)").await;
    until_same(&world, &["t"]).await;
    let peak = pgfanout.peak_rss_bytes() >> 20;
    assert!(peak < 128, "{peak} MiB");
}

#[tokio::test]
async fn a_table_may_get_a_key_and_lose_it() {
    let world = world(Mode::Broker, 1).build().await;
    world
        .primary()
        .execute(
            "CREATE TABLE t (id int, v text); INSERT INTO t SELECT n, 'v' FROM generate_series(1, 100) n",
        )
        .await;
    let _pgfanout = begin(&world);
    until_same(&world, &["t"]).await;
    let change = "UPDATE t SET v = v || '.' WHERE id < 50; INSERT INTO t VALUES (0, 'new'); DELETE FROM t WHERE id = 99";
    for ddl in [
        "ALTER TABLE t ADD CONSTRAINT k PRIMARY KEY (id)",
        "ALTER TABLE t DROP CONSTRAINT k",
        "ALTER TABLE t ADD COLUMN w int DEFAULT 5",
        "ALTER TABLE t RENAME COLUMN w TO u",
        "ALTER TABLE t DROP COLUMN u",
    ] {
        // As a replica's table has to be altered by hand, the other side of a change may come first.
        if !ddl.contains("CONSTRAINT k P") {
            world.replica(1).execute(&ddl.replace("CONSTRAINT k", "CONSTRAINT IF EXISTS k")).await;
        } else {
            world.replica(1).execute(ddl).await;
        }
        world.primary().execute(&format!("{ddl}; {change}; DELETE FROM t WHERE id = 0")).await;
        until_same(&world, &["t"]).await;
    }
}

#[tokio::test]
async fn verify_counts_equal_rows_and_repairs_them() {
    let world = world(Mode::Broker, 1).build().await;
    world
        .primary()
        .execute("CREATE TABLE t (v text); INSERT INTO t SELECT 'secret' FROM generate_series(1, 9)")
        .await;
    let _pgfanout = begin(&world);
    until_following(&world).await;
    until_same(&world, &["t"]).await;
    let config = world.config().write();
    let right = program().once("verify", &config, &[]).await;
    assert_eq!(right.code, Some(0), "{}{}", right.stdout, right.stderr);
    let harm = "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t); INSERT INTO t VALUES ('extra'), (NULL)";
    world.replica(1).execute(harm).await;
    let wrong = program().once("verify", &config, &[]).await;
    assert_eq!(wrong.code, Some(1), "{}{}", wrong.stdout, wrong.stderr);
    for word in ["2 extra", "1 different"] {
        assert!(wrong.stdout.contains(word), "{word}: {}", wrong.stdout);
    }
    assert!(
        !wrong.stdout.contains("secret"),
        "values are shown only where they are asked for: {}",
        wrong.stdout
    );
    let shown = program().once("verify", &config, &["--show-values"]).await;
    assert!(shown.stdout.contains("secret"), "{}", shown.stdout);
    program().once("verify", &config, &["--repair"]).await;
    until_same(&world, &["t"]).await;
}
