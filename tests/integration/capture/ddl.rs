//! DDL on a captured table neither fails because of us nor leaves anything behind that would.

use super::{Primary, entry};

#[actix::test]
async fn capture_follows_a_table_through_ddl() {
    let primary = Primary::start().await;
    primary.run("CREATE TABLE t (id int PRIMARY KEY, v text, w text); CREATE SCHEMA other").await;
    let id = primary.capture("t").await;
    for ddl in [
        "ALTER TABLE t ALTER id TYPE bigint",
        "ALTER TABLE t RENAME id TO ident",
        "ALTER TABLE t ADD x date DEFAULT now()",
        "ALTER TABLE t DROP COLUMN w",
        "ALTER TABLE t ALTER v TYPE int USING length(v)",
        "ALTER TABLE t RENAME TO \"T t\"; ALTER TABLE \"T t\" RENAME TO t",
        "ALTER TABLE t SET SCHEMA other; ALTER SCHEMA other RENAME TO another; ALTER TABLE another.t SET SCHEMA public",
        "ALTER TABLE t DISABLE TRIGGER ALL",
        "ALTER TABLE t DISABLE TRIGGER pgfanout_insert; DROP TRIGGER pgfanout_delete ON t",
        "ALTER TRIGGER pgfanout_update ON t RENAME TO mine",
        "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD CONSTRAINT other PRIMARY KEY (ident)",
        "SET session_replication_role = replica; ALTER TABLE t ADD more int; RESET session_replication_role",
        "ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t SET (fillfactor = 50); CLUSTER t USING other",
        "SET lock_timeout = 1; ALTER TABLE t RENAME v TO \"\"\"v\"; ALTER TABLE t RENAME \"\"\"v\" TO v; RESET lock_timeout",
    ] {
        primary.run(ddl).await;
        primary.forget().await;
        primary.run("INSERT INTO t SELECT 1; UPDATE t SET v = null; DELETE FROM t").await;
        assert_eq!(primary.entries(id).await, [entry("D", "1"), entry("I", "1"), entry("U", "1")], "{ddl}");
    }
    let columns = "SELECT columns FROM pgfanout.captured_table";
    assert_eq!(primary.value(columns).await.as_deref(), Some("{ident,v,x,more}"));
}

#[actix::test]
async fn a_table_that_lost_its_key_is_given_up_with_the_remedy() {
    let primary = Primary::start().await;
    primary.run("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let id = primary.capture("t").await;
    primary
        .run("ALTER TABLE t DROP COLUMN id; INSERT INTO t VALUES ('a'); UPDATE t SET v = 'b'; TRUNCATE t")
        .await;
    let broken = primary.value("SELECT broken FROM pgfanout.captured_table").await.unwrap();
    assert!(broken.contains("public.t has no primary key") && broken.contains("add one"), "{broken}");
    primary.run("ALTER TABLE t ADD id int PRIMARY KEY").await;
    assert_ne!(primary.capture("t").await, id, "whoever relies on the old capture must see that it ended");
}

#[actix::test]
async fn a_dropped_table_leaves_nothing_behind() {
    let primary = Primary::start().await;
    primary
        .run(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id)",
        )
        .await;
    primary.capture("t").await;
    primary.capture("p").await;
    primary.run("DROP TABLE t, p").await;
    assert_eq!(primary.value("SELECT count(*) FROM pgfanout.captured_table").await.as_deref(), Some("0"));
    let functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'pgfanout'::regnamespace AND prorettype = 'trigger'::regtype";
    assert_eq!(primary.value(functions).await.as_deref(), Some("0"));
}

#[actix::test]
async fn partitions_come_and_go_with_their_rows() {
    let primary = Primary::start().await;
    primary
        .run(
            "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY LIST (id);
            CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
            CREATE TABLE p3 (v text, id int NOT NULL); INSERT INTO p3 VALUES ('there', 3)",
        )
        .await;
    let id = primary.capture("p").await;
    primary
        .run("CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2); INSERT INTO p2 VALUES (2); TRUNCATE p2")
        .await;
    primary
        .run("ALTER TABLE p ATTACH PARTITION p3 FOR VALUES IN (3); ALTER TABLE p DETACH PARTITION p3")
        .await;
    primary.run("INSERT INTO p3 VALUES ('alone', 4); TRUNCATE p3; ALTER TABLE p RENAME v TO w").await;
    let expected = [entry("D", "2"), entry("D", "3"), entry("I", "2"), entry("I", "3")];
    assert_eq!(primary.entries(id).await, expected);
    let rewritten = "SELECT rewritten IS NOT NULL FROM pgfanout.captured_table";
    assert_eq!(primary.value(rewritten).await.as_deref(), Some("false"));
    primary.run("INSERT INTO p VALUES (1); DROP TABLE p1; INSERT INTO p VALUES (2)").await;
    assert_eq!(primary.value(rewritten).await.as_deref(), Some("true"), "its rows are gone unlogged");
}

#[actix::test]
async fn what_changes_rows_without_triggers_is_noted() {
    let rewritten = "SELECT rewritten IS NOT NULL FROM pgfanout.captured_table";
    for (ddl, noted) in [
        ("ALTER TABLE t ALTER v TYPE text USING v || '!'", "true"),
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "true"),
        ("ALTER TYPE mood ADD VALUE 'new'", "false"),
        ("VACUUM FULL t", "false"),
    ] {
        let primary = Primary::start().await;
        primary.run("CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id mood PRIMARY KEY, v text)").await;
        primary.capture("t").await;
        primary.run(ddl).await;
        assert_eq!(primary.value(rewritten).await.as_deref(), Some(noted), "{ddl}");
    }
}
