//! What the guide gives to a listener at the broker, and what that keeps from him.

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeleteOptions, QueueBindOptions,
        QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};

use super::{listener, until_following};
use crate::support::{Mode, begin, until_same, world};

const GUIDE: &str = include_str!("../../../src/guide/security.md");

/// The permissions that the guide gives to a listener with a queue of this name.
fn permissions(exchange: &str, queue: &str) -> Vec<String> {
    let line = GUIDE.lines().find(|line| line.starts_with("configure ^audit$")).unwrap();
    let patterns = line.split_whitespace().filter(|word| word.starts_with('^'));
    patterns.map(|pattern| pattern.replace("replication", exchange).replace("audit", queue)).collect()
}

#[tokio::test]
async fn a_listener_can_neither_publish_nor_take_what_is_for_replicas() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let _pgfanout = begin(&world);
    until_same(&world, &["t"]).await;
    until_following(&world).await;
    let (exchange, replicas) = (world.exchange(), world.queue(1));
    let (user, queue) = (format!("{exchange}_listener"), format!("{exchange}_audit"));
    let granted = permissions(exchange, &queue);
    let [configure, write, read] = granted.as_slice() else { panic!("{granted:?}") };
    world.broker().ctl(&["add_user", &user, "narrow"]).await;
    world.broker().ctl(&["set_permissions", &user, configure, write, read]).await;
    let url = format!("amqp://{user}:narrow@127.0.0.1:{}/%2f", world.broker().port());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = async || connection.create_channel().await.unwrap();

    let hearing = channel().await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    hearing.queue_declare(queue.as_str().into(), exclusive, FieldTable::default()).await.unwrap();
    let binding = QueueBindOptions::default();
    hearing
        .queue_bind(queue.as_str().into(), exchange.into(), "".into(), binding, FieldTable::default())
        .await
        .unwrap();
    let mut consumer = listener::consume(&hearing, &queue).await;
    world.primary().execute("INSERT INTO t VALUES (1)").await;
    let heard = listener::next(&mut consumer).await;
    assert!(heard.data.starts_with(br#"{"schema":"public","table":"t","operation":"INSERT""#), "{heard:?}");

    let (name, taking) = (|| replicas.as_str().into(), BasicConsumeOptions::default());
    let refused = [
        ("publishing", publish(channel().await, exchange, "").await),
        ("writing to a queue", publish(channel().await, "", &replicas).await),
        (
            "consuming",
            channel().await.basic_consume(name(), "".into(), taking, FieldTable::default()).await.map(drop),
        ),
        ("purging", channel().await.queue_purge(name(), QueuePurgeOptions::default()).await.map(drop)),
        ("deleting", channel().await.queue_delete(name(), QueueDeleteOptions::default()).await.map(drop)),
        (
            "deleting the exchange",
            channel().await.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await,
        ),
    ];
    for (what, result) in refused {
        let error = result.expect_err(what).to_string();
        assert!(error.contains("ACCESS_REFUSED") || error.contains("ACCESS-REFUSED"), "{what}: {error}");
    }
    drop(connection);
    world.broker().ctl(&["delete_user", &user]).await;
}

async fn publish(channel: Channel, exchange: &str, queue: &str) -> lapin::Result<()> {
    channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel.basic_publish(exchange.into(), queue.into(), options, b"{}", properties).await?.await.map(drop)
}
