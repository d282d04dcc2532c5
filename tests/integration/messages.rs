//! What a listener on the exchange receives, byte for byte.

mod compressed;
mod formats;
mod hostile;
pub(crate) mod listener;
mod many;
pub(crate) mod meddled;
mod permissions;
mod poison;
mod python;
mod rejected;

use lapin::types::AMQPValue;
use pgfanout_testbed::{eventually, process::Pgfanout, world::World};

use crate::support::{Mode, PATIENCE, program, until_same, world};
use listener::Listener;

/// A world whose tables are captured, and somebody who listens.
struct Scene {
    world: World,
    listener: Listener,
    _pgfanout: Pgfanout,
}

impl Scene {
    async fn start(tables: &str, broker: &str, more: &str) -> Self {
        let world = world(Mode::Broker, 1).build().await;
        world.primary().execute(tables).await;
        let listener = Listener::bind(&world).await;
        let pgfanout = program().run(&world.config().broker(broker).more(more).write());
        until_captured(&world).await;
        Self { world, listener, _pgfanout: pgfanout }
    }

    /// Commits the statements as one transaction, and returns the lines that tell of it, in the order of
    /// their text: within a batch the order means nothing.
    async fn told_of(&mut self, statements: &str, lines: usize) -> Vec<String> {
        self.world.primary().execute(statements).await;
        let mut told = self.listener.lines(lines).await;
        told.sort();
        told
    }

    async fn expect(&mut self, statements: &str, expected: &[&str]) {
        let mut sorted = expected.to_vec();
        sorted.sort_unstable();
        assert_eq!(self.told_of(statements, expected.len()).await, sorted, "{statements}");
    }
}

/// Waits until every table of the primary is captured.
pub(crate) async fn until_captured(world: &World) {
    let statement = "SELECT (SELECT count(*) FROM pgfanout.captured_table) = count(*) FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'pgfanout')";
    eventually(PATIENCE, "all tables are captured", async || {
        let client = world.primary().look().await.map_err(|error| error.to_string())?;
        let row = client.query_one(statement, &[]).await.map_err(|error| error.to_string())?;
        row.get::<_, bool>(0).then_some(()).ok_or_else(|| "not all".to_owned())
    })
    .await;
}

/// Waits until every table has been copied to every replica and has joined the others there.
pub(crate) async fn until_following(world: &World) {
    let statement = "SELECT count(*) > 0 AND bool_and(snapshot IS NULL) FROM pgfanout.replicated_table";
    for replica in world.replicas() {
        eventually(PATIENCE, "all tables follow", async || {
            let client = replica.look().await.map_err(|error| error.to_string())?;
            let row = client.query_one(statement, &[]).await.map_err(|error| error.to_string())?;
            row.get::<_, Option<bool>>(0).unwrap_or(false).then_some(()).ok_or_else(|| "not all".to_owned())
        })
        .await;
    }
}

#[tokio::test]
async fn every_operation_is_a_line_of_the_published_form() {
    let mut scene = Scene::start("CREATE TABLE users (id int PRIMARY KEY, name text)", "", "").await;
    scene
        .expect(
            "INSERT INTO users VALUES (2, 'al')",
            &[r#"{"schema":"public","table":"users","operation":"INSERT","new_record":{"id":2,"name":"al"},"old_record":null}"#],
        )
        .await;
    scene
        .expect(
            "UPDATE users SET name = 'alfonso' WHERE id = 2",
            &[r#"{"schema":"public","table":"users","operation":"UPDATE","new_record":{"id":2,"name":"alfonso"},"old_record":{"id":2,"name":"al"}}"#],
        )
        .await;
    scene
        .expect(
            "UPDATE users SET id = 3 WHERE id = 2",
            &[
                r#"{"schema":"public","table":"users","operation":"DELETE","new_record":null,"old_record":{"id":2,"name":"alfonso"}}"#,
                r#"{"schema":"public","table":"users","operation":"INSERT","new_record":{"id":3,"name":"alfonso"},"old_record":null}"#,
            ],
        )
        .await;
    scene
        .expect(
            "DELETE FROM users",
            &[r#"{"schema":"public","table":"users","operation":"DELETE","new_record":null,"old_record":{"id":3,"name":"alfonso"}}"#],
        )
        .await;
    scene
        .expect(
            "TRUNCATE users",
            &[r#"{"schema":"public","table":"users","operation":"TRUNCATE","new_record":null,"old_record":null}"#],
        )
        .await;
}

/// What `status` does to see that changes flow; nothing else is told of it.
#[tokio::test]
async fn a_sign_of_life_is_a_line_like_others() {
    let mut scene = Scene::start("CREATE TABLE t (id int PRIMARY KEY)", "", "").await;
    let told = scene.told_of(include_str!("../../sql/primary/probe.sql"), 1).await;
    let (before, after) = told[0].split_once(r#"{"snapshot":""#).unwrap();
    assert_eq!(before, r#"{"schema":"pgfanout","table":"heartbeat","operation":"INSERT","new_record":"#);
    let (snapshot, after) = after.split_once('"').unwrap();
    assert_eq!((snapshot.matches(':').count(), after), (2, r#"},"old_record":null}"#));
    let row =
        r#"{"schema":"public","table":"t","operation":"INSERT","new_record":{"id":1},"old_record":null}"#;
    scene.expect("INSERT INTO t VALUES (1)", &[row]).await;
}

#[tokio::test]
async fn a_row_appears_once_in_a_batch_with_what_became_of_it() {
    let mut scene = Scene::start("CREATE TABLE t (id int PRIMARY KEY, a text)", "", "").await;
    scene
        .expect(
            "INSERT INTO t VALUES (1, 'a'), (2, 'b'); UPDATE t SET a = a || '!'",
            &[
                r#"{"schema":"public","table":"t","operation":"INSERT","new_record":{"id":1,"a":"a!"},"old_record":null}"#,
                r#"{"schema":"public","table":"t","operation":"INSERT","new_record":{"id":2,"a":"b!"},"old_record":null}"#,
            ],
        )
        .await;
    scene
        .expect(
            "UPDATE t SET a = 'x' WHERE id = 1; UPDATE t SET a = 'y' WHERE id = 1; \
             DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2, 'again')",
            &[
                r#"{"schema":"public","table":"t","operation":"UPDATE","new_record":{"id":1,"a":"y"},"old_record":{"id":1,"a":"a!"}}"#,
                r#"{"schema":"public","table":"t","operation":"UPDATE","new_record":{"id":2,"a":"again"},"old_record":{"id":2,"a":"b!"}}"#,
            ],
        )
        .await;
    scene
        .expect(
            "TRUNCATE t; INSERT INTO t VALUES (1, 'new')",
            &[
                r#"{"schema":"public","table":"t","operation":"TRUNCATE","new_record":null,"old_record":null}"#,
                r#"{"schema":"public","table":"t","operation":"INSERT","new_record":{"id":1,"a":"new"},"old_record":null}"#,
            ],
        )
        .await;
}

#[tokio::test]
async fn keys_of_several_columns_and_any_names_and_old_records_that_are_keys() {
    let tables = r#"CREATE SCHEMA "my ""schema"""; CREATE TABLE "my ""schema"""."T, \ä" (
            "value" text, "second key" text, "first.key" int, PRIMARY KEY ("first.key", "second key"))"#;
    let mut scene = Scene::start(tables, "", "").await;
    let name = r#""my ""schema"""."T, \ä""#;
    scene
        .expect(
            &format!("INSERT INTO {name} VALUES ('v', 'k, (\"1\")', 7)"),
            &[r#"{"schema":"my \"schema\"","table":"T, \\ä","operation":"INSERT","new_record":{"value":"v","second key":"k, (\"1\")","first.key":7},"old_record":null}"#],
        )
        .await;
    scene
        .expect(
            &format!("DELETE FROM {name}"),
            &[r#"{"schema":"my \"schema\"","table":"T, \\ä","operation":"DELETE","new_record":null,"old_record":{"value":"v","second key":"k, (\"1\")","first.key":7}}"#],
        )
        .await;

    let slim = "[[table]]\nname = \"slim\"\nold_record = \"key\"";
    let tables = "CREATE TABLE slim (a text, k2 text, k1 numeric, PRIMARY KEY (k1, k2))";
    let mut scene = Scene::start(tables, "", slim).await;
    scene.told_of("INSERT INTO slim VALUES ('a', 'x', 1.50)", 1).await;
    scene
        .expect(
            "UPDATE slim SET a = 'b'",
            &[r#"{"schema":"public","table":"slim","operation":"UPDATE","new_record":{"a":"b","k2":"x","k1":1.50},"old_record":{"k1":1.50,"k2":"x"}}"#],
        )
        .await;
    scene
        .expect(
            "UPDATE slim SET k2 = 'y'",
            &[
                r#"{"schema":"public","table":"slim","operation":"DELETE","new_record":null,"old_record":{"k1":1.50,"k2":"x"}}"#,
                r#"{"schema":"public","table":"slim","operation":"INSERT","new_record":{"a":"b","k2":"y","k1":1.50},"old_record":null}"#,
            ],
        )
        .await;
}

/// A column, a value in SQL, and how it stands in JSON.
const VALUES: &[(&str, &str, &str)] = &[
    ("int2", "-32768", "-32768"),
    ("int8", "9223372036854775807", "9223372036854775807"),
    (
        "numeric",
        "123456789012345678901234567890.123456789012345678900",
        "123456789012345678901234567890.123456789012345678900",
    ),
    ("numeric(10,4)", "-0.5", "-0.5000"),
    ("numeric", "'NaN'", r#""NaN""#),
    ("float8", "0.1::float8 + 0.2::float8", "0.30000000000000004"),
    ("float8", "1e300", "1e+300"),
    ("float8", "'-Infinity'", r#""-Infinity""#),
    ("float4", "1.1", "1.1"),
    ("positive", "5", "5"),
    ("bool", "true", "true"),
    ("bool", "false", "false"),
    ("text", "NULL", "null"),
    ("text", "''", r#""""#),
    ("text", r#"'"q" \ '' , é 🙂' || chr(10) || chr(1)"#, r#""\"q\" \\ ' , é 🙂\n\u0001""#),
    ("text", "'NULL'", r#""NULL""#),
    ("char(4)", "'ab'", r#""ab  ""#),
    ("json", r#"'{"b": 1.0, "a":[ 1 ]}'"#, r#""{\"b\": 1.0, \"a\":[ 1 ]}""#),
    ("jsonb", r#"'{"b": 1.0, "a":[1]}'"#, r#""{\"a\": [1], \"b\": 1.0}""#),
    ("int[]", "'{1,NULL,3}'", r#""{1,NULL,3}""#),
    ("text[]", r#"ARRAY['a b', 'q"']"#, r#""{\"a b\",\"q\\\"\"}""#),
    ("pair", "ROW(1, 'x y')", r#""(1,\"x y\")""#),
    ("mood", "'so so'", r#""so so""#),
    ("int4range", "'[1,5)'", r#""[1,5)""#),
    ("bytea", r"'\x00ff'", r#""\\x00ff""#),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#),
    ("date", "'2024-02-29'", r#""2024-02-29""#),
    ("timestamptz", "'2024-02-29 12:00:00.123456+02'", r#""2024-02-29 10:00:00.123456+00""#),
    ("interval", "'1 year 2 days 03:04:05.6'", r#""1 year 2 days 03:04:05.6""#),
    ("money", "1234.5", r#""$1,234.50""#),
    ("inet", "'10.0.0.1/8'", r#""10.0.0.1/8""#),
    ("bit(3)", "B'101'", r#""101""#),
    ("oid", "4294967295", r#""4294967295""#),
    ("very_positive", "7", "7"),
    ("flag", "true", "true"),
];

#[tokio::test]
async fn every_value_stands_as_what_gives_it_back_exactly() {
    let columns: String = (1..).zip(VALUES).map(|(n, (kind, ..))| format!(", c{n} {kind}")).collect();
    let values: String = VALUES.iter().map(|(_, value, _)| format!(", {value}")).collect();
    let record: String = (1..).zip(VALUES).map(|(n, (.., json))| format!(r#","c{n}":{json}"#)).collect();
    let tables = format!(
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0);
         CREATE DOMAIN very_positive AS positive; CREATE DOMAIN flag AS bool; CREATE TYPE pair AS (a int, b text);
         CREATE TYPE mood AS ENUM ('so so'); CREATE TABLE v (id int PRIMARY KEY{columns})"
    );
    let mut scene = Scene::start(&tables, "", "").await;
    // The form of values must not depend on the settings of those who write.
    let writer = "SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = 'iso_8601'; \
        SET extra_float_digits = -5; SET bytea_output = 'escape';";
    let expected = format!(
        r#"{{"schema":"public","table":"v","operation":"INSERT","new_record":{{"id":1{record}}},"old_record":null}}"#
    );
    scene.expect(&format!("{writer} INSERT INTO v VALUES (1{values})"), &[&expected]).await;
    until_same(&scene.world, &["v"]).await;
}

#[tokio::test]
async fn an_old_record_is_written_as_a_new_one() {
    let columns: String = (1..).zip(VALUES).map(|(n, (kind, ..))| format!(", c{n} {kind}")).collect();
    let values: String = VALUES.iter().map(|(_, value, _)| format!(", {value}")).collect();
    let tables = format!(
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0);
         CREATE DOMAIN very_positive AS positive; CREATE DOMAIN flag AS bool; CREATE TYPE pair AS (a int, b text);
         CREATE TYPE mood AS ENUM ('so so'); CREATE TABLE v (id int PRIMARY KEY{columns})"
    );
    let mut scene = Scene::start(&tables, "", "").await;
    let inserted = scene.told_of(&format!("INSERT INTO v VALUES (1{values})"), 1).await.remove(0);
    let deleted = scene.told_of("DELETE FROM v", 1).await.remove(0);
    let record =
        inserted.split_once(r#""new_record":"#).unwrap().1.rsplit_once(r#","old_record""#).unwrap().0;
    let old: serde_json::Value =
        serde_json::from_str(deleted.split_once(r#""old_record":"#).unwrap().1.strip_suffix('}').unwrap())
            .unwrap();
    assert_eq!(old, serde_json::from_str::<serde_json::Value>(record).unwrap());
}

#[tokio::test]
async fn a_statement_that_changes_very_many_rows_tells_of_them_by_their_keys() {
    let mut scene = Scene::start("CREATE TABLE t (id int PRIMARY KEY, v int)", "", "").await;
    scene.told_of("INSERT INTO t SELECT n, 0 FROM generate_series(1, 10001) n", 10_001).await;
    let olds = |lines: Vec<String>| {
        let of = |line: &String| line.split_once(r#""old_record":"#).unwrap().1.contains(r#","v":"#);
        lines.iter().filter(|line| of(line)).count()
    };
    let few = scene.told_of("UPDATE t SET v = 1 WHERE id < 10001", 10_000).await;
    assert_eq!(olds(few), 10_000);
    let many = scene.told_of("UPDATE t SET v = 2", 10_001).await;
    assert!(many.contains(&r#"{"schema":"public","table":"t","operation":"UPDATE","new_record":{"id":7,"v":2},"old_record":{"id":7}}"#.to_owned()));
    assert_eq!(olds(many), 0);
    assert_eq!(olds(scene.told_of("DELETE FROM t", 10_001).await), 0);
    until_same(&scene.world, &["t"]).await;
}

#[tokio::test]
async fn the_headers_say_which_piece_of_history_it_is() {
    let mut scene =
        Scene::start("CREATE TABLE t (id int PRIMARY KEY)", "max_changes_per_message = 2", "").await;
    let primary = scene.world.primary().client().await;
    let mut number = None;
    let mut end: Option<String> = None;
    for range in ["1, 5", "6, 10"] {
        scene.world.primary().execute(&format!("INSERT INTO t SELECT generate_series({range})")).await;
        let mut parts = Vec::new();
        for _ in 0..3 {
            parts.push(scene.listener.next().await);
        }
        let text = |part: usize, name: &str| match &parts[part].header(name) {
            AMQPValue::LongString(text) => text.to_string(),
            other => panic!("{name}: {other:?}"),
        };
        let integer = |part: usize, name: &str| match parts[part].header(name) {
            AMQPValue::LongLongInt(integer) => integer,
            other => panic!("{name}: {other:?}"),
        };
        let statement = "SELECT i.epoch::text, b.token::text, b.to_snapshot::text,
                t.id::text || ':' || t.definition, i.term::text
            FROM pgfanout.installation i, pgfanout.batch b, pgfanout.captured_table t WHERE b.number = $1";
        let batch = integer(0, "pgfanout-batch");
        let known = primary.query_one(statement, &[&batch]).await.unwrap();
        for (at, part) in parts.iter().enumerate() {
            assert_eq!(integer(at, "pgfanout-format"), 1);
            assert_eq!(integer(at, "pgfanout-batch"), batch);
            assert_eq!(integer(at, "pgfanout-part"), i64::try_from(at).unwrap());
            assert_eq!(part.header("pgfanout-last"), AMQPValue::Boolean(at == 2));
            let names = ["epoch", "token", "to", "tables", "term"];
            for (column, name) in names.into_iter().enumerate() {
                assert_eq!(text(at, &format!("pgfanout-{name}")), known.get::<_, String>(column), "{name}");
            }
            assert_eq!(part.header_names().len(), 10);
            let properties = &part.delivery.properties;
            assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
            assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/x-ndjson");
            let id = format!("{}.{batch}.{at}", known.get::<_, &str>(0));
            assert_eq!(properties.message_id().as_ref().unwrap().as_str(), id);
            assert!(properties.timestamp().is_some_and(|seconds| seconds > 1_600_000_000));
            assert_eq!(part.lines().len(), if at == 2 { 1 } else { 2 });
        }
        assert!(number < Some(batch), "batches ascend");
        number = Some(batch);
        // One batch begins where the last one ended. Its record may keep an earlier start, of a batch that was not
        // confirmed when this one was cut.
        assert!((0..3).all(|part| text(part, "pgfanout-from") == text(0, "pgfanout-from")));
        assert!(end.is_none_or(|end| end == text(0, "pgfanout-from")));
        end = Some(text(0, "pgfanout-to"));
    }
    until_same(&scene.world, &["t"]).await;
}

#[tokio::test]
async fn a_row_too_large_for_a_message_travels_as_a_reference_and_arrives() {
    let mut scene =
        Scene::start("CREATE TABLE t (id int PRIMARY KEY, a text)", "max_message_bytes = 1024", "").await;
    let reference = r#"{"schema":"public","table":"t","operation":"UPDATE","new_record":null,"old_record":{"id":1},"by_reference":true}"#;
    let small = r#"{"schema":"public","table":"t","operation":"INSERT","new_record":{"id":2,"a":"small"},"old_record":null}"#;
    scene.expect("INSERT INTO t VALUES (1, repeat('é', 3000)), (2, 'small')", &[reference, small]).await;
    until_same(&scene.world, &["t"]).await;
    scene.expect("UPDATE t SET a = a || '!' WHERE id = 1", &[reference]).await;
    until_same(&scene.world, &["t"]).await;
    let deleted = r#"{"schema":"public","table":"t","operation":"DELETE","new_record":null,"old_record":{"id":2,"a":"small"}}"#;
    scene.expect("DELETE FROM t WHERE id = 2", &[deleted]).await;
    until_same(&scene.world, &["t"]).await;
}
