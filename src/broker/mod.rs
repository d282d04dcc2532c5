//! The broker: what pgfanout declares there, and its connections.
//!
//! Publishing and consuming have a connection each: a broker short of memory or disk stops reading from
//! whole connections. None of them recovers by itself; the actors do that, one way for all failures.

mod confirming;
mod deliveries;
mod encoding;
mod headers;
mod publishing;
mod seal;
mod shallow;
pub mod trial;

pub use confirming::Confirmed;
pub use deliveries::{Deliveries, next};
pub use headers::{NoPart, part};
pub use publishing::Publishing;
use shallow::Secured;

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use futures_util::TryFutureExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
    uri::{AMQPScheme, AMQPUri},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    config,
    error::{Error, Result},
    postgres::{ANSWER_LIMIT, within},
};

/// How long a silent link to the broker may stay unnoticed is twice this many seconds.
const HEARTBEAT_SECONDS: u16 = 10;

/// Whether the last connection got no answer at all.
static MUTE: AtomicBool = AtomicBool::new(false);

/// How large a frame is: the library keeps room for 32 of them in either direction of each
/// connection. The headers of a message have to fit into one.
const FRAME_BYTES: u32 = 64 << 10;

/// How much `EXCHANGE.rejected` keeps: enough to look into, never a burden.
const REJECTED_MAX_BYTES: i64 = 16 << 20;

/// How long a queue that nobody consumes stays: the broker removes that of a replica which was taken out of
/// the configuration. A replica that is away for longer catches up, which then costs less than its queue.
const QUEUE_EXPIRES: Duration = Duration::from_secs(24 * 60 * 60);

/// A replica's queue.
#[must_use]
pub fn queue_name(exchange: &str, replica: &str) -> String {
    format!("{exchange}.{replica}")
}

/// Connects to the first node that answers. `name` is shown in the broker's list of connections.
///
/// # Errors
/// That of the last node, when none answers.
pub async fn connect(broker: &config::Broker, name: &str) -> Result<Connection> {
    let mut failure = Error::Disconnected("broker: no address".to_owned());
    for url in &broker.urls {
        let mut uri = match url.logging_in() {
            Ok(uri) => uri,
            Err(error) => {
                failure = error;
                continue;
            }
        };
        let secured = broker.tls.clone().filter(|_| url.is_secured());
        let secured = secured.map(|config| Secured { config, host: uri.authority.host.clone() });
        // What the library sees is within TLS.
        uri.scheme = AMQPScheme::AMQP;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_BYTES);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let doing = format!("connecting to {url}");
        let connecting =
            async { Connection::connect_uri_with_runtime(uri, properties, shallow::runtime(secured)).await };
        let connecting = connecting.map_err(Error::broker(&doing));
        let connecting = async {
            // The library gives up no connection that was accepted and is not answered, nor its threads.
            if MUTE.load(Relaxed) {
                greet(&url.uri()).await?;
            }
            connecting.await
        };
        match within(ANSWER_LIMIT, &format!("broker: {doing}"), connecting).await {
            Ok(connection) => {
                MUTE.store(false, Relaxed);
                return Ok(connection);
            }
            Err(error) => {
                MUTE.fetch_or(matches!(error, Error::Timeout { .. }), Relaxed);
                failure = refused(url, error);
            }
        }
    }
    Err(failure)
}

/// Names the file where the password stands, if it is refused.
fn refused(url: &config::AmqpUrl, error: Error) -> Error {
    match (url.password_file(), error) {
        (Some(file), Error::Broker { doing, source }) if is_refused(&source) => {
            let file = file.display();
            let doing =
                format!("{doing} with the password in {file}, which is read each time: correct it there");
            Error::Broker { doing, source }
        }
        (_, error) => error,
    }
}

fn is_refused(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(why) if *why.kind() == AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED))
}

/// Waits for the first word of whoever listens there.
async fn greet(uri: &AMQPUri) -> Result<()> {
    let greeting = async {
        let mut stream = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.read_u8().await
    };
    greeting.await.map(drop).map_err(|error| Error::Disconnected(format!("broker: greeting it: {error}")))
}

async fn channel(connection: &Connection) -> Result<Channel> {
    let opening = async { connection.create_channel().await.map_err(Error::broker("opening a channel")) };
    within(ANSWER_LIMIT, "broker: opening a channel", opening).await
}

/// Declares the exchange, the queue for what is rejected, and the replica's queue bound to the exchange.
async fn declare(channel: &Channel, broker: &config::Broker, replicas: &[String]) -> Result<()> {
    let declaring = async {
        let exchange = broker.exchange.as_str();
        declare_exchange(channel, exchange).await?;
        let rejected = queue_name(exchange, "rejected");
        declare_queue(channel, &rejected, bounds(REJECTED_MAX_BYTES)).await?;
        for replica in replicas {
            let queue = queue_name(exchange, replica);
            declare_queue(channel, &queue, arguments(broker, &rejected)).await?;
            bind(channel, exchange, replica).await?;
        }
        Ok(())
    };
    within(ANSWER_LIMIT, "broker: declaring exchange and queues", declaring).await
}

async fn declare_exchange(channel: &Channel, exchange: &str) -> Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared =
        channel.exchange_declare(exchange.into(), ExchangeKind::Fanout, durable, FieldTable::default());
    declared
        .await
        .map_err(Error::broker(&format!("declaring the exchange {exchange} as fanout and durable")))
        .map_err(|error| unless_other(error, &format!("the exchange {exchange}")))
}

/// Binds a replica's queue to the exchange; nothing if it is.
async fn bind(channel: &Channel, exchange: &str, replica: &str) -> Result<()> {
    let (queue, options) = (queue_name(exchange, replica), QueueBindOptions::default());
    let bound =
        channel.queue_bind(queue.as_str().into(), exchange.into(), "".into(), options, FieldTable::default());
    bound.await.map_err(Error::broker(&format!("binding the queue {queue}")))
}

/// Deletes the replicas' queues, the queue for what was rejected, and the exchange. What is not there does
/// no harm.
///
/// # Errors
/// When the broker cannot be reached or refuses.
pub async fn remove(broker: &config::Broker, replicas: &[String]) -> Result<()> {
    let connection = connect(broker, "pgfanout uninstall").await?;
    let channel = channel(&connection).await?;
    let removing = async {
        for replica in replicas.iter().map(String::as_str).chain(["rejected"]) {
            delete_queue(&channel, &broker.exchange, replica).await?;
        }
        let deleted =
            channel.exchange_delete(broker.exchange.as_str().into(), ExchangeDeleteOptions::default());
        deleted.await.map_err(Error::broker("deleting the exchange"))
    };
    within(ANSWER_LIMIT, "broker: removing exchange and queues", removing).await
}

/// Deletes a replica's queue. That there is none does no harm.
///
/// # Errors
/// When the broker cannot be reached or refuses.
pub async fn remove_queue(broker: &config::Broker, replica: &str) -> Result<()> {
    let connection = connect(broker, "pgfanout uninstall").await?;
    let channel = channel(&connection).await?;
    let removing = delete_queue(&channel, &broker.exchange, replica);
    within(ANSWER_LIMIT, "broker: removing a queue", removing).await
}

async fn delete_queue(channel: &Channel, exchange: &str, name: &str) -> Result<()> {
    let queue = queue_name(exchange, name);
    let deleted = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
    deleted.await.map(drop).map_err(Error::broker(&format!("deleting the queue {queue}")))
}

async fn declare_queue(channel: &Channel, name: &str, arguments: FieldTable) -> Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(name.into(), durable, arguments).await;
    declared
        .map(drop)
        .map_err(Error::broker(&format!("declaring the queue {name}")))
        .map_err(|error| unless_other(error, &format!("the queue {name}")))
}

/// What is there already with other settings stays so until somebody deletes it.
fn unless_other(error: Error, what: &str) -> Error {
    if !is_soft(&error, AMQPSoftError::PRECONDITIONFAILED) {
        return error;
    }
    let remedy = "delete it at the broker: it is declared anew, and what it held is caught up";
    Error::Unfit(format!("broker: {what} has other settings than the configuration; {remedy}"))
}

/// Whether the broker refused for this reason, which ends a channel but not the connection.
pub(crate) fn is_soft(error: &Error, reason: AMQPSoftError) -> bool {
    let Error::Broker { source, .. } = error else { return false };
    matches!(source.kind(), ErrorKind::ProtocolError(refusal) if *refusal.kind() == AMQPErrorKind::Soft(reason))
}

/// What is dropped from a full queue is caught up from the primary.
fn bounds(max_bytes: i64) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(max_bytes));
    table.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    table
}

fn arguments(broker: &config::Broker, rejected: &str) -> FieldTable {
    let mut table = bounds(i64::try_from(broker.queue_max_bytes).unwrap_or(i64::MAX));
    let queue_type = match broker.queue_type {
        config::QueueType::Classic => "classic",
        config::QueueType::Quorum => "quorum",
    };
    let expires = i64::try_from(QUEUE_EXPIRES.as_millis()).unwrap_or(i64::MAX);
    table.insert("x-expires".into(), AMQPValue::LongLongInt(expires));
    table.insert("x-queue-type".into(), AMQPValue::LongString(queue_type.into()));
    table.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
    table.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(rejected.into()));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_is_bounded_in_size_and_in_time() {
        let broker = config::Broker {
            urls: Vec::new(),
            tls: None,
            exchange: "x".to_owned(),
            max_changes_per_message: 1,
            max_message_bytes: 1,
            queue_type: config::QueueType::Quorum,
            queue_max_bytes: 4096,
            confirm_window: 1,
            linger: std::time::Duration::ZERO,
            compression: config::Compression::None,
            hmac_keys: Vec::new(),
        };
        let arguments = arguments(&broker, "x.rejected");
        let is =
            |name: &str, value: AMQPValue| assert_eq!(arguments.inner().get(name), Some(&value), "{name}");
        let text = |text: &str| AMQPValue::LongString(text.into());
        is("x-max-length-bytes", AMQPValue::LongLongInt(4096));
        is("x-overflow", text("drop-head"));
        is("x-expires", AMQPValue::LongLongInt(86_400_000));
        is("x-queue-type", text("quorum"));
        is("x-dead-letter-routing-key", text("x.rejected"));
        assert!(bounds(1).inner().get("x-max-length-bytes").is_some(), "that of what is rejected, too");
    }
}
