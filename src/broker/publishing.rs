//! The publisher's connection: confirmed, mandatory, persistent, a window of messages on the way.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::try_join_all;
use lapin::{
    Channel, Confirmation, Connection, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use super::{bind, channel, connect, declare, headers::properties};
use crate::{
    batch::Part,
    config,
    error::{Error, Result},
    postgres::{ANSWER_LIMIT, within},
    secret::Secret,
};

/// How long a message may wait for the broker's word.
const CONFIRM_LIMIT: Duration = Duration::from_secs(60);

/// How often to look whether the broker, while it owes a word, has told that it accepts nothing.
const BLOCKED_INTERVAL: Duration = Duration::from_secs(1);

/// How often, at most, the queues are bound again: somebody may have taken a binding, a queue or the
/// exchange away, and as long as one queue is left the broker does not say so. What is lost until then is caught up.
const BIND_INTERVAL: Duration = Duration::from_secs(5);

/// A connection that publishes.
pub struct Publishing {
    connection: Connection,
    channel: Channel,
    exchange: String,
    replicas: Vec<String>,
    bound: Instant,
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
        Ok(Self {
            connection,
            channel,
            exchange: broker.exchange.clone(),
            replicas: replicas.to_vec(),
            bound: Instant::now(),
            unconfirmed: VecDeque::new(),
            window: broker.confirm_window,
            key: broker.hmac_keys.first().cloned(),
        })
    }

    /// Whether the broker is short of memory or disk, and accepts no messages on this connection.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Whether the connection is there.
    ///
    /// # Errors
    /// When it is gone.
    pub fn check(&self) -> Result<()> {
        match self.connection.status().connected() {
            true => Ok(()),
            false => Err(Error::Disconnected("broker: the publisher's connection broke".to_owned())),
        }
    }

    /// Whether it is time to [`bind`](Self::bind).
    #[must_use]
    pub fn is_to_bind(&self) -> bool {
        !self.is_blocked() && self.bound.elapsed() >= BIND_INTERVAL
    }

    /// Makes sure that what is published reaches every queue.
    ///
    /// # Errors
    /// When the connection is gone, or a queue or the exchange: all is declared by the next connection.
    pub async fn bind(&mut self) -> Result<()> {
        if !self.is_to_bind() {
            return Ok(());
        }
        let (channel, exchange) = (&self.channel, &self.exchange);
        let binding = try_join_all(self.replicas.iter().map(|replica| bind(channel, exchange, replica)));
        within(ANSWER_LIMIT, "broker: binding the queues", binding).await?;
        self.bound = Instant::now();
        Ok(())
    }

    /// Forgets what was published: its batch is given up.
    pub fn abandon(&mut self) {
        self.unconfirmed.clear();
    }

    /// Publishes a part, and waits for the oldest confirm when the window is full.
    ///
    /// # Errors
    /// When the link breaks, or an earlier message was refused or reached no queue; [`Error::Blocked`] when
    /// the broker accepts nothing: the connection is good then, and what was sent arrives later.
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
        let publishing = within(CONFIRM_LIMIT, "broker: publishing", publishing);
        let confirm = unless_blocked(&self.connection, publishing).await?;
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
        let doing = format!("broker: {doing}");
        match unless_blocked(&self.connection, within(CONFIRM_LIMIT, &doing, confirming)).await? {
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

/// Waits for the broker's word, but not for that of one which says nothing until it has memory or disk again.
async fn unless_blocked<T>(connection: &Connection, work: impl Future<Output = Result<T>>) -> Result<T> {
    let blocked = async {
        while !connection.status().blocked() {
            tokio::time::sleep(BLOCKED_INTERVAL).await;
        }
    };
    tokio::select! {
        biased;
        result = work => result,
        () = blocked => Err(Error::Blocked),
    }
}
