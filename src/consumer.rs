//! The actor that takes one replica's messages from the broker, has them applied, and acknowledges them.

use std::{collections::BTreeSet, rc::Rc, sync::Arc};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, Addr, AsyncContext as _, AtomicResponse, Context, Handler,
    Message, Supervised, Supervisor, WeakAddr, WrapFuture as _,
};
use actix_rt::task::JoinHandle;
use futures_util::StreamExt as _;
use lapin::message::Delivery;

use crate::{
    applier::{Applier, Apply, CatchUp, Serving, StandsBy},
    batch::Part,
    broker::{self, Deliveries},
    config::{self, Config},
    error::{Error, Result},
    life::{Ending, Failed, Life},
    replica::reading::Readings,
    replicator::{Drain, SayStatus, WATCH_INTERVAL},
};

/// How many messages are handed to the applier at once.
const MOST_AT_ONCE: usize = 16;

/// Messages that came, in the queue's order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliver(Result<Vec<Delivery>>);

/// The actor; it owns the applier of its replica.
pub struct Consumer {
    config: Rc<Config>,
    broker: config::Broker,
    replica: config::Replica,
    /// For its applier.
    readings: Readings,
    life: Life<Deliveries>,
    applier: Option<Addr<Applier>>,
    /// Takes deliveries from the library as fast as they are handled here.
    driver: Option<JoinHandle<()>>,
    /// Messages rejected since the start, and the reasons that were logged.
    rejected: u64,
    reasons: BTreeSet<String>,
    /// The queue holds a message that cannot be read: every connection would break on it.
    poisoned: bool,
}

impl Consumer {
    /// A consumer for one replica.
    #[must_use]
    pub fn new(
        config: Rc<Config>,
        broker: config::Broker,
        replica: config::Replica,
        readings: Readings,
        ending: Ending,
    ) -> Self {
        let life = Life::new("consumer", replica.name.clone(), ending);
        Self {
            config,
            broker,
            replica,
            readings,
            life,
            applier: None,
            driver: None,
            rejected: 0,
            reasons: BTreeSet::new(),
            poisoned: false,
        }
    }

    /// The applier, made anew if it died.
    fn applier(&mut self) -> Addr<Applier> {
        if let Some(applier) = self.applier.as_ref().filter(|applier| applier.connected()) {
            return applier.clone();
        }
        if self.applier.is_some() {
            let replica = &self.replica.name;
            tracing::error!(
                event = "actor_died",
                stage = "applier",
                replica,
                "an actor panicked; it is made anew"
            );
        }
        let (config, replica) = (Rc::clone(&self.config), self.replica.clone());
        let (readings, ending) = (self.readings.clone(), self.life.ending().clone());
        let applier = Supervisor::start(move |_| Applier::new(&config, replica, readings, ending));
        self.applier = Some(applier.clone());
        applier
    }

    fn connected(&mut self, result: Result<(Deliveries, lapin::Consumer)>, context: &mut Context<Self>) {
        match result {
            Ok((session, consumer)) => {
                self.life.begin(session);
                if std::mem::take(&mut self.poisoned) {
                    self.rejected += 1;
                    tracing::warn!(
                        event = "queue_emptied",
                        replica = self.replica.name,
                        "a message could not be read; its queue was emptied, and the replica catches up"
                    );
                }
                self.driver = Some(actix_rt::spawn(deliver(consumer, context.address().downgrade())));
                // What was published before the queue was bound, or lost since, has no message here.
                let _ = self.applier().try_send(CatchUp::default());
            }
            Err(error) => {
                if self.life.fail(&error) {
                    context.stop();
                }
            }
        }
    }

    fn note_rejected(&mut self, reasons: Vec<String>) {
        let replica = &self.replica.name;
        for reason in reasons {
            self.rejected += 1;
            // Once a kind: a flood of them must not flood the log.
            if self.reasons.len() < 100 && self.reasons.insert(reason.clone()) {
                tracing::warn!(
                    event = "message_rejected",
                    replica,
                    exchange = self.broker.exchange,
                    "{reason}; it went to the queue {}",
                    broker::queue_name(&self.broker.exchange, "rejected")
                );
            }
        }
    }
}

/// Hands deliveries to the consumer, the next ones when it has finished with the last.
async fn deliver(consumer: lapin::Consumer, address: WeakAddr<Consumer>) {
    let mut chunks = consumer.ready_chunks(MOST_AT_ONCE);
    loop {
        let deliveries = broker::next(&mut chunks).await;
        let ended = deliveries.is_err();
        let Some(address) = address.upgrade() else { return };
        if address.send(Deliver(deliveries)).await.is_err() || ended {
            return;
        }
    }
}

impl Actor for Consumer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let applier = self.applier();
        // actix tells nobody of a panic.
        context.run_interval(WATCH_INTERVAL, |this, _| drop(this.applier()));
        let (broker, name) = (self.broker.clone(), self.replica.name.clone());
        let (replicas, poisoned) = (self.config.replicas.len(), self.poisoned);
        let connecting = self.life.connecting(async move {
            // Only who applies takes messages: others stand by, or could do nothing with them.
            while !applier.send(Serving).await.map_err(|_| died())? {
                tokio::time::sleep(WATCH_INTERVAL).await;
            }
            Deliveries::connect(&broker, &name, replicas, poisoned).await
        });
        context
            .wait(connecting.into_actor(self).map(|result, this, context| this.connected(result, context)));
    }
}

impl Supervised for Consumer {
    fn restarting(&mut self, _: &mut Self::Context) {
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
    }
}

impl Handler<Deliver> for Consumer {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, Deliver(deliveries): Deliver, _: &mut Self::Context) -> Self::Result {
        let (session, applier, ending) = (self.life.take(), self.applier(), self.life.ending().clone());
        let working = async move {
            let session = session.map_err(|Failed| None)?;
            let reasons =
                handle(&session, &applier, &ending, deliveries.map_err(Some)?).await.map_err(Some)?;
            Ok::<_, Option<Error>>((session, reasons))
        };
        AtomicResponse::new(Box::pin(working.into_actor(self).map(|result, this, context| match result {
            Ok((session, reasons)) => {
                this.life.keep(session);
                this.note_rejected(reasons);
            }
            Err(None) => {}
            Err(Some(error)) => {
                this.poisoned |= error.is_unreadable();
                if this.life.fail(&error) {
                    context.stop();
                }
            }
        })))
    }
}

/// Has the messages applied, rejects what is no part of a batch, acknowledges the rest. Returns why
/// messages were rejected.
async fn handle(
    session: &Deliveries,
    applier: &Addr<Applier>,
    ending: &Ending,
    deliveries: Vec<Delivery>,
) -> Result<Vec<String>> {
    let (mut parts, mut tags, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for delivery in deliveries {
        match session.part(&delivery.properties, delivery.data) {
            Ok(part) => {
                parts.push(part);
                tags.push(delivery.delivery_tag);
            }
            Err(malformed) => {
                session.reject(delivery.delivery_tag).await?;
                reasons.push(malformed.to_string());
            }
        }
    }
    if !parts.is_empty() {
        let rejected = apply(applier, ending, Arc::new(parts)).await?;
        for (at, reason) in rejected.into_iter().rev() {
            // Rejected is settled: an acknowledgement of the same tag would close the channel.
            session.reject(tags.remove(at)).await?;
            reasons.push(reason);
        }
    }
    if let Some(&tag) = tags.last() {
        session.acknowledge(tag).await?;
    }
    Ok(reasons)
}

/// Offers the parts until the applier has them. It connects anew after each failure, with its own delay,
/// before it takes the next offer.
async fn apply(
    applier: &Addr<Applier>,
    ending: &Ending,
    parts: Arc<Vec<Part>>,
) -> Result<Vec<(usize, String)>> {
    loop {
        match applier.send(Apply(Arc::clone(&parts))).await {
            Ok(Ok(rejected)) => return Ok(rejected),
            Ok(Err(Failed)) if ending.is_told() => return Err(Error::Ending),
            Ok(Err(Failed)) => {
                // It would keep messages from the process that applies, or from the queue's own bounds.
                if let Some(reason) = applier.send(StandsBy).await.map_err(|_| died())? {
                    return Err(reason);
                }
            }
            Err(_) => return Err(died()),
        }
    }
}

fn died() -> Error {
    Error::Disconnected("the applier died".to_owned())
}

impl Handler<Drain> for Consumer {
    type Result = AtomicResponse<Self, ()>;

    /// Takes no more messages; those at hand were handled before, as the mailbox keeps its order.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let applier = self.applier();
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
        let draining = async move {
            let _ = applier.send(Drain).await;
        };
        AtomicResponse::new(Box::pin(draining.into_actor(self)))
    }
}

impl Handler<SayStatus> for Consumer {
    type Result = ();

    fn handle(&mut self, _: SayStatus, _: &mut Self::Context) {
        let (replica, connected) = (&self.replica.name, self.life.session().is_some());
        tracing::info!(
            event = "status",
            stage = "consumer",
            replica,
            connected,
            rejected = self.rejected,
            "messages rejected since the start"
        );
        let _ = self.applier().try_send(SayStatus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicator::tests::Panic;

    impl Handler<Panic> for Consumer {
        type Result = ();

        #[expect(clippy::panic, reason = "that is what is tested")]
        fn handle(&mut self, panic: Panic, _: &mut Context<Self>) {
            match panic {
                Panic::Applier => self.applier().do_send(panic),
                _ => panic!("{panic:?}"),
            }
        }
    }
}
