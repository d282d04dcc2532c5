//! A broker that loses things, fills up, accepts nothing or is gone: replicas catch up, and none is copied.

use std::time::{Duration, Instant};

use lapin::{
    Channel, Connection,
    options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions},
    types::FieldTable,
};
use pgfanout::postgres::SESSION_LOCK;
use pgfanout_testbed::{
    eventually,
    process::Pgfanout,
    world::{Database, World},
};
use serde_json::Value;

use crate::{
    bank::by_broker,
    joining::until_past_the_log,
    load::{self, Load, until_arrived},
    messages::until_following,
    support::{Mode, PATIENCE, begin, program, until_same, world},
};

/// Somebody who may do everything at the broker.
pub(crate) struct Vandal {
    _connection: Connection,
    pub(crate) channel: Channel,
}

impl Vandal {
    pub(crate) async fn new(world: &World) -> Self {
        let connection = world.broker().connect().await;
        let channel = connection.create_channel().await.unwrap();
        Self { _connection: connection, channel }
    }

    async fn purge(&self, queue: &str) {
        self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.unwrap();
    }

    async fn delete(&self, queue: &str) {
        self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    async fn unbind(&self, world: &World, queue: &str) {
        let exchange = world.exchange().into();
        self.channel.queue_unbind(queue.into(), exchange, "".into(), FieldTable::default()).await.unwrap();
    }

    async fn delete_exchange(&self, world: &World) {
        let exchange = world.exchange().into();
        self.channel.exchange_delete(exchange, ExchangeDeleteOptions::default()).await.unwrap();
    }

    async fn messages(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
        declared.unwrap().message_count()
    }
}

/// Waits until every replica gets its changes from the broker, and not only by catching up; `change` something
/// each time.
pub(crate) async fn until_by_broker(world: &World, change: impl AsyncFn(&World)) {
    let primary = world.primary().client().await;
    for replica in world.replicas() {
        let replica = replica.client().await;
        eventually(PATIENCE, "the broker brings changes", async || {
            change(world).await;
            let row = replica.query_opt("SELECT number FROM pgfanout.position", &[]).await;
            let number = row.ok().flatten().and_then(|row| row.get(0));
            by_broker(&primary, number).await
        })
        .await;
    }
}

/// Nothing: others do.
async fn under_load(_: &World) {}

/// No table was copied since the mark.
pub(crate) fn assert_no_copy(pgfanout: &Pgfanout, mark: usize) {
    let is_copy = |line: &Value| line["event"].as_str().is_some_and(|event| event.starts_with("copy_"));
    let copies: Vec<_> = pgfanout.log_after(mark).into_iter().filter(is_copy).collect();
    assert!(copies.is_empty(), "{copies:?}");
}

async fn loaded(world: &World) -> (Load, Pgfanout, usize) {
    world.primary().execute(load::SCHEMA).await;
    let load = Load::start(world.primary(), 3);
    let pgfanout = begin(world);
    until_arrived(world.primary(), world.replicas()).await;
    until_following(world).await;
    let mark = pgfanout.mark();
    (load, pgfanout, mark)
}

#[tokio::test]
async fn what_is_taken_away_at_the_broker_comes_back() {
    let world = world(Mode::Broker, 2).build().await;
    let (load, pgfanout, mark) = loaded(&world).await;
    let vandal = Vandal::new(&world).await;
    let (first, second) = (world.queue(1), world.queue(2));
    for act in 0..5 {
        load.more(10).await;
        match act {
            0 => vandal.purge(&first).await,
            1 => vandal.unbind(&world, &first).await,
            2 => vandal.delete_exchange(&world).await,
            3 => {
                vandal.delete(&first).await;
                vandal.delete(&second).await;
            }
            _ => {
                vandal.unbind(&world, &first).await;
                vandal.unbind(&world, &second).await;
            }
        }
        load.more(10).await;
        until_arrived(world.primary(), world.replicas()).await;
        until_by_broker(&world, under_load).await;
    }
    load.stop().await;
    until_same(&world, load::TABLES).await;
    // While nothing happens, nothing gets lost either: what is missing is noticed before the next batch.
    vandal.delete_exchange(&world).await;
    until_arrived(world.primary(), world.replicas()).await;
    until_same(&world, load::TABLES).await;
    assert_no_copy(&pgfanout, mark);
}

#[tokio::test]
async fn a_lost_message_of_no_change_holds_no_replica_back() {
    let world = world(Mode::Broker, 2).build().await;
    let setup = "CREATE TABLE t (id int PRIMARY KEY); CREATE SCHEMA own; CREATE TABLE own.zero (n int)";
    world.primary().execute(setup).await;
    let pgfanout = program().run(&world.config().primary("exclude = [\"own.*\"]").write());
    until_following(&world).await;
    let (vandal, mark) = (Vandal::new(&world).await, pgfanout.mark());
    let primary = world.primary().client().await;
    let replica = world.replica(1).client().await;
    // The other one's still gets it: nothing tells the publisher.
    vandal.unbind(&world, &world.queue(1)).await;
    // What is logged of it makes a batch, so that replicas pass it before it is trimmed.
    primary.batch_execute("CREATE TABLE own.one (n int)").await.unwrap();
    until_past_the_log(&primary, &replica, PATIENCE).await;
    assert_no_copy(&pgfanout, mark);
}

/// Stands in for another process that applies to the replica.
async fn stand_in(replica: &Database) -> tokio_postgres::Client {
    let client = replica.client().await;
    client.execute("SELECT pg_advisory_lock($1)", &[&SESSION_LOCK]).await.unwrap();
    client
}

#[tokio::test]
async fn a_full_queue_drops_what_is_caught_up_later() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY, a text)").await;
    let config = world.config().broker("queue_max_bytes = 1_048_576").write();
    let mut pgfanout = program().run(&config);
    until_following(&world).await;
    pgfanout.kill9().await;
    let away = stand_in(world.replica(1)).await;
    let pgfanout = program().run(&config);
    let vandal = Vandal::new(&world).await;
    for n in 1..=6 {
        let insert =
            format!("INSERT INTO t SELECT 100 * {n} + k, repeat('x', 4000) FROM generate_series(1, 100) k");
        world.primary().execute(&insert).await;
        // Each is a batch of its own.
        let arrived = format!("SELECT count(*) = 100 * {n} FROM t");
        eventually(PATIENCE, "the other replica follows", async || {
            let row = world.replica(2).look().await.unwrap().query_one(&arrived, &[]).await;
            row.is_ok_and(|row| row.get(0))
        })
        .await;
    }
    assert!((1..=2).contains(&vandal.messages(&world.queue(1)).await), "400 kB each into 1 MiB");
    drop(away);
    until_same(&world, &["t"]).await;
    assert_no_copy(&pgfanout, 0);
}

#[tokio::test]
async fn a_queue_with_other_settings_is_told_with_the_remedy() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let (vandal, queue) = (Vandal::new(&world).await, world.queue(1));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    vandal.channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.unwrap();
    let mut pgfanout = begin(&world);
    for stage in ["publisher", "consumer"] {
        let is_halt = |line: &Value| line["event"] == "halted" && line["stage"] == stage;
        let halt = pgfanout.wait_for(0, "a halt", PATIENCE, is_halt).await;
        assert!(halt["message"].as_str().unwrap().contains("delete it at the broker"), "{halt}");
    }
    vandal.delete(&queue).await;
    // It looks again every 20 seconds; this is faster.
    pgfanout.reload();
    until_by_broker(&world, async |world| {
        world.primary().execute("INSERT INTO t SELECT count(*) FROM t").await;
    })
    .await;
    until_same(&world, &["t"]).await;
}

/// As where a replica is held up for longer than the broker lets messages be unacknowledged.
#[tokio::test]
async fn a_channel_that_the_broker_closes_for_want_of_acknowledgements_is_opened_again() {
    let world = world(Mode::Broker, 2).own_broker().build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    // Half an hour, looked at each minute, if nobody sets it.
    let timeout = "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 300).";
    world.broker().ctl(&["eval", timeout]).await;
    let mut pgfanout = begin(&world);
    until_following(&world).await;
    let insert = async |world: &World| world.primary().execute("INSERT INTO t SELECT count(*) FROM t").await;
    until_by_broker(&world, insert).await;
    let (holder, mark) = (world.replica(1).client().await, pgfanout.mark());
    holder.batch_execute("BEGIN; LOCK TABLE t IN EXCLUSIVE MODE").await.unwrap();
    insert(&world).await;
    let vandal = Vandal::new(&world).await;
    eventually(PATIENCE, "the broker has closed its channel", async || {
        let waiting = vandal.messages(&world.queue(1)).await;
        if waiting > 0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    for _ in 0..5 {
        insert(&world).await;
    }
    holder.batch_execute("COMMIT").await.unwrap();
    let closed = |line: &Value| {
        line["event"] == "failed"
            && line["replica"] == "r1"
            && line["message"].as_str().unwrap().contains("consumer_timeout")
    };
    let line = pgfanout.wait_for(mark, "that its channel was closed", PATIENCE, closed).await;
    assert_eq!((&line["stage"], &line["level"]), (&Value::from("consumer"), &Value::from("WARN")), "{line}");
    until_same(&world, &["t"]).await;
    until_by_broker(&world, insert).await;
    until_same(&world, &["t"]).await;
    assert_no_copy(&pgfanout, mark);
    let others = |line: &&Value| line["event"] == "failed" && line["replica"] == "r2";
    assert_eq!(pgfanout.log_after(mark).iter().filter(others).count(), 0, "the other one is not disturbed");
}

async fn status(world: &World) -> Value {
    let finished = program().once("status", &world.config().write(), &["--json"]).await;
    serde_json::from_str(&finished.stdout).unwrap()
}

/// Waits until status says this of the publisher, and shows what waits meanwhile.
async fn until_publisher(world: &World, state: &str) -> Value {
    eventually(PATIENCE, "status shows the publisher", async || {
        let status = status(world).await;
        let waits = status["replicas"][0]["behind"]["changes"].as_i64() > Some(0);
        if status["primary"]["publisher"] == state && waits { Ok(status) } else { Err(status) }
    })
    .await
}

/// Raises the broker's alarms of memory and of disk, or ends them.
pub(crate) async fn alarm(world: &World, whether: bool) {
    let (memory, disk) =
        if whether { ("0", "1000000000000000") } else { ("{absolute, \"1GB\"}", "50000000") };
    // One call for both: each takes seconds.
    let limits = format!(
        "vm_memory_monitor:set_vm_memory_high_watermark({memory}), rabbit_disk_monitor:set_disk_free_limit({disk})."
    );
    world.broker().ctl(&["eval", &limits]).await;
}

/// For how long the broker accepts nothing; minutes by hand.
fn alarm_duration() -> Duration {
    let seconds = std::env::var("PGFANOUT_ALARM_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

#[tokio::test]
async fn a_broker_that_accepts_nothing_or_is_gone_stops_nobody() {
    let world = world(Mode::Broker, 2).own_broker().build().await;
    let (load, mut pgfanout, mark) = loaded(&world).await;
    alarm(&world, true).await;
    pgfanout.wait_for_event_after(mark, "broker_blocked", PATIENCE).await;
    // The primary's clients do not notice.
    load.more(150).await;
    let (blocked, before) = (Instant::now(), pgfanout.peak_rss_bytes() >> 20);
    while blocked.elapsed() < alarm_duration() {
        load.more(100).await;
    }
    let (elapsed, peak) = (blocked.elapsed(), pgfanout.peak_rss_bytes() >> 20);
    eprintln!("blocked for {elapsed:?} with a peak of {peak} MiB, {before} before");
    let found = until_publisher(&world, "blocked").await;
    assert!(found["primary"]["reason"].as_str().unwrap().contains("free some"), "{found}");
    let shown = program().once("status", &world.config().write(), &[]).await.stdout;
    assert!(shown.contains("publisher held up by the broker") && shown.contains("free some"), "{shown}");
    alarm(&world, false).await;
    pgfanout.wait_for_event_after(mark, "broker_unblocked", PATIENCE).await;
    until_arrived(world.primary(), world.replicas()).await;
    until_by_broker(&world, under_load).await;
    let told = pgfanout.log_after(mark);
    assert_eq!(told.iter().filter(|line| line["event"] == "broker_blocked").count(), 1, "told once");
    let failed: Vec<_> = told.iter().filter(|line| line["event"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:?}");

    world.broker().kill9().await;
    load.more(300).await;
    let found = until_publisher(&world, "disconnected").await;
    assert_eq!(found["broker"]["state"], "unreachable");
    world.broker().wipe();
    world.broker().start_again().await;
    until_arrived(world.primary(), world.replicas()).await;
    until_by_broker(&world, under_load).await;
    assert_ne!(status(&world).await["primary"]["publisher"], "disconnected");
    load.stop().await;
    until_same(&world, load::TABLES).await;
    assert_no_copy(&pgfanout, mark);
    assert!(pgfanout.peak_rss_bytes() < 256 << 20, "{}", pgfanout.peak_rss_bytes());
}
