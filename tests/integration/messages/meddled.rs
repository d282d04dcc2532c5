//! Somebody on a replica's queue who takes messages, loses some, and brings others late, twice and in
//! disorder: what the replica shows stays possible, and it ends equal to the primary.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use pgfanout_testbed::{eventually, world::World};

use super::listener::consume;
use crate::{
    bank::{SETUP, TABLES, transfers, until_joined},
    support::{Mode, PATIENCE, begin, world},
};

/// How many messages are held back before they are brought.
const HELD_BACK: usize = 6;

/// How many states of each replica are looked at.
const STATES: usize = 50;

/// Takes every second message of the queue, as the second consumer there, and brings back some of them.
pub(crate) async fn meddle(channel: &Channel, queue: &str, stop: Arc<AtomicBool>) -> usize {
    let mut consumer = consume(channel, queue).await;
    let mut random = fastrand::Rng::new();
    let (mut held, mut brought) = (Vec::<(BasicProperties, Vec<u8>)>::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let taken = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await;
        if let Ok(Some(Ok(delivery))) = taken {
            held.push((delivery.properties, delivery.data));
        }
        if held.len() < HELD_BACK {
            continue;
        }
        random.shuffle(&mut held);
        // One stays for later, one is lost, one comes twice, and byte for byte.
        let later = held.pop();
        held.pop();
        held.extend(held.first().cloned());
        for (properties, body) in std::mem::take(&mut held) {
            let options = BasicPublishOptions::default();
            let sent = channel.basic_publish("".into(), queue.into(), options, &body, properties);
            sent.await.unwrap();
            brought += 1;
        }
        held.extend(later);
    }
    brought
}

#[tokio::test]
async fn messages_lost_late_repeated_and_in_disorder_show_nothing_impossible() {
    let world: World = world(Mode::Broker, 2).build().await;
    world.primary().execute(SETUP).await;
    let pgfanout = begin(&world);
    until_joined(&world, TABLES.len()).await;
    let connection = world.broker().connect().await;
    let channel = connection.create_channel().await.unwrap();
    let queue = world.queue(1);
    let (mark, mut brought) = (pgfanout.mark(), 0);
    let meddling = async |stop| brought = meddle(&channel, &queue, stop).await;
    let seen = transfers(&world, STATES, meddling).await;
    eprintln!("{seen:?} of {STATES} states by the broker, {brought} messages brought back");
    assert!(brought > 20, "{brought} messages were brought back");
    let is_bad = |line: &serde_json::Value| {
        let event = line["event"].as_str().unwrap_or_default();
        ["failed", "halted", "message_rejected"].contains(&event) || event.starts_with("copy_")
    };
    let bad: Vec<_> = pgfanout.log_after(mark).into_iter().filter(is_bad).collect();
    assert!(bad.is_empty(), "all were genuine, and none was needed: {bad:?}");
    eventually(PATIENCE, "nothing stays in the queue", async || {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await;
        declared.unwrap().message_count() == 0
    })
    .await;
}
