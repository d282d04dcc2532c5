//! Messages that are not ours, or make no sense, on a replica's queue.

use lapin::{
    BasicProperties, Channel,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use pgfanout_testbed::world::World;

use super::{
    listener::{Listener, consume, next},
    until_captured, until_following,
};
use crate::support::{Mode, PATIENCE, begin, until_same, world};

/// Puts a message on the queue of the first replica, past the exchange.
pub(super) async fn forge(channel: &Channel, world: &World, properties: &BasicProperties, body: &[u8]) {
    let queue = world.queue(1);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish("".into(), queue.as_str().into(), options, body, properties.clone());
    let confirmed = sent.await.unwrap().await.unwrap();
    assert!(matches!(confirmed, lapin::Confirmation::Ack(None)), "{confirmed:?}");
}

/// The properties with some headers changed; without a value the header is left out.
pub(super) fn with(properties: &BasicProperties, changes: &[(&str, Option<AMQPValue>)]) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap().inner().clone();
    for (name, value) in changes {
        match value {
            Some(value) => headers.insert(ShortString::from(*name), value.clone()),
            None => headers.remove(*name),
        };
    }
    properties.clone().with_headers(FieldTable::from(headers))
}

fn text(text: &str) -> Option<AMQPValue> {
    Some(AMQPValue::LongString(text.into()))
}

#[tokio::test]
async fn what_is_not_ours_is_rejected_and_blocks_nothing() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY, a text)").await;
    let mut listener = Listener::bind(&world).await;
    let mut pgfanout = begin(&world);
    until_captured(&world).await;
    world.primary().execute("INSERT INTO t VALUES (1, 'one')").await;
    until_following(&world).await;
    let ours = listener.next().await.delivery;
    let properties = &ours.properties;
    let channel = &listener.channel;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();

    // As if it came next, so that it is not skipped as known: from where the replica stands to far away.
    let to = match &properties.headers().as_ref().unwrap().inner()["pgfanout-to"] {
        AMQPValue::LongString(to) => to.to_string(),
        other => panic!("{other:?}"),
    };
    let next_batch = [("pgfanout-from", text(&to)), ("pgfanout-to", text("999999999:999999999:"))];
    let later = with(properties, &next_batch);
    let line = r#"{"schema":"public","table":"t","operation":"INSERT","new_record":{"id":2,"a":"forged"},"old_record":null}"#;
    let no_key =
        r#"{"schema":"public","table":"t","operation":"DELETE","new_record":null,"old_record":{"id":[1]}}"#;
    let headers = "a message with missing or malformed header pgfanout-";
    let other_epoch = "a batch of another installation of pgfanout";
    let bad_body = "a body that is not a list of changes";
    let forgeries: Vec<(BasicProperties, &[u8], String)> = vec![
        (BasicProperties::default(), b"{}", format!("{headers}format")),
        (BasicProperties::default(), b"\x00\xff\xfe", format!("{headers}format")),
        (
            with(&later, &[("pgfanout-format", Some(AMQPValue::LongLongInt(2)))]),
            line.as_bytes(),
            "a message of a newer format than the 1 that this program reads".to_owned(),
        ),
        (with(properties, &[("pgfanout-token", None)]), line.as_bytes(), format!("{headers}token")),
        (with(properties, &[("pgfanout-to", text("what"))]), line.as_bytes(), format!("{headers}to")),
        (with(properties, &[("pgfanout-to", text("1:1:"))]), line.as_bytes(), format!("{headers}from")),
        (with(properties, &[("pgfanout-last", text("yes"))]), line.as_bytes(), format!("{headers}last")),
        (
            with(properties, &[("pgfanout-part", Some(AMQPValue::LongLongInt(-1)))]),
            line.as_bytes(),
            format!("{headers}part"),
        ),
        (
            with(properties, &[("pgfanout-tables", text("public.t"))]),
            line.as_bytes(),
            format!("{headers}tables"),
        ),
        // Two in a row, and two different kinds in a row: what was rejected is not acknowledged, too.
        (with(&later, &[("pgfanout-epoch", text("other"))]), line.as_bytes(), other_epoch.to_owned()),
        (with(&later, &[("pgfanout-epoch", text(""))]), line.as_bytes(), other_epoch.to_owned()),
        (later.clone(), b"{\"schema\":\"public\"", bad_body.to_owned()),
        (later.clone(), b"\x00\xff\xfe", bad_body.to_owned()),
        (later.clone(), b"[1,2]\nnull\n", bad_body.to_owned()),
        (later.clone(), no_key.as_bytes(), bad_body.to_owned()),
        (with(&later, &[("pgfanout-epoch", text("other"))]), line.as_bytes(), other_epoch.to_owned()),
    ];
    let rejected = format!("{}.rejected", world.exchange());
    let mut dead_letters = consume(channel, &rejected).await;
    // Stopped meanwhile, so that they come in one go.
    pgfanout.pause();
    for (properties, body, _) in &forgeries {
        forge(channel, &world, properties, body).await;
    }
    pgfanout.resume();
    let mut bodies: Vec<&[u8]> = forgeries.iter().map(|(_, body, _)| *body).collect();
    for _ in &forgeries {
        let letter = next(&mut dead_letters).await;
        let at = bodies.iter().position(|body| *body == letter.data.as_slice());
        bodies.remove(at.unwrap_or_else(|| panic!("{letter:?}")));
    }

    // What follows comes through, and nothing forged is there.
    world.primary().execute("INSERT INTO t VALUES (3, 'three'); UPDATE t SET a = 'uno' WHERE id = 1").await;
    until_same(&world, &["t"]).await;

    // Each kind is told once, without a word of what it held.
    let mut expected: Vec<&str> = forgeries.iter().map(|(.., reason)| reason.as_str()).collect();
    expected.sort_unstable();
    expected.dedup();
    let count = expected.len();
    pgfanout
        .wait_for(0, "the last kind of rejected message", PATIENCE, |line| {
            line["event"] == "message_rejected" && line["message"].as_str().unwrap().contains(other_epoch)
        })
        .await;
    let told = pgfanout.events("message_rejected");
    assert_eq!(told.len(), count, "{told:?}");
    for reason in expected {
        let message = format!("{reason}; it went to the queue {rejected}");
        assert!(told.iter().any(|line| line["message"] == message), "{reason}: {told:?}");
    }
    assert!(pgfanout.lines().iter().all(|line| !line.contains("forged")));
    // It was no failure of anything.
    for event in ["failed", "halted"] {
        let lines: Vec<_> = pgfanout.events(event);
        assert!(lines.iter().all(|line| line["stage"] != "consumer"), "{lines:?}");
    }
    let status = pgfanout
        .wait_for(0, "a status that counts what was rejected", PATIENCE, |line| {
            line["event"] == "status" && line["stage"] == "consumer" && line["rejected"] != 0
        })
        .await;
    assert_eq!(status["rejected"], forgeries.len());
}
