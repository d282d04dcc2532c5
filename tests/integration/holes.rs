//! Changes that are gone from the changelog before anybody read them never leave a hole on a replica.

use pgfanout_testbed::proxy::Proxy;

use crate::support::{Mode, PATIENCE, program, until_same, world};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, v int);
    INSERT INTO t SELECT generate_series(1, 5000), 0;
    CREATE TABLE u AS TABLE t;
    ALTER TABLE u ADD PRIMARY KEY (id);
";

/// The broker is away for so long that the changelog reaches its limit: the next batch can't have all.
#[tokio::test]
async fn what_was_trimmed_before_it_was_published_is_copied() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(SCHEMA).await;
    let proxy = Proxy::start(world.broker().port());
    let mut config = world.config().primary("changelog_max_bytes = 1_048_576");
    let broker = config.broker.as_mut().unwrap();
    broker.urls = vec![proxy.detour(&broker.urls[0], world.broker().port())];
    let mut pgfanout = program().run(&config.write());
    until_same(&world, &["t", "u"]).await;
    let mark = pgfanout.mark();
    proxy.cut();
    let failed = |stage: &'static str, replica: &'static str| {
        move |fields: &serde_json::Value| {
            fields["event"] == "failed" && fields["stage"] == stage && fields["replica"] == replica
        }
    };
    pgfanout.wait_for(mark, "that a consumer failed", PATIENCE, failed("consumer", "r1")).await;
    world.primary().execute(&"UPDATE t SET v = v + 1; UPDATE u SET v = v - 1; ".repeat(3)).await;
    world.primary().execute("DELETE FROM t WHERE id > 4990; DELETE FROM u WHERE id < 10").await;
    pgfanout.wait_for_event_after(mark, "changelog_limit", PATIENCE).await;
    // Something later, which is still there when the broker is back.
    world.primary().execute("UPDATE t SET v = 2 WHERE id = 7").await;
    // On one replica a table can't be emptied for so long that the applier gives up in between.
    let reader = world.replica(1).client().await;
    reader.batch_execute("BEGIN; SELECT FROM u LIMIT 1").await.unwrap();
    proxy.resume();
    pgfanout.wait_for(mark, "that the applier gave up", PATIENCE, failed("applier", "r1")).await;
    reader.batch_execute("COMMIT").await.unwrap();
    until_same(&world, &["t", "u"]).await;
}
