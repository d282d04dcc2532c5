//! Replicas are exact and whole at the very snapshot at which they say they stand, while concurrent writers
//! do all that an application may do.
//!
//! The primary can't be read at an earlier snapshot. But its triggers keep a history of every row that came
//! and went, with its transaction: the rows at a snapshot are the sum over what is visible in it, which does
//! not depend on any order.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use pgfanout_testbed::world::World;
use tokio_postgres::{Client, error::SqlState};

use crate::{
    bank::{by_broker, until_joined},
    support::{Mode, PATIENCE, program, until_same, world},
    writing::{Writer, transaction},
};

const WRITERS: u64 = 6;
/// How many comparisons each replica has to stand, each with another state than the one before.
const COMPARISONS: usize = 60;

/// The tables with their columns.
pub(crate) const TABLES: [(&str, &str); 9] = [
    ("plain", "id, v, note"),
    ("parent", "id, v"),
    ("child", "id, parent, v"),
    ("tree", "id, parent, v"),
    ("word", "word, n"),
    ("\"Two Keys\"", "\"a key\", tag, v"),
    ("swapped", "id, v"),
    ("region", "id, k, v"),
    ("counted", "id, v, w"),
];

pub(crate) const SETUP: &str = r#"
    CREATE TABLE plain (id int PRIMARY KEY, v int, note text);
    CREATE TABLE parent (id int PRIMARY KEY, v int);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE, v int);
    CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON UPDATE CASCADE ON DELETE CASCADE
        DEFERRABLE INITIALLY DEFERRED, v int);
    CREATE TABLE word (word text PRIMARY KEY, n int UNIQUE);
    CREATE TABLE "Two Keys" ("a key" int, tag text, v numeric, PRIMARY KEY (tag, "a key"));
    CREATE TABLE swapped (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v int);
    CREATE TABLE region (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
    CREATE TABLE region_0 PARTITION OF region FOR VALUES IN (0);
    CREATE TABLE region_1 PARTITION OF region FOR VALUES IN (1);
    -- Its columns lie in another order, one was dropped.
    CREATE TABLE region_2 (v text, gone int, k int NOT NULL, id int NOT NULL);
    ALTER TABLE region_2 DROP COLUMN gone;
    ALTER TABLE region ATTACH PARTITION region_2 FOR VALUES IN (2);
    CREATE TABLE counted (id int PRIMARY KEY, v int, w int DEFAULT 0);
    CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF pg_trigger_depth() = 1 THEN UPDATE counted SET w = w + 1 WHERE id = new.id; END IF; RETURN NULL; END $$;
    CREATE TRIGGER a_user AFTER INSERT OR UPDATE ON counted FOR EACH ROW EXECUTE FUNCTION count_up();
    CREATE SCHEMA audit;
    CREATE TABLE audit.history (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), line text NOT NULL, sign int NOT NULL)"#;

/// One statement, so one snapshot, taken with all tables locked: where the replica stands, and its rows.
fn replica_lines() -> String {
    format!(
        "SELECT p.snapshot::text, p.number, ARRAY(SELECT line FROM ({}) l ORDER BY line COLLATE \"C\") AS lines \
         FROM pgfanout.position p",
        lines()
    )
}

fn lines() -> String {
    TABLES
        .map(|(table, columns)| format!("SELECT {} AS line FROM {table} r", line(table, "r", columns)))
        .join(" UNION ALL ")
}

/// SQL that prints a row with its table's name.
fn line(table: &str, row: &str, columns: &str) -> String {
    let columns: Vec<_> = columns.split(", ").map(|column| format!("{row}.{column}")).collect();
    format!("'{table}' || ROW({})::text", columns.join(", "))
}

/// The rows at a snapshot, from the history.
const PRIMARY_LINES: &str = "SELECT ARRAY(
    SELECT CASE sum(sign) WHEN 1 THEN line ELSE line || ' times ' || sum(sign) END
    FROM audit.history
    WHERE pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
    GROUP BY line HAVING sum(sign) <> 0
    ORDER BY line COLLATE \"C\")";

/// Triggers that write the history of a table.
fn audit(number: usize, (table, columns): (&str, &str)) -> String {
    let (old, new) = (line(table, "old", columns), line(table, "new", columns));
    let row = line(table, "r", columns).replace('\'', "''");
    let truncated = match table {
        "region" => vec!["region_0", "region_1", "region_2"],
        _ => vec![table],
    };
    let mut statements = format!(
        "CREATE FUNCTION audit.note_{number}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF tg_op = 'TRUNCATE' THEN
                EXECUTE 'INSERT INTO audit.history (line, sign) SELECT {row}, -1 FROM ' || tg_relid::regclass || ' r';
                RETURN NULL;
            END IF;
            IF tg_op <> 'INSERT' THEN INSERT INTO audit.history (line, sign) VALUES ({old}, -1); END IF;
            IF tg_op <> 'DELETE' THEN INSERT INTO audit.history (line, sign) VALUES ({new}, 1); END IF;
            RETURN NULL; END $$;
        CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION audit.note_{number}();"
    );
    for table in truncated {
        statements += &format!(
            "CREATE TRIGGER note_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION audit.note_{number}();"
        );
    }
    statements
}

/// What an observer saw.
#[derive(Debug, Default)]
struct Seen {
    looks: usize,
    states: usize,
    by_broker: usize,
    /// States at snapshots with transactions in progress.
    amid: usize,
}

/// Compares a replica with the primary's history until it has shown enough states.
async fn observe(primary: Client, replica: Client) -> Seen {
    let (mut seen, mut last, query) = (Seen::default(), Vec::new(), replica_lines());
    let deadline = Instant::now() + 4 * PATIENCE;
    while seen.states < COMPARISONS {
        assert!(Instant::now() < deadline, "only {seen:?}");
        seen.looks += 1;
        let row = match replica.query_one(&query, &[]).await {
            Ok(row) => row,
            // A TRUNCATE of several tables and we were in each other's way.
            Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => continue,
            Err(error) => panic!("{error:?}"),
        };
        let (snapshot, there): (&str, Vec<String>) = (row.get(0), row.get("lines"));
        if there == last {
            continue;
        }
        let here: Vec<String> = primary.query_one(PRIMARY_LINES, &[&snapshot]).await.unwrap().get(0);
        assert_same(snapshot, &here, &there);
        seen.states += 1;
        seen.amid += usize::from(!snapshot.ends_with(':'));
        seen.by_broker += usize::from(by_broker(&primary, row.get("number")).await);
        last = there;
    }
    seen
}

fn assert_same(snapshot: &str, here: &[String], there: &[String]) {
    let only = |rows: &[String], others: &[String]| {
        rows.iter().filter(|row| !others.contains(row)).take(10).cloned().collect::<Vec<_>>()
    };
    assert!(
        here == there,
        "at {snapshot} only the primary had {:?}, only the replica has {:?}",
        only(here, there),
        only(there, here)
    );
}

async fn replicas_are_exact(mode: Mode) {
    let seed = env::var("PGFANOUT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("PGFANOUT_TEST_SEED={seed}");
    let world: World = world(mode, 2).build().await;
    let primary = world.primary().client().await;
    let audits = TABLES.iter().enumerate().map(|(number, &table)| audit(number, table));
    let setup: Vec<_> = std::iter::once(SETUP.to_owned()).chain(audits).collect();
    primary.batch_execute(&setup.join(";\n")).await.unwrap();
    // Small messages, so that batches come in many parts.
    let config = world.config().primary("tables = [\"public.*\"]").broker("max_changes_per_message = 40");
    let _pgfanout = program().run(&config.write());
    until_joined(&world, TABLES.len()).await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..WRITERS {
        writers.spawn(write(world.primary().client().await, seed.wrapping_add(n), Arc::clone(&stop)));
    }
    let mut observers = Vec::new();
    for replica in world.replicas() {
        observers.push(tokio::spawn(observe(world.primary().client().await, replica.client().await)));
    }
    for observer in observers {
        let seen = observer.await.unwrap();
        eprintln!("{seen:?}");
        assert!(seen.amid > 0, "no snapshot was taken amid transactions");
        match mode {
            Mode::Broker => assert!(seen.by_broker > COMPARISONS / 2, "{seen:?}"),
            Mode::Postgres => assert_eq!(seen.by_broker, 0),
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    until_same(&world, &TABLES.map(|(table, _)| table)).await;
    // The history itself is right.
    let now = "SELECT pg_current_snapshot()::text";
    let snapshot: String = primary.query_one(now, &[]).await.unwrap().get(0);
    let history: Vec<String> = primary.query_one(PRIMARY_LINES, &[&snapshot]).await.unwrap().get(0);
    let lines = format!("SELECT ARRAY(SELECT line FROM ({}) l ORDER BY line COLLATE \"C\")", lines());
    let lines: Vec<String> = primary.query_one(&lines, &[]).await.unwrap().get(0);
    assert_same(&snapshot, &history, &lines);
}

/// Writes until told to stop.
async fn write(client: Client, seed: u64, stop: Arc<AtomicBool>) {
    client.batch_execute("SET deadlock_timeout = '50ms'").await.unwrap();
    let mut writer = Writer::new(seed);
    while !stop.load(Ordering::Relaxed) {
        transaction(&client, &mut writer).await;
    }
}

#[tokio::test]
async fn replicas_are_exact_at_their_snapshot_through_the_broker() {
    replicas_are_exact(Mode::Broker).await;
}

#[tokio::test]
async fn replicas_are_exact_at_their_snapshot_without_a_broker() {
    replicas_are_exact(Mode::Postgres).await;
}
