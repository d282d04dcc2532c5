//! The guide's objects have the keys that the program prints, and no others.

use serde_json::Value;

use super::text;
use crate::{
    messages::until_following,
    support::{Mode, begin, program, until_same, world},
};

/// The guide's examples: of `status`, `check` and `verify`.
fn examples() -> [Value; 3] {
    let guide = text("src/guide/json.md");
    let blocks = guide.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let examples: Vec<Value> = blocks.map(|block| serde_json::from_str(block).unwrap()).collect();
    examples.try_into().unwrap()
}

/// Compares keys and kinds of values; what is null on one side may be anything on the other. Returns how many objects
/// were compared.
fn compare(told: &Value, found: &Value, place: &str) -> usize {
    match (told, found) {
        (Value::Null, _) | (_, Value::Null) => 0,
        (Value::Object(told), Value::Object(found)) => {
            let keys = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(told), keys(found), "{place}: told and found");
            let inner =
                told.iter().map(|(key, value)| compare(value, &found[key], &format!("{place}.{key}")));
            1 + inner.sum::<usize>()
        }
        (Value::Array(told), Value::Array(found)) => {
            found.iter().map(|found| compare(&told[0], found, &format!("{place}[]"))).sum()
        }
        _ => {
            let kind = |value: &Value| (value.is_string(), value.is_number(), value.is_boolean());
            assert_eq!(kind(told), kind(found), "{place}: {told} and {found}");
            0
        }
    }
}

#[tokio::test]
async fn the_objects_are_as_the_guide_has_them() {
    let world = world(Mode::Broker, 1).build().await;
    let make = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, v int);
        CREATE TABLE c (id int PRIMARY KEY); INSERT INTO b VALUES (1, 1)";
    world.primary().execute(make).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["a", "b", "c"]).await;
    until_following(&world).await;
    world.replica(1).execute("UPDATE b SET v = 2").await;
    let config = world.config().write();
    let printed = async |command: &str, arguments: &[&str]| -> Value {
        let arguments = [arguments, &["--json"]].concat();
        serde_json::from_str(&program().once(command, &config, &arguments).await.stdout).unwrap()
    };
    let [status, check, verify] = examples();
    assert!(compare(&verify, &printed("verify", &["--show-values"]).await, "verify") > 4);
    assert!(compare(&check, &printed("check", &[]).await, "check") > 10);
    assert!(compare(&status, &printed("status", &[]).await, "status") > 9);
    // What is there only when something is wrong.
    pgfanout.kill9().await;
    world.primary().execute("UPDATE pgfanout.captured_table SET broken = 'why' WHERE table_name = 'a'").await;
    let wrong =
        "INSERT INTO pgfanout.isolated_table SELECT id, 'public', 'b', 'why' FROM pgfanout.replicated_table
        WHERE table_name = 'b'; UPDATE pgfanout.replicated_table SET copying = true, snapshot = p.snapshot,
        number = p.number, token = p.token FROM pgfanout.position p WHERE table_name = 'c'";
    world.replica(1).execute(wrong).await;
    let found = printed("status", &[]).await;
    let all = [
        "/primary/broken_tables/0",
        "/replicas/0/isolated/0",
        "/replicas/0/copies/0",
        "/replicas/0/verified/wrong/0",
    ];
    assert!(all.iter().all(|place| found.pointer(place).is_some_and(Value::is_object)), "{found}");
    compare(&status, &found, "status");
}
