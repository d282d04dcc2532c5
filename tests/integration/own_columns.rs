//! Columns that only a replica has keep what they hold when the rest of their row changes.

use pgfanout_testbed::{eventually, world::World};

use crate::{
    bank::until_joined,
    support::{Mode, PATIENCE, program, world},
};

const PRIMARY: &str = "
    CREATE TABLE t (id numeric PRIMARY KEY, v int UNIQUE, note text);
    INSERT INTO t SELECT n, n, 'n' || n FROM generate_series(1, 20) n;
    CREATE TABLE many (a int, b text, v int UNIQUE, PRIMARY KEY (b, a));
    INSERT INTO many SELECT n, 'b', n FROM generate_series(1, 6000) n;
    CREATE TABLE parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
    INSERT INTO parted SELECT n, n FROM generate_series(1, 19) n";

/// The same tables with columns of their own, in another order; none would come back the same by itself.
const REPLICA: &str = r#"
    CREATE TABLE t ("Own ""Id""" int GENERATED ALWAYS AS IDENTITY UNIQUE, mark text DEFAULT 'new', v int UNIQUE,
        doubled int GENERATED ALWAYS AS (v * 2) STORED, note text, id numeric PRIMARY KEY, gone int,
        seen int UNIQUE NOT NULL DEFAULT 7 + random() * 1e9, CHECK (mark <> '' AND note IS NOT NULL));
    ALTER TABLE t DROP COLUMN gone;
    CREATE TABLE many (mark text, v int UNIQUE, b text, a int, PRIMARY KEY (b, a));
    CREATE TABLE parted (mark text, id int PRIMARY KEY, v int)"#;

const TABLES: [(&str, &str, &str); 3] = [
    ("t", "id, v, note", r#""Own ""Id""", mark, seen"#),
    ("many", "b, a, v", "mark"),
    ("parted", "id, v", "mark"),
];

async fn lines(client: &tokio_postgres::Client, table: &str, columns: &str) -> Result<Vec<String>, String> {
    let query = format!("SELECT ROW({columns})::text FROM {table} ORDER BY 1");
    let rows = client.query(&query, &[]).await.map_err(|error| error.to_string())?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Waits until the columns that both have are the same.
async fn until_equal(world: &World) {
    let (here, there) = (world.primary().client().await, world.replica(1).client().await);
    eventually(PATIENCE, "the shared columns are equal", async || {
        for (table, columns, _) in TABLES {
            let (here, there) = (lines(&here, table, columns).await?, lines(&there, table, columns).await?);
            if here != there {
                return Err(format!("{table}: {} rows here, {} there, or others", here.len(), there.len()));
            }
        }
        Ok(())
    })
    .await;
}

/// What the columns of the replica's own hold, by key; keys as they compare, not as they are spelled.
async fn own(world: &World) -> Vec<String> {
    let (client, mut all) = (world.replica(1).client().await, Vec::new());
    for (table, columns, own) in TABLES {
        let (key, _) = columns.split_once(", v").unwrap();
        all.extend(
            lines(&client, table, &format!("'{table}', {}, {own}", key.replace("id", "id::int")))
                .await
                .unwrap(),
        );
    }
    all
}

async fn own_columns_are_kept(mode: Mode) {
    let world = world(mode, 1).build().await;
    world.primary().execute(PRIMARY).await;
    world.replica(1).execute(REPLICA).await;
    let config = world.config().broker("max_changes_per_message = 1000");
    let _pgfanout = program().run(&config.write());
    until_joined(&world, TABLES.len()).await;
    until_equal(&world).await;
    let marks = "UPDATE t SET mark = 'kept ' || id; UPDATE many SET mark = 'kept ' || a; UPDATE parted SET mark = 'kept ' || id";
    world.replica(1).execute(marks).await;
    let before = own(&world).await;

    for statements in [
        "UPDATE t SET note = note || '!' WHERE id < 10",
        // Secondary values are swapped, keys respelled, rows deleted and inserted again.
        "UPDATE t SET v = -v; UPDATE t SET v = 21 + v",
        "UPDATE t SET id = id * 1.00, note = 'respelled' WHERE id > 5",
        "BEGIN; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (3.0, 3000, 'again'); COMMIT",
        "UPDATE t SET v = v",
        // More keys than are read at once, in one statement.
        "BEGIN; UPDATE many SET v = -v; UPDATE many SET v = 6001 + v; COMMIT",
        "BEGIN; UPDATE many SET v = -v WHERE a > 1000; UPDATE t SET v = -v; UPDATE parted SET v = -v; COMMIT",
    ] {
        world.primary().execute(statements).await;
        until_equal(&world).await;
        assert_eq!(own(&world).await, before, "{statements}");
    }

    // Other rows begin with the defaults; one under another key is another one.
    world
        .primary()
        .execute("UPDATE t SET id = 100 WHERE id = 1; INSERT INTO t VALUES (101, 101, 'new')")
        .await;
    until_equal(&world).await;
    let fresh = "SELECT string_agg(id || mark, ' ' ORDER BY id) FROM t WHERE mark NOT LIKE 'kept%'";
    let client = world.replica(1).client().await;
    assert_eq!(client.query_one(fresh, &[]).await.unwrap().get::<_, &str>(0), "100new 101new");

    // A column that comes while the tables follow.
    client
        .batch_execute("ALTER TABLE t ADD later text DEFAULT 'x'; UPDATE t SET later = 'later ' || id::int")
        .await
        .unwrap();
    world.primary().execute("UPDATE t SET v = v + 1000 WHERE id > 4").await;
    until_equal(&world).await;
    let lost = "SELECT count(*) FROM t WHERE later <> 'later ' || id::int";
    assert_eq!(client.query_one(lost, &[]).await.unwrap().get::<_, i64>(0), 0);
    // And goes again.
    client.batch_execute("ALTER TABLE t DROP later, DROP mark").await.unwrap();
    world.primary().execute("UPDATE t SET v = v + 1000 WHERE id > 4").await;
    until_equal(&world).await;
}

#[tokio::test]
async fn columns_of_a_replica_alone_keep_their_values_with_a_broker() {
    own_columns_are_kept(Mode::Broker).await;
}

#[tokio::test]
#[ignore = "both modes: make large"]
async fn columns_of_a_replica_alone_keep_their_values_without_a_broker() {
    own_columns_are_kept(Mode::Postgres).await;
}
