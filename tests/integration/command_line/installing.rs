//! `install` and `uninstall`.

use super::{dump, left_on_the_broker};
use std::path::Path;

use pgfanout_testbed::{compare::same_tables, eventually, process::Finished, world::World};

use crate::support::{Mode, PATIENCE, begin, program, until_same, world};

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

/// A dump reads our schema for long, and others who read it do not wait behind us.
#[tokio::test]
async fn nobody_waits_for_long_behind_what_is_removed_from_a_replica() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(TABLES).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["t"]).await;
    pgfanout.terminate().await;
    let dumping = world.replica(1).client().await;
    dumping.batch_execute("BEGIN; LOCK TABLE pgfanout.position IN ACCESS SHARE MODE").await.unwrap();
    let (file, other) = (world.config().write(), world.replica(1).client().await);
    let program = program();
    let removing = program.once("uninstall", &file, &[]);
    let others = async {
        let tried = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
            AND application_name = 'pgfanout uninstall'";
        let mut tries = 0;
        while tries < 2 {
            eventually(PATIENCE, "the removal waits", async || {
                other.query_one(tried, &[]).await.unwrap().get::<_, i64>(0) == 1
            })
            .await;
            other.batch_execute("SET statement_timeout = '5s'; SELECT FROM pgfanout.position").await.unwrap();
            tries += 1;
        }
        dumping.batch_execute("COMMIT").await.unwrap();
    };
    let (Finished { code, stderr, .. }, ()) = tokio::join!(removing, others);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!dump(world.replica(1)).await.contains("pgfanout"));
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
        lines.len() == 3
            && lines[0].starts_with("not removed from replica r1: ")
            && lines[1].starts_with("not removed from the broker: ")
            && lines[2].starts_with("to finish, once that is mended: pgfanout uninstall --config "),
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

/// Taken out of the file, by SIGHUP, and removed with the file as it was, or without.
async fn a_replica_that_is_removed_leaves_nothing_behind(mode: Mode) {
    let world = world(mode, 3).build().await;
    world.primary().execute(TABLES).await;
    let config = world.config();
    let (before, file) = (config.write_as("before.toml"), config.write());
    let mut pgfanout = program().run(&file);
    until_same(&world, &["t"]).await;
    let uninstall =
        async |file: &Path, replica: &str| program().once("uninstall", file, &["--replica", replica]).await;
    for arguments in [vec![], vec!["--replica", "r2"]] {
        let Finished { code, stdout, stderr } = program().once("uninstall", &file, &arguments).await;
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "a process is at work");
        assert!(stderr.contains("end it") && stderr.lines().count() == 1, "{stderr}");
    }

    let _ = config.clone().replicas(1).write();
    let mark = pgfanout.mark();
    pgfanout.reload();
    pgfanout.wait_for_event_after(mark, "started", PATIENCE).await;
    let reported = async |names: &str| {
        let reported = "SELECT string_agg(name, ' ' ORDER BY name) FROM pgfanout.replica";
        eventually(PATIENCE, "the primary forgets them", async || {
            let found: Option<String> = value(&world, reported).await;
            if found.as_deref() == Some(names) { Ok(()) } else { Err(found) }
        })
        .await;
    };
    reported("r1").await;
    // As one that reports a last time.
    let report = "INSERT INTO pgfanout.replica SELECT 'r2', \"position\" FROM pgfanout.replica";
    world.primary().execute(report).await;
    let broker = if mode == Mode::Broker { "removed from the broker\n" } else { "" };
    for done in ["removed from", "nothing to remove from"] {
        let Finished { code, stdout, stderr } = uninstall(&before, "r2").await;
        let expected = format!("{done} replica r2\n{done} the primary\n{broker}");
        assert_eq!((code, stdout, stderr.as_str()), (Some(0), expected, ""));
    }
    assert!(!dump(world.replica(2)).await.contains("pgfanout"));
    // With the new file it is not known where it is.
    let Finished { code, stdout, stderr } = uninstall(&file, "r3").await;
    assert_eq!((code, stdout), (Some(1), format!("nothing to remove from the primary\n{broker}")));
    let (_, remedy) = stderr.split_once("to finish, say there: ").unwrap();
    world.replica(3).execute(remedy).await;
    assert!(!dump(world.replica(3)).await.contains("pgfanout"));
    reported("r1").await;
    if mode == Mode::Broker {
        let left = left_on_the_broker(&world).await;
        assert_eq!(left.len(), 3, "one queue, one for what is rejected, the exchange: {left:?}");
    }
    let Finished { code, stderr, .. } = uninstall(&file, "rejected").await;
    assert_eq!(code, Some(2), "{stderr}");
    // The one that stays goes on.
    world.primary().execute("INSERT INTO t VALUES (2, 'b')").await;
    let here = world.primary().client().await;
    eventually(PATIENCE, "it follows", async || {
        same_tables(&here, &world.replica(1).client().await, &["t"]).await
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_is_removed_leaves_nothing_behind_with_a_broker() {
    a_replica_that_is_removed_leaves_nothing_behind(Mode::Broker).await;
}

#[tokio::test]
async fn a_replica_that_is_removed_leaves_nothing_behind_without_a_broker() {
    a_replica_that_is_removed_leaves_nothing_behind(Mode::Postgres).await;
}

/// Whether that is done while it runs or while it does not.
#[tokio::test]
async fn tables_that_are_taken_out_leave_nothing_behind_on_the_primary() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(TABLES).await;
    let before = dump(world.primary()).await;
    let only = |tables: &str| world.config().primary(&format!("tables = [{tables}]")).write();
    let file = only("\"public.*\"");
    let mut pgfanout = program().run(&file);
    until_same(&world, &["t", "p", "\"Weird Name\""]).await;
    let left = async |names: &str| {
        // Triggers by their tables, and the tables that functions and registry are there for.
        let left = "SELECT concat_ws('; ',
            (SELECT string_agg(DISTINCT tgrelid::regclass::text, ' ') FROM pg_trigger WHERE tgname LIKE 'pgfanout%'),
            (SELECT string_agg(DISTINCT t.table_name, ' ') FROM pgfanout.captured_table t),
            (SELECT count(DISTINCT substring(p.proname FROM '[0-9]+$')) FROM pg_proc p
                WHERE p.pronamespace = 'pgfanout'::regnamespace AND p.proname ~ '_[0-9]+$'))";
        eventually(PATIENCE, "tables are released", async || {
            let found: String = value(&world, left).await;
            if found == names { Ok(()) } else { Err(found) }
        })
        .await;
    };
    left("\"Weird Name\" p p1 t; Weird Name p t; 3").await;
    let _ = only("\"public.t\", 'public.\"Weird Name\"'");
    pgfanout.reload();
    left("\"Weird Name\" t; Weird Name t; 2").await;
    pgfanout.terminate().await;
    let _ = only("\"public.t\"");
    let mut pgfanout = program().run(&file);
    left("t; t; 1").await;
    pgfanout.terminate().await;
    // Where no replica is up, nothing but ours is left either.
    assert_eq!(program().once("uninstall", &file, &[]).await.code, Some(0));
    assert_eq!(dump(world.primary()).await, before);
}
