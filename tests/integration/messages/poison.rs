//! A message that the broker passes on, and that no client library can read.

use std::process::Command;

use super::{until_captured, until_following};
use crate::{
    broker_faults::until_by_broker,
    support::{Mode, PATIENCE, begin, until_same, world},
};

/// Its message id is no text. Ours cannot send such a thing; Python's pika can.
const SEND: &str = r"
import sys, pika
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
properties = pika.BasicProperties(message_id=b'\xff\xfe')
connection.channel().basic_publish('', sys.argv[2], b'{}', properties)
connection.close()";

#[tokio::test]
async fn what_cannot_be_read_blocks_nothing() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut pgfanout = begin(&world);
    until_captured(&world).await;
    until_following(&world).await;
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", SEND, &world.broker().url(), &world.queue(1)]);
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
