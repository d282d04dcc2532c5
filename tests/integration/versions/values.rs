//! Values that older PostgreSQL does not have: they are refused there, whether they are copied or come as a change.

use serde_json::Value;

use pgfanout_testbed::{eventually, world::World};

use crate::support::{Mode, PATIENCE, begin, program, until_same, world};

/// Their type, the value, since when.
const VALUES: &[(&str, &str, u32)] = &[
    ("interval", "-infinity", 17),
    ("interval[]", "{1 day,infinity}", 17),
    ("numeric", "Infinity", 14),
    ("jsonpath", "$.bigint()", 17),
];

async fn a_value_follows_or_is_refused(type_name: &str, value: &str, since: u32) {
    let world = world(Mode::Broker, 1).build().await;
    if !world.primary().cluster().knows(&format!("{type_name} {value}"), since) {
        return;
    }
    let setup = format!(
        "CREATE TABLE t (id int PRIMARY KEY, v {type_name}); INSERT INTO t VALUES (1, '{value}'), (2, NULL)"
    );
    world.primary().execute(&setup).await;
    let mut pgfanout = begin(&world);
    let mut mark = 0;
    for again in [true, false] {
        if world.replica(1).cluster().version() < since {
            let refused = |line: &Value| {
                let message = line["message"].as_str().unwrap_or_default();
                line["event"] == "halted" && message.contains("\"public\".\"t\"")
            };
            pgfanout.wait_for(mark, "that r1 refuses it", PATIENCE, refused).await;
        } else {
            until_same(&world, &["t"]).await;
        }
        world.primary().execute("UPDATE t SET v = NULL").await;
        until_same(&world, &["t"]).await;
        mark = pgfanout.mark();
        if again {
            world.primary().execute(&format!("UPDATE t SET v = '{value}' WHERE id = 1")).await;
        }
    }
}

#[tokio::test]
async fn values_that_a_replica_does_not_have() {
    for &(type_name, value, since) in VALUES {
        eprintln!("{type_name}");
        a_value_follows_or_is_refused(type_name, value, since).await;
    }
}

/// A `"char"` beyond ASCII, which PostgreSQL prints in another way from 15 on: the same one on every server.
#[tokio::test]
async fn chars_beyond_ascii() {
    for mode in [Mode::Broker, Mode::Postgres] {
        let world = world(mode, 1).build().await;
        world.primary().execute(CHARS).await;
        let _pgfanout = begin(&world);
        until_same_chars(&world).await;
        for statement in CHANGES {
            world.primary().execute(statement).await;
            until_same_chars(&world).await;
        }
        let column = "ALTER TABLE s ADD x \"char\" DEFAULT (-61)::\"char\"";
        for side in [world.replica(1), world.primary()] {
            side.execute(column).await;
        }
        world.primary().execute("INSERT INTO s VALUES ('!', 0, '?')").await;
        until_same_chars(&world).await;
        let finished = program().once("verify", &world.config().write(), &[]).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
}

/// Every one of them, in rows of all kinds: with a key, as a key, without one, and long.
const CHARS: &str = r#"
    CREATE DOMAIN letter AS "char";
    CREATE TABLE t (id int PRIMARY KEY, v "char", w letter, note text);
    INSERT INTO t SELECT n, n::"char", (-1 - n)::"char", CASE WHEN n % 50 = 0 THEN repeat('n', 100000) END FROM generate_series(-128, 127) n;
    CREATE TABLE k (c "char", d letter, v int, PRIMARY KEY (c, d));
    INSERT INTO k SELECT n::"char", (-1 - n)::"char", n FROM generate_series(-128, 127) n;
    CREATE TABLE s (c "char" PRIMARY KEY, v int); INSERT INTO s SELECT n::"char", n FROM generate_series(-128, 127) n;
    CREATE TABLE u (c "char", d letter); INSERT INTO u SELECT (n % 128)::"char", (-n % 100)::"char" FROM generate_series(-300, 300) n"#;

const CHANGES: &[&str] = &[
    "UPDATE t SET v = (-61)::\"char\", w = NULL WHERE id IN (5, -5); UPDATE t SET v = NULL WHERE id = 7",
    "UPDATE t SET v = w, w = v; DELETE FROM k WHERE v > -28; UPDATE k SET c = d, d = c;
        DELETE FROM s WHERE v > 99; UPDATE s SET c = (-1 - v)::\"char\" WHERE v < -100",
    "DELETE FROM k WHERE c::\"char\" IN ((-1)::\"char\", (-61)::\"char\", E'\\\\'); DELETE FROM s WHERE v % 3 = 0; DELETE FROM u WHERE c::text = 'a'",
    "TRUNCATE u; INSERT INTO u VALUES (E'\\\\', (-1)::\"char\"), ((-61)::\"char\", '3'); UPDATE u SET d = c WHERE d = '3'",
];

/// Their text is not the same everywhere, their numbers are.
async fn until_same_chars(world: &World) {
    const NUMBERS: &str = "SELECT ARRAY(SELECT format('%s %s %s %s', id, v::int4, w::\"char\"::int4, md5(note)) FROM t ORDER BY id)
        || ARRAY(SELECT format('%s %s %s', c::int4, d::\"char\"::int4, v) FROM k ORDER BY v)
        || ARRAY(SELECT format('%s %s', c::int4, v) FROM s ORDER BY v)
        || ARRAY(SELECT format('%s %s', c::int4, d::\"char\"::int4) FROM u ORDER BY c, d)";
    eventually(PATIENCE, "the same numbers", async || {
        let mut sides: Vec<Vec<String>> = Vec::new();
        for side in [world.primary(), world.replica(1)] {
            let row = side.client().await.query_one(NUMBERS, &[]).await;
            sides.push(row.map_err(|error| error.to_string())?.get(0));
        }
        let differs = sides[0].iter().zip(&sides[1]).find(|(here, there)| here != there);
        if sides[0] == sides[1] { Ok(()) } else { Err(format!("first of all {differs:?}")) }
    })
    .await;
}

/// Within arrays and composite types PostgreSQL before 15 does not tell them: a table that has such is refused there.
#[tokio::test]
async fn chars_within_other_types() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(
        "CREATE TYPE pair AS (a int, b \"char\"); CREATE TABLE t (id int PRIMARY KEY, v \"char\"[]);
        CREATE TABLE u (id int PRIMARY KEY, v pair); CREATE TABLE w (id int PRIMARY KEY, v text);
        INSERT INTO t VALUES (1, ARRAY[(-61)::\"char\", 'a']); INSERT INTO u VALUES (1, (1, (-61)::\"char\")); INSERT INTO w VALUES (1, 'w')",
    ).await;
    let mut config = world.config();
    config.replicas[0].more = "on_table_error = 'isolate'".to_owned();
    let mut pgfanout = program().run(&config.write());
    let [here, there] = [world.primary(), world.replica(1)].map(|side| side.cluster().version() < 15);
    for table in ["t", "u"] {
        let told = |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            line["level"] == "ERROR"
                && message.contains(&format!("public.{table}"))
                && message.contains("\"char\"")
        };
        if here || there {
            pgfanout.wait_for(0, "that it is refused", PATIENCE, told).await;
        } else {
            until_same(&world, &[table]).await;
        }
    }
    if !here {
        until_same(&world, &["w"]).await;
    }
}
