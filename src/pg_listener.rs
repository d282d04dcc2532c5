//! The actor that listens to the primary: it wakes, cuts a batch, has it published, and sleeps again.
//! Without a broker it wakes the appliers instead, which read for themselves.

use std::{cell::Cell, rc::Rc, time::Duration};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, Addr, AsyncContext as _, AtomicResponse, Context, Handler,
    Message, Recipient, SpawnHandle, Supervised, WeakAddr, WrapFuture as _,
};

use crate::{
    applier::CatchUp,
    config::Config,
    error::{Error, Result},
    life::{Ending, Failed, Life},
    listening::{Listening, Next},
    publisher::Publisher,
    replicator::{Drain, SayStatus},
};

/// Something may have changed on the primary. A hint: the changelog is the truth.
#[derive(Message)]
#[rtype(result = "()")]
struct Wake;

/// See whether the connections to the primary live. Who only listens hears nothing from a dead one.
#[derive(Message)]
#[rtype(result = "()")]
struct Prove;

/// How often that is seen to, however seldom it looks for changes.
const PROVE_INTERVAL: Duration = Duration::from_secs(10);

/// Where changes go from here.
pub enum Downstream {
    /// Batches to the broker.
    Publisher(Addr<Publisher>),
    /// Hints to the appliers of all replicas.
    Appliers(Vec<Recipient<CatchUp>>),
}

/// The actor.
pub struct PgListener {
    config: Rc<Config>,
    downstream: Downstream,
    life: Life<Listening>,
    /// Whether a wake is on its way that a notification caused: one is enough for all.
    notified: Rc<Cell<bool>>,
    /// When it looks next without being woken.
    timer: Option<SpawnHandle>,
}

impl PgListener {
    /// A listener that sends changes downstream.
    #[must_use]
    pub fn new(config: Rc<Config>, downstream: Downstream, ending: Ending) -> Self {
        let life = Life::new("pg_listener", String::new(), ending);
        Self { config, downstream, life, notified: Rc::default(), timer: None }
    }

    fn connected(&mut self, result: Result<Listening>, context: &mut Context<Self>) {
        match result {
            Ok(session) => {
                self.life.begin(session);
                // Read before anything is waited for: what was notified before is not notified again.
                wake(context);
            }
            Err(error) => self.failed(Some(error), context),
        }
    }

    /// This life ends; `None` if it had ended already.
    fn failed(&mut self, error: Option<Error>, context: &mut Context<Self>) {
        if error.is_some_and(|error| self.life.fail(&error)) {
            context.stop();
        }
    }

    /// Looks again after a while, unless it is woken before.
    fn look_again(&mut self, after: Duration, context: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            context.cancel_future(timer);
        }
        if after.is_zero() {
            wake(context);
        } else {
            self.timer = Some(context.run_later(after, |_, context| wake(context)));
        }
    }
}

/// Wakes the listener when the primary notifies it.
pub struct Waker {
    listener: WeakAddr<PgListener>,
    notified: Rc<Cell<bool>>,
}

impl Waker {
    /// Wakes it, unless it is about to wake.
    pub fn wake(&self) {
        if !self.notified.replace(true) {
            let sent = self.listener.upgrade().map(|listener| listener.try_send(Wake));
            // A full mailbox holds wakes.
            self.notified.set(matches!(sent, Some(Ok(()))));
        }
    }
}

/// Through the address, so that it keeps its place behind the work at hand. A full mailbox holds wakes.
fn wake(context: &Context<PgListener>) {
    let _ = context.address().try_send(Wake);
}

impl Actor for PgListener {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(PROVE_INTERVAL, |_, context| {
            let _ = context.address().try_send(Prove);
        });
        let config = Rc::clone(&self.config);
        let waker = Waker { listener: context.address().downgrade(), notified: Rc::clone(&self.notified) };
        let connecting = self.life.connecting(async move { Listening::connect(&config, waker).await });
        context
            .wait(connecting.into_actor(self).map(|result, this, context| this.connected(result, context)));
    }
}

impl Supervised for PgListener {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.timer = None;
    }
}

impl Handler<Wake> for PgListener {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Wake, _: &mut Self::Context) -> Self::Result {
        self.notified.set(false);
        let (session, config) = (self.life.take(), Rc::clone(&self.config));
        let publisher = match &self.downstream {
            Downstream::Publisher(publisher) => Some(publisher.clone()),
            Downstream::Appliers(_) => None,
        };
        let working = async move {
            let mut session = session.map_err(|Failed| None)?;
            let next = session.step(&config, publisher.as_ref()).await.map_err(Some)?;
            Ok((session, next))
        };
        AtomicResponse::new(Box::pin(working.into_actor(self).map(|result, this, context| match result {
            Ok((session, next)) => {
                this.life.keep(session);
                if let (Next { changed: true, since, probed, .. }, Downstream::Appliers(appliers)) =
                    (next, &this.downstream)
                {
                    for applier in appliers {
                        // A full mailbox means that it has been told.
                        let _ = applier.try_send(CatchUp { probed, since });
                    }
                }
                this.look_again(next.after, context);
            }
            Err(error) => this.failed(error, context),
        })))
    }
}

impl Handler<Prove> for PgListener {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Prove, _: &mut Self::Context) -> Self::Result {
        let session = self.life.take();
        let proving = async move {
            let session = session.map_err(|Failed| None)?;
            session.prove().await.map_err(Some)?;
            Ok(session)
        };
        AtomicResponse::new(Box::pin(proving.into_actor(self).map(|result, this, context| match result {
            Ok(session) => this.life.keep(session),
            Err(error) => this.failed(error, context),
        })))
    }
}

/// Replaces those downstream, one of which had died.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Tell(pub Downstream);

impl Handler<Tell> for PgListener {
    type Result = ();

    fn handle(&mut self, Tell(downstream): Tell, _: &mut Self::Context) {
        self.downstream = downstream;
    }
}

impl Handler<Drain> for PgListener {
    type Result = AtomicResponse<Self, ()>;

    /// Ends cutting, and leaves the primary so that nobody notifies for nothing.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let session = self.life.take();
        let draining = async move {
            match session {
                Ok(session) => session.end().await,
                Err(Failed) => Ok(()),
            }
        };
        AtomicResponse::new(Box::pin(draining.into_actor(self).map(|result, _, _| {
            if let Err(error) = result {
                tracing::warn!(event = "drain_failed", stage = "pg_listener", "{}", error.chain());
            }
        })))
    }
}

impl Handler<SayStatus> for PgListener {
    type Result = ();

    fn handle(&mut self, _: SayStatus, _: &mut Self::Context) {
        if let Some(session) = self.life.session() {
            session.say_status();
        }
    }
}
