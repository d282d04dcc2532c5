//! `pgfanout verify`: every planted difference is found, and nothing else, under any load.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pgfanout_testbed::{
    compare::same_shared_columns,
    process::{Finished, Pgfanout},
    world::{Database, World},
};
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;

use crate::{
    bank::until_joined,
    exact,
    support::{Mode, begin, program, until_same, world},
    writing::{Writer, transaction},
};

mod altered;
mod interrupted;
mod schedule;

async fn verify(world: &World, arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [arguments, &["--json"]].concat();
    let Finished { code, stdout, stderr } =
        program().once("verify", &world.config().write(), &arguments).await;
    let outcome: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
    assert_eq!(code, Some(i32::from(outcome["right"] != true)), "{outcome} {stderr}");
    (code, outcome)
}

/// What is wrong on the first replica: table, kind and key.
fn found(outcome: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found = Vec::new();
    for table in outcome["replicas"][0]["tables"].as_array().unwrap() {
        for difference in table["differences"].as_array().unwrap() {
            found.push((text(&table["table"]), text(&difference["kind"]), text(&difference["key"])));
        }
    }
    found.sort();
    found
}

fn sum(outcome: &Value, field: &str) -> u64 {
    let replicas = outcome["replicas"].as_array().unwrap().iter();
    let tables = replicas.flat_map(|replica| replica["tables"].as_array().unwrap());
    tables.map(|table| table[field].as_u64().unwrap()).sum()
}

/// Enough rows for several ranges of keys.
const SETUP: &str = "CREATE TYPE mood AS ENUM ('low', 'high');
    CREATE TABLE plain (
        id int PRIMARY KEY, text text, note text, number numeric, float float8, json json, mood mood, list int[],
        at timestamptz, bytes bytea, flag bool, span interval, bits varbit, pair int4range, point point);
    INSERT INTO plain SELECT n, 'text ' || n, CASE WHEN n % 2 = 0 THEN '' END, n / 10.0, 0, '{\"a\": 1}', 'low',
        '{1,2}', '2000-01-01', '\\x00', true, '1 day', '0', '[1,2)', '(0,0)' FROM generate_series(1, 30000) n;
    CREATE TABLE \"two keys\" (a text, b int, v int, PRIMARY KEY (b, a));
    INSERT INTO \"two keys\" SELECT 'key, \"' || n, n % 7, n FROM generate_series(1, 100) n;
    CREATE TABLE emptied (id int PRIMARY KEY); INSERT INTO emptied SELECT generate_series(1, 5);
    CREATE TABLE filled (id int PRIMARY KEY);
    CREATE TABLE part (id int PRIMARY KEY, v int) PARTITION BY HASH (id);
    CREATE TABLE part_0 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO part SELECT n, n FROM generate_series(1, 100) n;
    CREATE TABLE wide (id int PRIMARY KEY, doc jsonb);
    INSERT INTO wide SELECT n, jsonb_build_array(n, repeat('x', 1000)) FROM generate_series(1, 10) n;
    CREATE TABLE number (n numeric PRIMARY KEY, v int); INSERT INTO number VALUES (1.0, 1), (2.0, 2);
    CREATE TABLE listed (id int, k int, v int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
    CREATE TABLE listed_0 PARTITION OF listed FOR VALUES IN (0);
    CREATE TABLE listed_1 PARTITION OF listed FOR VALUES IN (1);
    INSERT INTO listed VALUES (1, 0, 1), (2, 1, 2), (3, 1, 3);
    CREATE TABLE made (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED);
    INSERT INTO made (id, v) SELECT n, n FROM generate_series(1, 3) n;
    CREATE TABLE doubled (n int, text text); INSERT INTO doubled VALUES (1, 'a'), (1, 'a'), (2, 'b'), (NULL, NULL);
    CREATE TABLE halved (n int); INSERT INTO halved VALUES (1), (1), (1), (2);
    CREATE TABLE empty (n int, text text)";

/// The tables of the setup.
const TABLES: &[&str] = &[
    "plain",
    "\"two keys\"",
    "emptied",
    "filled",
    "part",
    "wide",
    "number",
    "listed",
    "made",
    "doubled",
    "halved",
    "empty",
];

/// What is the replica's own, and counts for nothing.
const OWN: &[&str] = &[
    "ALTER TABLE wide ADD own text DEFAULT 'its own'; UPDATE wide SET own = id WHERE id < 5",
    "CREATE TABLE other (n int); INSERT INTO other VALUES (1); CREATE INDEX ON plain (text)",
    "ALTER TABLE plain SET (fillfactor = 50); UPDATE plain SET text = text WHERE id < 100",
    "VACUUM FULL plain",
    "DELETE FROM made WHERE id = 3; INSERT INTO made (id, v) VALUES (3, 3)",
    "ALTER TABLE made DROP twice; ALTER TABLE made ADD twice int GENERATED ALWAYS AS (v * 3) STORED",
];

/// Statements on the replica, and what they make of which rows.
const PLANTED: &[(&str, &str, &str, &[&str])] = &[
    ("DELETE FROM plain WHERE id IN (1, 30000)", "public.plain", "missing", &["(1)", "(30000)"]),
    ("DELETE FROM plain WHERE id = 20000", "public.plain", "missing", &["(20000)"]),
    (
        "INSERT INTO plain (id) VALUES (0), (-5), (30001)",
        "public.plain",
        "extra",
        &["(0)", "(-5)", "(30001)"],
    ),
    ("UPDATE plain SET text = text || ' ' WHERE id = 2", "public.plain", "different", &["(2)"]),
    ("UPDATE plain SET note = '' WHERE id = 3", "public.plain", "different", &["(3)"]),
    ("UPDATE plain SET note = NULL WHERE id = 4", "public.plain", "different", &["(4)"]),
    ("UPDATE plain SET number = 0.50 WHERE id = 5", "public.plain", "different", &["(5)"]),
    ("UPDATE plain SET float = '-0' WHERE id = 6", "public.plain", "different", &["(6)"]),
    ("UPDATE plain SET json = '{\"a\":1}' WHERE id = 7", "public.plain", "different", &["(7)"]),
    ("UPDATE plain SET mood = 'high' WHERE id = 8", "public.plain", "different", &["(8)"]),
    ("UPDATE plain SET list = '[0:1]={1,2}' WHERE id = 9", "public.plain", "different", &["(9)"]),
    (
        "UPDATE plain SET at = at + interval '1 microsecond' WHERE id = 10",
        "public.plain",
        "different",
        &["(10)"],
    ),
    ("UPDATE plain SET bytes = '' WHERE id = 11", "public.plain", "different", &["(11)"]),
    ("UPDATE plain SET flag = NULL WHERE id = 12", "public.plain", "different", &["(12)"]),
    (
        "UPDATE plain SET text = 'text ' || 27 - id WHERE id IN (13, 14)",
        "public.plain",
        "different",
        &["(13)", "(14)"],
    ),
    ("UPDATE plain SET id = 40000 WHERE id = 15", "public.plain", "missing", &["(15)"]),
    ("", "public.plain", "extra", &["(40000)"]),
    (
        "UPDATE \"two keys\" SET v = 0 WHERE b = 3 AND v = 10",
        "public.two keys",
        "different",
        &["(3,\"key, \"\"10\")"],
    ),
    ("TRUNCATE emptied", "public.emptied", "missing", &["(1)", "(2)", "(3)", "(4)", "(5)"]),
    ("INSERT INTO filled VALUES (7)", "public.filled", "extra", &["(7)"]),
    ("UPDATE part SET v = 0 WHERE id = 50", "public.part", "different", &["(50)"]),
    ("DELETE FROM part WHERE id = 51", "public.part", "missing", &["(51)"]),
    ("UPDATE wide SET doc = doc || '[]' || '[1]' WHERE id = 2", "public.wide", "different", &["(2)"]),
    ("UPDATE number SET n = 1.00 WHERE n = 1", "public.number", "different", &["(1.0)"]),
    ("UPDATE plain SET text = upper(text) WHERE id = 16", "public.plain", "different", &["(16)"]),
    ("UPDATE plain SET float = 'NaN' WHERE id = 17", "public.plain", "different", &["(17)"]),
    ("UPDATE plain SET float = 5e-324 WHERE id = 18", "public.plain", "different", &["(18)"]),
    ("UPDATE plain SET json = '{\"a\": 1, \"a\": 1}' WHERE id = 19", "public.plain", "different", &["(19)"]),
    ("UPDATE plain SET span = '24:00' WHERE id = 20", "public.plain", "different", &["(20)"]),
    ("UPDATE plain SET bits = '00' WHERE id = 21", "public.plain", "different", &["(21)"]),
    ("UPDATE plain SET pair = 'empty' WHERE id = 22", "public.plain", "different", &["(22)"]),
    ("UPDATE plain SET point = '(0,-0)' WHERE id = 23", "public.plain", "different", &["(23)"]),
    ("UPDATE plain SET text = NULL WHERE id = 24", "public.plain", "different", &["(24)"]),
    ("UPDATE plain SET number = 'NaN' WHERE id = 25", "public.plain", "different", &["(25)"]),
    // As one would by mistake, or to get by what forbids it.
    (
        "SET session_replication_role = replica; UPDATE plain SET flag = NOT flag WHERE id = 26",
        "public.plain",
        "different",
        &["(26)"],
    ),
    (
        "ALTER TABLE plain DISABLE TRIGGER ALL; COPY plain (id) FROM PROGRAM 'echo 30002'; \
         ALTER TABLE plain ENABLE TRIGGER ALL",
        "public.plain",
        "extra",
        &["(30002)"],
    ),
    // The key in other letters, and in other order.
    (
        "UPDATE \"two keys\" SET a = upper(a) WHERE v = 11",
        "public.two keys",
        "missing",
        &["(4,\"key, \"\"11\")"],
    ),
    ("", "public.two keys", "extra", &["(4,\"KEY, \"\"11\")"]),
    ("TRUNCATE listed_1", "public.listed", "missing", &["(2,1)", "(3,1)"]),
    ("UPDATE listed SET k = 1 WHERE id = 1", "public.listed", "missing", &["(1,0)"]),
    ("", "public.listed", "extra", &["(1,1)"]),
    ("UPDATE made SET v = 0 WHERE id = 2", "public.made", "different", &["(2)"]),
    // Rows without a key have no name.
    ("INSERT INTO doubled VALUES (2, 'b')", "public.doubled", "different", &[NAMELESS]),
    ("INSERT INTO doubled VALUES (NULL, '')", "public.doubled", "extra", &[NAMELESS]),
    ("DELETE FROM doubled WHERE n IS NULL AND text IS NULL", "public.doubled", "missing", &[NAMELESS]),
    (
        "DELETE FROM halved WHERE ctid = (SELECT min(ctid) FROM halved WHERE n = 1)",
        "public.halved",
        "different",
        &[NAMELESS],
    ),
    ("INSERT INTO empty VALUES (NULL, NULL)", "public.empty", "extra", &[NAMELESS]),
];

/// What stands for a row without a key, whose name would be its values.
const NAMELESS: &str = "a row without a key";

async fn plant(replica: &Database) -> Vec<(String, String, String)> {
    let mut planted = Vec::new();
    for &(statement, table, kind, keys) in PLANTED {
        replica.execute(statement).await;
        planted.extend(keys.iter().map(|key| (table.to_owned(), kind.to_owned(), (*key).to_owned())));
    }
    planted.sort();
    planted
}

#[tokio::test]
async fn every_planted_difference_is_named_and_repaired() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(SETUP).await;
    let _pgfanout = begin(&world);
    until_joined(&world, TABLES.len()).await;
    for statement in OWN {
        world.replica(1).execute(statement).await;
    }
    let (code, outcome) = verify(&world, &[]).await;
    assert_eq!((code, sum(&outcome, "rows")), (Some(0), 2 * 30_231), "{outcome}");

    let planted = plant(world.replica(1)).await;
    let (code, outcome) = verify(&world, &[]).await;
    assert_eq!(code, Some(1));
    assert_eq!(found(&outcome), planted);
    assert!(
        outcome["replicas"][1]["tables"]
            .as_array()
            .unwrap()
            .iter()
            .all(|table| table["differences"] == json!([]))
    );
    // One table of one replica; for eyes; rows only if they are asked for.
    let config = world.config().write();
    let one = ["--replica", "r1", "--table", "public.part", "--list", "1"];
    let Finished { code, stdout, .. } = program().once("verify", &config, &one).await;
    assert_eq!(code, Some(1));
    assert_eq!(
        stdout,
        "replica r1\n  public.part: 100 rows, 1 missing, 1 different\n    different (50)\n    and 1 more\n"
    );
    let shown = ["--replica", "r1", "--table", "public.part", "--show-values", "--after", "(49)"];
    let Finished { stdout, .. } = program().once("verify", &config, &shown).await;
    assert_eq!(
        stdout,
        "replica r1\n  public.part: 51 rows, 1 missing, 1 different\n    different (50)\n      primary (50,50)\n      \
         replica (50,0)\n    missing (51)\n      primary (51,51)\n"
    );

    let (code, outcome) = verify(&world, &["--repair"]).await;
    assert_eq!((code, sum(&outcome, "repaired")), (Some(0), planted.len() as u64), "{outcome}");
    let (here, there) = (world.primary().client().await, world.replica(1).client().await);
    // What it generates differently is its own, too.
    let tables: Vec<&str> = TABLES.iter().copied().filter(|table| *table != "made").collect();
    same_shared_columns(&here, &there, &tables).await.unwrap();
    assert_eq!(verify(&world, &[]).await.0, Some(0));
}

/// Writers do all they can, also TRUNCATE, and the replica's own columns are written, while a row that none of them
/// writes is wrong.
#[tokio::test]
async fn load_makes_no_difference() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(exact::SETUP).await;
    world.primary().execute("CREATE TABLE still (id int PRIMARY KEY); INSERT INTO still VALUES (1)").await;
    let config = world.config().primary("exclude = [\"audit.*\"]");
    let _pgfanout = program().run(&config.write());
    until_joined(&world, exact::TABLES.len() + 1).await;
    world.replica(1).execute("ALTER TABLE still ADD own int; ALTER TABLE counted ADD own int").await;
    let stop = Arc::<AtomicBool>::default();
    let mut writers = tokio::task::JoinSet::new();
    for seed in 0..4 {
        let (client, stop) = (world.primary().client().await, Arc::clone(&stop));
        writers.spawn(async move {
            client.batch_execute("SET deadlock_timeout = '50ms'").await.unwrap();
            let mut writer = Writer::new(seed);
            while !stop.load(Ordering::Relaxed) {
                transaction(&client, &mut writer).await;
            }
        });
    }
    let (there, stopping) = (world.replica(1).client().await, Arc::clone(&stop));
    writers.spawn(async move {
        let own = "UPDATE still SET own = coalesce(own, 0) + 1; UPDATE counted SET own = v";
        while !stopping.load(Ordering::Relaxed) {
            if let Err(error) = there.batch_execute(own).await {
                assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error:?}");
            }
        }
    });
    for round in 0..4 {
        let wrong = round % 2 == 1;
        if wrong {
            world.replica(1).execute("DELETE FROM still").await;
        }
        let (code, outcome) = verify(&world, if wrong { &["--repair"] } else { &[] }).await;
        assert_eq!(code, Some(0), "{outcome}");
        let expected = ("public.still".to_owned(), "missing".to_owned(), "(1)".to_owned());
        assert_eq!(found(&outcome), if wrong { vec![expected] } else { vec![] });
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
}

/// What is written past capture, as by a restore with triggers disabled; and a replica that does not move.
#[tokio::test]
async fn what_capture_does_not_see_is_found_and_what_waits_is_told() {
    let world = world(Mode::Postgres, 1).build().await;
    let primary = world.primary();
    primary
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n FROM generate_series(1, 9) n",
        )
        .await;
    let mut pgfanout: Pgfanout = begin(&world);
    until_joined(&world, 1).await;
    // No statement does this unseen, but a catalog can be written.
    let set = async |to: &str| {
        primary
            .execute(&format!("UPDATE pg_trigger SET tgenabled = '{to}' WHERE tgrelid = 't'::regclass"))
            .await;
    };
    set("D").await;
    primary.execute("UPDATE t SET v = 1 WHERE id = 1").await;
    let (code, outcome) = verify(&world, &[]).await;
    let why = outcome["replicas"][0]["tables"][0]["not_compared"].as_str().unwrap();
    assert!(code == Some(1) && why.contains("a trigger of pgfanout is disabled or gone"), "{outcome}");
    set("A").await;
    let (code, outcome) = verify(&world, &[]).await;
    assert_eq!((code, found(&outcome).len(), sum(&outcome, "different")), (Some(1), 1, 1), "{outcome}");
    assert_eq!(verify(&world, &["--repair"]).await.0, Some(0));

    // As pg_restore --disable-triggers does it: that is seen, and captured.
    let restore =
        "ALTER TABLE t DISABLE TRIGGER ALL; INSERT INTO t VALUES (10); ALTER TABLE t ENABLE TRIGGER ALL";
    primary.execute(restore).await;
    let (code, outcome) = verify(&world, &[]).await;
    assert_eq!((code, sum(&outcome, "rows")), (Some(0), 10), "{outcome}");
    // But not where event triggers are off, too.
    let switch = |to: &str| {
        format!(
            "DO $$ DECLARE name text; BEGIN FOR name IN SELECT evtname FROM pg_event_trigger \
        WHERE evtname LIKE 'pgfanout%' LOOP EXECUTE format('ALTER EVENT TRIGGER %I {to}', name); END LOOP; END $$"
        )
    };
    primary.execute(&switch("DISABLE")).await;
    primary.execute("DROP TRIGGER pgfanout_update ON t; UPDATE t SET v = 2 WHERE id = 2").await;
    primary.execute(&switch("ENABLE ALWAYS")).await;
    let (code, outcome) = verify(&world, &[]).await;
    let why = outcome["replicas"][0]["tables"][0]["not_compared"].as_str().unwrap();
    assert!(code == Some(1) && why.contains("a trigger of pgfanout is disabled or gone"), "{outcome}");
    let Finished { code, stderr, .. } = program().once("install", &world.config().write(), &[]).await;
    assert_eq!(code, Some(0), "{stderr}");
    // What is captured anew is copied anew.
    until_same(&world, &["t"]).await;
    let (code, outcome) = verify(&world, &[]).await;
    assert_eq!((code, sum(&outcome, "rows")), (Some(0), 10), "{outcome}");

    // The replica itself undoes a repair.
    world
        .replica(1)
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.id = 8) EXECUTE FUNCTION refuse();
            ALTER TABLE t ENABLE ALWAYS TRIGGER refuse; DELETE FROM t WHERE id = 8",
        )
        .await;
    let (code, outcome) = verify(&world, &["--repair"]).await;
    assert_eq!((code, sum(&outcome, "missing"), sum(&outcome, "repaired")), (Some(1), 1, 0), "{outcome}");
    world.replica(1).execute("DROP TRIGGER refuse ON t").await;
    assert_eq!(verify(&world, &["--repair"]).await.0, Some(0));

    pgfanout.terminate().await;
    // Of the many some are logged by many keys an entry.
    let many = "INSERT INTO t SELECT generate_series(101, 5100)";
    primary.execute(&format!("UPDATE t SET v = 3 WHERE id < 4; {many}")).await;
    world.replica(1).execute("DELETE FROM t WHERE id = 9").await;
    let (code, outcome) = verify(&world, &[]).await;
    assert_eq!((code, sum(&outcome, "waiting"), sum(&outcome, "missing")), (Some(1), 5003, 1), "{outcome}");
    // One that is out of reach leaves the others compared.
    let text = fs::read_to_string(world.config().write()).unwrap();
    let absent = "[[replica]]\nname = \"absent\"\nurl = \"postgres://x@127.0.0.1:1/x\"\n\n[[replica]]";
    let both = world.directory().join("both.toml");
    fs::write(&both, text.replacen("[[replica]]", absent, 1)).unwrap();
    let Finished { code, stdout, .. } = program().once("verify", &both, &["--json"]).await;
    let outcome: Value = serde_json::from_str(&stdout).unwrap();
    let [absent, r1] = [&outcome["replicas"][0], &outcome["replicas"][1]];
    let why = absent["not_compared"].as_str().unwrap();
    assert!(code == Some(1) && why.starts_with("replica absent: connecting"), "{outcome}");
    assert_eq!((&r1["not_compared"], &r1["tables"][0]["missing"]), (&Value::Null, &json!(1)), "{outcome}");
    let Finished { code, stderr, .. } =
        program().once("verify", &world.config().write(), &["--replica", "x"]).await;
    assert!(code == Some(2) && stderr.contains("there is none named \"x\""), "{stderr}");
}
