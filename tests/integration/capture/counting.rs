//! The law that a delta rests on: for each key, rows before = rows after − inserts + deletes.

use super::{Primary, cluster};

/// Tables that statements of all kinds work on: name, and SQL of the key's text.
const TABLES: &[(&str, &str)] = &[
    ("plain", "id::text"),
    ("swap", "id::text"),
    ("parent", "id::text"),
    ("child", "id::text"),
    ("tree", "id::text"),
    ("parted", "ROW(id::text, part::text)::text"),
    ("exact", "n::text"),
];

const SCHEMA: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, v text);
    CREATE TABLE swap (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);
    CREATE TABLE parent (id int PRIMARY KEY, v text);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree ON UPDATE CASCADE ON DELETE CASCADE);
    CREATE TABLE parted (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
    CREATE TABLE parted_0 PARTITION OF parted FOR VALUES IN (0);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1) PARTITION BY LIST (id);
    CREATE TABLE parted_1_rest PARTITION OF parted_1 DEFAULT;
    CREATE TABLE exact (n numeric PRIMARY KEY, v text);
    CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF pg_trigger_depth() = 1 THEN UPDATE parent SET v = v || '!' WHERE id = new.id; END IF; RETURN null; END $$;
    CREATE TRIGGER a_user AFTER INSERT ON parent FOR EACH ROW EXECUTE FUNCTION again();
    INSERT INTO plain SELECT g, 'x' FROM generate_series(1, 20) g;
    INSERT INTO swap SELECT g, 'x' FROM generate_series(1, 4) g;
    INSERT INTO parent SELECT g, 'x' FROM generate_series(1, 9) g;
    INSERT INTO child SELECT g * 10, g FROM generate_series(1, 9) g;
    INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2);
    INSERT INTO parted SELECT g, g % 2, 'x' FROM generate_series(1, 8) g;
    INSERT INTO exact VALUES (1.0), (2.50);";

/// Each a transaction of its own.
const TRANSACTIONS: &[&str] = &[
    "INSERT INTO plain VALUES (1, 'up'), (30, 'new'), (31, 'new')
        ON CONFLICT (id) DO UPDATE SET v = excluded.v, id = plain.id + 100",
    "UPDATE plain SET id = -id WHERE id < 5; UPDATE plain SET v = 'y'; DELETE FROM plain WHERE id % 3 = 0",
    "WITH gone AS (DELETE FROM plain WHERE id IN (7, 8) RETURNING id, v) INSERT INTO plain SELECT id, v || '2' FROM gone",
    "WITH gone AS (DELETE FROM plain WHERE id IN (10, 11) RETURNING *) INSERT INTO plain SELECT id + 1000, v FROM gone",
    "SAVEPOINT a; INSERT INTO plain VALUES (50, 'a'); SAVEPOINT b; INSERT INTO plain VALUES (51, 'b');
        ROLLBACK TO b; INSERT INTO plain VALUES (52, 'c'); RELEASE a; DELETE FROM plain WHERE id = 50",
    "UPDATE swap SET id = 5 - id; UPDATE swap SET id = id + 1",
    "UPDATE parent SET id = id + 100 WHERE id < 4; DELETE FROM parent WHERE id IN (4, 5); INSERT INTO parent VALUES (4, 'n')",
    "UPDATE tree SET id = id + 10; DELETE FROM tree WHERE id = 12",
    "UPDATE parted SET part = 1 - part WHERE id < 5; UPDATE parted SET id = id + 10 WHERE part = 0;
        UPDATE parted_1_rest SET v = 'direct'; DELETE FROM parted_0 WHERE id > 15; INSERT INTO parted_0 VALUES (77, 0)",
    "TRUNCATE parted_0; INSERT INTO parted VALUES (1, 0, 'back'); TRUNCATE parted_1; TRUNCATE parted_1; INSERT INTO parted VALUES (1, 1)",
    "UPDATE exact SET n = round(n, 3); UPDATE exact SET n = n + 1",
    "INSERT INTO plain SELECT 200 WHERE false; UPDATE plain SET v = 'none' WHERE false; DELETE FROM plain WHERE false",
    "SET LOCAL session_replication_role = replica; INSERT INTO plain VALUES (300); UPDATE plain SET id = 301 WHERE id = 300;
        INSERT INTO parted VALUES (300, 0); UPDATE parted SET part = 1 WHERE id = 300",
];

/// Needs PostgreSQL 15.
const MERGE: &[&str] = &[
    "MERGE INTO parted p USING (VALUES (1), (2), (300)) s (id) ON p.id = s.id
        WHEN MATCHED THEN UPDATE SET part = 1 - p.part, id = p.id + 500",
    "MERGE INTO plain p USING (SELECT generate_series(28, 34) AS id) s ON p.id = s.id
        WHEN MATCHED AND p.id = 30 THEN DELETE
        WHEN MATCHED THEN UPDATE SET id = p.id + 700
        WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'merged')",
];

#[actix::test]
async fn for_each_key_rows_before_are_rows_after_without_inserts_and_with_deletes() {
    for old_record in ["full", "key"] {
        let primary = Primary::start().await;
        primary.run(SCHEMA).await;
        for (table, _) in TABLES {
            let call = format!("SELECT pgfanout.capture('{table}'::regclass, '{old_record}')");
            primary.application.batch_execute(&call).await.unwrap();
        }
        let merge = if cluster().await.knows("MERGE", 15) { MERGE } else { &[] };
        for transaction in TRANSACTIONS.iter().chain(merge) {
            keep_before(&primary).await;
            primary.run(&format!("BEGIN; {transaction}; COMMIT")).await;
            assert_law_holds(&primary, transaction).await;
        }
    }
}

#[actix::test]
async fn copy_is_captured_and_truncate_is_marked() {
    let primary = Primary::start().await;
    primary.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    let id = primary.capture("t").await;
    let copied = "COPY t FROM PROGRAM 'printf \"1\\n2\\n\"'; TRUNCATE t";
    primary.run(copied).await;
    let entries = primary.entries(id).await;
    assert_eq!(entries, [super::entry("I", "1"), super::entry("I", "2"), ("T".to_owned(), None)]);
}

#[actix::test]
async fn an_update_knows_the_old_row_or_only_the_key() {
    let primary = Primary::start().await;
    primary.run("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')").await;
    primary.capture("t").await;
    primary.run("UPDATE t SET v = 'b'").await;
    let old = "SELECT old FROM pgfanout.changelog ORDER BY logged_at DESC LIMIT 1";
    assert_eq!(primary.value(old).await.as_deref(), Some(r#"{"id":1,"v":"a"}"#));
    primary.try_capture("t", pgfanout::config::OldRecord::Key).await.unwrap();
    primary.run("UPDATE t SET v = 'c'").await;
    assert_eq!(primary.value(old).await, None);
}

/// Keeps every key as it is, and empties the log.
async fn keep_before(primary: &Primary) {
    let keys: Vec<_> = TABLES
        .iter()
        .map(|(table, key)| format!("SELECT '{table}' AS name, {key} AS key FROM public.{table}"))
        .collect();
    let statements = format!(
        "DROP TABLE IF EXISTS pg_temp.before; CREATE TEMP TABLE before AS {}",
        keys.join(" UNION ALL ")
    );
    primary.session.run("keeping the keys", &statements).await.unwrap();
    primary.forget().await;
}

/// Changed keys only: a key that is there before and after may not be missing from either side, and one
/// that came or went must be logged.
async fn assert_law_holds(primary: &Primary, transaction: &str) {
    for (table, key) in TABLES {
        let truncated = format!(
            "SELECT bool_or(operation = 'T') FROM pgfanout.changelog
            JOIN pgfanout.captured_table t ON t.id = table_id WHERE table_name = '{table}'"
        );
        assert_ne!(primary.value(&truncated).await.as_deref(), Some("true"));
        let wrong = format!(
            "SELECT string_agg(format('%s: %s before, %s after, %s net', key, before, after, net), '; ')
            FROM (
                SELECT key, sum(before) AS before, sum(after) AS after, sum(net) AS net FROM (
                    SELECT key, 1 AS before, 0 AS after, 0 AS net FROM pg_temp.before WHERE name = '{table}'
                    UNION ALL SELECT {key}, 0, 1, 0 FROM public.{table}
                    UNION ALL SELECT key, 0, 0, CASE operation WHEN 'I' THEN 1 WHEN 'D' THEN -1 ELSE 0 END
                    FROM pgfanout.changelog JOIN pgfanout.captured_table t ON t.id = table_id
                    WHERE table_name = '{table}'
                ) parts GROUP BY key
            ) sums WHERE before <> after - net"
        );
        assert_eq!(primary.value(&wrong).await, None, "{table} after {transaction}");
    }
}

/// Up to some thousands each has its own; where old rows are wanted there are more of those.
#[actix::test]
async fn a_statement_of_very_many_rows_is_logged_by_a_hundred_keys_an_entry() {
    let primary = Primary::start().await;
    primary.run(r#"CREATE TABLE t ("key" text, n int, "x" text, PRIMARY KEY (n, "key"))"#).await;
    let id = primary.capture("t").await;
    let count_wakes = "SELECT setval('pgfanout.asleep', 1); CREATE SEQUENCE public.woken START 0 MINVALUE 0;
        CREATE OR REPLACE FUNCTION pgfanout.wake() RETURNS void LANGUAGE sql AS 'SELECT nextval(''public.woken'')'";
    primary.session.run("counting wake-ups", count_wakes).await.unwrap();
    for (rows, inserted) in [(4000, 4000), (4001, 41), (4100, 42), (12_345, 124)] {
        let insert = r#"SELECT 'a "key", ' || n, n FROM generate_series"#;
        primary.run(&format!(r#"INSERT INTO t ("key", n) {insert}(1, {rows}) n"#)).await;
        primary.run("UPDATE t SET x = 'x'; DELETE FROM t").await;
        let changed = if rows > 10_000 { 124 } else { rows };
        let counts = format!(
            "SELECT string_agg(format('%s %s %s %s', operation, entries, keys, known), ', ' ORDER BY operation DESC) FROM (
                SELECT operation, count(DISTINCT c.ctid) AS entries, count(*) AS keys,
                    count(DISTINCT n) FILTER (WHERE k = ROW(n, 'a \"key\", ' || n)::text) AS known
                FROM pgfanout.changelog c CROSS JOIN LATERAL unnest(coalesce(c.keys, ARRAY[c.key])) k
                    CROSS JOIN LATERAL (SELECT substring(k FROM '[0-9]+')::int AS n) n
                WHERE c.table_id = {id} GROUP BY operation) o"
        );
        let expected =
            format!("U {changed} {rows} {rows}, I {inserted} {rows} {rows}, D {changed} {rows} {rows}");
        assert_eq!(primary.value(&counts).await, Some(expected));
        let woken = primary.value("SELECT nextval('public.woken')").await;
        assert_eq!(woken.as_deref(), Some("3"), "each statement of {rows} rows wakes the publisher");
        primary.session.run("counting anew", "ALTER SEQUENCE public.woken RESTART").await.unwrap();
        primary.forget().await;
    }
}
