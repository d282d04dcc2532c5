//! `pgfanout resync`: what it says, and what it does.

use pgfanout_testbed::process::Finished;

use super::{SETUP, TABLES, count, resync};
use crate::support::{Mode, PATIENCE, begin, program, until_same, world};

#[tokio::test]
async fn a_resync_says_what_it_will_do_and_wants_to_be_confirmed() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(SETUP).await;
    let config = world.config().write();
    let Finished { code, stderr, .. } = resync(&config, &["--replica", "r1", "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("has never run for it"), "{stderr}");
    let mut pgfanout = begin(&world);
    until_same(&world, TABLES).await;
    pgfanout.kill9().await;
    let before = positions(&world).await;
    for (arguments, said) in [
        (&["--replica", "r1"][..], "--yes"),
        (&["--replica", "other", "--yes"], "those that there are: r1"),
        (&["--replica", "r1", "--table", "absent", "--yes"], "absent matches none of the tables"),
        (&["--replica", "r1", "--table", "a.b.c", "--yes"], "more than two parts"),
    ] {
        let Finished { code, stdout, stderr } = resync(&config, arguments).await;
        assert_eq!(code, Some(2), "{arguments:?}: {stdout} {stderr}");
        assert!(stderr.contains(said) && stderr.lines().count() == 1, "{stderr}");
    }
    let Finished { stdout, .. } = resync(&config, &["--replica", "r1"]).await;
    for said in ["2 tables on replica r1, which are all", "\"public\".\"t\"", "emptied and copied anew"] {
        assert!(stdout.contains(said), "{stdout}");
    }
    assert_eq!(positions(&world).await, before, "nothing was done");
}

async fn positions(world: &pgfanout_testbed::world::World) -> String {
    let all = "SELECT (SELECT p::text FROM pgfanout.position p) ||
        (SELECT string_agg(t::text, ' ' ORDER BY t.id) FROM pgfanout.replicated_table t)";
    world.replica(1).client().await.query_one(all, &[]).await.unwrap().get(0)
}

/// A table that somebody wrote to is right again; nothing else is touched.
#[tokio::test]
async fn one_table_is_copied_anew_and_nothing_else() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(SETUP).await;
    world.primary().execute("INSERT INTO u SELECT generate_series(1, 50)").await;
    let config = world.config().write();
    let mut pgfanout = program().run(&config);
    until_same(&world, TABLES).await;
    // Also while it joins what it copied.
    let wrong = "SET session_replication_role = replica; UPDATE t SET text = 'wrong' WHERE id < 10;
        DELETE FROM t WHERE id > 90; INSERT INTO t VALUES (-1, 'wrong')";
    world.replica(1).execute(wrong).await;
    let mark = pgfanout.mark();
    let Finished { code, stdout, .. } = resync(&config, &["--replica", "r1", "--table", "t", "--yes"]).await;
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.contains("1 tables on replica r1:") && !stdout.contains("\"u\""), "{stdout}");
    until_same(&world, TABLES).await;
    assert_eq!(count(world.replica(1), "t WHERE text = 'wrong'").await, 0);
    let entered = |line: &serde_json::Value| line["event"] == "table_entered";
    let first = pgfanout.wait_for(mark, "that the copy began", PATIENCE, entered).await;
    assert_eq!((&first["replica"], &first["table"]), (&"r1".into(), &"\"public\".\"t\"".into()));
    world.primary().execute("UPDATE t SET text = 'later'; DELETE FROM u WHERE id < 10").await;
    until_same(&world, TABLES).await;
    let entered = pgfanout.log_after(mark).into_iter().filter(entered).count();
    assert_eq!(entered, 1, "no other table, no other replica");
}

/// Whatever an earlier copy was at when it was begun anew does not count.
#[tokio::test]
async fn a_copy_that_is_begun_anew_in_its_middle_is_whole() {
    const BIG: &str = "CREATE TABLE big (id int PRIMARY KEY, text text);
        INSERT INTO big SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n";
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(BIG).await;
    world.replica(1).execute("CREATE TABLE big (id int PRIMARY KEY, text text)").await;
    let obstacle = world.replica(1).client().await;
    obstacle.batch_execute("BEGIN; INSERT INTO big VALUES (10000, 'in the way')").await.unwrap();
    let config = world.config().more("[copy]\nchunk_bytes = 65536\nworkers = 2").write();
    let mut pgfanout = program().run(&config);
    let waiting = "pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'pgfanout copy%' AND wait_event_type = 'Lock'";
    super::until_count(world.replica(1), waiting, 1).await;
    let mark = pgfanout.mark();
    let Finished { code, stdout, .. } =
        resync(&config, &["--replica", "r1", "--table", "big", "--yes"]).await;
    assert_eq!(code, Some(0), "{stdout}");
    // It wants to empty the table, and waits for the obstacle.
    let emptying = "pg_stat_activity WHERE datname = current_database() AND query LIKE 'TRUNCATE%'
        AND wait_event_type = 'Lock'";
    super::until_count(world.replica(1), emptying, 1).await;
    obstacle.batch_execute("ROLLBACK").await.unwrap();
    pgfanout.wait_for_event_after(mark, "table_entered", PATIENCE).await;
    until_same(&world, &["big"]).await;
    super::until_count(world.replica(1), "pgfanout.replicated_table WHERE snapshot IS NULL", 1).await;
    until_same(&world, &["big"]).await;
}
