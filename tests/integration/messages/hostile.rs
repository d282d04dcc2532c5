//! Ten thousand mutations of real messages, forgeries and foreign messages, where there is a key: none
//! reaches a table, none blocks what follows, all are put aside.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties, Channel,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString},
};
use pgfanout::{broker::part, change, secret::Secret};
use pgfanout_testbed::{eventually, world::World};

use super::{listener::Listener, until_captured, until_following};
use crate::support::{Mode, PATIENCE, program, until_same, world};

const MUTATIONS: usize = 10_000;
/// How many of them are sent, so many at a time, with transactions of the application in between.
const ROUNDS: usize = 10;
const SENT_AT_ONCE: usize = 150;

const KEY: &str = "the key of this test, which no log shows";

/// The headers of a message, and its body.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    headers: BTreeMap<ShortString, AMQPValue>,
    body: Vec<u8>,
}

impl Message {
    fn properties(&self) -> BasicProperties {
        BasicProperties::default().with_headers(FieldTable::from(self.headers.clone()))
    }

    /// Another one of the same kind as the original, or of none.
    fn mutated(original: &Self, other: &Self, random: &mut fastrand::Rng) -> Self {
        let mut message = original.clone();
        for _ in 0..random.usize(1..=2) {
            message.mutate(other, random);
        }
        message
    }

    fn mutate(&mut self, other: &Self, random: &mut fastrand::Rng) {
        let names: Vec<ShortString> = self.headers.keys().cloned().collect();
        let name = random.choice(&names).cloned().unwrap_or_else(|| "pgfanout-format".into());
        match random.u8(0..12) {
            0..=2 => damage(&mut self.body, random),
            3 => self.body.clone_from(&other.body),
            4 => _ = self.headers.remove(name.as_str()),
            5 => _ = self.headers.insert(name, any_value(random, 3)),
            6 | 7 => {
                if let Some(value) = self.headers.get_mut(name.as_str()) {
                    nearly(value, random);
                }
            }
            8 => {
                if let Some(value) = other.headers.get(name.as_str()) {
                    self.headers.insert(name, value.clone());
                }
            }
            9 => {
                if let Some(value) = random.choice(&names).and_then(|name| self.headers.get(name.as_str())) {
                    let value = value.clone();
                    self.headers.insert(name, value);
                }
            }
            10 => _ = self.headers.insert("pgfanout-more".into(), any_value(random, 1)),
            _ => self.headers.retain(|_, _| random.bool()),
        }
    }
}

/// Bits, bytes, repetitions, truncations.
fn damage(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    let at = random.usize(0..=bytes.len());
    match random.u8(0..6) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
        1 => bytes.insert(at, random.u8(..)),
        2 if at < bytes.len() => _ = bytes.remove(at),
        3 => bytes.truncate(at),
        4 => bytes.extend_from_within(at..),
        _ => bytes.extend((0..random.usize(1..40)).map(|_| random.u8(..))),
    }
}

fn nearly(value: &mut AMQPValue, random: &mut fastrand::Rng) {
    match value {
        AMQPValue::LongString(text) => {
            let mut bytes = text.as_bytes().to_vec();
            damage(&mut bytes, random);
            *value = AMQPValue::LongString(bytes.into());
        }
        AMQPValue::LongLongInt(number) => *number ^= 1 << random.u8(0..64),
        AMQPValue::Boolean(boolean) => *boolean = !*boolean,
        other => *other = any_value(random, 1),
    }
}

/// A value of any kind that the broker passes on.
fn any_value(random: &mut fastrand::Rng, depth: u8) -> AMQPValue {
    let bytes =
        |random: &mut fastrand::Rng| -> Vec<u8> { (0..random.usize(0..30)).map(|_| random.u8(..)).collect() };
    match random.u8(0..if depth == 0 { 12 } else { 14 }) {
        0 => AMQPValue::Boolean(random.bool()),
        1 => AMQPValue::ShortShortInt(random.i8(..)),
        2 => AMQPValue::ShortShortUInt(random.u8(..)),
        3 => AMQPValue::ShortInt(random.i16(..)),
        4 => AMQPValue::ShortUInt(random.u16(..)),
        5 => AMQPValue::LongInt(random.i32(..)),
        6 => AMQPValue::LongUInt(random.u32(..)),
        7 => AMQPValue::LongLongInt(random.i64(..)),
        8 => AMQPValue::Double(random.f64()),
        9 => AMQPValue::Timestamp(random.u64(..)),
        10 => AMQPValue::Void,
        11 => AMQPValue::LongString(LongString::from(bytes(random))),
        12 => AMQPValue::FieldArray(FieldArray::from(vec![any_value(random, depth - 1); 2])),
        _ => {
            let mut table = FieldTable::default();
            table.insert("pgfanout-format".into(), any_value(random, depth - 1));
            AMQPValue::FieldTable(table)
        }
    }
}

/// Some messages of every kind, as the world's pgfanout sent them: of three batches.
async fn real_messages(world: &World, listener: &mut Listener) -> Vec<Message> {
    let mut messages = Vec::new();
    for statements in [
        "INSERT INTO t SELECT n, 'row ' || n, n / 7.0 FROM generate_series(1, 9) n; TRUNCATE other",
        "UPDATE t SET a = NULL WHERE id < 4; DELETE FROM t WHERE id > 7",
        "UPDATE t SET id = id + 100 WHERE id < 3; INSERT INTO other VALUES ('{\"a\": [1]}')",
    ] {
        world.primary().execute(statements).await;
        // Before the next transaction, or else both may come as one batch.
        loop {
            let heard = listener.next().await;
            let last = heard.header("pgfanout-last") == AMQPValue::Boolean(true);
            let headers = heard.delivery.properties.headers().clone().unwrap().inner().clone();
            messages.push(Message { headers, body: heard.delivery.data });
            if last {
                break;
            }
        }
    }
    messages
}

async fn send(channel: &Channel, world: &World, message: &Message) -> lapin::Result<lapin::PublisherConfirm> {
    let (queue, options) = (world.queue(1), BasicPublishOptions::default());
    let properties = message.properties();
    channel.basic_publish("".into(), queue.as_str().into(), options, &message.body, properties).await
}

#[tokio::test]
async fn mutations_and_forgeries_reach_no_table_and_block_nothing() {
    let world = world(Mode::Broker, 1).build().await;
    let tables =
        "CREATE TABLE t (id int PRIMARY KEY, a text, b numeric); CREATE TABLE other (j jsonb PRIMARY KEY)";
    world.primary().execute(tables).await;
    let mut listener = Listener::bind(&world).await;
    let lines = format!("max_changes_per_message = 3\nhmac_key = {KEY:?}");
    let pgfanout = program().run(&world.config().broker(&lines).write());
    until_captured(&world).await;
    until_following(&world).await;
    let real = real_messages(&world, &mut listener).await;
    until_same(&world, &["t", "other"]).await;

    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let keys = [Secret::new(KEY)];
    let (mut hostile, mut well_formed) = (Vec::new(), 0);
    while hostile.len() < MUTATIONS {
        let (original, other) = (random.choice(&real).unwrap(), random.choice(&real).unwrap());
        let message = Message::mutated(original, other, &mut random);
        if real.contains(&message) {
            continue;
        }
        let refused = part(&message.properties(), message.body.clone(), &keys, usize::MAX).is_err();
        assert!(refused, "{message:?}");
        // Without a key some pass. Reading them must not do harm either.
        if let Ok(part) = part(&message.properties(), message.body.clone(), &[], usize::MAX) {
            let lines = std::str::from_utf8(&part.body).unwrap_or_default().lines();
            for change in lines.filter_map(|line| change::parse(line).ok()) {
                let records = change.new_record.iter().chain(&change.old_record);
                records.flat_map(|record| &record.0).for_each(|(_, value)| _ = change::value(value));
            }
            well_formed += 1;
        }
        hostile.push(message);
    }
    eprintln!("{well_formed} of {MUTATIONS} would have passed without a key");

    let channel = &listener.channel;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for (round, messages) in hostile.chunks(SENT_AT_ONCE).take(ROUNDS).enumerate() {
        let mut confirms = Vec::new();
        for message in messages {
            confirms.push(send(channel, &world, message).await.unwrap());
        }
        let statements = format!("UPDATE t SET a = 'round {round}'; INSERT INTO t VALUES (1000 + {round})");
        world.primary().execute(&statements).await;
        for confirm in confirms {
            confirm.await.unwrap();
        }
    }
    // A late repetition of what is genuine is known already.
    for message in &real {
        send(channel, &world, message).await.unwrap().await.unwrap();
    }
    until_same(&world, &["t", "other"]).await;

    let rejected = format!("{}.rejected", world.exchange());
    eventually(PATIENCE, "all are put aside", async || {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(rejected.as_str().into(), passive, FieldTable::default()).await;
        let count = declared.unwrap().message_count();
        if count as usize == ROUNDS * SENT_AT_ONCE { Ok(()) } else { Err(count) }
    })
    .await;
    until_same(&world, &["t", "other"]).await;
    let told = pgfanout.events("message_rejected");
    assert!((1..=13).contains(&told.len()), "once a kind: {told:?}");
    let bad = |line: &serde_json::Value| {
        ["panicked", "actor_died", "halted"].iter().any(|event| line["event"] == *event)
            || line["event"] == "failed" && line["stage"] != "applier"
    };
    let found: Vec<_> = pgfanout.log().into_iter().filter(bad).collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(!pgfanout.lines().iter().any(|line| line.contains(KEY) || line.contains("row 1")));
}
