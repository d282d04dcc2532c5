//! Values that older PostgreSQL does not have: they are refused there, whether they are copied or come as a change.

use serde_json::Value;

use crate::support::{Mode, PATIENCE, begin, until_same, world};

/// Their type, the value, since when.
const VALUES: &[(&str, &str, u32)] = &[
    ("interval", "-infinity", 17),
    ("interval[]", "{1 day,infinity}", 17),
    ("numeric", "Infinity", 14),
    ("jsonpath", "$.bigint()", 17),
];

async fn a_value_follows_or_is_refused(type_name: &str, value: &str, since: u32) {
    let world = world(Mode::Broker, 1).build().await;
    if !world.primary().cluster().knows(&format!("{type_name} {value}"), since) {
        return;
    }
    let setup = format!(
        "CREATE TABLE t (id int PRIMARY KEY, v {type_name}); INSERT INTO t VALUES (1, '{value}'), (2, NULL)"
    );
    world.primary().execute(&setup).await;
    let mut pgfanout = begin(&world);
    let mut mark = 0;
    for again in [true, false] {
        if world.replica(1).cluster().version() < since {
            let refused = |line: &Value| {
                let message = line["message"].as_str().unwrap_or_default();
                line["event"] == "halted" && message.contains("\"public\".\"t\"")
            };
            pgfanout.wait_for(mark, "that r1 refuses it", PATIENCE, refused).await;
        } else {
            until_same(&world, &["t"]).await;
        }
        world.primary().execute("UPDATE t SET v = NULL").await;
        until_same(&world, &["t"]).await;
        mark = pgfanout.mark();
        if again {
            world.primary().execute(&format!("UPDATE t SET v = '{value}' WHERE id = 1")).await;
        }
    }
}

#[tokio::test]
async fn values_that_a_replica_does_not_have() {
    for &(type_name, value, since) in VALUES {
        eprintln!("{type_name}");
        a_value_follows_or_is_refused(type_name, value, since).await;
    }
}
