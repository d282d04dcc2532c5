//! How long the replicas' queues are.

use std::pin::Pin;

use futures_util::future::{join, join_all, select_ok};
use lapin::{Connection, options::QueueDeclareOptions, protocol::AMQPSoftError, types::FieldTable};
use serde::Serialize;

use super::LIMIT;
use crate::{
    broker::{connect, is_soft, queue_name},
    config::{self, Config},
    error::{Error, Result},
    postgres::within,
};

/// The broker.
#[derive(Clone, Debug, Serialize)]
pub struct Broker {
    /// Whether it could be asked.
    pub state: BrokerState,
    /// Why it could not.
    pub error: Option<String>,
    /// How many messages are in the queue for those that were refused; full queues drop theirs there, too.
    pub rejected: Option<u32>,
}

/// Whether the broker could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerState {
    /// One of its nodes answered.
    Reachable,
    /// None answered, or they refused.
    Unreachable,
}

/// A replica's queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Whether it could be asked.
    pub state: QueueState,
    /// How many messages are ready to be delivered.
    pub messages: Option<u32>,
    /// How many consumers it has.
    pub consumers: Option<u32>,
}

/// Whether a queue could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueState {
    /// It answered.
    Present,
    /// The broker has no such queue: the publisher declares it.
    Missing,
    /// It did not answer, the broker did not, or they refused.
    Unreachable,
}

/// Asks the broker, if there is one, for the queues of all replicas in the order of the configuration.
pub(super) async fn ask(config: &Config) -> Option<(Broker, Vec<Queue>)> {
    let broker = config.broker.as_ref()?;
    let names: Vec<String> =
        config.replicas.iter().map(|replica| queue_name(&broker.exchange, &replica.name)).collect();
    let rejected = queue_name(&broker.exchange, "rejected");
    let asking = async {
        let connection = connect_to_any(broker).await?;
        let queues = join_all(names.iter().map(|name| queue(&connection, name)));
        Ok(join(queues, queue(&connection, &rejected)).await)
    };
    Some(match within(LIMIT, "broker: asking for the queues", asking).await {
        Ok((queues, Queue { messages: rejected, .. })) => {
            (Broker { state: BrokerState::Reachable, error: None, rejected }, queues)
        }
        Err(error) => {
            let queues = names.iter().map(|name| untold(name, QueueState::Unreachable)).collect();
            let (state, error) = (BrokerState::Unreachable, Some(error.chain()));
            (Broker { state, error, rejected: None }, queues)
        }
    })
}

/// Connects to whichever node answers first: the first of them may be the one that is down.
async fn connect_to_any(broker: &config::Broker) -> Result<Connection> {
    let nodes = broker.urls.iter().map(|url| {
        let node = config::Broker { urls: vec![url.clone()], ..broker.clone() };
        let connecting = async move { connect(&node, "pgfanout status").await };
        Box::pin(connecting) as Pin<Box<dyn Future<Output = Result<Connection>>>>
    });
    Ok(select_ok(nodes).await?.0)
}

async fn queue(connection: &Connection, name: &str) -> Queue {
    match declare(connection, name).await {
        Ok((messages, consumers)) => Queue {
            name: name.to_owned(),
            state: QueueState::Present,
            messages: Some(messages),
            consumers: Some(consumers),
        },
        Err(error) if is_soft(&error, AMQPSoftError::NOTFOUND) => untold(name, QueueState::Missing),
        Err(_) => untold(name, QueueState::Unreachable),
    }
}

/// Declares nothing, but asks. On a channel of its own: one without that queue is closed by the broker.
async fn declare(connection: &Connection, name: &str) -> Result<(u32, u32)> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let doing = format!("asking for the queue {name}");
    let channel = connection.create_channel().await.map_err(Error::broker(&doing))?;
    let declared = channel.queue_declare(name.into(), passive, FieldTable::default()).await;
    let queue = declared.map_err(Error::broker(&doing))?;
    Ok((queue.message_count(), queue.consumer_count()))
}

fn untold(name: &str, state: QueueState) -> Queue {
    Queue { name: name.to_owned(), state, messages: None, consumers: None }
}
