//! A panic in an actor is not seen by actix; its owner sees it.

use std::time::Duration;

use actix::{Actor as _, Addr, Context, Handler, Message};
use pgfanout_testbed::{compare, eventually, world::World};

use super::{Replicator, Side};
use crate::{applier::Applier, config::Config, pg_listener::PgListener, publisher::Publisher};

/// The actor that is to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) enum Panic {
    Listener,
    Publisher,
    Consumer,
    Applier,
    Verifying,
}

impl Handler<Panic> for Replicator {
    type Result = ();

    fn handle(&mut self, panic: Panic, _: &mut Context<Self>) {
        let side = self.replicas.first().expect("there is a replica");
        match (panic, side) {
            (Panic::Listener, _) => self.listener.as_ref().expect("there is one").do_send(panic),
            // A task that panicked has ended, too.
            (Panic::Verifying, _) => self.verifying.as_ref().expect("it is wanted").abort(),
            (Panic::Publisher, _) => self.publisher.as_ref().expect("there is one").do_send(panic),
            (_, Side::Consumer(_, consumer)) => consumer.do_send(panic),
            (_, Side::Applier(_, applier)) => applier.do_send(panic),
        }
    }
}

/// As a mistake of ours would.
macro_rules! panics {
    ($($actor:ty),*) => {$(
        impl Handler<Panic> for $actor {
            type Result = ();

            fn handle(&mut self, panic: Panic, _: &mut Context<Self>) {
                panic!("{panic:?}");
            }
        }
    )*};
}
panics!(PgListener, Publisher, Applier);

async fn is_healed(world: World, panics: &[Panic]) {
    world.primary().execute("CREATE TABLE t (n int PRIMARY KEY)").await;
    let config = Config::load(&world.config().write()).expect("it is well-formed");
    let replicator: Addr<Replicator> = Replicator::new(config).start();
    for (n, &panic) in panics.iter().enumerate() {
        arrives(&world, n).await;
        replicator.send(panic).await.expect("the root lives");
    }
    arrives(&world, panics.len()).await;
    replicator.send(super::Drain).await.expect("the root lives");
}

async fn arrives(world: &World, n: usize) {
    world.primary().execute(&format!("INSERT INTO t VALUES ({n})")).await;
    let (here, there) = (world.primary().client().await, world.replica(1).client().await);
    eventually(Duration::from_secs(60), &format!("row {n} arrives"), async || {
        compare::same_tables(&here, &there, &["t"]).await
    })
    .await;
}

#[actix::test]
async fn a_panic_in_any_actor_is_healed_with_a_broker() {
    let panics = [Panic::Listener, Panic::Publisher, Panic::Consumer, Panic::Applier];
    is_healed(World::new(1).await, &panics).await;
}

/// What is committed while nobody listens, before the first batch ever, must not wait for the next change.
async fn what_nobody_heard_arrives(world: World) {
    world.primary().execute("CREATE TABLE t (n int PRIMARY KEY)").await;
    let config = Config::load(&world.config().write()).expect("it is well-formed");
    let replicator: Addr<Replicator> = Replicator::new(config.clone()).start();
    eventually(Duration::from_secs(60), "the table follows", async || {
        let there = world.replica(1).client().await;
        let follows = "SELECT FROM pgfanout.replicated_table WHERE snapshot IS NULL";
        there.query_opt(follows, &[]).await.is_ok_and(|row| row.is_some())
    })
    .await;
    replicator.send(Panic::Listener).await.expect("the root lives");
    arrives(&world, 0).await;
    replicator.send(super::Drain).await.expect("the root lives");
}

#[actix::test]
async fn what_nobody_heard_arrives_with_a_broker() {
    what_nobody_heard_arrives(World::new(1).await).await;
}

#[actix::test]
async fn what_nobody_heard_arrives_without_a_broker() {
    what_nobody_heard_arrives(World::plan(1).without_broker().build().await).await;
}

#[actix::test]
async fn a_panic_in_any_actor_is_healed_without_a_broker() {
    is_healed(World::plan(1).without_broker().build().await, &[Panic::Listener, Panic::Applier]).await;
}

#[actix::test]
async fn what_verifies_by_itself_is_made_anew() {
    let world = World::plan(1).without_broker().build().await;
    world.primary().execute("CREATE TABLE t (n int PRIMARY KEY)").await;
    let config = world.config().more("[verify]\nevery_hours = 1").write();
    let replicator: Addr<Replicator> =
        Replicator::new(Config::load(&config).expect("it is well-formed")).start();
    arrives(&world, 0).await;
    replicator.send(Panic::Verifying).await.expect("the root lives");
    let replica = world.replica(1).client().await;
    replica.batch_execute("DELETE FROM pgfanout.verified_table").await.expect("it is there");
    eventually(Duration::from_secs(60), "the table is verified", async || {
        let verified = "SELECT FROM pgfanout.verified_table";
        replica.query_opt(verified, &[]).await.is_ok_and(|row| row.is_some())
    })
    .await;
    replicator.send(super::Drain).await.expect("the root lives");
}
