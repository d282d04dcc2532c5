//! What must not grow does not: memory with replicas that are stuck.

use pgfanout_testbed::{eventually, world::World};

use crate::{
    large::assert_small,
    support::{Mode, PATIENCE, begin, until_same, world},
};

/// Nearly a thousand bytes each.
const ROWS: i64 = 16_000;

async fn wait_for_rows(world: &World, number: usize, rows: i64) {
    let replica = world.replica(number).client().await;
    eventually(PATIENCE, &format!("{rows} rows on replica {number}"), async || {
        let found: i64 = replica.query_one("SELECT count(*) FROM item", &[]).await.unwrap().get(0);
        if found == rows { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test]
async fn twenty_replicas_of_which_ten_are_stuck_cost_little_memory_and_the_others_nothing() {
    let world = world(Mode::Broker, 20).build().await;
    world.primary().execute("CREATE TABLE item (id int PRIMARY KEY, text text)").await;
    let pgfanout = begin(&world);
    until_same(&world, &["item"]).await;
    let mut stuck = Vec::new();
    for replica in &world.replicas()[10..] {
        let client = replica.client().await;
        client.batch_execute("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE").await.unwrap();
        stuck.push(client);
    }
    for part in 0..4 {
        let (first, last) = (part * ROWS / 4 + 1, (part + 1) * ROWS / 4);
        let rows = format!("SELECT n, repeat('x', 900) FROM generate_series({first}, {last}) n");
        world.primary().execute(&format!("INSERT INTO item {rows}")).await;
    }
    for number in 1..=10 {
        wait_for_rows(&world, number, ROWS).await;
    }
    assert_small(&pgfanout);
    for client in stuck {
        client.batch_execute("COMMIT").await.unwrap();
    }
    for number in 11..=20 {
        wait_for_rows(&world, number, ROWS).await;
    }
    assert_small(&pgfanout);
}
