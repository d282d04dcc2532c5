//! Somebody else who listens on the exchange.

use std::time::Instant;

use futures_util::StreamExt;
use lapin::{Channel, Connection, Consumer, ExchangeKind, options::*, types::FieldTable};
use pgfanout_testbed::rabbitmq::Broker;

use crate::stage::SOON;

/// A queue of its own bound to the exchange `replication`; it knows nothing of pgfanout.
pub(crate) struct Listener {
    messages: Consumer,
    // The queue goes with them.
    _channel: Channel,
    _connection: Connection,
}

impl Listener {
    pub(crate) async fn start(broker: &Broker) -> Self {
        let connection = broker.connect().await;
        let channel = connection.create_channel().await.expect("the broker is up");
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declare = channel.exchange_declare(
            "replication".into(),
            ExchangeKind::Fanout,
            durable,
            FieldTable::default(),
        );
        declare.await.expect("the broker is fresh");
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await;
        let queue = queue.expect("the broker names it").name().clone();
        let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
        channel
            .queue_bind(queue.clone(), "replication".into(), "".into(), bind, none)
            .await
            .expect("both are there");
        let unacknowledged = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let messages = channel.basic_consume(queue, "".into(), unacknowledged, FieldTable::default()).await;
        Self { messages: messages.expect("the queue is ours"), _channel: channel, _connection: connection }
    }

    /// The next `count` changes, one JSON object each.
    pub(crate) async fn changes(&mut self, count: usize) -> Vec<String> {
        let (mut changes, started) = (Vec::new(), Instant::now());
        while changes.len() < count {
            let left = SOON.saturating_sub(started.elapsed());
            let message = tokio::time::timeout(left, self.messages.next()).await;
            let message = message.unwrap_or_else(|_| panic!("no message on the exchange within {SOON:?}"));
            let message = message.expect("the queue stays").expect("the connection stays");
            let body = String::from_utf8_lossy(&message.data);
            changes.extend(body.lines().map(str::to_owned));
        }
        changes
    }
}
