//! Tables whose names, keys or identities change while they are followed.

use pgfanout_testbed::{eventually, world::World};

use crate::{
    altered::until_mended,
    support::{Mode, PATIENCE, begin, program, until_same, world},
};

const KEYS: &[&str] = &["other", "reverse", "retyped", "longer", "lost", "got", "again", "parts"];

/// In one transaction each: what was logged before the key changed means nothing after it.
const CHANGE_KEYS: &[&str] = &[
    "INSERT INTO other VALUES (11, 111, 'x'); UPDATE other SET v = 'y' WHERE id = 2; DELETE FROM other WHERE id = 3;
     ALTER TABLE other DROP CONSTRAINT other_pkey, ADD PRIMARY KEY (k)",
    "ALTER TABLE reverse DROP CONSTRAINT reverse_pkey, ADD PRIMARY KEY (k);
     INSERT INTO reverse VALUES (11, 111, 'x'); UPDATE reverse SET id = 0 WHERE k = 102; DELETE FROM reverse WHERE k = 103",
    "UPDATE retyped SET v = 'y' WHERE id = 2; ALTER TABLE retyped ALTER id TYPE text USING 'k' || id;
     INSERT INTO retyped VALUES ('a', 1, 'x')",
    "DELETE FROM longer WHERE id = 3; ALTER TABLE longer DROP CONSTRAINT longer_pkey, ADD PRIMARY KEY (k, id);
     INSERT INTO longer VALUES (11, 111, 'x')",
    "DELETE FROM lost WHERE id = 3; ALTER TABLE lost DROP CONSTRAINT lost_pkey; INSERT INTO lost VALUES (11, 111, NULL)",
    "DELETE FROM got WHERE id = 3; ALTER TABLE got ADD PRIMARY KEY (k); UPDATE got SET v = '1' WHERE id = 1",
    "DELETE FROM again WHERE id = 3; ALTER TABLE again DROP id, ADD id text PRIMARY KEY DEFAULT gen_random_uuid();
     UPDATE again SET v = 'y' WHERE k = 102",
    "DELETE FROM parts WHERE id = 3; ALTER TABLE parts DROP CONSTRAINT parts_pkey, ADD PRIMARY KEY (k, id);
     UPDATE parts SET v = 'y' WHERE k = 102",
];

#[tokio::test]
async fn a_key_may_change_in_one_transaction_with_its_rows() {
    let world = world(Mode::Broker, 1).build().await;
    for table in KEYS {
        let key = if *table == "got" { "NOT NULL" } else { "PRIMARY KEY" };
        let parts = if *table == "parts" { " PARTITION BY HASH (id)" } else { "" };
        let create = format!("CREATE TABLE {table} (id int {key}, k int NOT NULL, v text){parts}");
        world.primary().execute(&create).await;
        if *table == "parts" {
            world
                .primary()
                .execute("CREATE TABLE part PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
                .await;
        }
        let fill = format!("INSERT INTO {table} SELECT n, 100 + n, 'v' FROM generate_series(1, 10) n");
        world.primary().execute(&fill).await;
    }
    let mut pgfanout = begin(&world);
    until_same(&world, KEYS).await;
    for statements in CHANGE_KEYS {
        world.primary().execute(&format!("BEGIN; {statements}; COMMIT")).await;
    }
    until_mended(&world, &mut pgfanout, KEYS).await;
    for table in KEYS {
        let change = format!("UPDATE {table} SET v = 'z' WHERE k > 105; DELETE FROM {table} WHERE k = 101");
        world.primary().execute(&change).await;
    }
    until_mended(&world, &mut pgfanout, KEYS).await;
}

/// Waits until the replica does not follow a table of this name any more.
async fn until_left(world: &World, table: &str) {
    let replica = world.replica(1).client().await;
    let followed = "SELECT EXISTS (SELECT FROM pgfanout.replicated_table WHERE table_name = $1)";
    eventually(PATIENCE, "the table is left", async || {
        !replica.query_one(followed, &[&table]).await.unwrap().get::<_, bool>(0)
    })
    .await;
}

/// What a table that left holds on the replica is pgfanout's own: it is in nobody's way who takes the name later.
#[tokio::test]
async fn a_name_that_comes_back_is_filled_anew() {
    let world = world(Mode::Broker, 1).build().await;
    let setup =
        "CREATE TABLE gone (id int PRIMARY KEY, v text); CREATE TABLE unseen (id int PRIMARY KEY, v text);
        CREATE TABLE away (v text); INSERT INTO gone VALUES (1, 'old'); INSERT INTO unseen VALUES (1, 'old');
        INSERT INTO away VALUES ('old')";
    world.primary().execute(setup).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["gone", "unseen", "away"]).await;
    world.primary().execute("DROP TABLE gone; ALTER TABLE away RENAME TO back").await;
    until_left(&world, "gone").await;
    until_same(&world, &["back"]).await;
    pgfanout.kill9().await;
    world.primary().execute("DROP TABLE unseen; UPDATE back SET v = 'new'").await;
    pgfanout = begin(&world);
    until_left(&world, "unseen").await;
    pgfanout.kill9().await;
    let anew =
        "CREATE TABLE gone (id int PRIMARY KEY, v text); CREATE TABLE unseen (id int PRIMARY KEY, v text);
        INSERT INTO gone VALUES (2, 'new'); ALTER TABLE back RENAME TO away";
    world.primary().execute(anew).await;
    pgfanout = begin(&world);
    until_same(&world, &["gone", "unseen", "away"]).await;
    assert!(pgfanout.events("halted").is_empty(), "{:?}", pgfanout.events("halted"));
}

/// Who takes a table out of the configuration may write to it on the replica from then on.
#[tokio::test]
async fn a_table_that_was_taken_out_is_not_emptied_unasked() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["t"]).await;
    pgfanout.kill9().await;
    pgfanout = program().run(&world.config().primary("exclude = [\"t\"]").write());
    pgfanout.wait_for_event("table_left", PATIENCE).await;
    pgfanout.kill9().await;
    world.replica(1).execute("INSERT INTO t VALUES (2)").await;
    pgfanout = begin(&world);
    let halted = pgfanout.wait_for_event("halted", PATIENCE).await;
    assert!(halted["message"].as_str().unwrap().contains("holds rows"), "{halted}");
    let rows = world.replica(1).client().await.query("SELECT FROM t", &[]).await.unwrap();
    assert_eq!(rows.len(), 2);
    world.replica(1).execute("TRUNCATE t").await;
    pgfanout.kill9().await;
    let _pgfanout = begin(&world);
    until_same(&world, &["t"]).await;
}

/// What belongs to a table keeps its name when that is renamed: the replica has it where the name is needed.
#[tokio::test]
async fn a_table_under_a_new_name_takes_its_indexes_and_sequences_along() {
    let world = world(Mode::Broker, 1).build().await;
    let setup = "CREATE TABLE a (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n serial, v text UNIQUE);
        CREATE INDEX ON a (n, v); CREATE TABLE b (id int PRIMARY KEY, n int, v text UNIQUE);
        CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY HASH (id); CREATE INDEX ON parts (v);
        CREATE TABLE part PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        INSERT INTO a (v) VALUES ('a'); INSERT INTO b VALUES (1, 1, 'b'); INSERT INTO parts VALUES (1, 1)";
    world.primary().execute(setup).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["a", "b", "parts"]).await;
    world.primary().execute("ALTER TABLE a RENAME TO c; INSERT INTO c (v) VALUES ('c')").await;
    until_same(&world, &["b", "c"]).await;
    world.primary().execute("ALTER TABLE b RENAME TO a; UPDATE a SET v = 'a'").await;
    until_same(&world, &["a", "c"]).await;
    world.primary().execute("ALTER TABLE parts RENAME TO whole; UPDATE whole SET v = 2").await;
    until_same(&world, &["whole"]).await;
    pgfanout.kill9().await;
    world.primary().execute("ALTER TABLE c RENAME TO d").await;
    world.primary().execute("ALTER TABLE a RENAME TO c; INSERT INTO c VALUES (2, 2, 'c')").await;
    pgfanout = begin(&world);
    until_same(&world, &["c", "d"]).await;
    assert!(pgfanout.events("halted").is_empty(), "{:?}", pgfanout.events("halted"));
    let indexes =
        "SELECT relname::text FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = 'd'::regclass";
    let names = world.replica(1).client().await.query(indexes, &[]).await.unwrap();
    let mut names: Vec<String> = names.iter().map(|row| row.get(0)).collect();
    names.sort();
    assert_eq!(names, ["a_n_v_idx", "a_pkey", "a_v_key"]);
}

#[tokio::test]
async fn a_name_that_is_somebodys_is_told_with_the_statement_that_frees_it() {
    let world = world(Mode::Broker, 1).build().await;
    world.replica(1).execute("CREATE TABLE mine (id int); CREATE INDEX \"T_pkey\" ON mine (id)").await;
    world.primary().execute("CREATE TABLE \"T\" (id int PRIMARY KEY); INSERT INTO \"T\" VALUES (1)").await;
    let mut pgfanout = begin(&world);
    pgfanout.wait_for_event("halted", PATIENCE).await;
    until_mended(&world, &mut pgfanout, &["\"T\""]).await;
}

/// Keys that were logged under a label are not read under another one.
#[tokio::test]
async fn a_label_of_a_key_may_be_renamed_while_changes_under_it_wait() {
    let world = world(Mode::Broker, 1).build().await;
    let setup = "CREATE TYPE label AS ENUM ('a', 'b'); CREATE DOMAIN labels AS label[];
        CREATE TABLE keyed (k label PRIMARY KEY, v int); CREATE TABLE bag (l labels);
        INSERT INTO keyed VALUES ('a', 1), ('b', 1); INSERT INTO bag VALUES ('{a}'), ('{b}')";
    world.primary().execute(setup).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["keyed", "bag"]).await;
    pgfanout.kill9().await;
    // ALTER TYPE waits for nobody who reads.
    let mut reader = world.primary().client().await;
    let reading = reader.transaction().await.unwrap();
    reading.query("SELECT FROM keyed", &[]).await.unwrap();
    world.primary().execute("UPDATE keyed SET v = 2; DELETE FROM bag WHERE l = '{a}'").await;
    world
        .primary()
        .execute("ALTER TYPE label RENAME VALUE 'a' TO 'c'; UPDATE keyed SET v = 3 WHERE k = 'b'")
        .await;
    reading.rollback().await.unwrap();
    pgfanout = begin(&world);
    until_mended(&world, &mut pgfanout, &["keyed", "bag"]).await;
    world.primary().execute("UPDATE keyed SET v = 4; INSERT INTO bag VALUES ('{c}')").await;
    until_same(&world, &["keyed", "bag"]).await;
}

/// Columns that are left of a table in whose place another one of its name came are the replica's own: nobody knows here
/// whose they are.
#[tokio::test]
async fn what_only_a_replica_has_stays_when_another_table_takes_the_name() {
    let world = world(Mode::Broker, 1).build().await;
    world
        .primary()
        .execute("CREATE TABLE t (id int PRIMARY KEY, v int, w int); INSERT INTO t VALUES (1, 1, 1)")
        .await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["t"]).await;
    world.replica(1).execute("ALTER TABLE t ADD mine text DEFAULT 'mine'").await;
    world
        .primary()
        .execute("BEGIN; DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (2, 2); COMMIT")
        .await;
    until_mended(&world, &mut pgfanout, &["t"]).await;
    let (replica, seen) = (world.replica(1).client().await, "SELECT string_agg(t::text, ' ') FROM t");
    assert_eq!(replica.query_one(seen, &[]).await.unwrap().get::<_, String>(0), "(2,2,,mine)");
}

/// A table is followed from the moment when its name or its schema makes it one that is wanted, until it is none.
#[tokio::test]
async fn a_table_that_comes_to_be_wanted_is_followed() {
    let world = world(Mode::Broker, 1).build().await;
    let table = "(id int PRIMARY KEY, v text)";
    let names =
        ["shop_first", "draft", "wanted.first", "later_1.first", "aside.moved", "other.late", "other.bag"];
    world
        .primary()
        .execute("CREATE SCHEMA wanted; CREATE SCHEMA later_1; CREATE SCHEMA aside; CREATE SCHEMA other")
        .await;
    for name in names {
        let columns = if name == "other.bag" { "(id int, v text)" } else { table };
        let made = format!("CREATE TABLE {name} {columns}; INSERT INTO {name} VALUES (1, 'a'), (2, 'b')");
        world.primary().execute(&made).await;
    }
    let tables = "tables = [\"shop_*\", \"wanted.*\", \"later_*.*\"]";
    let mut pgfanout = program().run(&world.config().primary(tables).write());
    until_same(&world, &["shop_first", "wanted.first", "later_1.first"]).await;
    for (statements, tables) in [
        (
            "ALTER TABLE draft RENAME TO shop_draft; UPDATE shop_draft SET v = 'c' WHERE id = 1",
            &["shop_draft"][..],
        ),
        (
            "UPDATE aside.moved SET v = 'c'; ALTER TABLE aside.moved SET SCHEMA wanted; DELETE FROM wanted.moved WHERE id = 2",
            &["wanted.moved"],
        ),
        (
            "ALTER SCHEMA other RENAME TO later_2; INSERT INTO later_2.late VALUES (3, 'c'); INSERT INTO later_2.bag VALUES (2, 'b')",
            &["later_2.late", "later_2.bag"],
        ),
        (
            "CREATE TABLE made (id int PRIMARY KEY, v text); INSERT INTO made VALUES (1, 'a'), (2, 'b');
             ALTER TABLE made RENAME TO shop_made; UPDATE shop_made SET v = 'c' WHERE id = 2",
            &["shop_made"],
        ),
    ] {
        world.primary().execute(&format!("BEGIN; {statements}; COMMIT")).await;
        until_same(&world, tables).await;
        for table in tables {
            world
                .primary()
                .execute(&format!("UPDATE {table} SET v = v || '!'; DELETE FROM {table} WHERE id = 1"))
                .await;
        }
        until_same(&world, tables).await;
    }
    // Nobody wants it any more, and then somebody does.
    world.primary().execute("ALTER TABLE shop_draft RENAME TO draft; UPDATE draft SET v = 'unseen'").await;
    until_left(&world, "shop_draft").await;
    let there = world.replica(1).client().await;
    let left = there.query_one("SELECT string_agg(v, ' ') FROM shop_draft", &[]).await.unwrap();
    assert_eq!(left.get::<_, &str>(0), "b!", "it stays as it was");
    world
        .primary()
        .execute("ALTER TABLE draft RENAME TO shop_draft; INSERT INTO shop_draft VALUES (4, 'd')")
        .await;
    until_same(&world, &["shop_draft"]).await;
    assert!(pgfanout.events("halted").is_empty(), "{:?}", pgfanout.events("halted"));
    pgfanout.terminate().await;
}
