//! The actor that hands batches to the broker, and tells when the broker has them safe.

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, AtomicResponse, Context, Handler,
    Message, MessageResponse, Supervised, WrapFuture as _,
};

use crate::{
    batch::Part,
    broker::{Confirmed, Publishing},
    config,
    error::{Error, Result},
    life::{Ending, Failed, Life},
    replicator::SayStatus,
};

/// Asks whether a batch could be published now; answered once the publisher is connected.
#[derive(Message)]
#[rtype(result = "Readiness")]
pub struct Ready;

/// Whether a batch could be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, MessageResponse)]
pub enum Readiness {
    /// It could.
    Ready,
    /// The broker is short of memory or disk, and accepts nothing until it has some again.
    Blocked,
    /// There is no connection to the broker.
    Disconnected,
}

impl Readiness {
    /// The `application_name` by which the session of the publisher's seat shows it, for `status`; as
    /// `status.sql` has it.
    #[must_use]
    pub const fn shown(self) -> &'static str {
        match self {
            Self::Ready => "pgfanout seat publisher",
            Self::Blocked => "pgfanout seat publisher: broker blocked",
            Self::Disconnected => "pgfanout seat publisher: broker not connected",
        }
    }
}

/// Publishes a part of a batch. The answer to the last part hears that the broker has the whole batch, while others
/// may be published; after a failure none of it may be taken as published.
#[derive(Message)]
#[rtype(result = "Result<Option<Confirmed>, Failed>")]
pub struct Publish(pub Part);

/// Makes sure that what is published reaches every queue.
#[derive(Message)]
#[rtype(result = "()")]
struct Bind;

/// What holds the publisher up, with the remedy.
pub const BLOCKED: &str = "the broker accepts no messages: it is short of memory or disk; its log and \
                           `rabbitmq-diagnostics alarms` tell which: free some, or raise its limit";

/// The actor.
pub struct Publisher {
    broker: config::Broker,
    replicas: Vec<String>,
    life: Life<Publishing>,
    /// Whether it was said that the broker accepts nothing.
    blocked: bool,
    batches: u64,
    bytes: u64,
}

impl Publisher {
    /// A publisher for these replicas.
    #[must_use]
    pub fn new(broker: config::Broker, replicas: Vec<String>, ending: Ending) -> Self {
        let life = Life::new("publisher", String::new(), ending);
        Self { broker, replicas, life, blocked: false, batches: 0, bytes: 0 }
    }

    /// The session is gone, for a reason that was said already if there is none here.
    fn fail(&mut self, error: Option<Error>, context: &mut Context<Self>) {
        if error.is_none_or(|error| self.life.fail(&error)) {
            context.stop();
        }
    }

    /// Says when the broker begins and ends to accept nothing.
    fn note_blocked(&mut self, blocked: bool) {
        if std::mem::replace(&mut self.blocked, blocked) == blocked {
            return;
        }
        if blocked {
            tracing::warn!(
                event = "broker_blocked",
                stage = "publisher",
                "{BLOCKED}; changes wait on the primary, and nothing is lost"
            );
        } else {
            tracing::info!(
                event = "broker_unblocked",
                stage = "publisher",
                "the broker accepts messages again"
            );
        }
    }
}

impl Actor for Publisher {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let (broker, replicas) = (self.broker.clone(), self.replicas.clone());
        let connecting = self.life.connecting(async move { Publishing::connect(&broker, &replicas).await });
        context.wait(connecting.into_actor(self).map(|result, this, context| match result {
            Ok(session) => this.life.begin(session),
            Err(error) => {
                if this.life.fail(&error) {
                    context.stop();
                }
            }
        }));
    }
}

impl Supervised for Publisher {}

impl Handler<Ready> for Publisher {
    type Result = AtomicResponse<Self, Readiness>;

    fn handle(&mut self, _: Ready, _: &mut Self::Context) -> Self::Result {
        let session = self.life.take();
        let checking = async move {
            let session = session.map_err(|Failed| None)?;
            // Nothing is published until it is ready, and so nobody else would notice what fails here.
            session.check().map_err(Some)?;
            Ok::<_, Option<Error>>(session)
        };
        AtomicResponse::new(Box::pin(checking.into_actor(self).map(|result, this, context| match result {
            Ok(session) => {
                let blocked = session.is_blocked();
                this.note_blocked(blocked);
                this.life.put_back(session);
                if blocked { Readiness::Blocked } else { Readiness::Ready }
            }
            Err(error) => {
                if error.is_some() {
                    this.fail(error, context);
                }
                Readiness::Disconnected
            }
        })))
    }
}

impl Handler<Publish> for Publisher {
    type Result = AtomicResponse<Self, Result<Option<Confirmed>, Failed>>;

    fn handle(&mut self, Publish(part): Publish, _: &mut Self::Context) -> Self::Result {
        let session = self.life.take();
        let publishing = async move {
            let mut session = session.map_err(|Failed| None)?;
            match session.publish(&part).await {
                Ok(confirmed) => Ok((session, Ok((confirmed, part.body.len() as u64)))),
                // The connection is good, and tells when the broker accepts messages again: a new one
                // would have to publish to find out.
                Err(Error::Blocked) => Ok((session, Err(Failed))),
                Err(error) => Err(Some(error)),
            }
        };
        AtomicResponse::new(Box::pin(publishing.into_actor(self).map(|result, this, context| match result {
            Ok((session, Err(Failed))) => {
                this.life.put_back(session);
                this.note_blocked(true);
                Err(Failed)
            }
            Ok((session, Ok((confirmed, bytes)))) => {
                if confirmed.is_some() && session.is_to_bind() {
                    let _ = context.address().try_send(Bind);
                }
                this.batches += u64::from(confirmed.is_some());
                this.bytes += bytes;
                match session.has_confirmed() {
                    true => this.life.keep(session),
                    false => this.life.put_back(session),
                }
                Ok(confirmed)
            }
            Err(error) => {
                this.fail(error, context);
                Err(Failed)
            }
        })))
    }
}

impl Handler<Bind> for Publisher {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Bind, _: &mut Self::Context) -> Self::Result {
        let session = self.life.take();
        let binding = async move {
            let mut session = session.map_err(|Failed| None)?;
            session.bind().await.map_err(Some)?;
            Ok::<_, Option<Error>>(session)
        };
        AtomicResponse::new(Box::pin(binding.into_actor(self).map(|result, this, context| match result {
            Ok(session) => this.life.put_back(session),
            Err(error) => {
                if error.is_some() {
                    this.fail(error, context);
                }
            }
        })))
    }
}

impl Handler<SayStatus> for Publisher {
    type Result = ();

    fn handle(&mut self, _: SayStatus, _: &mut Self::Context) {
        let blocked = self.life.session().is_some_and(Publishing::is_blocked);
        let ready = self.life.session().is_some() && !blocked;
        let (batches, bytes) = (std::mem::take(&mut self.batches), std::mem::take(&mut self.bytes));
        tracing::info!(
            event = "status",
            stage = "publisher",
            ready,
            blocked,
            batches,
            bytes,
            "batches published since the last status"
        );
    }
}
