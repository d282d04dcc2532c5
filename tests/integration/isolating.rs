//! `on_table_error = "isolate"`: a table on which a replica fails is set aside; the others follow with whole
//! transactions, and it joins them again when it is mended.

use pgfanout_testbed::{
    compare::same_tables,
    eventually,
    process::Pgfanout,
    world::{Plan, World},
};
use serde_json::Value;

use crate::{
    bank,
    bounds::{ITEM, SMALL_CHANGELOG, change_all, number},
    support::{Mode, PATIENCE, program, until_same, world},
};

const TABLES: &[&str] = &["t", "u"];
const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY, x text);
    INSERT INTO t SELECT n, n FROM generate_series(1, 10) n";

fn start(world: &World, more: &str) -> Pgfanout {
    program().run(&configuration(world, "isolate", more))
}

fn configuration(world: &World, on_table_error: &str, primary: &str) -> std::path::PathBuf {
    let mut config = world.config().primary(primary);
    config.replicas[0].more = format!("on_table_error = \"{on_table_error}\"");
    config.write()
}

async fn following(plan: Plan, setup: &str, tables: usize, more: &str) -> (World, Pgfanout) {
    let world = plan.build().await;
    world.primary().execute(setup).await;
    let pgfanout = start(&world, more);
    bank::until_joined(&world, tables).await;
    (world, pgfanout)
}

/// The log says that r1 set the table aside, with these words.
async fn is_isolated(pgfanout: &mut Pgfanout, mark: usize, table: &str, words: &[&str]) {
    let quoted = format!("\"public\".\"{table}\"");
    let isolated = |line: &Value| line["event"] == "table_isolated" && line["table"] == *quoted;
    let line = pgfanout.wait_for(mark, "that a table is set aside", PATIENCE, isolated).await;
    let message = line["message"].as_str().unwrap();
    assert_eq!((&line["replica"], &line["level"]), (&"r1".into(), &"ERROR".into()), "{line}");
    for word in words {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(!message.contains("4711"), "{message}");
}

/// What is committed on the primary now arrives in all tables of all replicas but those of r1 that are named.
async fn until_others_follow(world: &World, tables: &[&str], but: &[&str]) {
    let primary = world.primary().look().await.unwrap();
    for (n, replica) in world.replicas().iter().enumerate() {
        let client = replica.look().await.unwrap();
        let tables: Vec<_> = tables.iter().copied().filter(|table| n > 0 || !but.contains(table)).collect();
        eventually(PATIENCE, "the others follow", async || same_tables(&primary, &client, &tables).await)
            .await;
    }
}

async fn status(world: &World) -> Value {
    let printed = program().once("status", &world.directory().join("pgfanout.toml"), &["--json"]).await;
    let status: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(printed.code, Some(i32::from(status["follows"] != true)), "{status}");
    status
}

/// All tables of r1 follow again, and stand at one moment.
async fn until_whole(world: &World, tables: &[&str]) {
    until_same(world, tables).await;
    bank::until_joined(world, tables.len()).await;
    until_same(world, tables).await;
    eventually(PATIENCE, "status says so", async || {
        let status = status(world).await;
        if status["follows"] == true { Ok(()) } else { Err(status) }
    })
    .await;
}

fn count(pgfanout: &Pgfanout, mark: usize, event: &str) -> usize {
    pgfanout.log_after(mark).iter().filter(|line| line["event"] == event).count()
}

/// One table refuses, then another one as well; each is told once; truncated, and the process killed meanwhile.
async fn a_table_that_refuses_is_set_aside(mode: Mode) {
    let (world, mut pgfanout) = following(world(mode, 2), SETUP, 2, "").await;
    let (primary, replica) = (world.primary(), world.replica(1));
    replica.execute("ALTER TABLE t ADD CONSTRAINT small CHECK (v < 100)").await;
    let mark = pgfanout.mark();
    primary.execute("BEGIN; UPDATE t SET v = 4711 WHERE id = 3; INSERT INTO u VALUES (1, 'a'); COMMIT").await;
    let words = ["replica r1", "(key \"id\")", "constraint small", "SQLSTATE 23514", "goes on by itself"];
    is_isolated(&mut pgfanout, mark, "t", &words).await;
    until_others_follow(&world, TABLES, &["t"]).await;
    let told = status(&world).await;
    let replica_told = &told["replicas"][0];
    assert_eq!(
        (&replica_told["state"], &told["replicas"][1]["state"]),
        (&"isolating".into(), &"following".into())
    );
    assert_eq!(replica_told["isolated"][0]["table"], "public.t", "{told}");
    assert!(replica_told["isolated"][0]["cause"].as_str().unwrap().contains("constraint small"), "{told}");
    primary.execute("BEGIN; INSERT INTO t VALUES (11, 4711); INSERT INTO u VALUES (2, 'b'); COMMIT").await;
    until_others_follow(&world, TABLES, &["t"]).await;
    assert_eq!(number(replica, "SELECT sum(v) FROM t").await, 55, "it stays as it is");
    pgfanout.kill9().await;
    primary
        .execute(
            "BEGIN; TRUNCATE t, u; INSERT INTO t VALUES (1, 4711); INSERT INTO u VALUES (3, 'c'); COMMIT",
        )
        .await;
    let mut pgfanout = start(&world, "");
    let mark = pgfanout.mark();
    until_others_follow(&world, TABLES, &["t"]).await;
    assert_eq!(number(replica, "SELECT sum(v) FROM t").await, 55, "it stays as it is");
    replica.execute("ALTER TABLE t DROP CONSTRAINT small").await;
    pgfanout.wait_for_event_after(mark, "table_mended", PATIENCE).await;
    until_whole(&world, TABLES).await;
    // Of one refusal an earlier look may have told less.
    let told = pgfanout.events("table_isolated");
    let mut causes: Vec<_> = told.iter().map(|line| line["message"].to_string()).collect();
    causes.sort_unstable();
    causes.dedup();
    assert!(!told.is_empty() && causes.len() == told.len(), "each process tells each cause once: {told:?}");
    replica.execute("CREATE UNIQUE INDEX once ON u (x)").await;
    let mark = pgfanout.mark();
    primary.execute("BEGIN; INSERT INTO u VALUES (4, 'd'), (5, 'd'); UPDATE t SET v = 7; COMMIT").await;
    is_isolated(&mut pgfanout, mark, "u", &["constraint once"]).await;
    until_others_follow(&world, TABLES, &["u"]).await;
    primary.execute("DELETE FROM u WHERE id = 5").await;
    until_whole(&world, TABLES).await;
    assert_eq!(count(&pgfanout, mark, "halted"), 0);
}

#[tokio::test]
async fn a_table_that_refuses_is_set_aside_until_it_is_mended_with_a_broker() {
    a_table_that_refuses_is_set_aside(Mode::Broker).await;
}

#[tokio::test]
#[ignore = "both modes: make large"]
async fn a_table_that_refuses_is_set_aside_until_it_is_mended_without_a_broker() {
    a_table_that_refuses_is_set_aside(Mode::Postgres).await;
}

/// No reader of the others sees a part of a transaction, while one table is set aside under load.
#[tokio::test]
async fn the_others_follow_with_whole_transactions() {
    let setup = format!("{}; {SETUP}", bank::SETUP);
    let (world, mut pgfanout) = following(world(Mode::Broker, 2), &setup, 5, "").await;
    let replica = world.replica(1);
    replica.execute("ALTER TABLE t ADD CONSTRAINT small CHECK (v < 100)").await;
    let (mark, primary) = (pgfanout.mark(), world.primary());
    let meddle = async |_| {
        primary.execute("UPDATE t SET v = 4711").await;
        is_isolated(&mut pgfanout, mark, "t", &["constraint small"]).await;
        primary.execute("UPDATE t SET v = 4711 - id").await;
    };
    bank::transfers(&world, 30, meddle).await;
    replica.execute("ALTER TABLE t DROP CONSTRAINT small").await;
    until_whole(&world, &["t", "u", "checking", "savings", "transfer"]).await;
}

/// One never fitted, one is refused while it is copied, one loses a column, one is dropped.
#[tokio::test]
async fn a_table_of_another_definition_is_set_aside() {
    const ALL: &[&str] = &["a", "t", "u", "w"];
    let world = world(Mode::Postgres, 2).build().await;
    let (primary, replica) = (world.primary(), world.replica(1));
    primary.execute(SETUP).await;
    primary.execute("CREATE TABLE a AS SELECT id, v FROM t; ALTER TABLE a ADD PRIMARY KEY (id)").await;
    primary.execute("CREATE TABLE w (id int PRIMARY KEY, v int); INSERT INTO w VALUES (1, 1)").await;
    replica.execute("CREATE TABLE a (id int PRIMARY KEY, v int CONSTRAINT small CHECK (v < 5))").await;
    replica.execute("CREATE TABLE w (id int PRIMARY KEY); INSERT INTO w VALUES (7)").await;
    let mut pgfanout = start(&world, "");
    is_isolated(&mut pgfanout, 0, "w", &["column v", "no such column", "ADD COLUMN"]).await;
    is_isolated(&mut pgfanout, 0, "a", &["constraint small"]).await;
    until_others_follow(&world, ALL, &["a", "w"]).await;
    let told = status(&world).await;
    let tables: Vec<_> =
        told["replicas"][0]["isolated"].as_array().unwrap().iter().map(|one| &one["table"]).collect();
    assert_eq!(tables, ["public.a", "public.w"], "{told}");
    replica.execute("ALTER TABLE a DROP CONSTRAINT small; DROP TABLE w").await;
    until_whole(&world, ALL).await;
    let mark = pgfanout.mark();
    replica.execute("ALTER TABLE t DROP COLUMN v; DROP TABLE a").await;
    primary
        .execute("BEGIN; UPDATE t SET v = v + 1 WHERE id < 4; INSERT INTO u VALUES (1, 'a'); COMMIT")
        .await;
    is_isolated(&mut pgfanout, mark, "t", &["column \"v\""]).await;
    until_others_follow(&world, ALL, &["a", "t"]).await;
    // What was in it is lost.
    replica.execute("ALTER TABLE t ADD COLUMN v int").await;
    primary.execute("BEGIN; DELETE FROM a WHERE id = 1; INSERT INTO u VALUES (2, 'b'); COMMIT").await;
    until_whole(&world, ALL).await;
    assert_eq!(count(&pgfanout, 0, "halted") + count(&pgfanout, 0, "copy_anew"), 0);
}

/// The changelog is trimmed past where it was left.
#[tokio::test]
async fn a_table_that_is_set_aside_for_too_long_is_copied_anew_alone() {
    const ALL: &[&str] = &["item", "t", "u"];
    let setup = format!("{ITEM}; {SETUP}");
    let plan = world(Mode::Broker, 1).own_primary(&[]);
    let (world, mut pgfanout) = following(plan, &setup, 3, SMALL_CHANGELOG).await;
    let (primary, replica) = (world.primary(), world.replica(1));
    replica.execute("ALTER TABLE t ADD CONSTRAINT small CHECK (v < 100)").await;
    let mark = pgfanout.mark();
    primary.execute("UPDATE t SET v = 4711 WHERE id = 3").await;
    is_isolated(&mut pgfanout, mark, "t", &["constraint small"]).await;
    let own = "SELECT pg_snapshot_xmin(snapshot)::text::bigint FROM pgfanout.replicated_table WHERE table_name = 't'";
    let own = number(replica, own).await;
    let before = "SELECT trimmed_before::text::bigint FROM pgfanout.installation";
    // It holds the changelog, up to the limit.
    while number(primary, before).await <= own {
        change_all(primary).await;
        until_others_follow(&world, ALL, &["t"]).await;
    }
    assert!(count(&pgfanout, mark, "changelog_grows") > 0);
    replica.execute("ALTER TABLE t DROP CONSTRAINT small").await;
    until_whole(&world, ALL).await;
    let entered: Vec<_> =
        pgfanout.log_after(mark).into_iter().filter(|line| line["event"] == "table_entered").collect();
    assert!(entered.len() == 1 && entered[0]["table"] == "\"public\".\"t\"", "{entered:?}");
    assert_eq!(count(&pgfanout, mark, "copy_anew"), 0);
}

/// Back to "halt"; then one is not captured any more, and one copied anew by command.
#[tokio::test]
async fn a_table_that_is_set_aside_comes_back_into_line_when_that_is_not_wanted_any_more() {
    let (world, mut pgfanout) = following(world(Mode::Postgres, 1), SETUP, 2, "").await;
    let (primary, replica) = (world.primary(), world.replica(1));
    replica.execute("ALTER TABLE t ADD CONSTRAINT small CHECK (v < 100)").await;
    replica.execute("ALTER TABLE u ADD CONSTRAINT short CHECK (x < 'b')").await;
    primary.execute("BEGIN; UPDATE t SET v = 4711; INSERT INTO u VALUES (1, 'c'); COMMIT").await;
    is_isolated(&mut pgfanout, 0, "t", &["constraint small"]).await;
    is_isolated(&mut pgfanout, 0, "u", &["constraint short"]).await;
    pgfanout.kill9().await;
    let mut pgfanout = program().run(&configuration(&world, "halt", ""));
    let halted = pgfanout.wait_for_event("halted", PATIENCE).await;
    assert!(halted["message"].as_str().unwrap().contains("SQLSTATE 23514"), "{halted}");
    pgfanout.kill9().await;
    let config = configuration(&world, "isolate", "exclude = [\"t\"]");
    let mut pgfanout = program().run(&config);
    pgfanout.wait_for_event("table_left", PATIENCE).await;
    is_isolated(&mut pgfanout, 0, "u", &["constraint short"]).await;
    replica.execute("ALTER TABLE u DROP CONSTRAINT short").await;
    let resync = program().once("resync", &config, &["--replica", "r1", "--table", "u", "--yes"]).await;
    assert_eq!(resync.code, Some(0), "{}", resync.stderr);
    let entered = |line: &Value| line["event"] == "table_entered" && line["table"] == "\"public\".\"u\"";
    pgfanout.wait_for(0, "that it is copied anew", PATIENCE, entered).await;
    until_whole(&world, &["u"]).await;
}

/// Foreign keys that only a replica has do not keep tables from being emptied.
#[tokio::test]
async fn a_table_to_which_others_refer_is_emptied() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(SETUP).await;
    world.primary().execute("INSERT INTO u SELECT n, 'x' FROM generate_series(1, 3) n").await;
    let mut pgfanout = program().run(&world.config().write());
    bank::until_joined(&world, 2).await;
    world.replica(1).execute("ALTER TABLE u ADD FOREIGN KEY (id) REFERENCES t").await;
    world.primary().execute("TRUNCATE t; INSERT INTO t VALUES (2, 2)").await;
    until_same(&world, TABLES).await;
    world.primary().execute("TRUNCATE t, u; INSERT INTO t VALUES (3, 3)").await;
    until_same(&world, TABLES).await;
    let config = world.directory().join("pgfanout.toml");
    let mark = pgfanout.mark();
    let resync = program().once("resync", &config, &["--replica", "r1", "--table", "t", "--yes"]).await;
    assert_eq!(resync.code, Some(0), "{}", resync.stderr);
    pgfanout.wait_for_event_after(mark, "table_entered", PATIENCE).await;
    until_whole(&world, TABLES).await;
    assert_eq!(count(&pgfanout, 0, "halted"), 0);
}
