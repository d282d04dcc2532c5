//! What rewrites, orders or measures tables and changes no row disturbs nothing, on either side.

use serde_json::Value;

use crate::{
    bank::until_joined,
    support::{MARK, Mode, begin, until_marked_and_same, world},
};

const SETUP: &str = "
    CREATE TABLE t (id int PRIMARY KEY, v text, big text); CREATE INDEX other ON t (v);
    CREATE TABLE bag (v text);
    CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (10); CREATE TABLE high PARTITION OF parts DEFAULT;
    INSERT INTO t SELECT n, n, repeat(md5(n::text), 200) FROM generate_series(1, 50) n;
    INSERT INTO bag SELECT n % 5 FROM generate_series(1, 50) n; INSERT INTO parts SELECT n, n FROM generate_series(1, 20) n";

/// What somebody reads of the tables, with what has to be brought up to date.
const SEEN: &str = "CREATE MATERIALIZED VIEW seen AS SELECT v, count(*) FROM bag GROUP BY v; CREATE UNIQUE INDEX ON seen (v)";

/// Each alone, as some must not be part of a transaction.
const UPKEEP: &[&str] = &[
    "VACUUM",
    "VACUUM (FREEZE, ANALYZE) t",
    "VACUUM FULL t",
    "VACUUM FULL bag",
    "VACUUM FULL parts",
    "VACUUM FULL",
    "CLUSTER t USING other",
    "CLUSTER t USING t_pkey",
    "CLUSTER low USING low_pkey",
    "CLUSTER",
    "REINDEX TABLE t",
    "REINDEX TABLE CONCURRENTLY t",
    "REINDEX INDEX CONCURRENTLY t_pkey",
    "REINDEX TABLE low",
    "REINDEX SCHEMA public",
    "REINDEX DATABASE {database}",
    "REFRESH MATERIALIZED VIEW seen",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY seen",
    "ANALYZE",
    "ANALYZE t (v), parts",
    "CREATE INDEX CONCURRENTLY late ON t (id, v)",
    "DROP INDEX CONCURRENTLY late",
    "ALTER TABLE t SET (fillfactor = 50, autovacuum_enabled = off)",
    "ALTER TABLE t ALTER v SET STATISTICS 500, ALTER big SET STORAGE EXTERNAL, SET WITHOUT CLUSTER",
    "ALTER TABLE t SET TABLESPACE pg_default",
    "CREATE STATISTICS both_of_t ON id, v FROM t",
    "COMMENT ON COLUMN t.v IS 'a value'",
];

const WRITE: &str = "UPDATE t SET v = v || '.' WHERE id % 3 = 0; UPDATE t SET id = -id WHERE abs(id) % 3 = 1;
    DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2, 'again', NULL);
    DELETE FROM bag WHERE ctid IN (SELECT min(ctid) FROM bag GROUP BY v); INSERT INTO bag SELECT n FROM generate_series(0, 4) n;
    UPDATE parts SET id = 1001 - id WHERE id IN (1, 1000); UPDATE parts SET v = v || '.' WHERE id < 5";

async fn upkeep_disturbs_nothing(mode: Mode) {
    let world = world(mode, 1).build().await;
    for statements in [MARK, SETUP, SEEN] {
        world.primary().execute(statements).await;
    }
    let pgfanout = begin(&world);
    until_joined(&world, 4).await;
    world.replica(1).execute(SEEN).await;
    let mark = pgfanout.mark();
    for database in [world.primary(), world.replica(1)] {
        for statement in UPKEEP {
            eprintln!("{database}: {statement}");
            database.execute(&statement.replace("{database}", database.name())).await;
            world.primary().execute(WRITE).await;
            until_marked_and_same(&world, &["t", "bag", "parts"]).await;
        }
    }
    let events = ["failed", "halted", "table_isolated", "copy_started", "copy_anew", "table_left"];
    let disturbed = |line: &Value| events.iter().any(|event| line["event"] == *event);
    let disturbed: Vec<_> = pgfanout.log_after(mark).into_iter().filter(disturbed).collect();
    assert_eq!(disturbed, [Value::Null; 0]);
}

#[tokio::test]
async fn upkeep_disturbs_nothing_with_a_broker() {
    upkeep_disturbs_nothing(Mode::Broker).await;
}

#[tokio::test]
#[ignore = "both modes: make large"]
async fn upkeep_disturbs_nothing_without_a_broker() {
    upkeep_disturbs_nothing(Mode::Postgres).await;
}
