//! Batches of very many changes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Scene;
use crate::support::{Mode, begin, until_same, world};

/// More keys than are fetched at once; and so many that an UPDATE is logged by many keys an entry, too.
const ROWS: [usize; 2] = [9000, 12_345];

/// Transactions, and the operations that tell of their keys: of each, one line.
fn transactions(rows: usize) -> [(String, &'static [&'static str]); 10] {
    let insert = format!("INSERT INTO t SELECT n, 0 FROM generate_series(1, {rows}) n");
    [
        (insert.clone(), &["INSERT"]),
        (format!("UPDATE t SET n = n + 1; INSERT INTO other VALUES ({rows})"), &["UPDATE"]),
        ("UPDATE t SET n = n + 1; UPDATE t SET n = n + 1".to_owned(), &["UPDATE"]),
        (format!("INSERT INTO other VALUES (-{rows}); DELETE FROM t; {insert}"), &["UPDATE"]),
        (format!("UPDATE t SET id = id + {rows}"), &["DELETE", "INSERT"]),
        ("DELETE FROM t".to_owned(), &["DELETE"]),
        (format!("{insert}; DELETE FROM t"), &["DELETE"]),
        (format!("{insert}; UPDATE t SET n = 5"), &["INSERT"]),
        // One row alone is changed twice.
        ("UPDATE t SET n = 6; UPDATE t SET n = 7 WHERE id = 1".to_owned(), &["UPDATE"]),
        ("DELETE FROM t; INSERT INTO t VALUES (1, 8); DELETE FROM t".to_owned(), &["DELETE"]),
    ]
}

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE other (id int PRIMARY KEY)";

#[tokio::test]
async fn of_very_many_changes_each_key_is_told_once() {
    let mut scene = Scene::start(TABLES, "", "").await;
    let rows = ROWS[1];
    for (statements, operations) in transactions(rows) {
        let others = statements.matches("INTO other").count();
        let lines = scene.told_of(&statements, rows * operations.len() + others).await;
        let mut told = BTreeSet::new();
        for line in &lines {
            let change: Value = serde_json::from_str(line).unwrap();
            let record =
                if change["new_record"].is_null() { &change["old_record"] } else { &change["new_record"] };
            let (table, operation) =
                (change["table"].as_str().unwrap(), change["operation"].as_str().unwrap());
            assert!(table == "other" || operations.contains(&operation), "{statements}: {line}");
            assert!(
                told.insert((table.to_owned(), record["id"].as_i64())),
                "twice after {statements}: {line}"
            );
        }
        assert_eq!(told.len(), lines.len(), "{statements}");
    }
    until_same(&scene.world, &["t", "other"]).await;
}

#[tokio::test]
async fn very_many_changes_are_caught_up() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(TABLES).await;
    let _pgfanout = begin(&world);
    super::until_following(&world).await;
    for (statements, _) in ROWS.into_iter().flat_map(transactions) {
        world.primary().execute(&statements).await;
        until_same(&world, &["t", "other"]).await;
    }
}

/// Their new spelling comes first in the order of keys: when only old ones are left, all that they name is there.
#[tokio::test]
async fn very_many_keys_are_spelled_in_another_way() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE r (a numeric, n int, PRIMARY KEY (a, n))").await;
    let _pgfanout = begin(&world);
    super::until_following(&world).await;
    let insert = format!("INSERT INTO r SELECT 1.00, n FROM generate_series(1, {}) n", ROWS[1]);
    for statement in [insert.as_str(), "UPDATE r SET a = 1.0", "DELETE FROM r WHERE a = 1.000 AND n % 3 = 0"]
    {
        world.primary().execute(statement).await;
        until_same(&world, &["r"]).await;
    }
}
