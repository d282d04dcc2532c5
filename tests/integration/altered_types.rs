//! Types that change while tables of them are followed: a replica whose type lacks what the primary's has halts, says
//! which statement it lacks, and goes on by itself once that was run there.

use pgfanout_testbed::world::Database;
use serde_json::Value;

use crate::{
    bank::until_joined,
    support::{Mode, PATIENCE, program, until_same, world},
};

const SETUP: &str = "
    CREATE TYPE e_added AS ENUM ('a', 'z'); CREATE TYPE e_early AS ENUM ('a'); CREATE TYPE e_keyed AS ENUM ('a', 'b');
    CREATE TYPE e_deep AS ENUM ('a'); CREATE DOMAIN e_deeps AS e_deep[]; CREATE TYPE nest AS (l e_deeps, n int);
    CREATE TYPE e_renamed AS ENUM ('a', 'b'); CREATE TYPE e_theirs AS ENUM ('a', 'b');
    CREATE TYPE e_pair AS (a int, n int, t text);
    CREATE TABLE added (id int PRIMARY KEY, v e_added, vs e_added[]);
    CREATE TABLE early (id int PRIMARY KEY, v e_early);
    CREATE TABLE keyed (k e_keyed PRIMARY KEY, v int);
    CREATE TABLE deep (id int PRIMARY KEY, v nest[]);
    CREATE TABLE renamed (id int PRIMARY KEY, v e_renamed);
    CREATE TABLE bag (v e_renamed);
    CREATE TABLE theirs (id int PRIMARY KEY, v e_theirs);
    CREATE TABLE pair (id int PRIMARY KEY, p e_pair);
    INSERT INTO added VALUES (1, 'a', '{z}'), (2, 'z', NULL); INSERT INTO early VALUES (1, 'a');
    INSERT INTO keyed VALUES ('a', 1), ('b', 2); INSERT INTO deep VALUES (1, ARRAY[ROW('{a}', 1)::nest]);
    INSERT INTO renamed VALUES (1, 'a'), (2, 'b'); INSERT INTO bag VALUES ('a'), ('a'), ('b');
    INSERT INTO theirs VALUES (1, 'a'), (2, 'b'); INSERT INTO pair VALUES (1, '(1,2,x)'), (2, '(,,)')";

const TABLES: [&str; 8] = ["added", "early", "keyed", "deep", "renamed", "bag", "theirs", "pair"];

/// What is done on the replicas before anything happens on the primary: what it will do, and what it won't.
const ON_REPLICAS: &str = "ALTER TYPE e_early ADD VALUE 'b'; ALTER TYPE e_theirs RENAME VALUE 'a' TO 'mine'";

const ALTER: &[&str] = &[
    "ALTER TYPE e_added ADD VALUE 'it''s\\' BEFORE 'z'",
    "ALTER TYPE e_early ADD VALUE 'b'",
    "ALTER TYPE e_keyed ADD VALUE '(b,\"c' BEFORE 'b'",
    "ALTER TYPE e_deep ADD VALUE 'b'",
    "ALTER TYPE e_renamed RENAME VALUE 'a' TO 'c'",
    "ALTER TYPE e_pair DROP ATTRIBUTE n",
];

const WRITE: &str = r#"
    INSERT INTO added VALUES (3, 'it''s\', '{"it''s\\"}'); INSERT INTO early VALUES (2, 'b');
    UPDATE keyed SET k = '(b,"c' WHERE k = 'b'; INSERT INTO deep VALUES (2, ARRAY[ROW('{b}', 1)::nest]);
    INSERT INTO renamed VALUES (3, 'c'); DELETE FROM bag WHERE ctid = '(0,1)'; INSERT INTO theirs VALUES (3, 'a');
    INSERT INTO pair VALUES (3, '(3,y)')"#;

/// The tables that do not fit any more, and what mends each.
const REMEDIES: [(&str, &str); 7] = [
    ("added", "ALTER TYPE public.e_added ADD VALUE E'it''s\\\\' AFTER 'a'"),
    ("keyed", "ALTER TYPE public.e_keyed ADD VALUE '(b,\"c' AFTER 'a'"),
    ("deep", "ALTER TYPE public.e_deep ADD VALUE 'b' AFTER 'a'"),
    ("renamed", "ALTER TYPE public.e_renamed RENAME VALUE 'a' TO 'c'"),
    ("bag", "ALTER TYPE public.e_renamed RENAME VALUE 'a' TO 'c'"),
    ("theirs", "ALTER TYPE public.e_theirs RENAME VALUE 'mine' TO 'a'"),
    ("pair", "make it there as CREATE TYPE public.e_pair AS (a integer, t text)"),
];

/// What only the primary did is done here too.
async fn mend(replica: &Database) {
    for (table, remedy) in REMEDIES {
        match table {
            "pair" => replica.execute("ALTER TYPE e_pair DROP ATTRIBUTE n").await,
            // Its type is mended with another table.
            "bag" => {}
            _ => replica.execute(remedy).await,
        }
    }
}

/// The first replica sets each table aside, the second one halts.
async fn a_type_that_changed_is_told(mode: Mode) {
    let world = world(mode, 2).build().await;
    world.primary().execute(SETUP).await;
    let mut config = world.config();
    config.replicas[0].more = "on_table_error = \"isolate\"".to_owned();
    let mut pgfanout = program().run(&config.write());
    until_joined(&world, TABLES.len()).await;
    for replica in world.replicas() {
        replica.execute(ON_REPLICAS).await;
    }
    let mark = pgfanout.mark();
    // Here the first word is the refusal of a row, that of a label the replica renamed.
    world.primary().execute("INSERT INTO theirs VALUES (4, 'a')").await;
    let told = |event: &'static str, replica: &'static str, words: String| {
        move |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            line["event"] == event && line["replica"] == replica && message.contains(&words)
        }
    };
    let remedy = format!("remedy: {}", REMEDIES[5].1);
    pgfanout.wait_for(mark, "that r2 halts", PATIENCE, told("halted", "r2", remedy)).await;
    let halts = |line: &&Value| line["event"] == "halted" && line["replica"] == "r2";
    assert_eq!(pgfanout.log_after(mark).iter().filter(halts).count(), 1, "told at once");

    for statement in ALTER {
        world.primary().execute(statement).await;
    }
    world.primary().execute(WRITE).await;
    for (table, remedy) in REMEDIES {
        let words = format!("table public.{table}, type public.");
        let line = pgfanout.wait_for(mark, table, PATIENCE, told("table_isolated", "r1", words)).await;
        let message = line["message"].as_str().unwrap();
        assert!(message.contains(&format!("remedy: {remedy}")), "{message}");
    }
    let isolated = |line: &&Value| line["event"] == "table_isolated";
    assert_eq!(pgfanout.log_after(mark).iter().filter(isolated).count(), REMEDIES.len(), "each once");
    for replica in world.replicas() {
        mend(replica).await;
    }
    until_same(&world, &TABLES).await;
    until_joined(&world, TABLES.len()).await;
    world
        .primary()
        .execute("UPDATE renamed SET v = 'b'; UPDATE keyed SET v = 0; UPDATE pair SET p = NULL")
        .await;
    until_same(&world, &TABLES).await;
}

#[tokio::test]
async fn a_type_that_changed_on_one_side_is_told_with_a_broker() {
    a_type_that_changed_is_told(Mode::Broker).await;
}

#[tokio::test]
#[ignore = "both modes: make large"]
async fn a_type_that_changed_on_one_side_is_told_without_a_broker() {
    a_type_that_changed_is_told(Mode::Postgres).await;
}
