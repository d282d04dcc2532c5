//! Passwords that stand in files: found, and read again when they change.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use pgfanout_testbed::{
    config::ConfigFile,
    eventually,
    process::Program,
    world::{Database, World},
};

use crate::{
    broker_faults::until_by_broker,
    messages::until_following,
    support::{Mode, PATIENCE, program, until_same, world},
};

/// A file that only its owner may read, and that is never half written.
fn write(path: &Path, text: &str) {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text).unwrap();
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&unfinished, path).unwrap();
}

/// A role of the world's own, with this password from now on.
async fn let_in(world: &World, verb: &str, password: &str) -> String {
    let role = format!("{}:keyed", world.exchange());
    world.execute_on_servers(&format!("{verb} ROLE \"{role}\" SUPERUSER LOGIN PASSWORD '{password}'")).await;
    role
}

/// Logs in with that role, to the primary with the password from libpq's file, and to the replica with that from one of
/// its own.
fn keyed(world: &World, role: &str) -> (ConfigFile, Program) {
    let mut config = world.config().primary("");
    let urls = config.replicas.iter_mut().map(|replica| &mut replica.url);
    for url in urls.chain([&mut config.primary.url]) {
        let (_, server) = url.split_once('@').unwrap();
        *url = format!("postgresql://{}@{server}", role.replace(':', "%3A"));
    }
    config.replicas[0].more += "password_file = \"replica.password\"\n";
    let file = world.directory().join(".pgpass");
    (config, program().env("PGPASSWORD", "").env("PGPASSFILE", file.to_str().unwrap()))
}

fn write_passwords(world: &World, role: &str, password: &str) {
    let line = format!("127.0.0.1:*:*:{}:{password}\n", role.replace(':', "\\:"));
    write(&world.directory().join(".pgpass"), &format!("# ours\n{line}*:*:*:*:not-this-one\n"));
    write(&world.directory().join("replica.password"), &format!("{password}\n"));
}

/// Ends the sessions of a role, and waits until they are gone.
async fn end_sessions(database: &Database, role: &str) {
    let client = database.client().await;
    let ended = "SELECT coalesce(array_agg(pid) FILTER (WHERE pg_terminate_backend(pid)), '{}')
        FROM pg_stat_activity WHERE usename = $1 AND datname = current_database()";
    let ended: Vec<i32> = client.query_one(ended, &[&role]).await.unwrap().get(0);
    assert!(!ended.is_empty(), "{database}");
    let gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY ($1) AND usename = $2)";
    eventually(PATIENCE, "the sessions end", async || {
        client.query_one(gone, &[&ended, &role]).await.is_ok_and(|row| row.get(0))
    })
    .await;
}

#[tokio::test]
async fn a_password_that_changes_is_read_without_a_restart() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute("CREATE TABLE item (id int PRIMARY KEY)").await;
    let role = let_in(&world, "CREATE", "first-secret").await;
    let (config, program) = keyed(&world, &role);
    write_passwords(&world, &role, "first-secret");
    let mut pgfanout = program.run(&config.write());
    until_following(&world).await;
    world.primary().execute("INSERT INTO item VALUES (1)").await;
    until_same(&world, &["item"]).await;

    let_in(&world, "ALTER", "second-secret").await;
    write_passwords(&world, &role, "second-secret");
    for database in [world.primary(), world.replica(1)] {
        end_sessions(database, &role).await;
    }
    world.primary().execute("INSERT INTO item VALUES (2)").await;
    until_same(&world, &["item"]).await;
    pgfanout.terminate().await;
    assert!(pgfanout.lines().iter().all(|line| !line.contains("-secret")), "{:?}", pgfanout.lines());
}

#[tokio::test]
async fn a_password_that_is_missing_or_wrong_is_told_with_its_file() {
    let world = world(Mode::Postgres, 1).build().await;
    let role = let_in(&world, "CREATE", "right-secret").await;
    let (config, program) = keyed(&world, &role);
    let (config, pgpass) = (config.write(), world.directory().join(".pgpass"));
    let name = pgpass.to_str().unwrap();
    let told = async |words: &[&str]| {
        let check = program.once("check", &config, &[]).await;
        assert!(words.iter().all(|word| check.stdout.contains(word)), "{words:?}: {}", check.stdout);
        assert!(!check.stdout.contains("-secret") && !check.stderr.contains("-secret"), "{}", check.stdout);
    };
    write_passwords(&world, &role, "wrong-secret");
    let own = world.directory().join("replica.password");
    let refused = |file: &str| format!("connecting with the password in {file}, which is read each time");
    told(&[&refused(name), &refused(own.to_str().unwrap())]).await;
    // Whoever else may read the file could have written it.
    write_passwords(&world, &role, "right-secret");
    fs::set_permissions(&pgpass, fs::Permissions::from_mode(0o640)).unwrap();
    let database = world.primary();
    let port = database.cluster().port();
    let line =
        format!("127.0.0.1:{port}:{}:{}:PASSWORD to {name}", database.name(), role.replace(':', "\\:"));
    told(&[&format!("{name}: is ignored"), "chmod 600", &line]).await;
    // Nor is one needed.
    fs::remove_file(&pgpass).unwrap();
    told(&[&line]).await;
}

/// Ends the connections of a broker's user; returns how many there were.
async fn end_connections(world: &World, user: &str) -> usize {
    let listed = world.broker().ctl(&["list_connections", "pid", "user"]).await;
    let ours: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(user).map(str::trim)).collect();
    for pid in &ours {
        world.broker().ctl(&["close_connection", pid, "the password changed"]).await;
    }
    ours.len()
}

#[tokio::test]
async fn a_brokers_password_that_changes_is_read_without_a_restart() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE item (id int PRIMARY KEY)").await;
    let user = format!("{}_keyed", world.exchange());
    world.broker().ctl(&["add_user", &user, "first-secret"]).await;
    world.broker().ctl(&["set_permissions", &user, ".*", ".*", ".*"]).await;
    let mut config = world.config().broker("password_file = \"broker.password\"");
    let url = format!("amqp://{user}@127.0.0.1:{}/", world.broker().port());
    config.broker.as_mut().unwrap().urls = vec![url];
    let file = world.directory().join("broker.password");
    write(&file, "first-secret\n");
    let mut pgfanout = program().run(&config.write());
    let insert =
        async |world: &World| world.primary().execute("INSERT INTO item SELECT count(*) FROM item").await;
    until_following(&world).await;
    until_by_broker(&world, insert).await;

    // The file later: it is tried with the old one, and then with the new one.
    world.broker().ctl(&["change_password", &user, "second-secret"]).await;
    let mark = pgfanout.mark();
    assert!(end_connections(&world, &user).await >= 2);
    let refused = |line: &serde_json::Value| {
        let name = file.to_str().unwrap();
        line["event"] == "failed"
            && line["message"]
                .as_str()
                .unwrap()
                .contains(&format!("with the password in {name}, which is read each time"))
    };
    pgfanout.wait_for(mark, "that the password is refused", PATIENCE, refused).await;
    write(&file, "second-secret\n");
    until_by_broker(&world, insert).await;
    until_same(&world, &["item"]).await;
    pgfanout.terminate().await;
    assert!(pgfanout.lines().iter().all(|line| !line.contains("-secret")), "{:?}", pgfanout.lines());
    world.broker().ctl(&["delete_user", &user]).await;
}

/// Warnings and the level of the log are those of the file that was read last.
#[tokio::test]
async fn a_configuration_that_is_read_anew_speaks_and_is_silent_as_it_says() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute("CREATE TABLE item (id int PRIMARY KEY)").await;
    let level = |level: &str| world.config().more(&format!("[log]\nlevel = \"{level}\"\n"));
    let mut pgfanout = program().run(&level("error").write());
    until_following(&world).await;
    assert_eq!(pgfanout.log(), Vec::<serde_json::Value>::new());

    let mut open = level("info,pgfanout::life=error");
    let url = open.primary.url.clone();
    let (login, server) = url.split_once('@').unwrap();
    let (login, password) = login.rsplit_once(':').unwrap();
    open.primary.url = format!("{login}@{server}");
    let secret = world.directory().join("open.password");
    fs::write(&secret, password).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let _ = open.primary("password_file = \"open.password\"").write();
    pgfanout.reload();
    let warning = pgfanout.wait_for_event("configuration_warning", PATIENCE).await;
    assert!(warning["message"].as_str().unwrap().contains("open.password"), "{warning}");
    pgfanout.wait_for_event("started", PATIENCE).await;
    world.primary().execute("INSERT INTO item VALUES (1)").await;
    until_same(&world, &["item"]).await;
    assert_eq!(pgfanout.events("connected"), Vec::<serde_json::Value>::new(), "of that module errors alone");

    // What is wrong changes nothing.
    let mark = pgfanout.mark();
    let _ = level("loud").write();
    pgfanout.reload();
    pgfanout.wait_for_event_after(mark, "reload_failed", PATIENCE).await;
    let _ = level("error").write();
    let mark = pgfanout.mark();
    pgfanout.reload();
    world.primary().execute("INSERT INTO item VALUES (2)").await;
    until_same(&world, &["item"]).await;
    pgfanout.terminate().await;
    let told: Vec<_> = pgfanout.log_after(mark).into_iter().map(|line| line["event"].clone()).collect();
    assert!(!told.iter().any(|event| event == "started" || event == "stopped"), "{told:?}");
}
