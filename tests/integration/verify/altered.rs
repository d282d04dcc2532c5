//! A table that is dropped or altered, on either side, while it is compared, and one that can't be read.

use pgfanout_testbed::{
    eventually,
    world::{Database, World},
};
use serde_json::Value;

use super::{found, sum, verify};
use crate::{
    bank::until_joined,
    support::{Mode, PATIENCE, begin, until_same, world},
};

/// Why each table was not compared.
fn reasons(outcome: &Value) -> Vec<Option<&str>> {
    let tables = outcome["replicas"][0]["tables"].as_array().unwrap();
    tables.iter().map(|table| table["not_compared"].as_str()).collect()
}

/// Verifies while a transaction has altered the first table, which commits once that is waited for.
async fn verify_meanwhile(world: &World, database: &Database, statement: &str) -> (Option<i32>, Value) {
    let altering = database.client().await;
    altering.batch_execute(&format!("BEGIN; {statement}")).await.unwrap();
    let committing = async {
        let waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database()
            AND application_name = 'pgfanout verify' AND wait_event_type = 'Lock'";
        let watching = database.client().await;
        eventually(PATIENCE, "it waits for the table", async || {
            !watching.query(waiting, &[]).await.unwrap().is_empty()
        })
        .await;
        altering.batch_execute("COMMIT").await.unwrap();
    };
    tokio::join!(verify(world, &[]), committing).0
}

/// Only that table is not compared, and why is told with what to do; a look behind it tells how it is.
#[tokio::test]
async fn a_table_that_is_altered_meanwhile_leaves_the_others_compared() {
    const SETUP: &str = "CREATE TABLE altered (id int PRIMARY KEY, v text, w int);
        INSERT INTO altered SELECT n, 'v', n FROM generate_series(1, 100) n;
        CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1), (2)";
    let on_primary = [
        "DROP TABLE altered",
        "ALTER TABLE altered RENAME TO moved",
        "CREATE SCHEMA elsewhere; ALTER TABLE altered SET SCHEMA elsewhere",
        "ALTER TABLE altered RENAME COLUMN w TO x",
        "ALTER TABLE altered DROP COLUMN w",
    ];
    let on_replica =
        ["DROP TABLE altered", "ALTER TABLE altered RENAME TO moved", "ALTER TABLE altered DROP COLUMN w"];
    let cases = on_primary.map(|statement| (statement, true)).into_iter();
    for (statement, on_primary) in cases.chain(on_replica.map(|statement| (statement, false))) {
        let world = world(Mode::Postgres, 1).build().await;
        world.primary().execute(SETUP).await;
        let _pgfanout = begin(&world);
        until_joined(&world, 2).await;
        until_same(&world, &["altered", "other"]).await;
        world.replica(1).execute("DELETE FROM other WHERE id = 2").await;
        let database = if on_primary { world.primary() } else { world.replica(1) };
        let (code, outcome) = verify_meanwhile(&world, database, statement).await;
        let [Some(why), None] = reasons(&outcome)[..] else { panic!("{statement}: {outcome}") };
        let side = if on_primary { "primary: " } else { "replica r1: " };
        assert!(
            why.starts_with(side) && why.ends_with("dropped or altered meanwhile, verify again"),
            "{statement}: {why}"
        );
        assert_eq!((code, sum(&outcome, "missing")), (Some(1), 1), "{statement}: {outcome}");
        assert_eq!(found(&outcome).len(), 1, "{statement}: {outcome}");
    }
}
