//! Cases in which the order of the log, or the pairing of old and new rows, tells a lie. They refuted other
//! designs: replaying row images in the order of their logging ends with another table in each.

use pgfanout_testbed::world::World;

use crate::support::{Mode, program, until_same, world};

/// A case: each statement is a batch of its own, and the replica equals the primary after each.
#[derive(Clone, Copy)]
struct Case {
    tables: &'static [&'static str],
    /// Makes the tables on the primary.
    setup: &'static str,
    /// Whether the replica's tables are made by the same statements, with all of their foreign keys.
    also_there: bool,
    /// The oldest PostgreSQL that knows the statements.
    since: u32,
    statements: &'static [&'static str],
    /// What the primary shows at the end: that the case is the one it is meant to be.
    query: &'static str,
    answer: &'static str,
}

const PLAIN: Case =
    Case { tables: &[], setup: "", also_there: false, since: 13, statements: &[], query: "", answer: "" };

/// The statement inside the trigger is logged before the one that fired it.
const OWN_TABLE_TRIGGER: Case = Case {
    tables: &["counted"],
    setup: "CREATE TABLE counted (id int PRIMARY KEY, v int, w int DEFAULT 0);
        CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF pg_trigger_depth() = 1 THEN UPDATE counted SET w = w + 1 WHERE id = new.id; END IF; RETURN NULL; END $$;
        CREATE TRIGGER a_user AFTER INSERT OR UPDATE ON counted FOR EACH ROW EXECUTE FUNCTION count_up()",
    statements: &[
        "INSERT INTO counted VALUES (1, 1)",
        "INSERT INTO counted VALUES (2, 2), (3, 3)",
        "UPDATE counted SET v = v * 10",
        "UPDATE counted SET id = id + 1 WHERE id = 3; INSERT INTO counted VALUES (3, 33)",
    ],
    query: "SELECT string_agg(c::text, ' ' ORDER BY id) FROM counted c",
    answer: "(1,10,2) (2,20,2) (3,33,1) (4,30,3)",
    ..PLAIN
};

/// The main statement of a WITH ends, and is logged, before the ones inside.
const MODIFYING_CTE: Case = Case {
    tables: &["moved"],
    setup: "CREATE TABLE moved (id int PRIMARY KEY, v int); INSERT INTO moved SELECT n, n FROM generate_series(1, 8) n",
    statements: &[
        "WITH d AS (DELETE FROM moved WHERE id IN (3, 4) RETURNING *) INSERT INTO moved SELECT id, v + 1000 FROM d WHERE id = 3",
        "WITH u AS (UPDATE moved SET id = id + 100 WHERE id IN (5, 6) RETURNING *) INSERT INTO moved SELECT id - 100, -v FROM u",
        "WITH d AS (DELETE FROM moved WHERE id = 7 RETURNING *), i AS (INSERT INTO moved SELECT id, 70 FROM d) \
         UPDATE moved SET v = 80 WHERE id = 8",
    ],
    query: "SELECT string_agg(c::text, ' ' ORDER BY id) FROM moved c",
    answer: "(1,1) (2,2) (3,1003) (5,-5) (6,-6) (7,70) (8,80) (105,5) (106,6)",
    ..PLAIN
};

/// Statement triggers with transition tables see nothing of it.
const MERGE_ACROSS_PARTITIONS: Case = Case {
    tables: &["merged"],
    setup: "CREATE TABLE merged (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
        CREATE TABLE merged_0 PARTITION OF merged FOR VALUES IN (0);
        CREATE TABLE merged_1 PARTITION OF merged FOR VALUES IN (1);
        INSERT INTO merged SELECT n, 0, 'v' || n FROM generate_series(1, 4) n",
    since: 15,
    statements: &[
        "MERGE INTO merged m USING (VALUES (1), (2)) s (i) ON m.id = s.i WHEN MATCHED THEN UPDATE SET k = 1",
        "MERGE INTO merged m USING (VALUES (2), (3), (9)) s (i) ON m.id = s.i \
         WHEN MATCHED AND m.k = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET k = 1, v = 'moved' \
         WHEN NOT MATCHED THEN INSERT VALUES (i, 0, 'new')",
    ],
    query: "SELECT string_agg(c::text, ' ' ORDER BY id) FROM merged c",
    answer: "(1,1,v1) (3,1,moved) (4,0,v4) (9,0,new)",
    ..PLAIN
};

/// A row leaves its partition and never arrives: old and new rows don't pair by their places.
const NULL_DURING_MOVEMENT: Case = Case {
    tables: &["swallowed"],
    setup: "CREATE TABLE swallowed (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
        CREATE TABLE swallowed_0 PARTITION OF swallowed FOR VALUES IN (0);
        CREATE TABLE swallowed_1 PARTITION OF swallowed FOR VALUES IN (1);
        CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.id = 1 THEN RETURN NULL; END IF; RETURN new; END $$;
        CREATE TRIGGER a_user BEFORE INSERT ON swallowed_1 FOR EACH ROW EXECUTE FUNCTION swallow();
        INSERT INTO swallowed VALUES (1, 0), (2, 0), (3, 0), (4, 0)",
    statements: &[
        "UPDATE swallowed SET k = 1 WHERE id < 4",
        "UPDATE swallowed SET k = 1 - k, id = id - 3 WHERE id > 2",
    ],
    query: "SELECT string_agg(c::text, ' ' ORDER BY id) FROM swallowed c",
    answer: "(0,0) (2,1)",
    ..PLAIN
};

/// One by one, each row would meet the other.
const DEFERRABLE_SWAP: Case = Case {
    tables: &["swapped"],
    setup: "CREATE TABLE swapped (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);
        INSERT INTO swapped VALUES (1, 'one'), (2, 'two'), (3, 'three')",
    statements: &[
        "UPDATE swapped SET id = 3 - id WHERE id < 3",
        "UPDATE swapped SET id = id % 3 + 1",
        "BEGIN; INSERT INTO swapped VALUES (2, 'second'); DELETE FROM swapped WHERE id = 2 AND v <> 'second'; COMMIT",
    ],
    query: "SELECT string_agg(c::text, ' ' ORDER BY id) FROM swapped c",
    answer: "(1,three) (2,second) (3,one)",
    ..PLAIN
};

/// One transition table holds a row twice.
const CASCADE_TO_ITSELF: Case = Case {
    tables: &["tree"],
    setup: "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON UPDATE CASCADE ON DELETE CASCADE, v int DEFAULT 0);
        INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, 1), (5, NULL)",
    statements: &[
        "UPDATE tree SET id = id + 10",
        "UPDATE tree SET id = id + 1 WHERE id = 15; UPDATE tree SET id = -id",
        "DELETE FROM tree WHERE id = -12",
    ],
    query: "SELECT string_agg(c::text, ' ' ORDER BY id) FROM tree c",
    answer: "(-16,,0) (-14,-11,0) (-11,,0)",
    ..PLAIN
};

/// A child comes before its parent; the replica has the same foreign keys.
const FOREIGN_KEYS: Case = Case {
    tables: &["parent", "child", "orphan"],
    setup: "CREATE TABLE parent (id int PRIMARY KEY, v text);
        CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE);
        CREATE TABLE orphan (id int PRIMARY KEY, parent int REFERENCES parent ON UPDATE CASCADE ON DELETE SET NULL
            DEFERRABLE INITIALLY DEFERRED)",
    also_there: true,
    statements: &[
        "WITH i AS (INSERT INTO parent VALUES (1, 'p'), (2, 'q'), (3, 'r')) INSERT INTO child VALUES (10, 1), (20, 2)",
        "BEGIN; INSERT INTO orphan VALUES (100, 7), (200, 1); INSERT INTO parent VALUES (7, 'late'); COMMIT",
        "UPDATE parent SET id = id + 50 WHERE id < 3",
        "DELETE FROM parent WHERE id IN (52, 7)",
        "TRUNCATE parent CASCADE",
        "INSERT INTO parent VALUES (1, 'again'); INSERT INTO child VALUES (1, 1); TRUNCATE child; INSERT INTO child VALUES (2, 1)",
    ],
    query: "SELECT string_agg(p::text || c::text, ' ') FROM parent p JOIN child c ON c.parent = p.id",
    answer: "(1,again)(2,1)",
    ..PLAIN
};

/// Two texts of one key: what has the second has not lost the first.
const RESPELLED_KEY: Case = Case {
    tables: &["respelled"],
    setup: "CREATE TABLE respelled (id numeric PRIMARY KEY, v int); INSERT INTO respelled VALUES (1.0, 1), (2.0, 2), (3, 3)",
    statements: &[
        "UPDATE respelled SET id = 1.00 WHERE id = 1",
        "UPDATE respelled SET id = id * 1.000, v = -v",
        "BEGIN; DELETE FROM respelled WHERE id = 3; INSERT INTO respelled VALUES (3.00000, 33); COMMIT",
    ],
    query: "SELECT string_agg(c::text, ' ' ORDER BY id) FROM respelled c",
    answer: "(1.00000,-1) (2.0000,-2) (3.00000,33)",
    ..PLAIN
};

const ALL: [Case; 8] = [
    OWN_TABLE_TRIGGER,
    MODIFYING_CTE,
    MERGE_ACROSS_PARTITIONS,
    NULL_DURING_MOVEMENT,
    DEFERRABLE_SWAP,
    CASCADE_TO_ITSELF,
    FOREIGN_KEYS,
    RESPELLED_KEY,
];

async fn hold(mode: Mode, cases: &[Case], broker_options: &str) {
    let world = world(mode, 1).build().await;
    let primary = world.primary().cluster();
    let cases: Vec<&Case> = cases.iter().filter(|case| primary.knows(case.tables[0], case.since)).collect();
    for case in &cases {
        world.primary().execute(case.setup).await;
        if case.also_there {
            world.replica(1).execute(case.setup).await;
        }
    }
    let config = world.config().broker(broker_options).write();
    let _pgfanout = program().run(&config);
    for case in cases {
        follow(&world, case).await;
    }
}

async fn follow(world: &World, case: &Case) {
    until_same(world, case.tables).await;
    for statement in case.statements {
        eprintln!("{statement}");
        world.primary().execute(statement).await;
        until_same(world, case.tables).await;
    }
    let row = world.primary().client().await.query_one(case.query, &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), case.answer);
}

#[tokio::test]
async fn a_trigger_that_updates_its_own_table() {
    hold(Mode::Broker, &[OWN_TABLE_TRIGGER], "").await;
}

#[tokio::test]
async fn a_with_that_deletes_what_its_main_statement_inserts() {
    hold(Mode::Broker, &[MODIFYING_CTE], "").await;
}

#[tokio::test]
async fn a_merge_that_moves_rows_between_partitions() {
    hold(Mode::Broker, &[MERGE_ACROSS_PARTITIONS], "").await;
}

#[tokio::test]
async fn a_row_that_is_lost_on_its_way_to_another_partition() {
    hold(Mode::Broker, &[NULL_DURING_MOVEMENT], "").await;
}

#[tokio::test]
async fn keys_that_are_swapped_under_a_deferrable_constraint() {
    hold(Mode::Broker, &[DEFERRABLE_SWAP], "").await;
}

#[tokio::test]
async fn a_key_that_cascades_to_its_own_table() {
    hold(Mode::Broker, &[CASCADE_TO_ITSELF], "").await;
}

#[tokio::test]
async fn children_that_come_before_their_parents() {
    hold(Mode::Broker, &[FOREIGN_KEYS], "").await;
}

#[tokio::test]
async fn keys_that_are_spelled_anew() {
    hold(Mode::Broker, &[RESPELLED_KEY], "max_changes_per_message = 1").await;
}

/// Each statement is then a batch of several parts.
#[tokio::test]
async fn every_case_with_one_change_a_message() {
    hold(Mode::Broker, &ALL, "max_changes_per_message = 1").await;
}

#[tokio::test]
async fn every_case_without_a_broker() {
    hold(Mode::Postgres, &ALL, "").await;
}
