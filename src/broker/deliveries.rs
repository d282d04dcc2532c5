//! A consumer's connection: deliveries as they come, acknowledged when applied.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream::ReadyChunks};
use lapin::{
    BasicProperties, Channel, ChannelState, Connection, Consumer, ErrorKind,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, QueuePurgeOptions},
    types::FieldTable,
};

use super::{NoPart, channel, connect, declare, headers::part, queue_name};
use crate::{
    batch::{PART_BYTES, Part},
    config,
    error::{Error, Result},
    postgres::{ANSWER_LIMIT, within},
    secret::Secret,
};

/// How many messages may wait here unacknowledged at most: more than one transaction on the replica takes.
const PREFETCH: u64 = 16;

/// How many bytes may wait unacknowledged for all replicas together. One that is stuck holds its share.
const PREFETCH_BYTES: u64 = 32 << 20;

/// An acknowledgement hangs for ever on some broken links; the message comes again then.
const ACK_LIMIT: Duration = Duration::from_secs(10);

/// What it means when the link is there and the channel is not.
const CLOSED: &str = "broker: it closed the channel before a message was acknowledged, and the message comes again; if the \
    replica was held up for long, raise consumer_timeout in its rabbitmq.conf";

/// A connection that consumes one replica's queue.
pub struct Deliveries {
    /// Kept, since dropping it would close it.
    _connection: Connection,
    channel: Channel,
    /// Those that may have sealed a message; none: seals do not matter.
    keys: Vec<Secret>,
    /// How many bytes a body has at most.
    largest: usize,
}

impl Deliveries {
    /// Connects, declares the queue of a replica, one of so many, and begins to consume it, after `empty`ing it
    /// where it holds a message on which the last connection broke.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub async fn connect(
        broker: &config::Broker,
        replica: &str,
        replicas: usize,
        empty: bool,
    ) -> Result<(Self, Consumer)> {
        let name = format!("pgfanout consumer {replica}");
        let connection = connect(broker, &name).await?;
        let channel = channel(&connection).await?;
        declare(&channel, broker, &[replica.to_owned()]).await?;
        let queue = queue_name(&broker.exchange, replica);
        let consuming = async {
            if empty {
                let purged = channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default());
                purged.await.map_err(Error::broker(&format!("emptying {queue}")))?;
            }
            let qos = channel.basic_qos(prefetch(broker, replicas), BasicQosOptions::default());
            qos.await.map_err(Error::broker("setting the prefetch"))?;
            channel
                .basic_consume(
                    queue.as_str().into(),
                    name.as_str().into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await
                .map_err(Error::broker(&format!("consuming {queue}")))
        };
        let consumer = within(ANSWER_LIMIT, "broker: consuming", consuming).await?;
        let keys = broker.hmac_keys.clone();
        let largest =
            usize::try_from(broker.max_message_bytes).unwrap_or(usize::MAX).saturating_add(PART_BYTES);
        Ok((Self { _connection: connection, channel, keys, largest }, consumer))
    }

    /// The part that a message is.
    ///
    /// # Errors
    /// When it is none.
    pub fn part(&self, properties: &BasicProperties, body: Vec<u8>) -> Result<Part, NoPart> {
        part(properties, body, &self.keys, self.largest)
    }

    /// Acknowledges the delivery and all before it.
    ///
    /// # Errors
    /// When the link broke: the messages come again.
    pub async fn acknowledge(&self, tag: u64) -> Result<()> {
        within(ACK_LIMIT, "broker: acknowledging", async {
            let options = BasicAckOptions { multiple: true };
            self.channel.basic_ack(tag, options).await.map_err(|error| match error.kind() {
                ErrorKind::InvalidChannelState(ChannelState::Closed, _) => {
                    Error::Disconnected(CLOSED.to_owned())
                }
                _ => Error::broker("acknowledging")(error),
            })
        })
        .await
    }

    /// Sends one delivery to the queue for what is rejected.
    ///
    /// # Errors
    /// When the link broke: the message comes again.
    pub async fn reject(&self, tag: u64) -> Result<()> {
        let doing = "rejecting a message";
        within(ACK_LIMIT, "broker: rejecting a message", async {
            let options = BasicRejectOptions { requeue: false };
            self.channel.basic_reject(tag, options).await.map_err(Error::broker(doing))
        })
        .await
    }
}

/// How many messages one of so many replicas may hold.
fn prefetch(broker: &config::Broker, replicas: usize) -> u16 {
    let share = PREFETCH_BYTES / replicas.max(1) as u64;
    let messages = share / broker.max_message_bytes.max(PART_BYTES as u64);
    u16::try_from(messages.clamp(1, PREFETCH)).unwrap_or(1)
}

/// The next deliveries that are there, at least one, in the queue's order; an error when the link broke
/// or the queue is gone. That the consumer was cancelled its stream tells only once, perhaps right behind the last
/// delivery: the chunks remember it, and have to be the same ones as long as it lives.
///
/// # Errors
/// When there will be no more.
pub async fn next<T>(
    chunks: &mut ReadyChunks<impl Stream<Item = lapin::Result<T>> + Unpin>,
) -> Result<Vec<T>> {
    let chunk = chunks.next().await.unwrap_or_default();
    if chunk.is_empty() {
        return Err(Error::Disconnected("broker: the queue is gone, or consuming was cancelled".to_owned()));
    }
    chunk.into_iter().collect::<Result<_, _>>().map_err(Error::broker("consuming"))
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::{FutureExt as _, stream};

    use super::*;

    /// As a consumer does whose queue is deleted: it ends once, and says nothing after that.
    #[test]
    fn an_end_right_behind_a_delivery_is_not_missed() {
        let mut told = vec![Poll::Ready(None), Poll::Ready(Some(Ok(1)))];
        let consumer = stream::poll_fn(move |_| told.pop().unwrap_or(Poll::Pending));
        let mut chunks = consumer.ready_chunks(16);
        assert_eq!(next(&mut chunks).now_or_never().expect("it is there").expect("a delivery"), [1]);
        assert!(next(&mut chunks).now_or_never().expect("it is not waited for").is_err());
    }
}
