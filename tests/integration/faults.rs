//! Everything is killed under load, and all replicas equal the primary in the end, without an operator.

use pgfanout_testbed::world::{Plan, World};

use crate::{
    load::{self, Load, until_arrived},
    support::{Mode, PATIENCE, begin, until_same, world},
};

async fn loaded(plan: Plan) -> (World, Load) {
    let world = plan.build().await;
    world.primary().execute(load::SCHEMA).await;
    let load = Load::start(world.primary(), 3);
    (world, load)
}

async fn ends_well(world: &World, load: Load) {
    load.stop().await;
    until_same(world, load::TABLES).await;
}

async fn pgfanout_is_killed_again_and_again(mode: Mode) {
    let (world, load) = loaded(world(mode, 2)).await;
    let mut pgfanout = begin(&world);
    // In the middle of everything: while it connects, copies, catches up and follows.
    for transactions in [1, 20, 60, 100, 40] {
        load.more(transactions).await;
        pgfanout.kill9().await;
        load.more(10).await;
        pgfanout = begin(&world);
    }
    until_arrived(world.primary(), world.replicas()).await;
    for transactions in [5, 30, 1] {
        load.more(transactions).await;
        pgfanout.kill9().await;
        pgfanout = begin(&world);
        until_arrived(world.primary(), world.replicas()).await;
    }
    ends_well(&world, load).await;
}

#[tokio::test]
async fn kills_of_pgfanout_are_survived_with_a_broker() {
    pgfanout_is_killed_again_and_again(Mode::Broker).await;
}

#[tokio::test]
async fn kills_of_pgfanout_are_survived_without_a_broker() {
    pgfanout_is_killed_again_and_again(Mode::Postgres).await;
}

#[tokio::test]
async fn kills_of_the_broker_are_survived() {
    let (world, load) = loaded(world(Mode::Broker, 2).own_broker()).await;
    let _pgfanout = begin(&world);
    until_arrived(world.primary(), world.replicas()).await;
    load.more(30).await;
    world.broker().kill9().await;
    // The primary's clients do not notice.
    load.more(100).await;
    world.broker().start_again().await;
    until_arrived(world.primary(), world.replicas()).await;
    ends_well(&world, load).await;
}

async fn a_replica_is_killed(mode: Mode) {
    let (world, load) = loaded(world(mode, 2).own_replicas()).await;
    let _pgfanout = begin(&world);
    until_arrived(world.primary(), world.replicas()).await;
    load.more(30).await;
    world.replica(1).cluster().kill9().await;
    // The other one does not notice.
    until_arrived(world.primary(), &world.replicas()[1..]).await;
    load.more(50).await;
    world.replica(1).cluster().start_again().await;
    until_arrived(world.primary(), world.replicas()).await;
    ends_well(&world, load).await;
}

#[tokio::test]
async fn kills_of_a_replica_are_survived_with_a_broker() {
    a_replica_is_killed(Mode::Broker).await;
}

#[tokio::test]
async fn kills_of_a_replica_are_survived_without_a_broker() {
    a_replica_is_killed(Mode::Postgres).await;
}

/// The server confirms commits long before they are safe: what it forgets must not be on a replica.
async fn the_primary_is_killed(mode: Mode) {
    let forgetful = [("synchronous_commit", "off"), ("wal_writer_delay", "10s")];
    let (world, load) = loaded(world(mode, 2).own_primary(&forgetful)).await;
    let mut pgfanout = begin(&world);
    // The first time while tables are being copied. What was installed to get there is safe, and the tables with it.
    pgfanout.wait_for(0, "the tables join", PATIENCE, |line| line["event"] == "table_entered").await;
    load.more(30).await;
    for _ in 0..2 {
        world.primary().cluster().kill9().await;
        world.primary().cluster().start_again().await;
        until_arrived(world.primary(), world.replicas()).await;
        load.more(30).await;
    }
    ends_well(&world, load).await;
}

#[tokio::test]
async fn kills_of_the_primary_are_survived_with_a_broker() {
    the_primary_is_killed(Mode::Broker).await;
}

#[tokio::test]
async fn kills_of_the_primary_are_survived_without_a_broker() {
    the_primary_is_killed(Mode::Postgres).await;
}
