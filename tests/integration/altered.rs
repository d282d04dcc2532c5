//! Tables that are altered on the primary while they are followed. On the replica nothing is done, but what it says
//! where it halts.

use pgfanout_testbed::{compare::same_shared_columns, eventually, process::Pgfanout, world::World};

use crate::support::{Mode, PATIENCE, begin, program, until_same, world};

const SETUP: &str = "
    CREATE SCHEMA other;
    CREATE TABLE moved (id int PRIMARY KEY, v int);
    CREATE TABLE columns (id int PRIMARY KEY, v int);
    CREATE TABLE split (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
    CREATE TABLE low PARTITION OF split FOR VALUES FROM (0) TO (10);
    CREATE TABLE high PARTITION OF split FOR VALUES FROM (10) TO (20);
    INSERT INTO moved SELECT n, n FROM generate_series(1, 10) n;
    INSERT INTO columns SELECT n, n FROM generate_series(1, 10) n;
    INSERT INTO split SELECT n, n FROM generate_series(1, 19) n";

/// What is said on the primary, one after the other, and where `moved` is then: all is the same after each.
const STEPS: &[(&str, &str)] = &[
    (
        "ALTER TABLE moved SET SCHEMA other; DELETE FROM other.moved WHERE id = 3;
         ALTER TABLE split DETACH PARTITION low; UPDATE low SET v = -1; INSERT INTO low VALUES (30, 30);
         UPDATE split SET v = -2;
         -- What is there already began with another value than the default by now.
         ALTER TABLE columns ADD w int DEFAULT 5; ALTER TABLE columns ALTER w SET DEFAULT 6; INSERT INTO columns VALUES (11, 1)",
        "other.moved",
    ),
    (
        "ALTER SCHEMA other RENAME TO another; UPDATE another.moved SET v = 0 WHERE id = 4;
         DELETE FROM low WHERE id = 30; ALTER TABLE split ATTACH PARTITION low FOR VALUES FROM (0) TO (10);
         ALTER TABLE columns RENAME v TO u; UPDATE columns SET u = 0 WHERE id = 1",
        "another.moved",
    ),
    (
        "ALTER TABLE another.moved RENAME TO \"new name\"; DELETE FROM another.\"new name\" WHERE id = 5;
         CREATE EXTENSION hstore; ALTER TABLE columns ADD h hstore DEFAULT 'a=>1'; INSERT INTO columns VALUES (13);
         ALTER TABLE columns ALTER u TYPE text USING u || '!'; INSERT INTO columns VALUES (12, '1')",
        "another.\"new name\"",
    ),
    ("ALTER TABLE another.\"new name\" RENAME TO moved; DELETE FROM another.moved WHERE id = 6; ALTER TABLE columns DROP w; ALTER TABLE columns ADD w int; UPDATE columns SET u = 1 WHERE id = 2", "another.moved"),
];

/// Does what it says where it halts, and has it look again at once, until the replica has what the primary has.
pub(crate) async fn until_mended(world: &World, pgfanout: &mut Pgfanout, tables: &[&str]) {
    eventually(PATIENCE, "replicas equal to the primary", async || {
        let (here, there) = (world.primary().look().await.unwrap(), world.replica(1).look().await.unwrap());
        let same = same_shared_columns(&here, &there, tables).await;
        let Some(halted) = pgfanout.events("halted").pop().filter(|_| same.is_err()) else { return same };
        let message = halted["message"].as_str().unwrap();
        eprintln!("{message}");
        assert!(message.starts_with("replica"), "the primary is never in the way: {message}");
        for remedy in message.split("; remedy: ").skip(1) {
            let remedy = remedy.split(". table ").next().unwrap();
            world.replica(1).execute(remedy).await;
        }
        pgfanout.kill9().await;
        *pgfanout = begin(world);
        same
    })
    .await;
}

#[tokio::test]
async fn what_is_altered_arrives_once_it_is_mended_as_told() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(SETUP).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["moved", "split", "columns"]).await;
    for (statements, moved) in STEPS {
        // Each in a transaction of its own.
        for said in statements.split(";") {
            world.primary().execute(said).await;
        }
        until_mended(&world, &mut pgfanout, &[moved, "split", "columns"]).await;
    }
}

/// A partition that leaves is a table like others, and comes to be captured as one; then it comes back.
#[tokio::test]
async fn a_partition_that_leaves_takes_its_rows_along() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(SETUP).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["split"]).await;
    for (statements, tables) in [
        ("ALTER TABLE split DETACH PARTITION low; INSERT INTO low VALUES (30, 30)", &["split", "low"][..]),
        ("UPDATE low SET v = -1; UPDATE split SET v = -1", &["split", "low"]),
        (
            "DELETE FROM low WHERE id = 30; ALTER TABLE split ATTACH PARTITION low FOR VALUES FROM (0) TO (10)",
            &["split"],
        ),
        ("UPDATE split SET v = -2", &["split"]),
    ] {
        for said in statements.split("; ") {
            world.primary().execute(said).await;
        }
        // It looks for tables at once when it begins.
        pgfanout.kill9().await;
        pgfanout = begin(&world);
        until_mended(&world, &mut pgfanout, tables).await;
    }
    // It is no table of its own any more, of which changes would not arrive.
    let waits = pgfanout.events("table_waits");
    assert!(waits.is_empty(), "{waits:?}");
    let verified = program().once("verify", &world.directory().join("pgfanout.toml"), &[]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

/// Rows are loaded into a table of its own, which becomes a partition then; it is captured before its root, or after it.
#[tokio::test]
async fn tables_become_partitions() {
    let world = world(Mode::Broker, 1).build().await;
    let setup = "CREATE TABLE before (id int PRIMARY KEY, v int);
        CREATE TABLE whole (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)";
    world.primary().execute(setup).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["whole", "before"]).await;
    world
        .primary()
        .execute("CREATE TABLE after (id int PRIMARY KEY, v int); INSERT INTO after VALUES (15, 1)")
        .await;
    world.primary().execute("INSERT INTO before VALUES (5, 1)").await;
    until_same(&world, &["before", "after"]).await;
    for (table, range) in [("before", "(0) TO (10)"), ("after", "(10) TO (20)")] {
        let attach = format!("ALTER TABLE whole ATTACH PARTITION {table} FOR VALUES FROM {range}");
        world.primary().execute(&attach).await;
        world.primary().execute(&format!("UPDATE {table} SET v = v + 1")).await;
        until_mended(&world, &mut pgfanout, &["whole"]).await;
    }
    let waits = pgfanout.events("table_waits");
    assert!(waits.is_empty(), "{waits:?}");
    let verified = program().once("verify", &world.directory().join("pgfanout.toml"), &[]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

/// The columns of keys get other names, with rows and without, also those that say which partition a row is in.
#[tokio::test]
async fn columns_of_keys_are_renamed() {
    let world = world(Mode::Broker, 1).build().await;
    let tables: Vec<String> = ["plain", "several", "split"]
        .iter()
        .flat_map(|kind| ["none", "some"].map(|rows| format!("{kind}_{rows}")))
        .collect();
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    for table in &tables {
        let columns = match table.split_once('_').unwrap().0 {
            "plain" => "(id int PRIMARY KEY, v int, w int)",
            "several" => "(id int, v int, w int, PRIMARY KEY (v, id))",
            _ => "(id int, v int, w int, PRIMARY KEY (v, id)) PARTITION BY RANGE (id)",
        };
        world.primary().execute(&format!("CREATE TABLE {table} {columns}")).await;
        if table.starts_with("split") {
            let partition =
                format!("CREATE TABLE {table}_part PARTITION OF {table} FOR VALUES FROM (0) TO (10)");
            world.primary().execute(&partition).await;
        }
        if table.ends_with("some") {
            let rows = format!("INSERT INTO {table} SELECT n, n, n FROM generate_series(1, 5) n");
            world.primary().execute(&rows).await;
        }
    }
    let mut pgfanout = begin(&world);
    until_same(&world, &tables).await;
    for table in &tables {
        world.primary().execute(&format!("ALTER TABLE {table} RENAME id TO nr")).await;
        world.primary().execute(&format!("INSERT INTO {table} VALUES (6, 6, 6)")).await;
        until_mended(&world, &mut pgfanout, &tables).await;
        world.primary().execute(&format!("UPDATE {table} SET nr = nr + 1, w = 0 WHERE nr = 6")).await;
        until_mended(&world, &mut pgfanout, &tables).await;
    }
}

/// A name is what applications know a table by: whatever takes it on the primary is what a replica has under it.
#[tokio::test]
async fn tables_that_take_the_names_of_others_are_copied_into_their_places() {
    let world = world(Mode::Broker, 1).build().await;
    let setup = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
        CREATE TABLE c (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'a'); INSERT INTO b VALUES (1, 'b'), (2, 'b');
        INSERT INTO c VALUES (1, 'c')";
    world.primary().execute(setup).await;
    let pgfanout = begin(&world);
    until_same(&world, &["a", "b", "c"]).await;
    for (statements, tables) in [
        // They change places.
        (
            "ALTER TABLE a RENAME TO d; ALTER TABLE b RENAME TO a; ALTER TABLE d RENAME TO b; UPDATE a SET v = v || '1'",
            &["a", "b", "c"][..],
        ),
        // All go on by one.
        (
            "ALTER TABLE a RENAME TO d; ALTER TABLE c RENAME TO a; ALTER TABLE b RENAME TO c; ALTER TABLE d RENAME TO b; \
             UPDATE a SET v = v || '2'; DELETE FROM b WHERE id = 2",
            &["a", "b", "c"],
        ),
        // One takes the place of another that is gone: a table that was loaded beside it.
        ("DROP TABLE a; ALTER TABLE b RENAME TO a; INSERT INTO a VALUES (3, 'a')", &["a", "c"]),
    ] {
        world.primary().execute(&format!("BEGIN; {statements}; COMMIT")).await;
        until_same(&world, tables).await;
    }
    assert!(pgfanout.events("halted").is_empty(), "{:?}", pgfanout.events("halted"));
}

/// Rewriting logs no row: changes of other tables must not carry the replica past it.
#[tokio::test]
async fn what_is_rewritten_while_others_change_is_copied_anew() {
    let world = world(Mode::Broker, 1).build().await;
    let setup =
        "CREATE TABLE still (id int PRIMARY KEY, v text); CREATE TABLE busy (id int PRIMARY KEY, v int);
        INSERT INTO still SELECT n, n FROM generate_series(1, 10) n; INSERT INTO busy VALUES (1, 0)";
    world.primary().execute(setup).await;
    let _pgfanout = begin(&world);
    until_same(&world, &["still", "busy"]).await;
    for ddl in [
        "ALTER TABLE still ALTER v TYPE text USING v || '!'",
        "ALTER TABLE still DROP v, ADD v text DEFAULT 'new'",
    ] {
        world.primary().execute(&format!("{ddl}; UPDATE busy SET v = v + 1")).await;
        until_same(&world, &["busy"]).await;
        until_same(&world, &["still"]).await;
    }
}

/// Columns of the replica's own that the primary gets too: what they hold here is nothing there.
#[tokio::test]
async fn a_column_that_the_replica_had_before_holds_what_the_primary_has() {
    let world = world(Mode::Postgres, 1).build().await;
    let table = "CREATE TABLE t (id int PRIMARY KEY, v int)";
    world
        .primary()
        .execute(&format!("{table}; INSERT INTO t SELECT n, n FROM generate_series(1, 10) n"))
        .await;
    let _pgfanout = begin(&world);
    until_same(&world, &["t"]).await;
    for (there, here) in [
        ("ALTER TABLE t ADD w int DEFAULT 7", "ALTER TABLE t ADD w int"),
        ("ALTER TABLE t ADD x char(3)", "ALTER TABLE t ADD x char(3) DEFAULT 'a'"),
        ("ALTER TABLE t ADD y text DEFAULT 'same'", "ALTER TABLE t ADD y text DEFAULT 'same'"),
    ] {
        world.replica(1).execute(there).await;
        world.primary().execute(&format!("{here}; UPDATE t SET v = v + 1 WHERE id = 1")).await;
        until_same(&world, &["t"]).await;
    }
}

/// Where a replica stands past an ALTER of the primary it shows nothing of before: also of a table that nobody writes.
async fn nobody_sees_what_was_before_an_alter(mode: Mode) {
    let world = world(mode, 1).build().await;
    let setup = "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE still (id int PRIMARY KEY, v text, m mood DEFAULT 'sad');
        CREATE TABLE busy (id int PRIMARY KEY, v int); INSERT INTO busy VALUES (1, 0);
        INSERT INTO still SELECT n, n FROM generate_series(1, 10) n";
    world.primary().execute(setup).await;
    let _pgfanout = begin(&world);
    until_same(&world, &["still", "busy"]).await;
    crate::bank::until_joined(&world, 2).await;
    let replica = world.replica(1).client().await;
    for (n, (ddl, mend, now)) in [
        ("ALTER TABLE still ALTER v TYPE text USING 'a' || v", "", "v LIKE 'a%'"),
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "m::text = 'blue'"),
        ("ALTER TABLE still DROP CONSTRAINT still_pkey, ADD UNIQUE (v), ALTER v SET NOT NULL, ALTER id TYPE int USING -id", "CREATE UNIQUE INDEX ON still (v)", "id < 0"),
        ("ALTER TABLE still ADD w int DEFAULT 5", "ALTER TABLE still ADD w int", "(to_jsonb(s) ->> 'w') = '5'"),
    ]
    .into_iter()
    .enumerate()
    {
        let n = i32::try_from(n).unwrap() + 1;
        world.primary().execute(&format!("BEGIN; {ddl}; UPDATE busy SET v = {n}; COMMIT")).await;
        let look = format!(
            "SELECT b.v, (SELECT count(*) FROM still s WHERE NOT {now}), r.snapshot IS NOT NULL
            FROM busy b LEFT JOIN pgfanout.replicated_table r ON r.table_name = 'still'"
        );
        let mut mended = mend.is_empty();
        eventually(PATIENCE, "the ALTER arrives", async || {
            let row = replica.query_one(&look, &[]).await.unwrap();
            let (seen, old, apart): (i32, i64, bool) = (row.get(0), row.get(1), row.get(2));
            assert!(seen < n || old == 0 || apart, "{ddl}: {old} rows are as they were");
            if !std::mem::replace(&mut mended, true) {
                replica.batch_execute(mend).await.unwrap();
            }
            seen == n && !apart
        })
        .await;
        until_same(&world, &["still", "busy"]).await;
    }
}

#[tokio::test]
async fn nobody_sees_what_was_before_an_alter_with_a_broker() {
    nobody_sees_what_was_before_an_alter(Mode::Broker).await;
}

#[tokio::test]
async fn nobody_sees_what_was_before_an_alter_without_a_broker() {
    nobody_sees_what_was_before_an_alter(Mode::Postgres).await;
}
