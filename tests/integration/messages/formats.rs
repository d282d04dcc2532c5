//! Messages of other versions of the program, which an upgrade leaves in a queue.

use lapin::{
    BasicProperties,
    options::{BasicGetOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use pgfanout_testbed::world::World;

use super::{
    Listener,
    rejected::{forge, with},
    until_captured, until_following,
};
use crate::{
    broker_faults::{assert_no_copy, until_by_broker},
    support::{Mode, PATIENCE, program, until_same, world},
    watching::{FIRST_PRIMARY, FIRST_SCHEMA},
};

async fn tell(world: &World, command: &str) {
    let finished = program().once(command, &world.config().write_as("one.toml"), &["--replica", "r1"]).await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

fn of_format(properties: &BasicProperties, format: i64) -> BasicProperties {
    with(properties, &[("pgfanout-format", Some(AMQPValue::LongLongInt(format)))])
}

/// An upgrade: all that waits for the replica is of an older and a newer program, nothing comes after it, and both sides
/// have the schema of the older one.
async fn messages_of_other_formats_are_refused_and_caught_up(broker: &str) {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY, a text)").await;
    let mut listener = Listener::bind(&world).await;
    let config = world.config().broker(broker).write();
    let mut pgfanout = program().run(&config);
    until_captured(&world).await;
    world.primary().execute("INSERT INTO t VALUES (1, 'one')").await;
    until_same(&world, &["t"]).await;
    until_following(&world).await;
    listener.next().await;
    tell(&world, "pause").await;
    pgfanout.wait_for_event("paused", PATIENCE).await;
    for change in [
        "INSERT INTO t VALUES (2, 'two')",
        "UPDATE t SET a = 'uno' WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
    ] {
        world.primary().execute(change).await;
        listener.next().await;
    }
    pgfanout.kill9().await;

    let channel = &listener.channel;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut taken = Vec::new();
    let take = BasicGetOptions { no_ack: true };
    while let Some(message) = channel.basic_get(world.queue(1).into(), take).await.unwrap() {
        taken.push(message.delivery);
    }
    assert!(taken.len() >= 3, "{taken:?}");
    // As if each change meant another thing there: nothing of it may be read.
    let misread = |body: &[u8]| String::from_utf8_lossy(body).replace("uno", "misread").into_bytes();
    for message in &taken {
        let newer = of_format(&message.properties, 2);
        let newer = with(&newer, &[("pgfanout-compressed", Some(AMQPValue::Boolean(false)))]);
        forge(channel, &world, &newer, &misread(&message.data)).await;
    }
    let mut bare = FieldTable::default();
    bare.insert("pgfanout-format".into(), AMQPValue::LongLongInt(0));
    forge(channel, &world, &BasicProperties::default().with_headers(bare), b"id;a\n2;misread\n").await;
    let text = with(&taken[0].properties, &[("pgfanout-format", Some(AMQPValue::LongString("3.1".into())))]);
    forge(channel, &world, &text, &taken[0].data).await;

    tell(&world, "resume").await;
    // What is installed is of that program, too.
    world.primary().execute(FIRST_PRIMARY).await;
    world.replica(1).execute(FIRST_SCHEMA).await;
    let mut pgfanout = program().run(&config);
    until_same(&world, &["t"]).await;
    let kinds = [
        "message of a newer format than the 1 that this program reads",
        "message of an older format than the 1 that this program reads",
        "malformed header pgfanout-format",
    ];
    for kind in kinds {
        let told = |line: &serde_json::Value| {
            line["event"] == "message_rejected" && line["message"].as_str().unwrap().contains(kind)
        };
        pgfanout.wait_for(0, kind, PATIENCE, told).await;
    }
    until_by_broker(&world, async |world| world.primary().execute("UPDATE t SET id = id + 10").await).await;
    until_same(&world, &["t"]).await;
    assert_no_copy(&pgfanout, 0);
    assert_eq!(pgfanout.events("message_rejected").len(), kinds.len(), "once a kind");
    for event in ["failed", "halted"] {
        assert_eq!(pgfanout.events(event), Vec::<serde_json::Value>::new());
    }
    for (view, database) in [("replicas", world.primary()), ("verified_tables", world.replica(1))] {
        let upgraded = format!("SELECT to_regclass('pgfanout_status.{view}') IS NOT NULL");
        assert!(database.client().await.query_one(&upgraded, &[]).await.unwrap().get::<_, bool>(0), "{view}");
    }
}

#[tokio::test]
async fn messages_of_other_formats_are_refused_and_caught_up_without_a_key() {
    messages_of_other_formats_are_refused_and_caught_up("").await;
}

#[tokio::test]
async fn messages_of_other_formats_are_refused_and_caught_up_with_a_key() {
    messages_of_other_formats_are_refused_and_caught_up("hmac_key = \"a key that is long enough to seal\"")
        .await;
}
