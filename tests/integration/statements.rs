//! Everything that a statement may do to a table arrives: after each few groups of statements the replica equals the
//! primary, whether pgfanout made its tables or it has its own. Prepared transactions too, whenever they are resolved.

use pgfanout_testbed::world::World;

use crate::{
    bank::until_joined,
    support::{MARK, Mode, program, until_marked_and_same, until_same, world},
};

mod cascades;
mod respelled;

/// Tables, what makes and fills them, and what is done to them, in groups.
struct Family {
    tables: Vec<String>,
    setup: String,
    rows: String,
    groups: Vec<String>,
}

const TABLES: &[&str] = &[
    "plain",
    "parent",
    "cascaded",
    "nulled",
    "defaulted",
    "deferred",
    "tree",
    "composite",
    "region",
    "flagged",
    "swapped",
    "by_index",
    "audited",
    "noted",
    "ruled",
    "elsewhere.plain",
];

const SETUP: &str = r#"
    CREATE TABLE plain (id int PRIMARY KEY, v int, t text);
    CREATE TABLE parent (id int PRIMARY KEY, v int);
    CREATE TABLE cascaded (id int PRIMARY KEY, p int REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE);
    CREATE TABLE nulled (id int PRIMARY KEY, p int REFERENCES parent ON UPDATE SET NULL ON DELETE SET NULL);
    CREATE TABLE defaulted (id int PRIMARY KEY, p int DEFAULT 0 REFERENCES parent ON UPDATE SET DEFAULT ON DELETE SET DEFAULT);
    CREATE TABLE deferred (id int PRIMARY KEY, p int REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE
        DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE tree (id int PRIMARY KEY, p int REFERENCES tree ON UPDATE CASCADE ON DELETE CASCADE);
    CREATE TABLE composite (a int, b text, c date, v int UNIQUE DEFERRABLE, PRIMARY KEY (b, a, c));
    CREATE TABLE region (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
    CREATE TABLE region_0 PARTITION OF region FOR VALUES IN (0);
    CREATE TABLE region_1 PARTITION OF region FOR VALUES IN (1) PARTITION BY HASH (id);
    CREATE TABLE region_1a PARTITION OF region_1 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE region_1b PARTITION OF region_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE region_rest PARTITION OF region DEFAULT;
    CREATE TABLE flagged (yes boolean, id int, v int, PRIMARY KEY (yes, id)) PARTITION BY RANGE (id);
    CREATE TABLE flagged_few PARTITION OF flagged FOR VALUES FROM (0) TO (5);
    CREATE TABLE flagged_many PARTITION OF flagged FOR VALUES FROM (5) TO (100);
    CREATE TABLE swapped (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v int UNIQUE DEFERRABLE);
    CREATE TABLE by_index (a int NOT NULL, b int NOT NULL, v int);
    CREATE UNIQUE INDEX ON by_index (b, a) INCLUDE (v);
    CREATE TABLE audited (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int, doubled int GENERATED ALWAYS AS (v * 2) STORED);
    CREATE TABLE noted (id serial PRIMARY KEY, what text);
    CREATE TABLE ruled (id int PRIMARY KEY, v int);
    CREATE SCHEMA elsewhere;
    CREATE TABLE elsewhere.plain (id int PRIMARY KEY, v int, t text)"#;

/// What is on the primary alone.
const PRIMARY: &str = r#"
    CREATE VIEW window_on_plain AS SELECT id, v FROM plain WHERE v < 1000 WITH CHECK OPTION;
    CREATE VIEW ruled_view AS SELECT * FROM ruled;
    CREATE RULE r AS ON INSERT TO ruled_view DO INSTEAD INSERT INTO ruled VALUES (new.id, new.v);
    CREATE RULE r2 AS ON UPDATE TO ruled_view DO INSTEAD (UPDATE ruled SET v = new.v WHERE id = old.id;
        INSERT INTO noted (what) VALUES ('ruled ' || old.id));
    CREATE RULE r3 AS ON DELETE TO ruled DO ALSO INSERT INTO noted (what) VALUES ('gone ' || old.id);
    CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF tg_op = 'DELETE' THEN DELETE FROM plain WHERE id = old.id; RETURN old; END IF;
        IF new.v = 13 THEN RETURN NULL; END IF;
        new.v := new.v + 1; INSERT INTO noted (what) VALUES (tg_op || new.v); RETURN new; END $$;
    CREATE FUNCTION after() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF pg_trigger_depth() < 3 THEN
            UPDATE audited SET v = v + 10 WHERE id = new.id;
            UPDATE audited SET v = v - 1 WHERE id <> new.id;
        END IF;
        BEGIN INSERT INTO parent VALUES (new.id, 1), (new.id, 2); EXCEPTION WHEN unique_violation THEN
            INSERT INTO noted (what) VALUES ('caught'); END;
        RETURN NULL; END $$;
    CREATE VIEW acted AS SELECT id, v FROM plain WHERE id BETWEEN 70 AND 80;
    CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF tg_op = 'DELETE' THEN DELETE FROM plain WHERE id = old.id; INSERT INTO noted (what) VALUES ('acted'); RETURN old; END IF;
        INSERT INTO plain VALUES (new.id, new.v, tg_op) ON CONFLICT (id) DO UPDATE SET v = excluded.v * 10, t = excluded.t; RETURN new; END $$;
    CREATE TRIGGER act INSTEAD OF INSERT OR UPDATE OR DELETE ON acted FOR EACH ROW EXECUTE FUNCTION act();
    CREATE TRIGGER "a before" BEFORE INSERT OR UPDATE OR DELETE ON audited FOR EACH ROW EXECUTE FUNCTION before();
    CREATE TRIGGER "z after" AFTER INSERT OR UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION after()"#;

const ROWS: &str = "
    INSERT INTO plain SELECT n, n, 't' || n FROM generate_series(1, 50) n;
    INSERT INTO elsewhere.plain SELECT n, -n, 'other' FROM generate_series(1, 50) n;
    INSERT INTO parent SELECT n, n FROM generate_series(0, 30) n;
    INSERT INTO cascaded SELECT n, n FROM generate_series(1, 20) n;
    INSERT INTO nulled SELECT n, n FROM generate_series(1, 20) n;
    INSERT INTO defaulted SELECT n, n FROM generate_series(1, 20) n;
    INSERT INTO deferred SELECT n, n FROM generate_series(1, 20) n;
    INSERT INTO tree SELECT n, nullif(n / 2, 0) FROM generate_series(1, 31) n;
    INSERT INTO composite SELECT n, 'b' || n % 3, '2020-01-01'::date + n, n FROM generate_series(1, 20) n;
    INSERT INTO region SELECT n, n % 4, 'v' || n FROM generate_series(1, 40) n;
    INSERT INTO flagged SELECT n % 2 = 0, n, n FROM generate_series(1, 10) n;
    INSERT INTO swapped SELECT n, n FROM generate_series(1, 10) n;
    INSERT INTO by_index SELECT n, n % 5, n FROM generate_series(1, 20) n;
    INSERT INTO ruled SELECT n, n FROM generate_series(1, 10) n";

/// What a replica's own tables have besides: none of it may do anything.
const REPLICA: &str = r#"
    CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;
    CREATE TRIGGER never BEFORE INSERT OR UPDATE OR DELETE ON plain FOR EACH ROW EXECUTE FUNCTION never();
    CREATE TRIGGER neither BEFORE TRUNCATE ON plain EXECUTE FUNCTION never();
    CREATE RULE never AS ON DELETE TO composite DO INSTEAD NOTHING;
    CREATE RULE neither AS ON INSERT TO composite DO INSTEAD NOTHING;
    ALTER TABLE spelled_2 ENABLE ROW LEVEL SECURITY;
    ALTER TABLE spelled_2 FORCE ROW LEVEL SECURITY;
    CREATE POLICY nobody ON spelled_2 USING (false) WITH CHECK (false);
    CREATE TABLE fired (by text);
    CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired VALUES (tg_table_name); RETURN NULL; END $$;
    CREATE TRIGGER fire AFTER INSERT ON ruled FOR EACH ROW EXECUTE FUNCTION fire();
    ALTER TABLE ruled ENABLE REPLICA TRIGGER fire;
    CREATE TRIGGER fire AFTER INSERT ON noted FOR EACH ROW EXECUTE FUNCTION fire();
    ALTER TABLE noted ENABLE ALWAYS TRIGGER fire;
    CREATE RULE fire AS ON DELETE TO swapped DO ALSO INSERT INTO fired VALUES ('rule');
    ALTER TABLE swapped ENABLE REPLICA RULE fire;
    -- References that lead nowhere, and that must neither hinder nor take along anything.
    CREATE TABLE own_master (id int PRIMARY KEY);
    ALTER TABLE plain ADD FOREIGN KEY (v) REFERENCES own_master ON DELETE CASCADE;
    ALTER TABLE elsewhere.plain ADD FOREIGN KEY (id) REFERENCES plain ON UPDATE CASCADE ON DELETE CASCADE;
    ALTER TABLE parent ADD FOREIGN KEY (v) REFERENCES parent DEFERRABLE INITIALLY DEFERRED;
    CREATE TABLE own_detail (id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE, e int REFERENCES elsewhere.plain ON DELETE SET NULL);
    SET session_replication_role = replica;
    INSERT INTO own_detail SELECT n, n, n FROM generate_series(1, 5) n"#;

/// Each group is what one session sends at once.
const GROUPS: &[&str] = &[
    // Single and many rows, upserts, updates of nothing, rows that come and go.
    "INSERT INTO plain VALUES (100, 1, 'x'); UPDATE plain SET v = 2 WHERE id = 100; DELETE FROM plain WHERE id = 100;
     INSERT INTO plain VALUES (1, 10, 'up'), (101, 11, 'new') ON CONFLICT (id) DO UPDATE SET v = excluded.v, t = plain.t || excluded.t;
     INSERT INTO plain VALUES (2, 0, '') ON CONFLICT DO NOTHING; UPDATE plain SET v = v; UPDATE plain SET v = 5 WHERE false;
     DELETE FROM plain WHERE id = -1; UPDATE elsewhere.plain SET t = 'elsewhere' WHERE id < 5",
    "COPY plain FROM PROGRAM 'printf \"201\\t1\\tx\\n202\\t\\\\N\\t\\\\\\\\\\n\"'; COPY region FROM PROGRAM 'printf \"301\\t1\\tx\\n303\\t9\\t\\n\"'",
    // Rows that come back under their key, the same or others; cursors; a statement that reads what it writes.
    "BEGIN; DELETE FROM plain WHERE id IN (11, 12); INSERT INTO plain VALUES (11, 11, 't11'), (12, 0, NULL); COMMIT;
     BEGIN; DECLARE c CURSOR FOR SELECT * FROM plain WHERE id > 12 ORDER BY id FOR UPDATE; FETCH 2 FROM c;
     UPDATE plain SET t = 'current' WHERE CURRENT OF c; FETCH c; DELETE FROM plain WHERE CURRENT OF c; COMMIT;
     INSERT INTO plain SELECT id + 2000, v, t FROM plain WHERE id < 4; DELETE FROM plain a USING plain b WHERE a.id = b.id + 2000 AND a.v = 3",
    // Views and rules.
    "INSERT INTO window_on_plain VALUES (300, 3); UPDATE window_on_plain SET v = v + 1, id = id + 1000 WHERE id < 10;
     DELETE FROM window_on_plain WHERE id BETWEEN 20 AND 25; INSERT INTO ruled_view VALUES (20, 20), (21, 21);
     UPDATE ruled_view SET v = -v WHERE id < 5; DELETE FROM ruled WHERE id > 8;
     INSERT INTO acted VALUES (70, 1), (71, 2); UPDATE acted SET v = 5 WHERE id = 70; DELETE FROM acted WHERE id = 71",
    // Data-modifying WITHs over several tables.
    "WITH d AS (DELETE FROM plain WHERE id BETWEEN 30 AND 35 RETURNING *), i AS (INSERT INTO elsewhere.plain SELECT id + 1000, v, t FROM d RETURNING *),
        u AS (UPDATE parent SET v = -v WHERE id IN (SELECT id - 1030 FROM i) RETURNING id)
     INSERT INTO plain SELECT id, v * 100, 'with' FROM d WHERE id < 33",
    "WITH a AS (INSERT INTO plain VALUES (400, 1, 'chain'), (401, 2, 'chain') RETURNING *), b AS (UPDATE elsewhere.plain e SET v = a.v FROM a WHERE e.id = a.v RETURNING e.id),
        c AS (INSERT INTO elsewhere.plain SELECT id, v, t FROM a ON CONFLICT (id) DO UPDATE SET v = -1 RETURNING id), d AS (DELETE FROM plain USING b WHERE plain.id = b.id + 16 RETURNING plain.*),
        e AS (INSERT INTO by_index (a, b, v) SELECT id, 7, v FROM d RETURNING a), f AS (UPDATE plain SET id = id + 3000 FROM e WHERE id = e.a + 2 RETURNING id)
     DELETE FROM composite WHERE a IN (SELECT id - 3017 FROM f)",
    // Cascades.
    "UPDATE parent SET id = id + 100 WHERE id BETWEEN 1 AND 5; DELETE FROM parent WHERE id BETWEEN 6 AND 9",
    "UPDATE tree SET id = id + 50 WHERE id IN (1, 4); DELETE FROM tree WHERE id = 3; UPDATE tree SET id = id + 1000 WHERE id = 2; UPDATE tree SET p = NULL WHERE id = 1002",
    "BEGIN; INSERT INTO deferred VALUES (500, 500); INSERT INTO parent VALUES (500, 0); DELETE FROM parent WHERE id = 10; UPDATE parent SET id = 501 WHERE id = 500; COMMIT",
    // Keys: plain, into one that was just deleted, chains, all negated, half of one, swapped, respelled.
    "UPDATE plain SET id = 700 WHERE id = 40; DELETE FROM plain WHERE id = 41; UPDATE plain SET id = 41 WHERE id = 42;
     UPDATE plain SET id = 42 WHERE id = 43; UPDATE plain SET id = 43 WHERE id = 44",
    "UPDATE plain SET id = -id; UPDATE plain SET id = -id WHERE id < 0; UPDATE plain SET id = -id",
    "UPDATE composite SET b = b || 'x' WHERE a < 5; UPDATE composite SET c = c + 1, a = a + 100 WHERE a > 15; UPDATE composite SET v = 21 - v",
    "BEGIN; SET CONSTRAINTS ALL DEFERRED; UPDATE swapped SET id = 11 - id; UPDATE swapped SET v = 11 - v; UPDATE swapped SET id = id % 10 + 1; COMMIT",
    "UPDATE by_index SET a = a + 1000 WHERE b = 1; UPDATE by_index SET v = -v; UPDATE by_index SET a = -a, b = -b; DELETE FROM by_index WHERE b = 0",
    // Savepoints and exceptions.
    "BEGIN; INSERT INTO plain VALUES (800, 1, 'kept'); SAVEPOINT a; INSERT INTO plain VALUES (801, 1, 'lost'); SAVEPOINT b; DELETE FROM plain;
     ROLLBACK TO a; UPDATE plain SET v = 9 WHERE id = 800; SAVEPOINT c; UPDATE plain SET t = 'released' WHERE id < -45; RELEASE c; COMMIT;
     BEGIN; DELETE FROM plain; TRUNCATE region; ROLLBACK",
    "DO $$ BEGIN FOR n IN 900..910 LOOP BEGIN
        INSERT INTO plain VALUES (n, n, 'block'); IF n % 2 = 0 THEN RAISE 'no'; END IF; UPDATE plain SET v = v + 1 WHERE id = n;
        EXCEPTION WHEN raise_exception THEN INSERT INTO plain VALUES (-n, n, 'handled'); END; END LOOP; END $$",
    "CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$ BEGIN FOR n IN 1..5 LOOP INSERT INTO plain VALUES (n * 10000, n, 'step'); COMMIT;
        DELETE FROM plain WHERE id = n * 10000 - 10000; IF n = 5 THEN ROLLBACK; END IF; END LOOP; END $$",
    "CALL steps()",
    // Triggers that change the same row, other rows and other tables.
    "INSERT INTO audited (v) VALUES (1), (2), (13); INSERT INTO audited (id, v) OVERRIDING SYSTEM VALUE VALUES (77, 7)",
    "UPDATE audited SET v = v + 1; DELETE FROM audited WHERE id = 2; UPDATE audited SET v = 13 WHERE id = 1",
    // Partitions: leaves, moves, attached and detached ones.
    "UPDATE region SET k = (k + 1) % 4; UPDATE region_1 SET v = 'leaf'; INSERT INTO region_0 VALUES (500, 0, 'leaf'); DELETE FROM region_1a WHERE id < 20;
     UPDATE region SET id = id + 1, k = 7 WHERE k = 2; INSERT INTO region SELECT id, 1, 'up' FROM generate_series(1, 20) id ON CONFLICT (id, k) DO UPDATE SET v = region.v || '+'",
    "TRUNCATE region_1a; INSERT INTO region VALUES (1, 1, 'after'), (2, 1, 'after')",
    "BEGIN; TRUNCATE region_rest, region_0; INSERT INTO region VALUES (3, 0, 'after'), (3, 3, 'rest'); COMMIT",
    "TRUNCATE region_1; TRUNCATE ONLY region_0",
    "BEGIN; SAVEPOINT a; TRUNCATE region_1a, region_rest; ROLLBACK TO a; UPDATE region SET v = 'kept' WHERE id < 10; COMMIT; BEGIN; TRUNCATE region_0; ROLLBACK;
     INSERT INTO region SELECT n, n % 4, 'more' FROM generate_series(1000, 1020) n",
    "BEGIN; SAVEPOINT a; TRUNCATE region; INSERT INTO region VALUES (1, 1, 'lost'); ROLLBACK TO a; TRUNCATE region_1a; INSERT INTO region_1 VALUES (1030, 1, 'leaf'); COMMIT;
     BEGIN; TRUNCATE region_1b; SAVEPOINT a; INSERT INTO region SELECT n, 1, 'lost' FROM generate_series(1, 9) n; TRUNCATE region; ROLLBACK TO a;
     INSERT INTO region VALUES (1040, 1, 'after'), (1041, 1, 'after'); COMMIT",
    "BEGIN; TRUNCATE region; INSERT INTO region SELECT n, n % 4, 'new' FROM generate_series(1, 20) n; SAVEPOINT a; TRUNCATE region_0; ROLLBACK TO a; TRUNCATE region_1a; COMMIT",
    // Rows that were never in doubt, even for those who look back.
    "BEGIN; TRUNCATE region_0, swapped; COPY swapped FROM PROGRAM 'printf \"1\\t1\\n2\\t2\\n\"' (FREEZE); COPY region_0 FROM PROGRAM 'printf \"1\\t0\\tfrozen\\n\"' (FREEZE); COMMIT;
     BEGIN; SAVEPOINT a; TRUNCATE swapped; COPY swapped FROM PROGRAM 'printf \"3\\t3\\n4\\t4\\n\"' (FREEZE); DELETE FROM swapped WHERE id = 3; RELEASE a; COMMIT",
    // Keys that are told without their rows.
    "TRUNCATE flagged_few",
    "UPDATE flagged SET yes = NOT yes WHERE id < 8; DELETE FROM flagged WHERE yes",
    "BEGIN; TRUNCATE region; INSERT INTO region SELECT n, n % 4, 'again' FROM generate_series(1, 20) n; COMMIT",
    // TRUNCATE in its other forms.
    "TRUNCATE parent CASCADE", "INSERT INTO parent VALUES (0, 0), (1, 1); INSERT INTO cascaded VALUES (1, 1); INSERT INTO nulled VALUES (1, 1)",
    "TRUNCATE audited, noted RESTART IDENTITY CASCADE; INSERT INTO audited (v) VALUES (1)",
    "BEGIN; INSERT INTO parent VALUES (50, 50); TRUNCATE ONLY parent, tree, audited, noted RESTART IDENTITY CASCADE; INSERT INTO parent VALUES (0, 0), (2, 2); INSERT INTO deferred VALUES (2, 2);
     INSERT INTO noted (what) VALUES ('first'); INSERT INTO tree VALUES (1, 1), (2, 1); COMMIT; TRUNCATE tree, noted CONTINUE IDENTITY; INSERT INTO noted (what) VALUES ('second')",
    "BEGIN; TRUNCATE ONLY by_index; ROLLBACK; BEGIN; INSERT INTO by_index VALUES (1, 1, 1); TRUNCATE by_index; INSERT INTO by_index VALUES (2, 2, 2); COMMIT",
    "BEGIN; SAVEPOINT a; TRUNCATE swapped; ROLLBACK TO a; UPDATE swapped SET v = -v; COMMIT",
    // Sessions whose triggers do not fire.
    "SET session_replication_role = replica; INSERT INTO audited (v) VALUES (50); UPDATE plain SET v = 1234567 WHERE id = -50;
     DELETE FROM parent WHERE id = 1; TRUNCATE elsewhere.plain; INSERT INTO elsewhere.plain VALUES (1, 1, 'replica role')",
    "SET session_replication_role = local; DELETE FROM region WHERE id < 5; UPDATE region SET k = 1 WHERE k = 0",
];

/// From PostgreSQL 15 on.
const MERGES: &str = "
    MERGE INTO plain p USING generate_series(-60, 10) n ON p.id = n WHEN MATCHED AND n % 3 = 0 THEN DELETE
        WHEN MATCHED THEN UPDATE SET v = n, t = 'merged' WHEN NOT MATCHED AND n % 2 = 0 THEN INSERT VALUES (n, n, 'by merge');
    MERGE INTO region r USING generate_series(1, 30) n ON r.id = n WHEN MATCHED AND n % 5 = 0 THEN DELETE
        WHEN MATCHED THEN UPDATE SET k = (k + 1) % 4 WHEN NOT MATCHED THEN INSERT VALUES (n, 1, 'by merge');
    MERGE INTO plain p USING generate_series(-70, 0) n ON p.id = n WHEN MATCHED AND n % 2 = 0 THEN DO NOTHING WHEN MATCHED THEN DELETE
        WHEN NOT MATCHED AND n > -65 THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (id) VALUES (n);
    MERGE INTO by_index i USING plain p ON i.a = p.id AND i.b = 7 WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND p.id % 9 = 0 THEN INSERT VALUES (p.id, 7, NULL);
    MERGE INTO parent USING generate_series(1, 3) n ON id = n WHEN MATCHED AND n = 2 THEN DELETE WHEN MATCHED THEN UPDATE SET id = id + 10;
    CREATE VIEW invoked WITH (security_invoker, security_barrier) AS SELECT id, v FROM plain WHERE id % 2 = 0;
    UPDATE invoked SET v = v + 1; DELETE FROM invoked WHERE id > 40; INSERT INTO invoked VALUES (4000, 1)";

/// From PostgreSQL 17 on.
const MERGES_BY_SOURCE: &str = "
    MERGE INTO window_on_plain w USING generate_series(1, 5) n ON w.id = n WHEN MATCHED THEN UPDATE SET v = w.v + 1
        WHEN NOT MATCHED THEN INSERT VALUES (n, n) WHEN NOT MATCHED BY SOURCE AND w.id % 2 = 0 THEN DELETE;
    WITH m AS (MERGE INTO by_index i USING plain p ON i.a = p.id WHEN NOT MATCHED BY SOURCE THEN UPDATE SET v = -1 WHEN MATCHED THEN DELETE
        RETURNING merge_action() AS did, i.a) INSERT INTO noted (what) SELECT did || a FROM m";

/// From PostgreSQL 18 on.
const RETURNING_BOTH: &str = "
    WITH u AS (UPDATE plain SET v = v + 1, id = id + 7000 WHERE id BETWEEN 1 AND 30 RETURNING old.id AS o, new.id AS n)
        INSERT INTO noted (what) SELECT o || ' ' || n FROM u;
    WITH i AS (INSERT INTO plain AS p SELECT n, n FROM generate_series(7001, 7003) n ON CONFLICT (id) DO UPDATE SET v = -1
        RETURNING WITH (OLD AS o, NEW AS n) o.v AS was, n.v AS v), d AS (DELETE FROM by_index WHERE a < 9 RETURNING old.v AS was, new.v AS v)
        INSERT INTO noted (what) SELECT concat(was, '>', v) FROM i UNION ALL SELECT concat(was, '>', v) FROM d;
    WITH m AS (MERGE INTO by_index i USING plain p ON i.a = p.id WHEN MATCHED THEN UPDATE SET v = -7 WHEN NOT MATCHED AND p.id % 9 = 0 THEN INSERT VALUES (p.id, 8, 8)
        RETURNING old.v AS was, new.v AS v) INSERT INTO noted (what) SELECT concat(was, '>', v) FROM m";

fn statements(world: &World) -> Family {
    let primary = world.primary().cluster();
    let merges = primary.knows("MERGE", 15).then_some(MERGES);
    let by_source = primary.knows("MERGE ... BY SOURCE", 17).then_some(MERGES_BY_SOURCE);
    let both = primary.knows("RETURNING OLD and NEW", 18).then_some(RETURNING_BOTH);
    Family {
        tables: TABLES.iter().map(|&table| table.to_owned()).collect(),
        setup: SETUP.to_owned(),
        rows: ROWS.to_owned(),
        groups: GROUPS
            .iter()
            .copied()
            .chain(merges)
            .chain(by_source)
            .chain(both)
            .map(str::to_owned)
            .collect(),
    }
}

async fn every_statement_arrives(mode: Mode) {
    let world: World = world(mode, 2).build().await;
    world.primary().execute(MARK).await;
    let families = [statements(&world), cascades::cascades(), respelled::respelled()];
    // The second one has tables of its own.
    for database in [world.primary(), world.replica(2)] {
        for family in &families {
            database.execute(&family.setup).await;
        }
        if database.cluster().knows("SET NULL of some columns", 15) {
            database.execute(cascades::SOME_COLUMNS).await;
        }
    }
    world.primary().execute(PRIMARY).await;
    for family in &families {
        world.primary().execute(&family.rows).await;
    }
    world.replica(2).execute(REPLICA).await;
    let config = world.config().broker("max_changes_per_message = 7");
    let _pgfanout = program().run(&config.write());
    until_joined(&world, families.iter().map(|family| family.tables.len()).sum::<usize>() + 1).await;
    for family in &families {
        let tables: Vec<&str> = family.tables.iter().map(String::as_str).collect();
        until_same(&world, &tables).await;
        for groups in family.groups.chunks(3) {
            for group in groups {
                eprintln!("{group}");
                world.primary().execute(group).await;
            }
            until_marked_and_same(&world, &tables).await;
        }
    }
    let there = world.replica(2).client().await;
    let own = "SELECT ARRAY(SELECT DISTINCT by FROM fired ORDER BY by), (SELECT count(*) FROM own_detail WHERE p = id AND e = id)";
    let own = there.query_one(own, &[]).await.unwrap();
    assert_eq!(own.get::<_, Vec<String>>(0), ["noted", "rule", "ruled"], "what is meant to fire on replicas");
    assert_eq!(own.get::<_, i64>(1), 5, "rows that refer to those of the primary");
}

#[tokio::test]
async fn every_statement_arrives_through_the_broker() {
    every_statement_arrives(Mode::Broker).await;
}

#[tokio::test]
#[ignore = "both modes: make large"]
async fn every_statement_arrives_without_a_broker() {
    every_statement_arrives(Mode::Postgres).await;
}

/// Transactions that are prepared at once and resolved much later, the last one with its table locked.
const PREPARED: [(&str, &str); 4] = [
    (
        "kept",
        "INSERT INTO plain VALUES (60000, 1, 'p'); UPDATE plain SET id = 60001, v = -7 WHERE id = 10; DELETE FROM plain WHERE id = 12;
         UPDATE parent SET id = 120 WHERE id = 20; DELETE FROM parent WHERE id = 19; UPDATE region SET k = (k + 1) % 4 WHERE id < 10;
         UPDATE by_index SET v = 2 WHERE a = 2; SAVEPOINT a; DELETE FROM by_index; ROLLBACK TO a; INSERT INTO audited (v) VALUES (100);
         INSERT INTO bag VALUES (1), (1); DELETE FROM bag WHERE v = 2",
    ),
    (
        "undone",
        "DELETE FROM plain WHERE id = 13; UPDATE composite SET b = 'undone' WHERE a = 3; UPDATE tree SET p = NULL WHERE id = 31;
         INSERT INTO bag VALUES (7); DELETE FROM bag WHERE v = 3; UPDATE region_0 SET v = 'undone' WHERE id > 30",
    ),
    ("nothing", "UPDATE ruled SET v = v WHERE id = 5"),
    ("truncated", "TRUNCATE elsewhere.plain; INSERT INTO elsewhere.plain VALUES (1, 1, 'after'); DELETE FROM swapped WHERE id = 1"),
];

/// What others do meanwhile, again and again.
const MEANWHILE: &str = "UPDATE plain SET v = v + 1 WHERE id > 20; UPDATE plain SET id = -id WHERE id IN (50, -50);
    UPDATE composite SET c = c + 1 WHERE a > 15; INSERT INTO bag VALUES (1), (7); DELETE FROM bag WHERE v = 4;
    INSERT INTO bag VALUES (4); UPDATE region SET k = (k + 1) % 4 WHERE id BETWEEN 10 AND 20; INSERT INTO noted (what) VALUES ('meanwhile')";

#[tokio::test]
async fn prepared_transactions_arrive_when_they_are_resolved() {
    let world = world(Mode::Broker, 2).own_primary(&[("max_prepared_transactions", "10")]).build().await;
    let primary = world.primary();
    for setup in [
        MARK,
        SETUP,
        PRIMARY,
        ROWS,
        "CREATE TABLE bag (v int); INSERT INTO bag SELECT n % 5 FROM generate_series(1, 50) n",
    ] {
        primary.execute(setup).await;
    }
    let tables = [TABLES, &["bag"]].concat();
    // A prepared TRUNCATE keeps everybody from looking.
    let unlocked: Vec<&str> = tables.iter().copied().filter(|table| *table != "elsewhere.plain").collect();
    let config = world.config().broker("max_changes_per_message = 7").write();
    let mut pgfanout = program().run(&config);
    until_joined(&world, tables.len() + 1).await;
    let meanwhile = async |times| {
        for _ in 0..times {
            primary.execute(MEANWHILE).await;
        }
        until_marked_and_same(&world, &unlocked).await;
    };
    primary.execute("UPDATE elsewhere.plain SET v = 0").await;
    for (name, statements) in PREPARED {
        primary.execute(&format!("BEGIN; {statements}; PREPARE TRANSACTION '{name}'")).await;
        meanwhile(2).await;
    }
    pgfanout.kill9().await;
    primary.execute(MEANWHILE).await;
    let mut pgfanout = program().run(&config);
    meanwhile(2).await;
    primary.cluster().kill9().await;
    primary.cluster().start_again().await;
    meanwhile(5).await;
    primary.execute("COMMIT PREPARED 'kept'").await;
    meanwhile(2).await;
    pgfanout.kill9().await;
    for resolve in ["ROLLBACK PREPARED 'undone'", "COMMIT PREPARED 'nothing'", "COMMIT PREPARED 'truncated'"]
    {
        primary.execute(resolve).await;
    }
    let _pgfanout = program().run(&config);
    until_marked_and_same(&world, &tables).await;
    meanwhile(1).await;
}
