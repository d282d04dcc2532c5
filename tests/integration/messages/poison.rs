//! A message that the broker passes on, and that no client library can read.

use std::process::Command;

use super::{until_captured, until_following};
use crate::{
    broker_faults::until_by_broker,
    support::{Mode, PATIENCE, begin, until_same, world},
};

/// Takes the address, the queue, and a file with the properties. Ours cannot send such things.
const SEND: &str = r"
import sys, pika
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
class Raw(pika.BasicProperties):
    def encode(self):
        return [open(sys.argv[3], 'rb').read()]
connection.channel().basic_publish('', sys.argv[2], b'{}', Raw())
connection.close()";

/// A message id that is no text.
fn no_text() -> Vec<u8> {
    b"\x00\x80\x02\xff\xfe".to_vec()
}

/// A header of twenty thousand arrays within one another.
fn deep() -> Vec<u8> {
    let mut nested = Vec::new();
    for inner in (0..20_000_u32).rev() {
        nested.extend_from_slice(b"A");
        nested.extend_from_slice(&(inner * 5).to_be_bytes());
    }
    let length = u32::try_from(nested.len() + 2).unwrap().to_be_bytes();
    [b"\x20\x00".as_slice(), &length, b"\x01h", &nested].concat()
}

#[tokio::test]
async fn what_cannot_be_read_blocks_nothing() {
    for properties in [no_text(), deep()] {
        blocks_nothing(&properties).await;
    }
}

async fn blocks_nothing(properties: &[u8]) {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut pgfanout = begin(&world);
    until_captured(&world).await;
    until_following(&world).await;
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", SEND, &world.broker().url(), &world.queue(1)]);
    let file = world.directory().join("properties");
    std::fs::write(&file, properties).unwrap();
    python.arg(file);
    let sent = python.output().expect("python3 is installed: tests/setup.sh does that");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    world.primary().execute("INSERT INTO t VALUES (1)").await;
    pgfanout.wait_for_event("queue_emptied", PATIENCE).await;
    world.primary().execute("INSERT INTO t VALUES (2)").await;
    until_same(&world, &["t"]).await;
    // What follows comes through the queue again.
    until_by_broker(&world, async |world| world.primary().execute("UPDATE t SET id = id + 10").await).await;
    until_same(&world, &["t"]).await;
}
