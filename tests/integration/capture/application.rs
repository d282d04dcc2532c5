//! The application never notices: every statement does with capture what it does without.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Primary, cluster};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, v text, n numeric DEFAULT 0, UNIQUE (v) DEFERRABLE INITIALLY IMMEDIATE);
    CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t ON UPDATE CASCADE ON DELETE CASCADE
        DEFERRABLE INITIALLY IMMEDIATE);
    CREATE TABLE j (id int PRIMARY KEY, j json, b jsonb, a float8[], y bytea, x xml);
    CREATE TABLE parted (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
    CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (100) TO (200);
    CREATE VIEW seen AS SELECT id, v FROM t WHERE id > 0 WITH CHECK OPTION;
    CREATE VIEW ruled AS SELECT id, v FROM t;
    CREATE RULE ruled_insert AS ON INSERT TO ruled DO INSTEAD INSERT INTO t VALUES (new.id, new.v) RETURNING id, v;
    CREATE TABLE audited (id int PRIMARY KEY, v int);
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF new.v < 10 THEN UPDATE audited SET v = v + 10 WHERE id = new.id; END IF;
        IF new.v = 99 THEN RAISE EXCEPTION 'no'; END IF; RETURN new; END $$;
    CREATE TRIGGER a_audit AFTER INSERT OR UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION audit();
    CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF new.v = 50 THEN RETURN NULL; END IF; RETURN new; END $$;
    CREATE TRIGGER skip BEFORE INSERT OR UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION skip();
    CREATE TABLE policed (id int PRIMARY KEY, who text DEFAULT current_user);
    ALTER TABLE policed ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON policed USING (id < 100);
    CREATE FUNCTION tries(key int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO t (id) VALUES (key); INSERT INTO t (id) VALUES (key); RETURN 'twice';
        EXCEPTION WHEN unique_violation THEN INSERT INTO t (id, v) VALUES (-key, 'tried'); RETURN 'once'; END $$;
";

const TABLES: [&str; 6] = ["t", "child", "j", "parted", "audited", "policed"];

/// What applications do, one after another in one session; some of it fails, and must fail as it would.
const STATEMENTS: &[&str] = &[
    "INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 50) g RETURNING id, v",
    "INSERT INTO t VALUES (1, 'again')",
    "INSERT INTO t VALUES (1, 'up') ON CONFLICT (id) DO UPDATE SET n = t.n + 1 RETURNING *",
    "INSERT INTO t VALUES (2, 'x'), (60, 'new') ON CONFLICT DO NOTHING RETURNING id",
    "WITH gone AS (DELETE FROM t WHERE id = 3 RETURNING *) INSERT INTO t SELECT id, v, 7 FROM gone RETURNING *",
    "WITH a AS (UPDATE t SET n = 1 WHERE id < 5 RETURNING id), b AS (INSERT INTO child SELECT id, id FROM a RETURNING t)
        SELECT count(*) FROM b",
    "MERGE INTO t USING (VALUES (4, 'm4'), (70, 'm70')) s (id, v) ON t.id = s.id
        WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)",
    "UPDATE t SET id = id + 1000 WHERE id IN (1, 2) RETURNING id",
    "UPDATE t SET v = CASE id WHEN 5 THEN 'v6' WHEN 6 THEN 'v5' END WHERE id IN (5, 6)",
    "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO child VALUES (500, 500); UPDATE t SET v = 'v7' WHERE id = 8",
    "COMMIT",
    "ROLLBACK",
    "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM t; INSERT INTO t VALUES (80); SAVEPOINT s;
        DELETE FROM t; ROLLBACK TO s; TRUNCATE child; COMMIT",
    "BEGIN ISOLATION LEVEL REPEATABLE READ; UPDATE t SET n = n + 1; COMMIT",
    "BEGIN READ ONLY; INSERT INTO t VALUES (81)",
    "ROLLBACK",
    "BEGIN; DECLARE c CURSOR FOR SELECT * FROM t ORDER BY id FOR UPDATE; FETCH 3 FROM c;
        UPDATE t SET v = 'here' WHERE CURRENT OF c; COMMIT",
    "SELECT tries(90), tries(91)",
    "DO $$ BEGIN FOR i IN 1..200 LOOP BEGIN INSERT INTO t VALUES (i + 5000);
        IF i % 3 = 0 THEN RAISE division_by_zero; END IF; EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$",
    "TRUNCATE t",
    "TRUNCATE t, child RESTART IDENTITY",
    "INSERT INTO t VALUES (1, 'a'), (2, 'b'); INSERT INTO child VALUES (1, 1), (2, 2)",
    "UPDATE t SET id = 11 WHERE id = 1; DELETE FROM t WHERE id = 2",
    "INSERT INTO seen VALUES (21, 's'); UPDATE seen SET id = -1 WHERE id = 21",
    "INSERT INTO ruled VALUES (22, 'r') RETURNING *",
    r#"INSERT INTO j VALUES (1, '"\u0000"', '1e200000', '{NaN,-Infinity}', '\x00ff', '<a/>')"#,
    r#"INSERT INTO j VALUES (2, '{"a": 1, "a": [1e-9999]}', '[1]')"#,
    "UPDATE j SET b = '1e131071', id = id + 10; UPDATE j SET y = decode(repeat('00', 300000), 'hex'), a = NULL",
    "DELETE FROM j",
    "INSERT INTO parted SELECT g, 'p' FROM generate_series(0, 199) g",
    "UPDATE parted SET id = id + 50 WHERE id BETWEEN 60 AND 70",
    "UPDATE parted SET id = id + 140 WHERE id BETWEEN 50 AND 55 RETURNING id",
    "TRUNCATE parted_low; DELETE FROM parted_high WHERE id > 180; INSERT INTO parted VALUES (200, 'x')",
    "INSERT INTO audited VALUES (1, 1), (2, 50), (3, 20); UPDATE audited SET v = v + 30",
    "INSERT INTO audited VALUES (4, 99)",
    "INSERT INTO policed (id) VALUES (1), (200); UPDATE policed SET id = id + 1; DELETE FROM policed WHERE id > 100",
    "SET session_replication_role = replica; INSERT INTO audited VALUES (7, 1); INSERT INTO child VALUES (9, 12345);
        RESET session_replication_role",
    "SET statement_timeout = '20s'; SET lock_timeout = '20s'; SET idle_in_transaction_session_timeout = '60s';
        INSERT INTO t VALUES (30); DISCARD ALL",
    "SET search_path = ''; INSERT INTO public.t VALUES (31); UPDATE public.t SET id = 32 WHERE id = 31; RESET search_path",
    "SET row_security = off; SET jit = on; SET jit_above_cost = 0; SET plan_cache_mode = force_custom_plan;
        SET standard_conforming_strings = off; SET quote_all_identifiers = on; SET bytea_output = escape;
        SET extra_float_digits = -15; SET DateStyle = 'German'; SET client_encoding = 'LATIN1'; SET transform_null_equals = on;
        SET array_nulls = off; SET xmloption = document; SET default_transaction_isolation = 'serializable';
        INSERT INTO t VALUES (33, 'x'); INSERT INTO j (id, a) VALUES (33, '{1,2}'); UPDATE j SET x = '<a/>' WHERE id = 33;
        DELETE FROM t WHERE id = 33; DISCARD ALL",
    "PREPARE p (int) AS INSERT INTO t VALUES ($1) RETURNING id; EXECUTE p(40); EXECUTE p(40)",
    "DEALLOCATE ALL; LISTEN x; BEGIN; NOTIFY x, 'y'; INSERT INTO t VALUES (41); COMMIT; UNLISTEN *",
    "CREATE TEMP TABLE t (id int); INSERT INTO t VALUES (1); INSERT INTO public.t VALUES (42); DROP TABLE t",
    "LOCK TABLE t",
    "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; INSERT INTO t VALUES (43); ROLLBACK AND CHAIN; INSERT INTO t VALUES (44); COMMIT",
    "ALTER TABLE t ADD extra int DEFAULT 5; UPDATE t SET extra = id; ALTER TABLE t RENAME extra TO more; UPDATE t SET more = 1",
    "BEGIN; ALTER TABLE t DROP more; INSERT INTO t VALUES (45); ROLLBACK; UPDATE t SET more = 2 WHERE id = 30",
    "ALTER TABLE t ALTER id TYPE bigint; INSERT INTO t VALUES (3000000000); DELETE FROM t WHERE id = 30",
    "ALTER TABLE child DROP CONSTRAINT child_pkey; INSERT INTO child VALUES (1000, NULL); UPDATE child SET id = 3",
    "DROP TABLE audited; CREATE TABLE audited (id int PRIMARY KEY, v int); INSERT INTO audited VALUES (1, 1)",
    "VACUUM t; ANALYZE; REINDEX TABLE t; CLUSTER t USING t_pkey",
];

/// All that a client sees of a statement: rows, tags, errors.
async fn outcome(client: &Client, statement: &str) -> Vec<String> {
    // Some statements may not run in the one transaction that several make.
    let parts: Vec<&str> =
        if statement.starts_with("VACUUM") { statement.split(';').collect() } else { vec![statement] };
    let mut seen = Vec::new();
    for part in parts {
        match client.simple_query(part).await {
            Ok(messages) => seen.extend(messages.iter().map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    format!("{:?}", (0..row.len()).map(|at| row.get(at)).collect::<Vec<_>>())
                }
                other => format!("{other:?}"),
            })),
            Err(error) => {
                let error = error.as_db_error().unwrap();
                seen.push(format!("{} {} {:?}", error.code().code(), error.message(), error.constraint()));
            }
        }
    }
    seen
}

#[actix::test]
async fn every_statement_does_with_capture_what_it_does_without() {
    let (captured, bare) = (Primary::start().await, Primary::bare().await);
    for primary in [&captured, &bare] {
        primary.run(SCHEMA).await;
    }
    for table in TABLES {
        captured.capture(table).await;
    }
    for (at, statement) in STATEMENTS.iter().enumerate() {
        // Asleep and awake: with and without the notification.
        let asleep = format!("SELECT setval('pgfanout.asleep', {})", at % 2);
        captured.session.run("setting the flag", &asleep).await.unwrap();
        let with = outcome(&captured.application, statement).await;
        assert_eq!(with, outcome(&bare.application, statement).await, "{statement}");
        for table in TABLES {
            let rows = format!("SELECT {table}::text AS row FROM {table} ORDER BY 1");
            let rows = [outcome(&captured.application, &rows).await, outcome(&bare.application, &rows).await];
            assert_eq!(rows[0], rows[1], "{table} after {statement}");
        }
    }
}

/// Transactions that stay open, whatever they wrote, are in nobody's way.
#[actix::test]
async fn writers_of_other_rows_never_wait() {
    let primary = Primary::start().await;
    primary.run("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY HASH (id);
        CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g").await;
    for table in ["t", "p"] {
        primary.capture(table).await;
    }
    primary.session.run("falling asleep", "SELECT setval('pgfanout.asleep', 1)").await.unwrap();
    let mut open = Vec::new();
    for writer in 0..10 {
        let client = cluster().await.client(&primary.database).await;
        let writes = format!(
            "SET statement_timeout = '30s'; BEGIN;
            INSERT INTO t VALUES ({writer} + 1000); UPDATE t SET v = 1 WHERE id = {writer} + 1; DELETE FROM t WHERE id = {writer} + 50;
            UPDATE t SET id = id + 2000 WHERE id = {writer} + 20; INSERT INTO p VALUES ({writer})"
        );
        client.batch_execute(&writes).await.unwrap();
        open.push(client);
    }
    for client in open.iter().rev() {
        client.batch_execute("COMMIT").await.unwrap();
    }
    let writers = "SELECT count(DISTINCT xid) FROM pgfanout.changelog WHERE table_id <> 0";
    assert_eq!(primary.value(writers).await.as_deref(), Some("10"));
}
