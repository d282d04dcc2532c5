//! One table that does not fit halts its replica before anything wrong is applied, says what to do, and the
//! replica goes on by itself once that is done; the others never notice.

use pgfanout_testbed::{process::Pgfanout, world::World};
use serde_json::Value;

use crate::support::{Mode, PATIENCE, begin, until_same, world};

const TABLES: &[&str] = &["t", "u"];
const SETUP: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (\"Odd Key\" int PRIMARY KEY, x text);
    INSERT INTO t SELECT n, n FROM generate_series(1, 10) n";

/// A function whose text nobody shall read in a log.
const RAISE: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'secret %', NEW.x; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION refuse();
    ALTER TABLE u ENABLE ALWAYS TRIGGER refuse";

/// What `write` does on the primary makes r1 halt with these words, until `mend` is done there.
async fn halts(
    (world, pgfanout): (&World, &mut Pgfanout),
    obstacle: &str,
    write: &str,
    words: &[&str],
    mend: &str,
) {
    let before = world.replica(1).client().await;
    world.replica(1).execute(obstacle).await;
    let contents = "SELECT (SELECT string_agg(t::text, ' ' ORDER BY id) FROM t) || coalesce(
        (SELECT string_agg(u::text, ' ' ORDER BY 1) FROM (SELECT * FROM u ORDER BY 1) u), '')";
    let applied: String = before.query_one(contents, &[]).await.unwrap().get(0);
    let mark = pgfanout.mark();
    world.primary().execute(write).await;
    let halted = |line: &Value| line["event"] == "halted" && line["replica"] == "r1";
    let line = pgfanout.wait_for(mark, "that r1 halted", PATIENCE, halted).await;
    let message = line["message"].as_str().unwrap();
    for word in words.iter().chain(&["goes on by itself"]) {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(!message.contains("secret") && !message.contains("4711"), "{message}");
    let now: String = before.query_one(contents, &[]).await.unwrap().get(0);
    assert_eq!(now, applied, "nothing of the transaction is there");
    let primary = world.primary().client().await;
    let replica = world.replica(2).client().await;
    pgfanout_testbed::eventually(PATIENCE, "the other one follows", async || {
        pgfanout_testbed::compare::same_tables(&primary, &replica, TABLES).await
    })
    .await;
    world.replica(1).execute(mend).await;
    until_same(world, TABLES).await;
}

async fn what_only_a_replica_refuses_halts_it(mode: Mode) {
    let world = world(mode, 2).build().await;
    world.primary().execute(SETUP).await;
    let mut pgfanout = begin(&world);
    until_same(&world, TABLES).await;
    crate::bank::until_joined(&world, TABLES.len()).await;
    halts(
        (&world, &mut pgfanout),
        "ALTER TABLE t ADD CONSTRAINT small CHECK (v < 100)",
        "BEGIN; UPDATE t SET v = 4711 WHERE id = 3; UPDATE t SET v = 0 WHERE id = 4; INSERT INTO u VALUES (1, 'a'); COMMIT",
        &[
            "replica r1",
            "\"public\".\"t\" (key \"id\")",
            "constraint small",
            "SQLSTATE 23514",
            "; remedy: ALTER TABLE public.t DROP CONSTRAINT small",
        ],
        "ALTER TABLE t DROP CONSTRAINT small",
    )
    .await;
    halts(
        (&world, &mut pgfanout),
        "ALTER TABLE u ALTER x SET NOT NULL",
        "BEGIN; UPDATE t SET v = 4711 WHERE id = 3; INSERT INTO u VALUES (9, NULL); COMMIT",
        &["SQLSTATE 23502", "; remedy: ALTER TABLE public.u ALTER COLUMN x DROP NOT NULL"],
        "ALTER TABLE u ALTER COLUMN x DROP NOT NULL",
    )
    .await;
    halts(
        (&world, &mut pgfanout),
        RAISE,
        "BEGIN; DELETE FROM t WHERE id = 5; INSERT INTO u VALUES (2, 'b'), (4711, 'c'); COMMIT",
        &["replica r1", "\"public\".\"u\" (key \"Odd Key\")", "SQLSTATE P0001"],
        "DROP TRIGGER refuse ON u",
    )
    .await;
    halts(
        (&world, &mut pgfanout),
        "CREATE UNIQUE INDEX once ON t (v)",
        "BEGIN; UPDATE t SET v = 4711 WHERE id IN (7, 8); INSERT INTO u VALUES (3, 'd'); COMMIT",
        &["replica r1", "\"public\".\"t\" (key \"id\")", "constraint once"],
        "DROP INDEX once",
    )
    .await;
    // What was in the column is gone: it does not do to go on with the changes.
    halts(
        (&world, &mut pgfanout),
        "ALTER TABLE t DROP COLUMN v",
        "BEGIN; UPDATE t SET v = 4711 WHERE id = 3; INSERT INTO u VALUES (5, 'e'); COMMIT",
        &["replica r1", "\"public\".\"t\"", "SQLSTATE 42703"],
        "ALTER TABLE t ADD COLUMN v int",
    )
    .await;
}

#[tokio::test]
async fn what_only_a_replica_refuses_halts_it_until_it_is_mended_with_a_broker() {
    what_only_a_replica_refuses_halts_it(Mode::Broker).await;
}

#[tokio::test]
async fn what_only_a_replica_refuses_halts_it_until_it_is_mended_without_a_broker() {
    what_only_a_replica_refuses_halts_it(Mode::Postgres).await;
}

/// An index that the primary has, and this replica cannot: its rows are there, and it goes on when that is mended.
#[tokio::test]
async fn an_index_that_a_replica_cannot_build_halts_it_until_it_can() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(SETUP).await;
    world.primary().execute("ALTER TABLE t ADD UNIQUE (v)").await;
    world.replica(1).execute("CREATE TABLE t_v_key (x int)").await;
    let mut pgfanout = begin(&world);
    let halted = |line: &Value| line["event"] == "halted" && line["replica"] == "r1";
    let line = pgfanout.wait_for(0, "that r1 halted", PATIENCE, halted).await;
    let message = line["message"].as_str().unwrap();
    for word in ["replica r1", "index t_v_key of public.t", "remedy", "SQLSTATE 42P07", "goes on by itself"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    world.replica(1).execute("DROP TABLE t_v_key").await;
    until_same(&world, TABLES).await;
    crate::bank::until_joined(&world, TABLES.len()).await;
    world.replica(1).execute("ALTER TABLE t DROP CONSTRAINT t_v_key").await;
}
