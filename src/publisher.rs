//! The actor that hands batches to the broker, and answers when the broker has them safe.

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, AtomicResponse, Context, Handler,
    Message, Supervised, WrapFuture as _,
};

use crate::{
    batch::Part,
    broker::Publishing,
    config,
    error::{Error, Result},
    life::{Ending, Failed, Life},
    replicator::SayStatus,
};

/// Asks whether a batch could be published now; answered once the publisher is connected.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Ready;

/// Publishes a part of a batch. The answer to the last part means that the broker has the whole batch;
/// after a failure none of it may be taken as published.
#[derive(Message)]
#[rtype(result = "Result<(), Failed>")]
pub struct Publish(pub Part);

/// The actor.
pub struct Publisher {
    broker: config::Broker,
    replicas: Vec<String>,
    life: Life<Publishing>,
    batches: u64,
    bytes: u64,
}

impl Publisher {
    /// A publisher for these replicas.
    #[must_use]
    pub fn new(broker: config::Broker, replicas: Vec<String>, ending: Ending) -> Self {
        Self { broker, replicas, life: Life::new("publisher", String::new(), ending), batches: 0, bytes: 0 }
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
    type Result = bool;

    fn handle(&mut self, _: Ready, context: &mut Self::Context) -> bool {
        let Some(session) = self.life.session() else { return false };
        if session.is_lost() {
            // Nothing would be published until it is ready, and so nobody else would notice.
            let error = Error::Disconnected("broker: the publisher's connection broke".to_owned());
            if self.life.fail(&error) {
                context.stop();
            }
            return false;
        }
        session.is_ready()
    }
}

impl Handler<Publish> for Publisher {
    type Result = AtomicResponse<Self, Result<(), Failed>>;

    fn handle(&mut self, Publish(part): Publish, _: &mut Self::Context) -> Self::Result {
        let session = self.life.take();
        let publishing = async move {
            let mut session = session.map_err(|Failed| None)?;
            let published = async {
                session.publish(&part).await?;
                if part.last { session.confirm_all().await } else { Ok(()) }
            };
            published.await.map_err(Some)?;
            Ok::<_, Option<Error>>((session, u64::from(part.last), part.body.len() as u64))
        };
        AtomicResponse::new(Box::pin(publishing.into_actor(self).map(|result, this, context| match result {
            Ok((session, batches, bytes)) => {
                this.life.keep(session);
                this.batches += batches;
                this.bytes += bytes;
                Ok(())
            }
            Err(error) => {
                if error.is_none_or(|error| this.life.fail(&error)) {
                    context.stop();
                }
                Err(Failed)
            }
        })))
    }
}

impl Handler<SayStatus> for Publisher {
    type Result = ();

    fn handle(&mut self, _: SayStatus, _: &mut Self::Context) {
        let ready = self.life.session().is_some_and(Publishing::is_ready);
        let (batches, bytes) = (std::mem::take(&mut self.batches), std::mem::take(&mut self.bytes));
        tracing::info!(
            event = "status",
            stage = "publisher",
            ready,
            batches,
            bytes,
            "batches published since the last status"
        );
    }
}
