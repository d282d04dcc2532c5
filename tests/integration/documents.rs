//! What the documents say is what the program does.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pgfanout_testbed::{postgres::quote, process::Finished, world::Database};
use serde_json::Value;

use crate::{
    messages::until_following,
    support::{Mode, PATIENCE, program, until_same, world},
};

mod commands;
mod guide;
mod json;
mod log_events;
mod make;
mod security;

/// The text of a file of the project.
fn text(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap()
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The files of Rust in a directory of the project, and beneath.
fn sources(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(project(directory)).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(sources(entry.to_str().unwrap()));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}

#[tokio::test]
async fn the_readmes_configuration_is_one() {
    let world = world(Mode::Postgres, 0).build().await;
    let text = text("README.md");
    let (_, rest) = text.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    fs::write(world.directory().join("primary.password"), "secret\n").unwrap();
    let file = world.directory().join("readme.toml");
    // An address that nobody answers at: only the file is of interest.
    fs::write(&file, example.replace(".example.com", ".invalid")).unwrap();
    let finished = program().env("BROKER_PASSWORD", "secret").once("check", &file, &[]).await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stdout.contains("\nerror    primary: connection: "), "{}", finished.stdout);
}

#[tokio::test]
async fn the_readmes_statement_waits_on_a_replica() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let _pgfanout = program().run(&world.config().write());
    until_following(&world).await;
    let text = text("README.md");
    let statement = text.split_once("```sql\n").unwrap().1.split_once("```").unwrap().0;
    let transaction = "INSERT INTO t VALUES (1) RETURNING pg_current_xact_id()::text";
    let transaction = world.primary().client().await.query_one(transaction, &[]).await.unwrap();
    let statement = statement.replace("4711", transaction.get(0)).replace("1 s'", "60 s'");
    let waited = world.replica(1).client().await.query_one(&statement, &[]).await.unwrap();
    assert!(waited.get::<_, bool>(0), "{statement}");
}

#[tokio::test]
async fn the_readmes_privileges_are_enough() {
    let odd = " o'dd \"%s\" \\ $1 /@:?\n🐎";
    let world = world(Mode::Broker, 1).named(odd).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let text = text("README.md");
    let pattern = text.split_once("configure, write and read on `").unwrap().1.split('`').next().unwrap();
    let pattern = pattern.replace("replication", world.exchange());
    let user = format!("{}_user", world.exchange());
    world.broker().ctl(&["add_user", &user, "narrow"]).await;
    world.broker().ctl(&["set_permissions", &user, &pattern, &pattern, &pattern]).await;
    let mut config = world.config();
    let url = format!("amqp://{user}:narrow@127.0.0.1:{}/%2f", world.broker().port());
    config.broker.as_mut().unwrap().urls = vec![url];
    let (primary, replica) = (world.primary(), world.replica(1));
    let Some(psql) = replica.cluster().program_if_there("psql", "making roles by the script") else { return };
    replica.execute("CREATE SCHEMA \"of its own\"").await;
    // They may be databases of one server.
    let roles = [("primary", primary, format!("{user}{odd}2")), ("replica", replica, format!("{user}{odd}"))];
    for (side, database, role) in &roles {
        // Also where it was run before.
        for _ in 0..2 {
            make_role(&psql, database, side, role);
        }
        database.execute(&format!("ALTER ROLE {} PASSWORD 'narrow'", quote(role))).await;
    }
    let narrow = replica.cluster().knows("a replica's role that is no superuser", 15);
    let client = replica.client().await;
    let superuser =
        client.query_one("SELECT rolsuper FROM pg_roles WHERE rolname = $1", &[&roles[1].2]).await;
    assert_eq!(superuser.unwrap().get::<_, bool>(0), !narrow);
    let url = |(_, database, role): &(_, &Database, String)| {
        database.cluster().url_of(role, "narrow", database.name())
    };
    (config.primary.url, config.replicas[0].url) = (url(&roles[0]), url(&roles[1]));
    let Finished { code, stdout, .. } = program().once("check", &config.write(), &[]).await;
    assert_eq!(code, Some(0), "{stdout}");
    let mut pgfanout = program().run(&config.write());
    until_same(&world, &["t"]).await;
    until_following(&world).await;
    world.primary().execute("TRUNCATE t; INSERT INTO t VALUES (2)").await;
    until_same(&world, &["t"]).await;
    if narrow {
        // Whose policies hold for its owner, too, hides rows from pgfanout.
        let mark = pgfanout.mark();
        let policy = "ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY nobody ON t USING (false)";
        replica.execute(policy).await;
        world.primary().execute("UPDATE t SET id = 3").await;
        let halted = |line: &Value| line["event"] == "halted";
        let line = pgfanout.wait_for(mark, "that it halted", PATIENCE, halted).await;
        let message = line["message"].as_str().unwrap();
        assert!(
            message.contains("row-level security policy for table \"t\"")
                && message.contains("a constraint, trigger, policy,"),
            "{message}"
        );
        let Finished { code, stdout, .. } = program().once("check", &config.write(), &[]).await;
        assert_eq!(code, Some(1), "{stdout}");
        assert!(stdout.contains("ALTER TABLE public.t NO FORCE ROW LEVEL SECURITY"), "{stdout}");
    }
    pgfanout.terminate().await;
    let Finished { code, stderr, .. } = program().once("uninstall", &config.write(), &[]).await;
    assert_eq!(code, Some(0), "{stderr}");
    world.broker().ctl(&["delete_user", &user]).await;
    for (_, database, role) in &roles {
        let role = quote(role);
        let end =
            format!("REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role} CASCADE; DROP ROLE {role}");
        database.execute(&end).await;
    }
}

/// As the script says that it is to be run.
fn make_role(psql: &Path, database: &Database, side: &str, role: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/roles.sql");
    let (side, role) = (format!("side={side}"), format!("role={role}"));
    let output = Command::new(psql)
        .args(["-X", "-v", "ON_ERROR_STOP=1", "-v", &side, "-v", &role, "-d", &database.url(), "-f", script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
