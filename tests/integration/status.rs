//! `pgfanout status`, as scripts and people use it.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pgfanout::postgres::SESSION_LOCK;
use pgfanout_testbed::{
    eventually,
    postgres::Shutdown,
    process::{Finished, Pgfanout},
    world::World,
};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::{Mode, PATIENCE, begin, program, world};

mod recent;
mod truth;

const TABLE: &str = "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'al')";

async fn printed(world: &World, arguments: &[&str]) -> Finished {
    let finished = program().once("status", &world.config().write(), arguments).await;
    assert_eq!(finished.stderr, "", "{}", finished.stdout);
    finished
}

/// The JSON object; the exit code is compared with what it says.
async fn status(world: &World) -> Value {
    let finished = printed(world, &["--json"]).await;
    let status: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(finished.code, Some(i32::from(status["follows"] != true)), "{status}");
    assert_eq!(finished.stdout.matches('\n').count(), 1, "one line");
    status
}

/// Starts pgfanout, and waits until every replica follows with so many tables.
async fn follow(world: &World, tables: usize) -> Pgfanout {
    let running = begin(world);
    eventually(PATIENCE, "every replica follows", async || {
        let status = status(world).await;
        let follows = status["follows"] == true && status["primary"]["tables"] == tables;
        if follows { Ok(()) } else { Err(status) }
    })
    .await;
    running
}

/// Stands in for a process that applies to a replica, until it is dropped.
async fn hold_lock(world: &World, replica: usize) -> Client {
    let client = world.replica(replica).client().await;
    client.execute("SELECT pg_advisory_lock($1)", &[&SESSION_LOCK]).await.unwrap();
    client
}

fn assert_keys(object: &Value, keys: &str) {
    let found: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, keys.split(' ').collect(), "{object}");
}

#[tokio::test]
async fn before_anything_ran_every_replica_is_halted() {
    let world = World::new(1).await;
    let status = status(&world).await;
    assert_eq!(status["primary"]["state"], "not-installed");
    assert_eq!(status["primary"]["error"], Value::Null);
    assert_eq!(status["broker"], json!({"state": "reachable", "error": null, "rejected": null}));
    let replica = &status["replicas"][0];
    assert_eq!((&replica["name"], &replica["state"]), (&json!("r1"), &json!("halted")));
    assert_eq!(replica["reason"], "pgfanout has never run for it");
    let queue = json!({"name": world.queue(1), "state": "missing", "messages": null, "consumers": null});
    assert_eq!(replica["queue"], queue);
    assert_eq!((&replica["position"], &replica["behind"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_replica_that_keeps_up_follows_and_the_object_is_as_documented() {
    let world = World::new(2).await;
    world.primary().execute(TABLE).await;
    let _running = follow(&world, 1).await;
    let change = async || world.primary().execute("UPDATE users SET name = 'secret row'").await;
    change().await;
    let status = eventually(PATIENCE, "all was published, and applied as it was published", async || {
        let status = status(&world).await;
        let (primary, replica) = (&status["primary"], &status["replicas"][1]);
        let idle = primary["publisher"] == "waiting" && primary["last_batch"]["published"] == true;
        if !idle || replica["behind"]["changes"] != 0 {
            return Err(status);
        }
        // A replica that was just copied may have caught up with the change by itself: only the next one
        // has to come as a batch.
        if replica["position"]["batch"] != primary["last_batch"]["number"] {
            change().await;
            return Err(status);
        }
        Ok(status)
    })
    .await;

    assert_keys(&status, "follows primary broker replicas");
    let primary = &status["primary"];
    assert_keys(primary, "state error publisher reason tables broken_tables changelog last_batch");
    assert_eq!((&primary["state"], &primary["tables"]), (&json!("reachable"), &json!(1)));
    assert_keys(&primary["changelog"], "entries bytes logged logged_per_second");
    assert!(primary["changelog"]["bytes"].as_i64().unwrap() > 0);
    assert_keys(&primary["last_batch"], "number published cut_at seconds_ago");
    assert_eq!(status["broker"], json!({"state": "reachable", "error": null, "rejected": 0}));
    let replica = &status["replicas"][1];
    let keys = "name state reason position delay_seconds behind queue reported recent tables missing_tables copies isolated verified";
    assert_keys(replica, keys);
    assert_eq!((&replica["state"], &replica["reason"]), (&json!("following"), &Value::Null));
    assert_keys(&replica["position"], "snapshot batch applied_at");
    assert!(replica["delay_seconds"].as_f64().is_some_and(|delay| delay > 0.0), "{replica}");
    let nothing = json!({"changes": 0, "at_least": false, "bytes": 0, "seconds": 0.0, "trimmed": false});
    assert_eq!(replica["behind"], nothing);
    let queue = json!({"name": world.queue(2), "state": "present", "messages": 0, "consumers": 1});
    assert_eq!(replica["queue"], queue);
    assert_keys(&replica["reported"], "state error seconds_ago");
    assert_keys(&replica["recent"], "interval_seconds delays applied_per_second");
    let recent = &replica["recent"];
    let delays = recent["delays"].as_array().unwrap();
    assert_eq!((&recent["interval_seconds"], delays.len()), (&json!(30.0), 30));
    assert!(delays[29].as_f64().is_some_and(|delay| delay > 0.0), "{replica}");
    assert_eq!((&replica["tables"], &replica["missing_tables"]), (&json!(1), &json!(0)));
    assert_eq!(replica["copies"], json!([]));
}

#[tokio::test]
async fn people_read_words_and_no_secrets() {
    let world = World::new(1).await;
    world.primary().execute(TABLE).await;
    let mut running = follow(&world, 1).await;
    let shown = printed(&world, &[]).await;
    assert_eq!(shown.code, Some(0));
    for word in ["primary  reachable", "1 tables captured", "replica  state", "r1       following"] {
        assert!(shown.stdout.contains(word), "{word}: {}", shown.stdout);
    }
    running.kill9().await;
    let mut config = world.config();
    let refused = world.broker().url().replacen(password(&world.broker().url()), "not-the-password", 1);
    config.broker.as_mut().unwrap().urls = vec![refused.clone()];
    let shown = program().once("status", &config.write(), &[]).await;
    assert_eq!(shown.code, Some(1));
    for word in ["broker   unreachable", "publisher down", "r1: no process applies changes to it"] {
        assert!(shown.stdout.contains(word), "{word}: {}", shown.stdout);
    }
    let urls = [refused, world.primary().url()];
    assert!(!urls.iter().any(|url| shown.stdout.contains(password(url))), "{}", shown.stdout);
    assert!(!shown.stdout.contains('\x1b'), "colours are for terminals");
}

fn password(url: &str) -> &str {
    url.split_once('@').unwrap().0.rsplit_once(':').unwrap().1
}

#[tokio::test]
async fn without_a_broker_there_are_no_queues() {
    let world = World::plan(1).without_broker().build().await;
    world.primary().execute(TABLE).await;
    let _running = follow(&world, 1).await;
    let status = status(&world).await;
    assert_eq!((&status["broker"], &status["replicas"][0]["queue"]), (&Value::Null, &Value::Null));
    assert_ne!(status["primary"]["publisher"], "down");
}

/// Nothing is written, and each look tells how long a change would take; until the replica is held up.
async fn a_replica_that_is_held_up_does_not_look_healthy_while_nothing_is_written(mode: Mode) {
    let world = world(mode, 2).build().await;
    world.primary().execute(TABLE).await;
    let _running = follow(&world, 1).await;
    let delays = async |wanted: [bool; 2]| {
        eventually(PATIENCE, "commits arrive, or not", async || {
            let status = status(&world).await;
            let replicas = status["replicas"].as_array().unwrap();
            let arrived = replicas.iter().map(|replica| replica["delay_seconds"].as_f64().is_some());
            let follow = replicas.iter().map(|replica| replica["state"] == "following");
            let idle = replicas.iter().all(|replica| replica["behind"]["changes"] == 0);
            if idle && arrived.eq(wanted) && follow.eq(wanted) { Ok(()) } else { Err(status) }
        })
        .await;
    };
    delays([true, true]).await;
    let holder = world.replica(1).client().await;
    holder.batch_execute("BEGIN; LOCK pgfanout.position IN EXCLUSIVE MODE").await.unwrap();
    delays([false, true]).await;
    let shown = printed(&world, &[]).await.stdout;
    assert!(shown.contains("r1: a commit on the primary was not seen within 4 s"), "{shown}");
    holder.batch_execute("COMMIT").await.unwrap();
    delays([true, true]).await;
}

#[tokio::test]
async fn a_replica_that_is_held_up_does_not_look_healthy_while_nothing_is_written_with_a_broker() {
    a_replica_that_is_held_up_does_not_look_healthy_while_nothing_is_written(Mode::Broker).await;
}

#[tokio::test]
async fn a_replica_that_is_held_up_does_not_look_healthy_while_nothing_is_written_without_a_broker() {
    a_replica_that_is_held_up_does_not_look_healthy_while_nothing_is_written(Mode::Postgres).await;
}

async fn what_a_replica_lacks_is_counted_and_grows_old(mode: Mode) {
    let world = world(mode, 1).build().await;
    world.primary().execute(TABLE).await;
    world.primary().execute("CREATE TABLE broken (id int PRIMARY KEY)").await;
    // In progress at the replica's position, and committed later.
    let mut old = world.primary().client().await;
    let mut running = follow(&world, 2).await;
    let transaction = old.transaction().await.unwrap();
    transaction.batch_execute("INSERT INTO users VALUES (2, 'early')").await.unwrap();
    world.primary().execute("INSERT INTO users VALUES (3, 'late')").await;
    eventually(PATIENCE, "the later transaction is applied", async || {
        let found = world.replica(1).look().await.unwrap().query("SELECT FROM users WHERE id = 3", &[]).await;
        found.is_ok_and(|rows| rows.len() == 1)
    })
    .await;
    running.kill9().await;
    let _applier = hold_lock(&world, 1).await;
    let xid: String = transaction.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    transaction.commit().await.unwrap();
    world.primary().execute("UPDATE users SET name = 'x' WHERE id IN (1, 3)").await;
    world.primary().execute("INSERT INTO broken VALUES (1)").await;
    let mark = "UPDATE pgfanout.captured_table SET broken = 'no key; add one' WHERE table_name = 'broken'";
    world.primary().execute(mark).await;

    let found = status(&world).await;
    let replica = &found["replicas"][0];
    // Other databases of the server have transactions, too.
    let in_progress = replica["position"]["snapshot"].as_str().unwrap().rsplit_once(':').unwrap().1;
    assert!(in_progress.split(',').any(|other| other == xid), "{replica}");
    assert_eq!(replica["behind"]["changes"], 3, "one insert of the old transaction, two updates");
    assert!(replica["behind"]["bytes"].as_i64().unwrap() > 20, "{replica}");
    assert!(replica["behind"]["seconds"].as_f64().unwrap() > 0.0, "{replica}");
    // Fresh as it is.
    let told = (&replica["state"], &replica["reason"]);
    assert_eq!(told, (&json!("catching-up"), &json!("no process passes changes on")));
    assert_eq!(found["primary"]["publisher"], "down");
    let broken = json!([{"table": "public.broken", "reason": "no key; add one"}]);
    assert_eq!(found["primary"]["broken_tables"], broken);

    world.primary().execute("UPDATE pgfanout.changelog SET logged_at = logged_at - interval '1 hour'").await;
    let found = status(&world).await;
    assert_eq!(found["replicas"][0]["state"], "catching-up");
    assert!(found["replicas"][0]["behind"]["seconds"].as_f64().unwrap() > 3600.0);

    world.primary().execute("UPDATE pgfanout.installation SET trimmed_before = pg_current_xact_id()").await;
    let found = status(&world).await;
    assert_eq!(found["replicas"][0]["behind"]["trimmed"], true);

    world.primary().execute("UPDATE pgfanout.installation SET epoch = gen_random_uuid()").await;
    let replica = &status(&world).await["replicas"][0];
    assert_eq!((&replica["state"], &replica["behind"]), (&json!("halted"), &Value::Null));
    assert!(replica["reason"].as_str().unwrap().contains("another installation"), "{replica}");
}

#[tokio::test]
async fn what_a_replica_lacks_is_counted_and_grows_old_with_a_broker() {
    what_a_replica_lacks_is_counted_and_grows_old(Mode::Broker).await;
}

#[tokio::test]
async fn what_a_replica_lacks_is_counted_and_grows_old_without_a_broker() {
    what_a_replica_lacks_is_counted_and_grows_old(Mode::Postgres).await;
}

async fn a_copy_is_told_by_phase_percent_rate_and_time_left(mode: Mode) {
    let world = world(mode, 1).build().await;
    world.primary().execute(TABLE).await;
    world.primary().execute("CREATE TABLE \"Odd Name\" (id int PRIMARY KEY)").await;
    follow(&world, 2).await.kill9().await;
    let _applier = hold_lock(&world, 1).await;
    let copying = "
        UPDATE pgfanout.replicated_table
        SET copying = true, snapshot = p.snapshot, rows_expected = 1000, bytes_expected = 4000
        FROM pgfanout.position AS p WHERE table_name = 'Odd Name';
        INSERT INTO pgfanout.copy_chunk (table_id, copy, number, \"after\", \"until\", row_count, byte_count, planned_at, copied_at)
        SELECT t.id, t.copy, c.*
        FROM pgfanout.replicated_table AS t, (VALUES
            (0, NULL, '(a secret key)', 100, 300, now() - interval '1 hour', now() - interval '50 minutes'),
            (1, '(a secret key)', '(2)', 150, 450, now() - interval '10 seconds', now()),
            (2, '(2)', '(3)', NULL, NULL, now(), NULL)) AS c
        WHERE t.table_name = 'Odd Name'";
    world.replica(1).execute(copying).await;

    let replica = &status(&world).await["replicas"][0];
    assert_eq!((&replica["state"], &replica["tables"]), (&json!("copying"), &json!(2)));
    let copy = &replica["copies"][0];
    let keys = "table phase rows rows_expected bytes bytes_expected percent rows_per_second bytes_per_second \
                seconds_left";
    assert_keys(copy, keys);
    assert_eq!((&copy["table"], &copy["phase"]), (&json!("public.\"Odd Name\""), &json!("rows")));
    assert_eq!((&copy["rows"], &copy["bytes"], &copy["percent"]), (&json!(250), &json!(750), &json!(25.0)));
    let rate = copy["rows_per_second"].as_f64().unwrap();
    assert!((5.0..15.1).contains(&rate), "150 rows in 10 seconds or little more: {copy}");
    assert!(copy["seconds_left"].as_f64().unwrap() >= 50.0, "750 rows at that rate: {copy}");
    let shown = printed(&world, &[]).await.stdout;
    assert!(shown.contains("public.\"Odd Name\"  25.0 %") && !shown.contains("secret"), "{shown}");

    let phase = async |change: &str| {
        world.replica(1).execute(change).await;
        status(&world).await["replicas"][0]["copies"][0]["phase"].clone()
    };
    let last =
        "UPDATE pgfanout.copy_chunk SET \"until\" = NULL, row_count = 1, byte_count = 1 WHERE number = 2";
    assert_eq!(phase(last).await, "completing");
    assert_eq!(phase("DELETE FROM pgfanout.copy_chunk").await, "waiting");
    assert_eq!(phase("UPDATE pgfanout.replicated_table SET copying = false").await, "joining");

    world.replica(1).execute("DELETE FROM pgfanout.replicated_table WHERE table_name = 'Odd Name'").await;
    let replica = &status(&world).await["replicas"][0];
    assert_eq!((&replica["state"], &replica["missing_tables"]), (&json!("copying"), &json!(1)));
}

#[tokio::test]
async fn a_copy_is_told_by_phase_percent_rate_and_time_left_with_a_broker() {
    a_copy_is_told_by_phase_percent_rate_and_time_left(Mode::Broker).await;
}

#[tokio::test]
async fn a_copy_is_told_by_phase_percent_rate_and_time_left_without_a_broker() {
    a_copy_is_told_by_phase_percent_rate_and_time_left(Mode::Postgres).await;
}

async fn a_halted_replica_is_told_with_the_reason(mode: Mode) {
    let world = world(mode, 2).build().await;
    world.primary().execute(TABLE).await;
    world.replica(1).execute(TABLE).await;
    let _running = begin(&world);
    eventually(PATIENCE, "one is halted, the other follows", async || {
        let status = status(&world).await;
        let replicas = &status["replicas"];
        let halted = replicas[0]["state"] == "halted"
            && replicas[0]["reason"].as_str().is_some_and(|reason| reason.contains("holds rows"));
        if halted && replicas[1]["state"] == "following" { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn a_halted_replica_is_told_with_the_reason_with_a_broker() {
    a_halted_replica_is_told_with_the_reason(Mode::Broker).await;
}

#[tokio::test]
async fn a_halted_replica_is_told_with_the_reason_without_a_broker() {
    a_halted_replica_is_told_with_the_reason(Mode::Postgres).await;
}

#[tokio::test]
async fn who_is_down_is_unreachable_and_the_others_are_told() {
    let world = World::plan(2).own_primary(&[]).own_replicas().own_broker().build().await;
    world.primary().execute(TABLE).await;
    let mut running = follow(&world, 1).await;
    running.kill9().await;
    let _applier = hold_lock(&world, 2).await;

    // One that refuses, one that is silent.
    world.broker().kill9().await;
    world.replica(1).cluster().pause();
    let (found, took) = timed(&world).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(found["broker"]["state"], "unreachable");
    assert!(found["broker"]["error"].is_string());
    let (first, second) = (&found["replicas"][0], &found["replicas"][1]);
    assert_eq!((&first["state"], &first["position"]), (&json!("unreachable"), &Value::Null));
    assert!(first["reason"].as_str().unwrap().contains("no answer"), "{first}");
    assert_eq!((&second["state"], &second["queue"]["state"]), (&json!("catching-up"), &json!("unreachable")));

    world.replica(1).cluster().resume();
    world.primary().cluster().stop(Shutdown::Fast).await;
    let found = status(&world).await;
    assert_eq!(found["primary"]["state"], "unreachable");
    assert!(found["primary"]["error"].as_str().unwrap().contains("refused"), "{found}");
    let (first, second) = (&found["replicas"][0], &found["replicas"][1]);
    assert_eq!((&first["state"], &second["state"]), (&json!("halted"), &json!("catching-up")));
    assert_eq!((&second["behind"], &second["missing_tables"]), (&Value::Null, &Value::Null));
    assert!(second["position"]["snapshot"].is_string(), "{second}");

    // Everybody silent, the broker too.
    world.broker().start_again().await;
    world.broker().pause();
    world.primary().cluster().start_again().await;
    world.primary().cluster().pause();
    world.replica(1).cluster().pause();
    world.replica(2).cluster().pause();
    let (found, took) = timed(&world).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    let states = [&found["primary"], &found["broker"], &found["replicas"][0], &found["replicas"][1]];
    assert!(states.iter().all(|part| part["state"] == "unreachable"), "{found}");
}

/// Who asks for the status does so because of that.
#[tokio::test]
async fn commits_that_wait_for_a_standby_that_is_gone_are_told_and_not_waited_for() {
    let world = World::plan(1).own_primary(&[]).build().await;
    world.primary().execute(TABLE).await;
    let _running = follow(&world, 1).await;
    let standby = async |name: &str| {
        let client = world.primary().client().await;
        client.execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"), &[]).await.unwrap();
        client.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
        eventually(PATIENCE, "new sessions know it", async || {
            let session = world.primary().client().await;
            let row = session.query_one("SHOW synchronous_standby_names", &[]).await.unwrap();
            row.get::<_, &str>(0) == name
        })
        .await;
    };
    standby("nobody").await;
    let (found, took) = timed(&world).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    let replica = &found["replicas"][0];
    assert_eq!((&replica["state"], &replica["delay_seconds"]), (&json!("catching-up"), &Value::Null));
    assert_eq!(replica["behind"]["changes"], 0, "{replica}");
    standby("").await;
    eventually(PATIENCE, "it follows again", async || {
        let status = status(&world).await;
        if status["follows"] == true { Ok(()) } else { Err(status) }
    })
    .await;
}

async fn timed(world: &World) -> (Value, Duration) {
    let started = Instant::now();
    (status(world).await, started.elapsed())
}

#[tokio::test]
async fn it_is_watched_until_the_watcher_has_seen_enough() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(TABLE).await;
    let config = world.config().write();
    let mut running = follow(&world, 1).await;
    let looks = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgfanout"));
        command.args(["status", "--watch", "--config"]).arg(&config).args(arguments).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut watching = looks(&["--json"]);
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let follows = |line: &std::io::Result<String>| line.as_ref().unwrap().contains("\"follows\":true");
    assert_eq!(lines.by_ref().take(30).filter(follows).take(3).count(), 3, "it goes on");
    running.terminate().await;
    let sees = |line: std::io::Result<String>| line.unwrap().contains("\"publisher\":\"down\"");
    assert!(lines.by_ref().take(30).any(sees), "the end of what runs is seen");
    Command::new("sh").args(["-c", &format!("kill -INT {}", watching.id())]).status().unwrap();
    let ended = watching.wait().unwrap();
    assert!(matches!(ended.code(), Some(0 | 1)), "it ends by itself: {ended:?}");
    // For eyes; who closes the pipe has seen enough.
    let mut watching = looks(&[]);
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("in the last 15 min")));
    assert!(lines.next().unwrap().unwrap().contains(['▁', '█']));
    drop(lines);
    let ended = watching.wait().unwrap();
    assert!(matches!(ended.code(), Some(0 | 1)), "it ends by itself: {ended:?}");
}
