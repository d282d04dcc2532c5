//! What was asked for is done, and the answer is lost; nothing gets lost or is doubled thereby.

use std::collections::BTreeSet;

use lapin::options::QueueDeclareOptions;
use pgfanout_testbed::{
    eventually,
    proxy::{Proxy, Way},
    world::World,
};

use crate::{
    load::{self, Load, until_arrived},
    messages::listener::Listener,
    support::{Mode, PATIENCE, begin, program, until_same, world},
};

/// An acknowledgement of AMQP: of a message published, or of one delivered.
const ACK: &[u8] = &[0, 60, 0, 80];

/// A kind of link.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    Primary,
    Publisher,
    Consumer,
    Replica,
}

/// A word that may be lost: what it says, where, and how often the row it is about may be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) what: &'static str,
    pub(crate) link: Link,
    pub(crate) way: Way,
    pub(crate) needle: &'static [u8],
    most: i64,
}

/// A batch of which nobody knows whether it was published is cut and published again, and applied again: it holds
/// states.
pub(crate) const ANSWERS: [Answer; 6] = [
    answer("the replica committed", Link::Replica, Way::ToClient, b"COMMIT\0Z", 1),
    answer("the replica is to commit", Link::Replica, Way::ToServer, b"COMMIT\0", 1),
    answer("the broker stored a message", Link::Publisher, Way::ToClient, ACK, 2),
    answer("a message was applied", Link::Consumer, Way::ToServer, ACK, 1),
    answer("the primary recorded a batch", Link::Primary, Way::ToClient, b"INSERT 0 1\0", 1),
    answer("the primary noted that it was published", Link::Primary, Way::ToClient, b"UPDATE 1\0", 1),
];

const fn answer(what: &'static str, link: Link, way: Way, needle: &'static [u8], most: i64) -> Answer {
    Answer { what, link, way, needle, most }
}

/// Notes every row that is written, on the replica only.
const COUNT_WRITES: &str = "
    CREATE TABLE written (id int);
    CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.written VALUES (new.id); RETURN NULL; END';
    CREATE TRIGGER note_write AFTER INSERT ON mark FOR EACH ROW EXECUTE FUNCTION note_write();
    ALTER TABLE mark ENABLE ALWAYS TRIGGER note_write";

async fn writes(world: &World, id: i32) -> i64 {
    let replica = world.replica(1).client().await;
    let count = "SELECT count(*) FROM written WHERE id = $1";
    replica.query_one(count, &[&id]).await.unwrap().get(0)
}

#[tokio::test]
async fn lost_answers_lose_nothing_and_double_nothing() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE mark (id int PRIMARY KEY)").await;
    let (port, broker_port) = (world.primary().cluster().port(), world.broker().port());
    let (primary, replica) = (Proxy::start(port), Proxy::start(world.replica(1).cluster().port()));
    let publisher = Proxy::start_for("pgfanout publisher", broker_port);
    let consumer = Proxy::start_for("pgfanout consumer", publisher.port());
    let mut config = world.config();
    config.primary.url = primary.detour(&config.primary.url, port);
    config.replicas[0].url = replica.detour(&config.replicas[0].url, world.replica(1).cluster().port());
    let broker = config.broker.as_mut().unwrap();
    broker.urls = vec![consumer.detour(&broker.urls[0], broker_port)];
    let _pgfanout = program().run(&config.write());
    crate::bank::until_joined(&world, 1).await;
    world.replica(1).execute(COUNT_WRITES).await;

    for (n, Answer { what, link, way, needle, most }) in (0..).zip(ANSWERS) {
        let proxy = match link {
            Link::Primary => &primary,
            Link::Publisher => &publisher,
            Link::Consumer => &consumer,
            Link::Replica => &replica,
        };
        proxy.lose(way, needle);
        world.primary().execute(&format!("INSERT INTO mark VALUES ({n})")).await;
        eventually(PATIENCE, &format!("the word is lost that {what}"), async || proxy.has_lost()).await;
        // The next change comes after it, in order.
        world.primary().execute(&format!("INSERT INTO mark VALUES (-1 - {n})")).await;
        until_same(&world, &["mark"]).await;
        let times = writes(&world, n).await;
        assert!((1..=most).contains(&times), "after the loss of the word that {what}: {times} writes");
    }
}

/// A replica would catch up; whoever else listens has nothing but messages.
#[tokio::test]
async fn a_message_that_is_lost_on_its_way_to_the_broker_is_published_again_with_all_that_came_since() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE mark (id int PRIMARY KEY)").await;
    let mut listener = Listener::bind(&world).await;
    let publisher = Proxy::start_for("pgfanout publisher", world.broker().port());
    let mut config = world.config();
    let broker = config.broker.as_mut().unwrap();
    broker.urls = vec![publisher.detour(&broker.urls[0], world.broker().port())];
    let _pgfanout = program().run(&config.write());
    crate::bank::until_joined(&world, 1).await;
    for id in (10..50).step_by(10) {
        publisher.lose(Way::ToServer, format!("\"id\":{id}}}").as_bytes());
        for n in id..id + 10 {
            world.primary().execute(&format!("INSERT INTO mark VALUES ({n})")).await;
        }
        eventually(PATIENCE, "a message is lost", async || publisher.has_lost()).await;
        let mut untold: BTreeSet<String> = (id..id + 10).map(|n| format!("\"id\":{n}}}")).collect();
        while !untold.is_empty() {
            let lines = listener.lines(1).await;
            untold.retain(|change| !lines.iter().any(|line| line.contains(change)));
        }
    }
}

/// While changes never pause, nothing is noted as published.
#[tokio::test]
async fn a_replica_that_hears_nothing_follows_also_under_load() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(load::SCHEMA).await;
    let load = Load::start(world.primary(), 10);
    let _pgfanout = begin(&world);
    until_arrived(world.primary(), world.replicas()).await;
    let connection = world.broker().connect().await;
    let channel = connection.create_channel().await.unwrap();
    // Somebody else takes what is published, so that the publisher does not notice.
    let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let other = channel.queue_declare("".into(), own, Default::default()).await.unwrap();
    let exchange = world.exchange();
    let bound = channel.queue_bind(
        other.name().clone(),
        exchange.into(),
        "".into(),
        Default::default(),
        Default::default(),
    );
    bound.await.unwrap();
    channel
        .queue_unbind(world.queue(1).into(), exchange.into(), "".into(), Default::default())
        .await
        .unwrap();
    load.more(20).await;
    until_arrived(world.primary(), world.replicas()).await;
    load.stop().await;
    until_same(&world, load::TABLES).await;
}

/// The link to the primary breaks while the start compares the configuration with the databases.
#[tokio::test]
async fn a_link_that_breaks_at_the_start_is_waited_for() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute("CREATE TABLE mark (id int PRIMARY KEY)").await;
    let port = world.primary().cluster().port();
    let primary = Proxy::start(port);
    let mut config = world.config();
    config.primary.url = primary.detour(&config.primary.url, port);
    primary.lose(Way::ToServer, b"FROM pg_class c");
    let _pgfanout = program().run(&config.write());
    until_same(&world, &["mark"]).await;
    assert!(primary.has_lost());
}
