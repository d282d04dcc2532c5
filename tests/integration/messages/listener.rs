//! A listener with a queue of its own on a world's exchange.

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, Consumer, ExchangeKind,
    message::Delivery,
    options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use pgfanout_testbed::world::World;

use crate::support::PATIENCE;

/// Bound to the exchange before anything is published there.
pub(crate) struct Listener {
    _connection: Connection,
    pub(crate) channel: Channel,
    consumer: Consumer,
}

/// One message.
pub(crate) struct Heard {
    pub(crate) delivery: Delivery,
}

impl Listener {
    /// Declares the exchange as pgfanout does, so that nothing that it publishes is missed.
    pub(crate) async fn bind(world: &World) -> Self {
        let connection = world.broker().connect().await;
        let channel = connection.create_channel().await.unwrap();
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let exchange = world.exchange();
        channel
            .exchange_declare(exchange.into(), ExchangeKind::Fanout, durable, FieldTable::default())
            .await
            .unwrap();
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await.unwrap();
        let name = queue.name().clone();
        let binding = QueueBindOptions::default();
        channel
            .queue_bind(name.clone(), exchange.into(), "".into(), binding, FieldTable::default())
            .await
            .unwrap();
        let consumer = consume(&channel, name.as_str()).await;
        Self { _connection: connection, channel, consumer }
    }

    pub(crate) async fn next(&mut self) -> Heard {
        Heard { delivery: next(&mut self.consumer).await }
    }

    /// As many messages as it takes to hear this many lines.
    pub(crate) async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            lines.extend(self.next().await.lines());
        }
        lines
    }
}

/// Consumes a queue, acknowledged by the delivery itself.
pub(crate) async fn consume(channel: &Channel, queue: &str) -> Consumer {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

/// The next message, within the usual patience.
pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    let heard = tokio::time::timeout(PATIENCE, consumer.next()).await;
    heard.expect("a message within the deadline").expect("the queue is there").unwrap()
}

impl Heard {
    /// The lines of the body, each of which ends with a line break.
    pub(crate) fn lines(&self) -> Vec<String> {
        let body = std::str::from_utf8(&self.delivery.data).unwrap();
        body.strip_suffix('\n').expect("a line break at the end").split('\n').map(str::to_owned).collect()
    }

    pub(crate) fn header(&self, name: &str) -> AMQPValue {
        self.headers().inner().get(name).unwrap_or_else(|| panic!("no header {name}")).clone()
    }

    pub(crate) fn header_names(&self) -> Vec<String> {
        self.headers().inner().keys().map(ToString::to_string).collect()
    }

    fn headers(&self) -> &FieldTable {
        self.delivery.properties.headers().as_ref().expect("headers")
    }
}
