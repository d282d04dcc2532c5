//! Trying what replication will do at the broker, with things of our own that vanish again.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Connection, ExchangeKind,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeBindOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    },
    protocol::AMQPSoftError,
    types::{AMQPValue, FieldTable},
};

use super::{
    REJECTED_MAX_BYTES, arguments, bounds, channel, connect, declare_exchange, declare_queue, is_soft,
    queue_name,
};
use crate::{
    config,
    error::{Error, Result},
    postgres::{ANSWER_LIMIT, within},
};

/// How many small messages are put into a queue named like those of replicas, to see whether it keeps them.
pub const MESSAGES: u32 = 1000;

/// How often to look whether the broker accepts no messages.
const BLOCKED_INTERVAL: Duration = Duration::from_millis(100);

/// Whether the exchange can be declared, read and published to, and a message as large as the configuration
/// allows be stored and given back. An exchange that is not there is made, and deleted; what else is needed
/// belongs to the connection. Returns how many of [`MESSAGES`] such a queue keeps; 0 if not even the large one.
///
/// # Errors
/// What the broker refuses, or does not answer in time; [`Error::Blocked`] when it accepts no messages.
pub async fn try_exchange(connection: &Connection, broker: &config::Broker) -> Result<u32> {
    let looking = is_there(connection, broker);
    let is_there = within(ANSWER_LIMIT, "broker: looking for the exchange", looking).await?;
    let trying = async {
        let channel = channel(connection).await?;
        declare_exchange(&channel, &broker.exchange).await?;
        publish(&channel, broker).await?;
        store(&channel, broker).await
    };
    let tried = tokio::select! {
        biased;
        tried = within(ANSWER_LIMIT, "broker: trying the exchange", trying) => tried,
        () = until_blocked(connection) => Err(Error::Blocked),
    };
    let cleared = clear(broker, is_there).await;
    tried.and_then(|kept| cleared.map(|()| kept))
}

/// The broker says so when something is published, and does not listen to that connection from then on.
async fn until_blocked(connection: &Connection) {
    while !connection.status().blocked() {
        tokio::time::sleep(BLOCKED_INTERVAL).await;
    }
}

/// Whether the queues that are there have the settings of the configuration. Those that are not are declared when they
/// are needed.
///
/// # Errors
/// As [`try_exchange`].
pub async fn try_queues(connection: &Connection, broker: &config::Broker, replicas: &[String]) -> Result<()> {
    let rejected = queue_name(&broker.exchange, "rejected");
    let trying = async {
        let kept = replicas.iter().map(|replica| queue_name(&broker.exchange, replica));
        for name in kept.chain([rejected.clone()]) {
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let channel = channel(connection).await?;
            let found = channel.queue_declare(name.as_str().into(), passive, FieldTable::default()).await;
            match found.map_err(Error::broker(&format!("looking for the queue {name}"))) {
                Err(error) if is_soft(&error, AMQPSoftError::NOTFOUND) => continue,
                found => drop(found?),
            }
            let settings =
                if name == rejected { bounds(REJECTED_MAX_BYTES) } else { arguments(broker, &rejected) };
            declare_queue(&channel, &name, settings).await?;
        }
        Ok(())
    };
    within(ANSWER_LIMIT, "broker: trying the queues", trying).await
}

/// Whether the broker refused for want of a permission.
#[must_use]
pub fn is_forbidden(error: &Error) -> bool {
    is_soft(error, AMQPSoftError::ACCESSREFUSED)
}

/// Takes away what was declared and does not end with the connection; on another one, since that may be blocked.
async fn clear(broker: &config::Broker, is_there: bool) -> Result<()> {
    let connection = connect(broker, "pgfanout check").await?;
    let clearing = async {
        let (channel, own) = (channel(&connection).await?, own_name(broker));
        for name in [&own, &broker.exchange].into_iter().take(if is_there { 1 } else { 2 }) {
            let deleted =
                channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await;
            deleted
                .map_err(Error::broker(&format!("deleting the exchange {name}, declared for a moment")))?;
        }
        Ok(())
    };
    within(ANSWER_LIMIT, "broker: clearing up", clearing).await
}

async fn is_there(connection: &Connection, broker: &config::Broker) -> Result<bool> {
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let channel = channel(connection).await?;
    let exchange = broker.exchange.as_str().into();
    let found =
        channel.exchange_declare(exchange, ExchangeKind::Fanout, passive, FieldTable::default()).await;
    match found.map_err(Error::broker("looking for the exchange")) {
        Ok(()) => Ok(true),
        Err(error) if is_soft(&error, AMQPSoftError::NOTFOUND) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A name below the exchange's that nobody else has.
fn own_name(broker: &config::Broker) -> String {
    queue_name(&broker.exchange, &format!("check-{}", std::process::id()))
}

/// To bind the exchange to another one takes the right to publish to it, and nobody hears of it.
async fn publish(channel: &Channel, broker: &config::Broker) -> Result<()> {
    let (name, exchange) = (own_name(broker), broker.exchange.as_str());
    let passing = ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
    let declared =
        channel.exchange_declare(name.as_str().into(), ExchangeKind::Fanout, passing, FieldTable::default());
    declared.await.map_err(Error::broker(&format!("declaring an exchange {name} for a moment")))?;
    let (options, arguments) = (ExchangeBindOptions::default(), FieldTable::default());
    let bound =
        channel.exchange_bind(exchange.into(), name.as_str().into(), "".into(), options, arguments).await;
    bound.map_err(Error::broker(&format!("publishing to the exchange {exchange}")))
}

/// By a queue that ends with the connection, and to which policies apply as to those of replicas.
async fn store(channel: &Channel, broker: &config::Broker) -> Result<u32> {
    let (name, exchange) = (own_name(broker), broker.exchange.as_str());
    let passing = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let mut dropping = FieldTable::default();
    dropping.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    let declared = channel.queue_declare(name.as_str().into(), passing, dropping).await;
    declared.map_err(Error::broker(&format!("declaring a queue {name} for a moment")))?;
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    let bound = channel.queue_bind(name.as_str().into(), exchange.into(), "".into(), options, arguments);
    bound.await.map_err(Error::broker(&format!("binding a queue to the exchange {exchange}")))?;
    let doing = format!("storing a message of {} bytes (max_message_bytes)", broker.max_message_bytes);
    let storing = async {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let body = vec![b' '; usize::try_from(broker.max_message_bytes).unwrap_or(usize::MAX)];
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default().with_delivery_mode(2);
        let published = channel.basic_publish("".into(), name.as_str().into(), mandatory, &body, properties);
        published.await?.await
    };
    storing.await.map_err(Error::broker(&doing))?;
    let got = channel.basic_get(name.as_str().into(), BasicGetOptions { no_ack: true }).await;
    if got.map_err(Error::broker(&format!("reading the queue {name}")))?.is_none() {
        return Ok(0);
    }
    let counting = async {
        let mut confirms = Vec::new();
        for _ in 0..MESSAGES {
            let options = BasicPublishOptions::default();
            let properties = BasicProperties::default();
            confirms.push(
                channel.basic_publish("".into(), name.as_str().into(), options, b" ", properties).await?,
            );
        }
        for confirm in confirms {
            confirm.await?;
        }
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.as_str().into(), passive, FieldTable::default()).await
    };
    let kept = counting.await.map_err(Error::broker(&format!("filling the queue {name}")))?;
    Ok(kept.message_count())
}
