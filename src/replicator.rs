//! The root: it starts the actors that the configuration asks for, sees that they live, and ends them in
//! order.

use std::{rc::Rc, time::Duration};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, Addr, AsyncContext as _, Context, Handler, Message,
    Recipient, ResponseActFuture, Supervisor, WrapFuture as _,
};

use actix_rt::task::JoinHandle;
use tokio::sync::watch;

use crate::{
    applier::{Applier, CatchUp},
    config::{self, Config},
    consumer::Consumer,
    life::Ending,
    pg_listener::{Downstream, PgListener, Tell},
    publisher::Publisher,
    replica::reading::Readings,
    verify::schedule::verify_when_due,
};

/// How often an owner looks whether its actors live: actix tells nobody of a panic.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How often every stage says how it is; that a stage says nothing is an alarm.
const STATUS_INTERVAL: Duration = Duration::from_secs(30);

/// Finish what you hold and take no more; the answer means that it is done.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

/// Say in the log how you are.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SayStatus;

/// The actor.
pub struct Replicator {
    config: Rc<Config>,
    listener: Option<Addr<PgListener>>,
    publisher: Option<Addr<Publisher>>,
    replicas: Vec<Side>,
    /// What the copies to all replicas read.
    readings: Readings,
    /// Verifies replicas, where that is wanted.
    verifying: Option<JoinHandle<()>>,
    /// Tells stages that wait for a server that the root ends.
    tell: watch::Sender<bool>,
    hear: Ending,
}

/// A replica's side: its first actor.
enum Side {
    Consumer(config::Replica, Addr<Consumer>),
    Applier(config::Replica, Addr<Applier>),
}

impl Replicator {
    /// A root for everything in the configuration.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let (tell, hear) = Ending::channel();
        Self {
            config: Rc::new(config),
            listener: None,
            publisher: None,
            replicas: Vec::new(),
            readings: Readings::default(),
            verifying: None,
            tell,
            hear,
        }
    }

    fn start_publisher(&self, broker: &config::Broker) -> Addr<Publisher> {
        let names = self.config.replicas.iter().map(|replica| replica.name.clone()).collect();
        let (broker, ending) = (broker.clone(), self.hear.clone());
        Supervisor::start(move |_| Publisher::new(broker, names, ending))
    }

    fn start_listener(&self) -> Addr<PgListener> {
        let downstream = match &self.publisher {
            Some(publisher) => Downstream::Publisher(publisher.clone()),
            None => Downstream::Appliers(self.appliers()),
        };
        let (config, ending) = (Rc::clone(&self.config), self.hear.clone());
        Supervisor::start(move |_| PgListener::new(config, downstream, ending))
    }

    fn start_side(&self, replica: config::Replica) -> Side {
        let (config, of) = (Rc::clone(&self.config), replica.clone());
        let (readings, ending) = (self.readings.clone(), self.hear.clone());
        match self.config.broker.clone() {
            Some(broker) => {
                let consumer = move |_: &mut _| Consumer::new(config, broker, of, readings, ending);
                Side::Consumer(replica, Supervisor::start(consumer))
            }
            None => {
                let applier = move |_: &mut _| Applier::new(&config, of, readings, ending);
                Side::Applier(replica, Supervisor::start(applier))
            }
        }
    }

    fn start_verifying(&self) -> Option<JoinHandle<()>> {
        let verify = self.config.verify?;
        Some(actix_rt::spawn(verify_when_due(Rc::clone(&self.config), verify)))
    }

    /// Those that are woken when there is no broker.
    fn appliers(&self) -> Vec<Recipient<CatchUp>> {
        let applier = |side: &Side| match side {
            Side::Applier(_, applier) => Some(applier.clone().recipient()),
            Side::Consumer(..) => None,
        };
        self.replicas.iter().filter_map(applier).collect()
    }

    /// Makes anew what died.
    fn watch(&mut self) {
        if let (Some(publisher), Some(broker)) = (&self.publisher, self.config.broker.clone())
            && !publisher.connected()
        {
            died("publisher", "");
            let publisher = self.start_publisher(&broker);
            self.tell(Downstream::Publisher(publisher.clone()));
            self.publisher = Some(publisher);
        }
        if self.listener.as_ref().is_some_and(|listener| !listener.connected()) {
            died("pg_listener", "");
            self.listener = Some(self.start_listener());
        }
        if self.verifying.as_ref().is_some_and(JoinHandle::is_finished) {
            died("verify", "");
            self.verifying = self.start_verifying();
        }
        let mut changed = false;
        for at in 0..self.replicas.len() {
            let Some((stage, replica)) = self.replicas.get(at).and_then(Side::dead) else { continue };
            died(stage, &replica.name);
            let side = self.start_side(replica);
            if let Some(place) = self.replicas.get_mut(at) {
                *place = side;
            }
            changed = true;
        }
        if changed && self.publisher.is_none() {
            self.tell(Downstream::Appliers(self.appliers()));
        }
    }

    /// The listener goes on with others downstream; its timers would keep one alive that was replaced.
    fn tell(&self, downstream: Downstream) {
        if let Some(listener) = &self.listener {
            // Also into a full mailbox: it is told once.
            listener.do_send(Tell(downstream));
        }
    }

    fn say_status(&self) {
        let listener = self.listener.iter().map(|address| address.clone().recipient());
        let publisher = self.publisher.iter().map(|address| address.clone().recipient());
        let sides = self.replicas.iter().map(|side| match side {
            Side::Consumer(_, consumer) => consumer.clone().recipient(),
            Side::Applier(_, applier) => applier.clone().recipient(),
        });
        for stage in listener.chain(publisher).chain(sides) {
            let stage: Recipient<SayStatus> = stage;
            let _ = stage.try_send(SayStatus);
        }
    }
}

impl Side {
    /// The replica, if the actor died.
    fn dead(&self) -> Option<(&'static str, config::Replica)> {
        match self {
            Self::Consumer(replica, consumer) if !consumer.connected() => Some(("consumer", replica.clone())),
            Self::Applier(replica, applier) if !applier.connected() => Some(("applier", replica.clone())),
            _ => None,
        }
    }
}

fn died(stage: &str, replica: &str) {
    tracing::error!(event = "actor_died", stage, replica, "a part of this process panicked; it is made anew");
}

impl Actor for Replicator {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.replicas =
            self.config.replicas.clone().into_iter().map(|replica| self.start_side(replica)).collect();
        self.publisher = self.config.broker.as_ref().map(|broker| self.start_publisher(broker));
        self.listener = Some(self.start_listener());
        self.verifying = self.start_verifying();
        context.run_interval(WATCH_INTERVAL, |this, _| this.watch());
        context.run_interval(STATUS_INTERVAL, |this, _| this.say_status());
    }
}

impl Handler<Drain> for Replicator {
    type Result = ResponseActFuture<Self, ()>;

    /// Sources first: nothing new is cut, then what was taken from the queues is applied.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        if let Some(verifying) = self.verifying.take() {
            verifying.abort();
        }
        // An error means that nobody is there to hear it.
        let _ = self.tell.send(true);
        let listener = self.listener.take();
        let sides = std::mem::take(&mut self.replicas);
        let draining = async move {
            if let Some(listener) = listener {
                let _ = listener.send(Drain).await;
            }
            let sides = sides.into_iter().map(|side| async move {
                let _ = match side {
                    Side::Consumer(_, consumer) => consumer.send(Drain).await,
                    Side::Applier(_, applier) => applier.send(Drain).await,
                };
            });
            futures_util::future::join_all(sides).await;
        };
        Box::pin(draining.into_actor(self).map(|(), _, context| {
            // Its timers would keep it alive.
            context.stop();
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests;
