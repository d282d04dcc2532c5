//! What ends, ends in order; what dies is replaced; what breaks is mended.

mod takeover;

use futures_util::future::join3;
use pgfanout::{postgres, replica::state};
use pgfanout_testbed::{
    eventually,
    process::Pgfanout,
    world::{Database, World},
};
use tokio_postgres::error::SqlState;

use crate::{
    load::{self, Load, until_arrived},
    support::{Mode, PATIENCE, begin, until_same, world},
};

/// A world that follows, under load.
async fn at_work(mode: Mode) -> (World, Load, Pgfanout) {
    let world = world(mode, 2).build().await;
    world.primary().execute(load::SCHEMA).await;
    let load = Load::start(world.primary(), 3);
    let pgfanout = begin(&world);
    until_arrived(world.primary(), world.replicas()).await;
    (world, load, pgfanout)
}

async fn ends_well(world: &World, load: Load) {
    until_arrived(world.primary(), world.replicas()).await;
    load.stop().await;
    until_same(world, load::TABLES).await;
}

async fn a_termination_under_load_drains(mode: Mode) {
    let (world, load, mut pgfanout) = at_work(mode).await;
    load.more(50).await;
    let mark = pgfanout.mark();
    let (status, _) = pgfanout.terminate().await;
    assert_eq!(status.code(), Some(0));
    let events: Vec<_> = pgfanout.log_after(mark).iter().map(|line| line["event"].clone()).collect();
    assert!(events.contains(&"stopped".into()), "{events:?}");
    assert!(!events.contains(&"drain_timeout".into()), "it took longer than the grace period: {events:?}");
    let asleep = "SELECT last_value FROM pgfanout.asleep";
    let asleep = world.primary().client().await.query_one(asleep, &[]).await.unwrap();
    assert_eq!(asleep.get::<_, i64>(0), 0, "nobody notifies for nothing");
    let _pgfanout = begin(&world);
    ends_well(&world, load).await;
}

#[tokio::test]
async fn a_termination_under_load_drains_with_a_broker() {
    a_termination_under_load_drains(Mode::Broker).await;
}

#[tokio::test]
async fn a_termination_under_load_drains_without_a_broker() {
    a_termination_under_load_drains(Mode::Postgres).await;
}

async fn a_second_process_takes_over(mode: Mode) {
    let (world, load, mut first) = at_work(mode).await;
    let mut second = begin(&world);
    for stage in ["pg_listener", "applier"] {
        let stands_by =
            |fields: &serde_json::Value| fields["event"] == "standing_by" && fields["stage"] == stage;
        second.wait_for(0, &format!("that its {stage} stands by"), PATIENCE, stands_by).await;
    }
    // It is not in the way.
    load.more(50).await;
    until_arrived(world.primary(), world.replicas()).await;
    first.kill9().await;
    until_arrived(world.primary(), world.replicas()).await;
    ends_well(&world, load).await;
}

#[tokio::test]
async fn a_second_process_takes_over_with_a_broker() {
    a_second_process_takes_over(Mode::Broker).await;
}

#[tokio::test]
async fn a_second_process_takes_over_without_a_broker() {
    a_second_process_takes_over(Mode::Postgres).await;
}

/// Writes are sent along with the BEGIN. Where somebody cancels just that, none of them may count alone.
#[actix::test]
async fn writes_whose_begin_was_cancelled_change_nothing() {
    let world = world(Mode::Postgres, 1).build().await;
    let database = world.replica(1);
    database.execute("CREATE TABLE t (id int)").await;
    let server = postgres::Database::new("replica r1", database.url().parse().unwrap());
    let session = state::connect(&server, "pgfanout test").await.unwrap();
    let insert = "INSERT INTO public.t VALUES (1)";
    let pid = "SELECT pg_backend_pid()";
    let pid: i32 = session.query_one("asking", pid, &[]).await.unwrap().get(0);
    let cancelling = async {
        let other = database.client().await;
        let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
            WHERE pid = $1 AND wait_event = 'PgSleep'";
        eventually(PATIENCE, "it can be cancelled", async || {
            let cancelled = other.query(cancel, &[&pid]).await.unwrap().len();
            if cancelled == 1 { Ok(()) } else { Err("it does not wait yet") }
        })
        .await;
    };
    // As a BEGIN that takes its time.
    let begun = session.begin("beginning", "SELECT pg_sleep(600); BEGIN READ WRITE");
    let (begun, written, ()) = join3(begun, session.client().batch_execute(insert), cancelling).await;
    assert_eq!(begun.unwrap_err().sqlstate(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(written.unwrap_err().code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
    let rows = database.client().await.query("SELECT FROM t", &[]).await.unwrap();
    assert!(rows.is_empty(), "it was written outside of a transaction");
    state::begin(&session).await.unwrap();
    session.run("writing", insert).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(database.client().await.query("SELECT FROM t", &[]).await.unwrap().len(), 1);
}

/// Ends all sessions of pgfanout; returns how many there were.
pub(crate) async fn end_sessions(database: &Database) -> i64 {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'pgfanout%'";
    database.client().await.query_one(end, &[]).await.unwrap().get(0)
}

async fn ended_sessions_are_replaced(mode: Mode) {
    let (world, load, _pgfanout) = at_work(mode).await;
    for _ in 0..3 {
        for database in world.replicas().iter().chain([world.primary()]) {
            assert!(end_sessions(database).await > 0, "{database}");
            load.more(5).await;
        }
        until_arrived(world.primary(), world.replicas()).await;
    }
    ends_well(&world, load).await;
}

#[tokio::test]
async fn ended_sessions_are_replaced_with_a_broker() {
    ended_sessions_are_replaced(Mode::Broker).await;
}

#[tokio::test]
async fn ended_sessions_are_replaced_without_a_broker() {
    ended_sessions_are_replaced(Mode::Postgres).await;
}

/// Nobody listens, and the way to the broker is gone for a while.
#[tokio::test]
async fn the_primary_goes_on_while_the_broker_cannot_be_reached() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(load::SCHEMA).await;
    let proxy = pgfanout_testbed::proxy::Proxy::start(world.broker().port());
    let mut config = world.config();
    let broker = config.broker.as_mut().unwrap();
    broker.urls = vec![proxy.detour(&broker.urls[0], world.broker().port())];
    let load = Load::start(world.primary(), 3);
    let mut pgfanout = crate::support::program().run(&config.write());
    until_arrived(world.primary(), world.replicas()).await;
    let mark = pgfanout.mark();
    proxy.cut();
    let failed = |fields: &serde_json::Value| fields["event"] == "failed" && fields["stage"] == "publisher";
    pgfanout.wait_for(mark, "that the publisher failed", PATIENCE, failed).await;
    load.more(200).await;
    proxy.resume();
    ends_well(&world, load).await;
    eventually(PATIENCE, "the queues are empty", async || {
        let connection = world.broker().connect().await;
        let channel = connection.create_channel().await.unwrap();
        let passive = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = channel.queue_declare(world.queue(1).into(), passive, Default::default()).await.unwrap();
        queue.message_count() == 0
    })
    .await;
}
