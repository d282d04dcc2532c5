//! Copies to several replicas at a time.

use pgfanout_testbed::{
    eventually,
    world::{Database, World},
};

use crate::{
    messages::until_following,
    support::{Mode, PATIENCE, begin, until_same, world},
};

const ROWS: i64 = 20_000;

/// A table that is known to be small enough for one chunk.
const BIG: &str = "CREATE TABLE big (id int PRIMARY KEY, text text);
    INSERT INTO big SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n; ANALYZE big";

/// Keeps copies to a replica from reading what they have planned until the connection that it returns lets go.
pub(crate) async fn hold_copies(replica: &Database) -> tokio_postgres::Client {
    let hold = "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(1); RETURN new; END';
        CREATE TRIGGER hold BEFORE INSERT ON pgfanout.copy_chunk FOR EACH ROW EXECUTE FUNCTION hold();
        ALTER TABLE pgfanout.copy_chunk ENABLE ALWAYS TRIGGER hold";
    replica.execute(hold).await;
    let holder = replica.client().await;
    holder.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    holder
}

/// Waits until somebody waits for that lock there.
async fn until_waits(replica: &Database, lock: i64) {
    let client = replica.client().await;
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = $1::int8::oid
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    eventually(PATIENCE, &format!("the copy waits for lock {lock}"), async || {
        client.query_one(waits, &[&lock]).await.unwrap().get::<_, bool>(0)
    })
    .await;
}

/// Waits until nothing is copied any more.
async fn until_copied(world: &World) {
    let primary = world.primary().client().await;
    let copies = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'pgfanout copy%'";
    eventually(PATIENCE, "the copies have ended", async || {
        primary.query_one(copies, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

async fn has_all(replica: &Database) -> bool {
    let count = replica.client().await.query_one("SELECT count(*) FROM big", &[]).await;
    count.is_ok_and(|row| row.get::<_, i64>(0) == ROWS)
}

/// The first replica reads, and then hangs.
#[tokio::test]
async fn a_chunk_is_read_once_for_all_replicas_and_waits_for_none() {
    let world = world(Mode::Postgres, 2).build().await;
    let hangs = "CREATE TABLE big (id int PRIMARY KEY, text text);
        CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(2); RETURN NULL; END';
        CREATE TRIGGER hang AFTER INSERT ON big EXECUTE FUNCTION hang(); ALTER TABLE big ENABLE ALWAYS TRIGGER hang";
    world.replica(1).execute(hangs).await;
    world.primary().execute("CREATE TABLE first (id int PRIMARY KEY)").await;
    let _pgfanout = begin(&world);
    until_following(&world).await;
    let mut holders = Vec::new();
    for replica in world.replicas() {
        holders.push(hold_copies(replica).await);
    }
    holders[0].batch_execute("SELECT pg_advisory_lock(2)").await.unwrap();
    let primary = world.primary().client().await;
    primary.batch_execute(BIG).await.unwrap();
    for replica in world.replicas() {
        until_waits(replica, 1).await;
    }

    holders[0].batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    until_waits(world.replica(1), 2).await;
    holders[1].batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    eventually(PATIENCE, "the other replica has all rows", async || has_all(world.replica(2)).await).await;
    assert!(!has_all(world.replica(1)).await, "the first one hangs");
    holders[0].batch_execute("SELECT pg_advisory_unlock(2)").await.unwrap();
    until_copied(&world).await;

    // Sessions tell what they read when they end, if not before. Where chunks end is looked for in the index.
    let read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'big'";
    let mut rows = 0;
    eventually(PATIENCE, "the server's statistics tell of it", async || {
        rows = primary.query_one(read, &[]).await.unwrap().get(0);
        rows >= ROWS
    })
    .await;
    assert!(rows < 2 * ROWS, "rows were read twice: {rows}");
    until_same(&world, &["big"]).await;
}

/// Values that are small where they are stored: of a chunk that was planned by that, there is far more to read.
#[tokio::test]
async fn a_chunk_that_is_larger_than_planned_is_not_held_in_memory() {
    let world = world(Mode::Postgres, 2).build().await;
    let swollen = "CREATE TABLE swollen (id int PRIMARY KEY, text text);
        INSERT INTO swollen SELECT n, repeat('x', 150000) FROM generate_series(1, 900) n";
    world.primary().execute(swollen).await;
    let toast = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = 'swollen'";
    let toast: i64 = world.primary().client().await.query_one(toast, &[]).await.unwrap().get(0);
    assert_eq!(toast, 0, "they are where their rows are");
    let pgfanout = begin(&world);
    let all = "SELECT count(*) FROM swollen WHERE text = repeat('x', 150000)";
    for replica in world.replicas() {
        eventually(PATIENCE, "all rows are there", async || {
            let count = replica.client().await.query_one(all, &[]).await;
            count.is_ok_and(|row| row.get::<_, i64>(0) == 900)
        })
        .await;
    }
    let peak = pgfanout.peak_rss_bytes();
    assert!(peak < 96 << 20, "of 135 MB it held {peak} bytes");
}
