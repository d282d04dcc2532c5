//! Passwords that stand in files: found, and read again when they change.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use pgfanout_testbed::{
    config::ConfigFile,
    eventually,
    process::Program,
    world::{Database, World},
};

use crate::{
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
