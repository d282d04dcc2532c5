//! The publisher's connection: confirmed, mandatory, persistent, a window of messages on the way.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::try_join_all;
use lapin::{
    Channel, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use super::{
    bind, channel,
    confirming::{CONFIRM_LIMIT, Confirmed, Confirming, unless_blocked},
    connect, declare,
    encoding::Encoder,
    headers::properties,
};
use crate::{
    batch::Part,
    config,
    error::{Error, Result},
    postgres::{ANSWER_LIMIT, within},
    secret::Secret,
};

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
    confirming: Confirming,
    encoder: Encoder,
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
        let confirming = Confirming::new(connection.status().clone(), broker.confirm_window);
        Ok(Self {
            connection,
            channel,
            confirming,
            exchange: broker.exchange.clone(),
            replicas: replicas.to_vec(),
            bound: Instant::now(),
            encoder: Encoder::new(broker.compression)?,
            key: broker.hmac_keys.first().cloned(),
        })
    }

    /// Whether the broker is short of memory or disk, and accepts no messages on this connection.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Whether the connection is there, and all that was published on it is accepted as far as the broker has told.
    ///
    /// # Errors
    /// When it is gone, or a message was refused or reached no queue.
    pub fn check(&self) -> Result<()> {
        self.confirming.check()?;
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

    /// Whether the broker has accepted anything on this connection.
    #[must_use]
    pub fn has_confirmed(&self) -> bool {
        self.confirming.has_confirmed()
    }

    /// Publishes a part, once there is room in the window. With the last part of a batch it returns who hears that the
    /// broker has all of it.
    ///
    /// # Errors
    /// When the link breaks, or an earlier message was refused or reached no queue; [`Error::Blocked`] when
    /// the broker accepts nothing: the connection is good then, and what was sent arrives later.
    pub async fn publish(&mut self, part: &Part) -> Result<Option<Confirmed>> {
        if part.number == 0 {
            self.confirming.begin();
        }
        let room = self.confirming.room().await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let (body, encoding) = self.encoder.encode(&part.body);
        let properties = properties(part, (&body, encoding), now, self.key.as_ref());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = self.exchange.as_str();
        let publishing = async {
            let sent = self.channel.basic_publish(exchange.into(), "".into(), options, &body, properties);
            sent.await.map_err(Error::broker("publishing"))
        };
        let publishing = within(CONFIRM_LIMIT, "broker: publishing", publishing);
        let confirm = unless_blocked(self.connection.status(), publishing).await?;
        self.confirming.owe(room, confirm, part.last)
    }
}
