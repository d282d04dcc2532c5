//! DDL on a captured table neither fails because of us nor leaves anything behind that would.

use std::time::{Duration, Instant};

use super::{Primary, cluster, entry};

#[actix::test]
async fn capture_follows_a_table_through_ddl() {
    let primary = Primary::start().await;
    primary.run("CREATE TABLE t (id int PRIMARY KEY, v text, w text); CREATE SCHEMA other").await;
    primary.capture("t").await;
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
        // Another one where the key changed.
        let id = primary.value("SELECT id FROM pgfanout.captured_table").await.unwrap().parse().unwrap();
        primary.run("INSERT INTO t SELECT 1; UPDATE t SET v = null; DELETE FROM t").await;
        assert_eq!(primary.entries(id).await, [entry("D", "1"), entry("I", "1"), entry("U", "1")], "{ddl}");
    }
    let columns = "SELECT columns FROM pgfanout.captured_table";
    assert_eq!(primary.value(columns).await.as_deref(), Some("{ident,v,x,more}"));
}

#[actix::test]
async fn a_table_that_lost_its_key_goes_on_without_one() {
    let primary = Primary::start().await;
    primary.run("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let id = primary.capture("t").await;
    primary.run("ALTER TABLE t DROP COLUMN id; INSERT INTO t VALUES ('a'); UPDATE t SET v = 'b'").await;
    assert!(primary.entries(id).await.is_empty(), "it has another number: it is to be copied anew");
    let id = primary.capture("t").await;
    assert_eq!(primary.entries(id).await, [entry("D", "(a)"), entry("I", "(a)"), entry("I", "(b)")]);
    primary.run("TRUNCATE t; ALTER TABLE t ADD id int PRIMARY KEY; INSERT INTO t VALUES ('a', 1)").await;
    let id = primary.capture("t").await;
    assert_eq!(primary.entries(id).await, [entry("I", "1")]);
    // A key that comes beside it changes nothing.
    primary.run("ALTER TABLE t ADD k int GENERATED ALWAYS AS IDENTITY UNIQUE, REPLICA IDENTITY USING INDEX t_k_key").await;
    primary.run("ALTER TABLE t DROP v; INSERT INTO t VALUES (2)").await;
    assert_eq!(primary.entries(id).await, [entry("I", "1"), entry("I", "2")]);
    assert_eq!(primary.capture("t").await, id);
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
    primary.run("INSERT INTO p3 VALUES ('alone', 4); TRUNCATE p3").await;
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
        ("ALTER TYPE deep RENAME VALUE 'a' TO 'b'", "true"),
        ("ALTER TYPE pair DROP ATTRIBUTE n", "true"),
        ("ALTER TYPE pair ADD ATTRIBUTE m int", "true"),
        ("ALTER TYPE pair RENAME ATTRIBUTE n TO m", "false"),
        ("ALTER TYPE unused RENAME VALUE 'a' TO 'b'", "false"),
        ("ALTER TABLE t DROP p, DROP e", "false"),
        ("DROP TYPE deep CASCADE", "true"),
        ("DROP TYPE pair CASCADE", "false"),
        ("VACUUM FULL t", "false"),
        ("ALTER TABLE t ADD w text DEFAULT 'x'", "false"),
        ("ALTER TABLE t DROP v", "false"),
        ("ALTER TABLE t DROP v; ALTER TABLE t ADD w text", "false"),
        // A name stands for another column than before.
        ("ALTER TABLE t RENAME v TO w", "true"),
        ("ALTER TABLE t DROP v; ALTER TABLE t ADD v text", "true"),
        ("ALTER TABLE t DROP v, ADD v text", "true"),
    ] {
        let primary = Primary::start().await;
        primary
            .run(
                "CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE unused AS ENUM ('a'); CREATE TYPE deep AS ENUM ('a');
                CREATE DOMAIN deeps AS deep[]; CREATE TYPE deep_range AS RANGE (SUBTYPE = deep);
                CREATE TYPE nest AS (r deep_range[], d deeps); CREATE TYPE pair AS (n int, t text);
                CREATE TABLE t (id int PRIMARY KEY, v text, p pair, e nest[], m mood)",
            )
            .await;
        primary.capture("t").await;
        primary.run(ddl).await;
        assert_eq!(primary.value(rewritten).await.as_deref(), Some(noted), "{ddl}");
    }
}

#[actix::test]
async fn ddl_waits_for_no_other_table() {
    let primary = Primary::start().await;
    primary
        .run(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
            CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9) PARTITION BY LIST (id);
            CREATE TABLE p2 PARTITION OF p1 DEFAULT",
        )
        .await;
    for table in ["t", "p"] {
        primary.capture(table).await;
    }
    let other = cluster().await.client(&primary.database).await;
    other.batch_execute("BEGIN; LOCK TABLE p IN ACCESS EXCLUSIVE MODE").await.unwrap();
    primary.run("SET statement_timeout = '10s'; ALTER TABLE t ADD v int; DROP TABLE t").await;
}

/// Two transactions that each altered one table, and now a type of the other's: where nothing is captured they never
/// meet. Whoever could not follow leaves it to the publisher, who captures those that were altered.
#[actix::test]
async fn ddl_that_meets_only_in_the_registry_neither_fails_nor_waits() {
    let primary = Primary::start().await;
    primary
        .run(
            "CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE size AS ENUM ('small');
            CREATE TABLE a (id int PRIMARY KEY, v mood); CREATE TABLE b (id int PRIMARY KEY, v size);
            INSERT INTO a VALUES (1, 'sad'); INSERT INTO b VALUES (1, 'small')",
        )
        .await;
    for table in ["a", "b"] {
        primary.capture(table).await;
    }
    let other = cluster().await.client(&primary.database).await;
    let this = &primary.application;
    for (client, table) in [(this, "a"), (&other, "b")] {
        client.batch_execute(&format!("BEGIN; ALTER TABLE {table} ADD x int")).await.unwrap();
    }
    let begun = Instant::now();
    let (here, there) = tokio::join!(
        this.batch_execute(
            "ALTER TYPE size RENAME VALUE 'small' TO 'tiny'; INSERT INTO a VALUES (2); COMMIT"
        ),
        other.batch_execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; INSERT INTO b VALUES (2); COMMIT"),
    );
    assert_eq!((here.map_err(|e| format!("{e:?}")), there.map_err(|e| format!("{e:?}"))), (Ok(()), Ok(())));
    assert!(begun.elapsed() < Duration::from_millis(900), "nobody's deadlock_timeout passes");
    for table in ["a", "b"] {
        let of_it = format!("FROM pgfanout.captured_table t WHERE t.table_name = '{table}'");
        let told = format!(
            "SELECT EXISTS (SELECT FROM pgfanout.changelog c WHERE c.operation = 'A' AND c.table_id = (SELECT id {of_it}))"
        );
        assert_eq!(primary.value(&told).await.as_deref(), Some("true"));
        let id = primary.capture(table).await;
        assert_eq!(
            primary.value(&format!("SELECT rewritten IS NOT NULL {of_it}")).await.as_deref(),
            Some("true")
        );
        assert_eq!(primary.entries(id).await, [entry("I", "2")]);
    }
}

/// What is locked in the registry, by somebody who altered a type of the table, is in nobody's way: the application goes
/// on, and what it wrote unseen shows in that the table gets another number.
#[actix::test]
async fn ddl_goes_on_where_the_registry_is_locked() {
    for ddl in [
        "ALTER TABLE t DROP COLUMN k; INSERT INTO t VALUES (2)",
        "ALTER TABLE t RENAME id TO ident; UPDATE t SET w = 'x'",
        "ALTER TABLE t ALTER w TYPE text USING w || '!'; DELETE FROM t",
        "ALTER TABLE t SET UNLOGGED; INSERT INTO t VALUES (2, 2)",
        "ALTER TABLE t DROP COLUMN k, ALTER w TYPE varchar; TRUNCATE t",
    ] {
        let primary = Primary::start().await;
        primary
            .run(
                "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int, k int, w text, m mood, PRIMARY KEY (id, k));
                INSERT INTO t VALUES (1, 1)",
            )
            .await;
        let id = primary.capture("t").await;
        let other = cluster().await.client(&primary.database).await;
        other.batch_execute("BEGIN; ALTER TYPE mood ADD VALUE 'new'").await.unwrap();
        let begun = Instant::now();
        primary.run(ddl).await;
        assert!(begun.elapsed() < Duration::from_millis(900), "{ddl}: {:?}", begun.elapsed());
        other.batch_execute("COMMIT").await.unwrap();
        let told = format!(
            "SELECT EXISTS (SELECT FROM pgfanout.changelog WHERE operation = 'A' AND table_id = {id})"
        );
        assert_eq!(primary.value(&told).await.as_deref(), Some("true"), "{ddl}");
        match ddl.contains("UNLOGGED") {
            true => assert!(primary.refusal("t").await.contains("unlogged")),
            false => assert_ne!(primary.capture("t").await, id, "{ddl}"),
        }
    }
}

/// A table that can't be captured any more, while somebody writes to it: the DDL does not wait for him, as it would not
/// without us.
#[actix::test]
async fn giving_a_table_up_waits_for_no_writer() {
    let primary = Primary::start().await;
    for ddl in [
        "CREATE TABLE heir (id int PRIMARY KEY); ALTER TABLE heir INHERIT t",
        "CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (t)",
    ] {
        primary.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
        let id = primary.capture("t").await;
        let other = cluster().await.client(&primary.database).await;
        other.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
        primary.run(&format!("SET statement_timeout = '10s'; {ddl}")).await;
        other.batch_execute("INSERT INTO t VALUES (3); COMMIT").await.unwrap();
        assert!(primary.refusal("t").await.contains("inherit"), "{ddl}");
        let told = format!(
            "SELECT EXISTS (SELECT FROM pgfanout.changelog WHERE operation = 'A' AND table_id = {id})"
        );
        assert_eq!(primary.value(&told).await.as_deref(), Some("true"), "{ddl}");
        primary.run("DROP TABLE heir, t").await;
    }
}
