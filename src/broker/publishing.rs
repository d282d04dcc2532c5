//! The publisher's connection: confirmed, mandatory, persistent, a window of messages on the way.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lapin::{
    Channel, Confirmation, Connection, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use super::{channel, connect, declare, headers::properties};
use crate::{
    batch::Part,
    config,
    error::{Error, Result},
    postgres::{ANSWER_LIMIT, within},
    secret::Secret,
};

/// How long a message may wait for the broker's word. A broker short of memory or disk says nothing for
/// as long as it is; the batch is given up then, and cut again when the broker is well.
const CONFIRM_LIMIT: Duration = Duration::from_secs(60);

/// A connection that publishes.
pub struct Publishing {
    connection: Connection,
    channel: Channel,
    exchange: String,
    /// Published and not confirmed yet, oldest first.
    unconfirmed: VecDeque<PublisherConfirm>,
    /// How many may be unconfirmed.
    window: usize,
    /// What messages are sealed with.
    key: Option<Secret>,
}

impl Publishing {
    /// Connects, declares the exchange and the replicas' queues, and asks for confirms.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub async fn connect(broker: &config::Broker, replicas: &[String]) -> Result<Self> {
        let connection = connect(broker, "pgfanout publisher").await?;
        let channel = channel(&connection).await?;
        declare(&channel, broker, replicas).await?;
        let doing = "asking for confirms";
        within(ANSWER_LIMIT, &format!("broker: {doing}"), async {
            channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(Error::broker(doing))
        })
        .await?;
        let (exchange, window) = (broker.exchange.clone(), broker.confirm_window);
        let key = broker.hmac_keys.first().cloned();
        Ok(Self { connection, channel, exchange, unconfirmed: VecDeque::new(), window, key })
    }

    /// Whether the connection is gone; it does not come back.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        !self.connection.status().connected()
    }

    /// Whether the broker accepts messages now: it is there, and not short of memory or disk.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.connection.status().connected() && !self.connection.status().blocked()
    }

    /// Publishes a part, and waits for the oldest confirm when the window is full.
    ///
    /// # Errors
    /// When the link breaks, or an earlier message was refused or reached no queue.
    pub async fn publish(&mut self, part: &Part) -> Result<()> {
        while self.unconfirmed.len() >= self.window {
            self.confirm_oldest().await?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let properties = properties(part, now, self.key.as_ref());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = self.exchange.as_str();
        let publishing = async {
            let sent =
                self.channel.basic_publish(exchange.into(), "".into(), options, &part.body, properties);
            sent.await.map_err(Error::broker("publishing"))
        };
        let confirm = within(CONFIRM_LIMIT, "broker: publishing", publishing).await?;
        self.unconfirmed.push_back(confirm);
        Ok(())
    }

    /// Waits until all that was published is confirmed.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn confirm_all(&mut self) -> Result<()> {
        while !self.unconfirmed.is_empty() {
            self.confirm_oldest().await?;
        }
        Ok(())
    }

    async fn confirm_oldest(&mut self) -> Result<()> {
        let Some(confirm) = self.unconfirmed.pop_front() else { return Ok(()) };
        let doing = "waiting for a confirm";
        let confirming = async { confirm.await.map_err(Error::broker(doing)) };
        match within(CONFIRM_LIMIT, &format!("broker: {doing}"), confirming).await? {
            // An acknowledged message that comes back reached no queue at all.
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err(Error::Disconnected(
                "broker: a message reached no queue; the queues are declared again".to_owned(),
            )),
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                Err(Error::Disconnected("broker: a message was not accepted".to_owned()))
            }
        }
    }
}
