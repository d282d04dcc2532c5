//! The views for those who watch PostgreSQL: what `status` tells, and nothing else.

use pgfanout_testbed::{
    eventually,
    world::{Database, World},
};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::{
    bank::until_joined,
    broker_faults::assert_no_copy,
    messages::until_following,
    support::{Mode, PATIENCE, begin, program, until_same, world},
};

const TABLES: &str = "CREATE TABLE users (id text PRIMARY KEY, name text); INSERT INTO users VALUES ('secret key', 'secret');
    CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE parted_1 PARTITION OF parted DEFAULT";

/// Who watches, and somebody else.
struct Roles {
    watcher: String,
    stranger: String,
}

impl Roles {
    async fn make(world: &World) -> Self {
        let [watcher, stranger] = ["watcher", "stranger"].map(|role| format!("{}_{role}", world.exchange()));
        let make = "CREATE ROLE %1 LOGIN PASSWORD 'x' IN ROLE pg_monitor; CREATE ROLE %2 LOGIN PASSWORD 'x'";
        world.execute_on_servers(&make.replace("%1", &watcher).replace("%2", &stranger)).await;
        Self { watcher, stranger }
    }

    async fn drop(self, world: &World) {
        world.execute_on_servers(&format!("DROP ROLE {}, {}", self.watcher, self.stranger)).await;
    }
}

async fn connect(database: &Database, role: &str) -> Client {
    let url = format!("postgresql://{role}:x@127.0.0.1:{}/{}", database.cluster().port(), database.name());
    pgfanout_testbed::postgres::connect(&url).await.unwrap()
}

/// What the guide's queries find on the primary, and on the replica.
async fn alarms(primary: &Client, replica: &Client) -> [Vec<String>; 2] {
    let guide = include_str!("../../src/guide/watching.md");
    let queries: Vec<&str> =
        guide.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [here, there]: [&str; 2] = queries.try_into().unwrap();
    let rows = [primary.query(here, &[]).await.unwrap(), replica.query(there, &[]).await.unwrap()];
    rows.map(|rows| rows.iter().map(|row| row.get("alarm")).collect())
}

/// The rows of a view as objects, in the order of their names where they have some.
async fn rows(client: &Client, view: &str) -> Value {
    let statement = format!(
        "SELECT coalesce(jsonb_agg(v ORDER BY to_jsonb(v) ->> 'name'), '[]')::text FROM pgfanout_status.{view} v"
    );
    let row = client.query_one(&statement, &[]).await.unwrap();
    serde_json::from_str(row.get(0)).unwrap()
}

async fn status(world: &World) -> Value {
    let finished = program().once("status", &world.config().write(), &["--json"]).await;
    serde_json::from_str(&finished.stdout).unwrap()
}

async fn is_forbidden(client: &Client, statement: &str) {
    let error = client.batch_execute(statement).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42501", "{statement}: {error:?}");
}

async fn who_watches_sees_what_status_tells_and_nothing_else(mode: Mode) {
    let world = world(mode, 1).build().await;
    let roles = Roles::make(&world).await;
    world.primary().execute(TABLES).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["users", "parted"]).await;
    until_following(&world).await;
    let (primary, replica) =
        (connect(world.primary(), &roles.watcher).await, connect(world.replica(1), &roles.watcher).await);
    world.primary().execute("UPDATE users SET name = 'another secret'").await;
    let (seen, batch) = eventually(PATIENCE, "the views show a replica that follows", async || {
        let (here, there, replicas) = (
            rows(&primary, "primary").await,
            rows(&replica, "replica").await,
            rows(&primary, "replicas").await,
        );
        let batch = here[0][if mode == Mode::Broker { "last_batch_for_all" } else { "last_batch" }].clone();
        let arrived = there[0]["batch"] == batch && replicas[0]["changes"] == 0;
        if here[0]["publisher"] == "waiting" && arrived {
            Ok((here, batch))
        } else {
            Err((here, there, replicas))
        }
    })
    .await;
    assert!(seen[0]["changelog_bytes"].as_i64() > Some(0), "{seen}");
    let told = status(&world).await;
    let known = (&told["primary"]["last_batch"]["number"], &told["replicas"][0]["position"]["batch"]);
    // To find out how long a commit takes, status does one.
    assert!(known.0.as_i64() >= batch.as_i64() && known.1.as_i64() >= batch.as_i64(), "{told}");
    let there = rows(&replica, "replica").await[0].clone();
    assert_eq!((&there["applied_to"], &there["paused"]), (&json!(true), &json!(false)), "{there}");
    assert!(there["seconds_ago"].as_f64().is_some() && there["snapshot"].is_string(), "{there}");
    let reported = rows(&primary, "replicas").await[0].clone();
    assert_eq!((&reported["name"], &reported["state"]), (&json!("r1"), &json!("following")));
    assert_eq!((&reported["error"], &reported["trimmed"]), (&Value::Null, &json!(false)), "{reported}");

    let recent = rows(&primary, "recent").await;
    // A half minute may have ended meanwhile.
    let moved = |moved: &&Value| moved["name"] == "r1" && moved["changes"].as_i64() >= Some(1);
    let moved = recent.as_array().unwrap().iter().find(moved).unwrap_or_else(|| panic!("{recent}"));
    assert!(moved["delay_seconds"].as_f64() > Some(0.0), "{recent}");
    assert!(moved["half_minutes_ago"].as_i64() <= Some(2), "{recent}");

    assert_eq!(alarms(&primary, &replica).await, [const { Vec::<String>::new() }; 2]);

    pgfanout.kill9().await;
    world.primary().execute("INSERT INTO users VALUES ('secret', 'key'); TRUNCATE parted").await;
    world
        .primary()
        .execute("UPDATE pgfanout.captured_table SET broken = 'why' WHERE table_name = 'parted'")
        .await;
    world.replica(1).execute("INSERT INTO pgfanout.isolated_table SELECT id, 'public', 'users', 'a cause' FROM pgfanout.replicated_table
        WHERE table_name = 'users'; UPDATE pgfanout.replicated_table SET copying = true, snapshot = p.snapshot, number = p.number,
        token = p.token FROM pgfanout.position p WHERE table_name = 'parted'").await;
    eventually(PATIENCE, "the servers notice that it is dead", async || {
        rows(&primary, "primary").await[0]["publisher"] == "down"
            && rows(&replica, "replica").await[0]["applied_to"] == false
    })
    .await;
    let told = status(&world).await;
    assert_eq!(told["primary"]["publisher"], "down");
    let lacks = rows(&primary, "replicas").await[0].clone();
    assert_eq!((&lacks["changes"], &told["replicas"][0]["behind"]["changes"]), (&json!(1), &json!(1)));
    assert_eq!(
        (&lacks["bytes"], &lacks["at_least"]),
        (&told["replicas"][0]["behind"]["bytes"], &json!(false))
    );
    assert!(lacks["seconds"].as_f64() > Some(0.0), "{lacks}");
    let broken = rows(&primary, "captured_tables").await;
    let broken: Vec<_> =
        broken.as_array().unwrap().iter().map(|table| (&table["name"], &table["broken"])).collect();
    assert_eq!(broken, [(&json!("public.parted"), &json!("why")), (&json!("public.users"), &Value::Null)]);
    assert_eq!(told["primary"]["broken_tables"], json!([{"table": "public.parted", "reason": "why"}]));
    let tables = rows(&replica, "tables").await;
    assert_eq!((&tables[0]["apart"], &tables[1]["apart"]), (&json!(true), &json!(false)), "{tables}");
    assert_eq!(tables[0]["phase"], told["replicas"][0]["copies"][0]["phase"]);
    let isolated = rows(&replica, "isolated_tables").await;
    assert_eq!((&isolated[0]["name"], &isolated[0]["cause"]), (&json!("public.users"), &json!("a cause")));

    let [here, there] = alarms(&primary, &replica).await;
    assert_eq!(here, ["publisher: down", "public.parted: why"]);
    assert_eq!(there, ["nothing is applied", "public.parted: waiting", "public.users: a cause"]);
    let old = "UPDATE pgfanout.changelog SET logged_at = logged_at - interval '1 hour'";
    world.primary().execute(old).await;
    let [here, _] = alarms(&primary, &replica).await;
    assert!(here[2].starts_with("r1: following, reported "), "{here:?}");

    let views = [
        ("primary captured_tables replicas recent", &primary, world.primary()),
        ("replica tables isolated_tables", &replica, world.replica(1)),
    ];
    for (names, watcher, database) in views {
        let stranger = connect(database, &roles.stranger).await;
        for view in names.split(' ') {
            let shown = rows(watcher, view).await.to_string();
            assert!(!shown.contains("secret") && !shown.contains("token"), "{view}: {shown}");
            is_forbidden(&stranger, &format!("SELECT * FROM pgfanout_status.{view}")).await;
            assert!(watcher.batch_execute(&format!("DELETE FROM pgfanout_status.{view}")).await.is_err());
        }
        is_forbidden(watcher, "CREATE TABLE pgfanout_status.mine ()").await;
    }
    for table in ["changelog", "captured_table", "batch", "replica", "recent", "candidate"] {
        is_forbidden(&primary, &format!("SELECT * FROM pgfanout.{table}")).await;
    }
    for table in ["position", "replicated_table", "copy_chunk"] {
        is_forbidden(&replica, &format!("SELECT * FROM pgfanout.{table}")).await;
    }
    let function = "SELECT proname::text FROM pg_proc WHERE pronamespace = 'pgfanout'::regnamespace AND proname LIKE 'row\\_%'
        AND prorettype = 'trigger'::regtype LIMIT 1";
    let function: String = world.primary().client().await.query_one(function, &[]).await.unwrap().get(0);
    is_forbidden(
        &primary,
        &format!(
            "CREATE TEMP TABLE mine (id int); CREATE TRIGGER forge AFTER INSERT ON mine FOR EACH ROW
        EXECUTE FUNCTION pgfanout.{function}()"
        ),
    )
    .await;
    roles.drop(&world).await;
}

#[tokio::test]
async fn who_watches_sees_what_status_tells_and_nothing_else_with_a_broker() {
    who_watches_sees_what_status_tells_and_nothing_else(Mode::Broker).await;
}

#[tokio::test]
async fn who_watches_sees_what_status_tells_and_nothing_else_without_a_broker() {
    who_watches_sees_what_status_tells_and_nothing_else(Mode::Postgres).await;
}

/// What somebody built on the views outlives an upgrade, and what he made in their schema our end.
#[tokio::test]
async fn what_others_built_on_the_views_stays() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(TABLES).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["users"]).await;
    pgfanout.terminate().await;
    let own = "CREATE VIEW own AS SELECT * FROM pgfanout_status.%; CREATE TABLE pgfanout_status.own (id int)";
    world.primary().execute(&own.replace('%', "replicas")).await;
    world.replica(1).execute(&own.replace('%', "tables")).await;
    world.primary().execute("UPDATE pgfanout.installation SET functions = 'older'").await;
    world.replica(1).execute("UPDATE pgfanout.replica_installation SET source = 'older'").await;
    let mut pgfanout = begin(&world);
    world.primary().execute("INSERT INTO users VALUES ('a', 'b')").await;
    until_same(&world, &["users"]).await;
    pgfanout.terminate().await;
    for database in [world.primary(), world.replica(1)] {
        let seen = database.client().await.query("SELECT name FROM own", &[]).await.unwrap();
        assert!(!seen.is_empty());
        database.execute("DROP VIEW own").await;
    }
    let finished = program().once("uninstall", &world.config().write(), &[]).await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    for database in [world.primary(), world.replica(1)] {
        let left = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'pgfanout_status'::regnamespace";
        let left: String = database.client().await.query_one(left, &[]).await.unwrap().get(0);
        assert_eq!(left, "own");
    }
}

/// Makes of a replica's schema what it was in the beginning.
pub(crate) const FIRST_SCHEMA: &str =
    "DROP SCHEMA pgfanout_status CASCADE; DROP TABLE pgfanout.filled_table, pgfanout.verified_table;
    DROP FUNCTION pgfanout.form; ALTER TABLE pgfanout.replica_installation DROP COLUMN source";

/// Makes of a primary's schema what it was in the beginning.
pub(crate) const FIRST_PRIMARY: &str =
    "DROP SCHEMA pgfanout_status CASCADE; DROP FUNCTION pgfanout.behind; DROP TABLE pgfanout.recent;
    ALTER TABLE pgfanout.batch DROP COLUMN changed_at; ALTER TABLE pgfanout.changelog DROP COLUMN keys;
    UPDATE pgfanout.installation SET version = 1, functions = 'older'";

/// Whoever is older than what is there must not touch it.
#[tokio::test]
async fn a_replica_with_a_newer_schema_is_left_as_it_is() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(TABLES).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["users"]).await;
    pgfanout.terminate().await;
    let newer = "UPDATE pgfanout.replica_installation SET version = 1000, source = 'newer'; DROP FUNCTION pgfanout.wait_for";
    world.replica(1).execute(newer).await;
    let mut pgfanout = begin(&world);
    let line = pgfanout.wait_for_event("halted", PATIENCE).await;
    assert!(line["message"].as_str().unwrap().contains("run a newer pgfanout"), "{line}");
    let untouched = "SELECT NOT EXISTS (SELECT FROM pg_proc WHERE proname = 'wait_for')";
    assert!(world.replica(1).client().await.query_one(untouched, &[]).await.unwrap().get::<_, bool>(0));
    world.replica(1).execute("UPDATE pgfanout.replica_installation SET version = 1").await;
    world.primary().execute("INSERT INTO users VALUES ('a', 'b')").await;
    until_same(&world, &["users"]).await;
}

/// A replica as it was before there was any of this goes on where it stood.
#[tokio::test]
async fn a_replica_with_the_first_schema_is_upgraded_and_not_copied() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(TABLES).await;
    let mut pgfanout = begin(&world);
    until_joined(&world, 2).await;
    pgfanout.terminate().await;
    world.replica(1).execute(FIRST_SCHEMA).await;
    let pgfanout = begin(&world);
    world.primary().execute("INSERT INTO users VALUES ('a', 'b')").await;
    until_same(&world, &["users"]).await;
    assert_no_copy(&pgfanout, 0);
    let views = "SELECT verified_at FROM pgfanout_status.verified_tables";
    assert_eq!(world.replica(1).client().await.query(views, &[]).await.unwrap().len(), 2);
}
