//! `install` and `uninstall`.

use super::{dump, left_on_the_broker};
use crate::support::{Mode, begin, program, until_same, world};
use pgfanout_testbed::{process::Finished, world::World};

const TABLES: &str =
    "CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE \"Weird Name\" (id int PRIMARY KEY);
    CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100); INSERT INTO t VALUES (1, 'a')";

/// What the dump of a schema does not show: settings, and what belongs to a database.
const MORE: &str = "SELECT (SELECT count(*) FROM pg_event_trigger)
    + (SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
        WHERE d.datname = current_database())
    + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";

async fn value<T: for<'a> tokio_postgres::types::FromSql<'a>>(world: &World, statement: &str) -> T {
    world.primary().client().await.query_one(statement, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn capture_can_be_installed_by_itself_and_again() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(TABLES).await;
    let file = world.config().write();
    let replica = dump(world.replica(1)).await;
    let installed = "SELECT epoch::text || (SELECT string_agg(c::text, ' ' ORDER BY c.id)
        FROM pgfanout.captured_table c) FROM pgfanout.installation";
    let mut known: Option<(String, String)> = None;
    for _ in 0..2 {
        let Finished { code, stdout, stderr } = program().once("install", &file, &[]).await;
        let expected =
            "captured \"public\".\"Weird Name\"\ncaptured \"public\".\"p\"\ncaptured \"public\".\"t\"\n";
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), expected, ""));
        let now = (value(&world, installed).await, dump(world.primary()).await);
        if let Some(known) = known {
            assert_eq!(now, known);
        }
        known = Some(now);
    }
    world.primary().execute("UPDATE t SET a = 'b'").await;
    assert_eq!(value::<i64>(&world, "SELECT count(*) FROM pgfanout.changelog").await, 1);
    assert_eq!(dump(world.replica(1)).await, replica, "nothing is done on replicas");
    assert_eq!(left_on_the_broker(&world).await, Vec::<String>::new(), "nor on the broker");
}

#[tokio::test]
async fn no_trace_is_left_but_the_tables_on_the_replicas() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(TABLES).await;
    let (file, before) = (world.config().write(), dump(world.primary()).await);
    let mut pgfanout = begin(&world);
    until_same(&world, &["t", "p", "\"Weird Name\""]).await;
    pgfanout.terminate().await;
    assert_eq!(
        left_on_the_broker(&world).await.len(),
        4,
        "two queues, one for what is rejected, the exchange"
    );
    for done in ["removed from", "nothing to remove from"] {
        let Finished { code, stdout, stderr } = program().once("uninstall", &file, &[]).await;
        let places = ["the primary", "replica r1", "replica r2"].map(|place| format!("{done} {place}\n"));
        let expected = format!("{}removed from the broker\n", places.concat());
        assert_eq!((code, stdout, stderr.as_str()), (Some(0), expected, ""));
        assert_eq!(dump(world.primary()).await, before);
        for database in world.replicas().iter().chain([world.primary()]) {
            assert!(!dump(database).await.contains("pgfanout"));
            let more = database.client().await.query_one(MORE, &[]).await.unwrap();
            assert_eq!(more.get::<_, i64>(0), 0, "{database}");
        }
        assert_eq!(left_on_the_broker(&world).await, Vec::<String>::new());
    }
    until_same(&world, &["t", "p", "\"Weird Name\""]).await;
    world.primary().execute("UPDATE t SET a = 'b'; TRUNCATE t; DROP TABLE t").await;
}

#[tokio::test]
async fn what_could_not_be_removed_is_named_and_the_rest_is_gone() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(TABLES).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["t"]).await;
    pgfanout.terminate().await;
    let mut config = world.config();
    config.broker.as_mut().unwrap().urls = vec!["amqp://guest:secret-word@127.0.0.1:1/".to_owned()];
    config.replicas[0].url = "postgresql://postgres:secret-word@127.0.0.1:1/x".to_owned();
    let Finished { code, stdout, stderr } = program().once("uninstall", &config.write(), &[]).await;
    assert_eq!((code, stdout.as_str()), (Some(1), "removed from the primary\nremoved from replica r2\n"));
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(
        lines.len() == 2
            && lines[0].starts_with("not removed from replica r1: ")
            && lines[1].starts_with("not removed from the broker: "),
        "{stderr}"
    );
    assert!(!stderr.contains("secret-word"), "{stderr}");
    assert!(!dump(world.primary()).await.contains("pgfanout"));
    assert!(dump(world.replica(1)).await.contains("pgfanout"));
    assert!(!dump(world.replica(2)).await.contains("pgfanout"));
    assert_eq!(left_on_the_broker(&world).await.len(), 4);
    let Finished { code, .. } = program().once("uninstall", &world.config().write(), &[]).await;
    assert_eq!(code, Some(0), "what is left goes the next time");
    assert!(!dump(world.replica(1)).await.contains("pgfanout"));
    assert_eq!(left_on_the_broker(&world).await, Vec::<String>::new());
}
