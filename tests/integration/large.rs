//! Transactions and rows of any size arrive whole, in little memory.

use std::time::{Duration, Instant};

use pgfanout_testbed::{eventually, process::Pgfanout, world::World};
use tokio_postgres::Client;

use crate::{
    messages::until_following,
    support::{Mode, begin, program, until_same, world},
};

/// A build for debugging, on a busy machine, writes some thousand rows a second.
const LARGE_PATIENCE: Duration = Duration::from_secs(300);

/// Rows of hundreds of megabytes take longer.
const LARGEST_PATIENCE: Duration = Duration::from_secs(900);

/// What the process may ever use, however large rows are; a build for debugging uses more than any other.
const MEMORY: u64 = 256 << 20;

/// Rows from all over the table: whoever sees one of them changed sees all of them changed. Looking at all
/// rows all the time would take the time that the statement needs.
const SAMPLE: &str = "SELECT count(*), coalesce(max(version), 0)::int8, coalesce(min(version), 0)::int8
    FROM item WHERE id = ANY (ARRAY(SELECT generate_series(1, 1000000, 4999)))";
const ALL: &str =
    "SELECT count(*), coalesce(max(version), 0)::int8, coalesce(min(version), 0)::int8 FROM item";

/// How many rows there are, and their highest and lowest version.
type Seen = (i64, i64, i64);

async fn look(replica: &Client, query: &str) -> Seen {
    let row = replica.query_one(query, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

/// One statement changes what a reader sees from nothing of it to all of it.
async fn changes_at_once(world: &World, statement: &str, all: i64, versions: (i64, i64)) {
    let replica = world.replica(1).client().await;
    let expected = |rows: i64, version: i64| if version == 0 { (0, 0, 0) } else { (rows, version, version) };
    let sampled = (all - 1) / 4999 + 1;
    let (before, after) = (expected(sampled, versions.0), expected(sampled, versions.1));
    assert_eq!(look(&replica, SAMPLE).await, before);
    world.primary().execute(statement).await;
    eventually(LARGE_PATIENCE, statement, async || {
        let seen = look(&replica, SAMPLE).await;
        assert!(seen == before || seen == after, "{statement}: {seen:?} is a part of it");
        if seen == after { Ok(()) } else { Err(seen) }
    })
    .await;
    assert_eq!(look(&replica, ALL).await, expected(all, versions.1), "{statement}");
}

/// Waits until the rows have the sizes that they have on the primary, then compares them once: that takes long.
async fn until_same_pages(world: &World) {
    let (here, there) = (world.primary().client().await, world.replica(1).client().await);
    let list = |size: &str, digest: &str| {
        format!(
            "SELECT string_agg(concat_ws(' ', id, {size}(text), {size}(data){digest}), ',' ORDER BY id) FROM page"
        )
    };
    let sizes = list("octet_length", "");
    let expected: Option<String> = here.query_one(&sizes, &[]).await.unwrap().get(0);
    eventually(LARGEST_PATIENCE, "large rows arrive", async || {
        let found = there.query_one(&sizes, &[]).await.map_err(|error| error.to_string())?;
        let found: Option<String> = found.get(0);
        if found == expected { Ok(()) } else { Err(format!("{found:?}, expected {expected:?}")) }
    })
    .await;
    // The text of such a row in all its forms would be too large to compare.
    let digests = list("md5", ", data IS NULL");
    let (expected, found) = (here.query_one(&digests, &[]), there.query_one(&digests, &[]));
    let (expected, found) = tokio::join!(expected, found);
    let (expected, found): (Option<String>, Option<String>) =
        (expected.unwrap().get(0), found.unwrap().get(0));
    assert_eq!(found, expected);
}

pub(crate) fn assert_small(pgfanout: &Pgfanout) {
    let peak = pgfanout.peak_rss_bytes();
    assert!(peak < MEMORY, "{} MiB of memory were used", peak >> 20);
}

/// A transaction writes so many rows into three tables, others change and delete those of one of them.
async fn a_large_transaction_arrives_whole(mode: Mode, rows: i64) {
    let world = world(mode, 1).build().await;
    world
        .primary()
        .execute(
            "CREATE TABLE item (id int PRIMARY KEY, version int, text text);
             CREATE TABLE part (id int PRIMARY KEY, version int);
             CREATE TABLE label (text text PRIMARY KEY)",
        )
        .await;
    let pgfanout = begin(&world);
    until_same(&world, &["item", "part", "label"]).await;
    let (items, parts, labels) = (rows * 4 / 10, rows * 3 / 10, rows * 3 / 10);
    let insert = format!(
        "INSERT INTO part SELECT n, 1 FROM generate_series(1, {parts}) n;
         INSERT INTO item SELECT n, 1, repeat('x', 50) FROM generate_series(1, {items}) n;
         INSERT INTO label SELECT 'label ' || n FROM generate_series(1, {labels}) n"
    );
    changes_at_once(&world, &insert, items, (0, 1)).await;
    let others = "SELECT (SELECT count(*) FROM part) + (SELECT count(*) FROM label)";
    let seen: i64 = world.replica(1).client().await.query_one(others, &[]).await.unwrap().get(0);
    assert_eq!(seen, parts + labels, "the transaction arrived as a whole");
    assert_small(&pgfanout);
    changes_at_once(&world, "UPDATE item SET version = 2", items, (1, 2)).await;
    assert_small(&pgfanout);
    changes_at_once(&world, "DELETE FROM item", items, (2, 0)).await;
    assert_small(&pgfanout);
}

#[tokio::test]
async fn a_large_transaction_arrives_whole_through_the_broker() {
    a_large_transaction_arrives_whole(Mode::Broker, 500_000).await;
}

#[tokio::test]
async fn a_large_transaction_arrives_whole_by_catching_up() {
    a_large_transaction_arrives_whole(Mode::Postgres, 500_000).await;
}

#[tokio::test]
#[ignore = "takes minutes: make large"]
async fn a_transaction_of_a_million_rows_arrives_whole_through_the_broker() {
    a_large_transaction_arrives_whole(Mode::Broker, 1_000_000).await;
}

#[tokio::test]
#[ignore = "takes minutes: make large"]
async fn a_transaction_of_a_million_rows_arrives_whole_by_catching_up() {
    a_large_transaction_arrives_whole(Mode::Postgres, 1_000_000).await;
}

const PAGE: &str = "CREATE TABLE page (id int PRIMARY KEY, text text, data bytea);
    ALTER TABLE page ALTER text SET STORAGE EXTERNAL, ALTER data SET STORAGE EXTERNAL;
    CREATE TABLE small (id int PRIMARY KEY)";

/// So many megabytes, as text with all that has to be quoted and as bytes.
fn page(id: i32, megabytes: usize) -> String {
    format!(
        r#"INSERT INTO page VALUES ({id}, repeat('"\ é ', {0}), NULL), ({id} + 1, '', convert_to(repeat('0123456789', {1}), 'UTF8'))"#,
        megabytes * 1_000_000 / 6,
        megabytes * 100_000
    )
}

/// Rows of so many megabytes come, change, get other keys and go, with small ones behind them.
async fn large_rows_arrive(mode: Mode, megabytes: [usize; 2]) {
    let world = world(mode, 1).build().await;
    world.primary().execute(PAGE).await;
    world.primary().execute(&page(1, megabytes[0])).await;
    let pgfanout = begin(&world);
    // By the copy.
    until_same_pages(&world).await;
    let change = async |id: i32, statement: &str| {
        let started = Instant::now();
        world.primary().execute(statement).await;
        let executed = started.elapsed();
        world.primary().execute(&format!("INSERT INTO small VALUES ({id})")).await;
        until_same_pages(&world).await;
        until_same(&world, &["small"]).await;
        let (arrived, peak) = (started.elapsed(), pgfanout.peak_rss_bytes() >> 20);
        eprintln!("change {id}: executed in {executed:?}, the same after {arrived:?}, peak of {peak} MiB");
        assert_small(&pgfanout);
    };
    change(1, &page(3, megabytes[1])).await;
    change(2, "UPDATE page SET text = text || 'and more', data = data || '\\x00'").await;
    change(3, "UPDATE page SET text = 'short' WHERE id = 1; UPDATE page SET id = id + 5").await;
    change(4, "DELETE FROM page").await;
}

#[tokio::test]
async fn rows_of_10_and_20_megabytes_arrive_through_the_broker() {
    large_rows_arrive(Mode::Broker, [20, 10]).await;
}

#[tokio::test]
async fn rows_of_10_and_20_megabytes_arrive_by_catching_up() {
    large_rows_arrive(Mode::Postgres, [10, 20]).await;
}

#[tokio::test]
#[ignore = "takes minutes and gigabytes: make large"]
async fn rows_of_70_and_100_megabytes_arrive_through_the_broker() {
    large_rows_arrive(Mode::Broker, [70, 100]).await;
}

#[tokio::test]
#[ignore = "takes minutes and gigabytes: make large"]
async fn rows_of_140_and_260_megabytes_arrive_through_the_broker() {
    large_rows_arrive(Mode::Broker, [140, 260]).await;
}

#[tokio::test]
#[ignore = "takes minutes and gigabytes: make large"]
async fn rows_of_140_and_260_megabytes_arrive_by_catching_up() {
    large_rows_arrive(Mode::Postgres, [260, 140]).await;
}

#[tokio::test]
async fn rows_too_large_for_a_message_arrive_beside_others() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE page (id int PRIMARY KEY, text text)").await;
    let pgfanout = program().run(&world.config().broker("max_message_bytes = 65536").write());
    until_same(&world, &["page"]).await;
    let mixed = "INSERT INTO page SELECT n, repeat(n::text, n * 1000) FROM generate_series(1, 100) n";
    world.primary().execute(mixed).await;
    until_same(&world, &["page"]).await;
    world
        .primary()
        .execute("UPDATE page SET text = text || 'x' WHERE id > 50; DELETE FROM page WHERE id < 9")
        .await;
    until_same(&world, &["page"]).await;
    assert_small(&pgfanout);
}

/// Neither of these values can be printed: PostgreSQL allows a text of 1 GB.
const UNPRINTABLE: &str = "UPDATE doc SET numbers = array_fill(1e131071::numeric, ARRAY[9000]) WHERE id = 1";

#[tokio::test]
async fn a_row_that_cannot_be_printed_is_told_and_holds_up_no_longer_than_it_is_there() {
    let world = world(Mode::Broker, 1).build().await;
    let schema = "CREATE TABLE doc (id int PRIMARY KEY, numbers numeric[], body jsonb); CREATE TABLE small (id int PRIMARY KEY);
        INSERT INTO doc SELECT n, ARRAY[n], to_jsonb(repeat('x', n * 100)) FROM generate_series(1, 10) n";
    world.primary().execute(schema).await;
    let mut pgfanout = begin(&world);
    until_following(&world).await;
    let mark = pgfanout.mark();
    world.primary().execute(UNPRINTABLE).await;
    world.primary().execute("INSERT INTO small VALUES (1)").await;
    let halt = pgfanout.wait_for_event_after(mark, "halted", LARGEST_PATIENCE).await;
    let message = halt["message"].as_str().unwrap();
    assert!(halt["stage"] == "applier" && halt["replica"] == "r1", "only the replica halts: {halt}");
    assert!(
        message.contains(r#""public"."doc""#) && message.contains("make it smaller, delete it"),
        "{halt}"
    );
    // The old row cannot be printed either.
    world.primary().execute("UPDATE doc SET numbers = NULL WHERE id = 1").await;
    until_same(&world, &["doc", "small"]).await;
    let told = pgfanout.log_after(mark);
    assert!(!told.iter().any(|line| line["stage"] == "pg_listener" && line["level"] != "INFO"), "{told:?}");
}
