//! What the documents say is what the program does.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pgfanout_testbed::{process::Finished, world::Database};

use crate::{
    messages::until_following,
    support::{Mode, program, until_same, world},
};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") && !entry.ends_with("tests.rs")
        {
            found.push(entry);
        }
    }
}

/// The texts that stand between `before` and the next quote.
fn quoted_after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).map(|rest| rest.split('"').next().unwrap())
}

fn readme() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

#[test]
fn the_readme_tells_every_event_and_no_other() {
    let (mut files, mut logged) = (Vec::new(), BTreeSet::new());
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        // Events whose names are passed on are those of `say`.
        for name in quoted_after(code, "event = \"").chain(quoted_after(code, ".say(\"")) {
            logged.insert(name.to_owned());
        }
        let events = code.matches("tracing::").count();
        let named = code.matches("event = \"").count() + code.matches("\n            event,\n").count();
        let imports = code.matches("use tracing::").count();
        assert_eq!(events - imports, named, "{}: an event without a name", file.display());
    }
    let readme = readme();
    let (_, table) = readme.split_once("| event | level |").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|') || line.starts_with(" meaning"));
    let told: BTreeSet<String> =
        rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect();
    assert_eq!(told, logged);
}

#[tokio::test]
async fn the_readmes_configuration_is_one() {
    let world = world(Mode::Postgres, 0).build().await;
    let text = readme();
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
async fn the_readmes_privileges_are_enough() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let text = readme();
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
    let roles = [("primary", primary, format!("{user}_primary")), ("replica", replica, user.clone())];
    for (side, database, role) in &roles {
        // Also where it was run before.
        for _ in 0..2 {
            make_role(&psql, database, side, role);
        }
        database.execute(&format!("ALTER ROLE {role} PASSWORD 'narrow'")).await;
    }
    let narrow = replica.cluster().knows("a replica's role that is no superuser", 15);
    let client = replica.client().await;
    let superuser = client.query_one("SELECT rolsuper FROM pg_roles WHERE rolname = $1", &[&user]).await;
    assert_eq!(superuser.unwrap().get::<_, bool>(0), !narrow);
    let url = |database: &Database, role: &str| {
        format!("postgresql://{role}:narrow@127.0.0.1:{}/{}", database.cluster().port(), database.name())
    };
    (config.primary.url, config.replicas[0].url) = (url(primary, &roles[0].2), url(replica, &user));
    let Finished { code, stdout, .. } = program().once("check", &config.write(), &[]).await;
    assert_eq!(code, Some(0), "{stdout}");
    let mut pgfanout = program().run(&config.write());
    until_same(&world, &["t"]).await;
    until_following(&world).await;
    world.primary().execute("TRUNCATE t; INSERT INTO t VALUES (2)").await;
    until_same(&world, &["t"]).await;
    pgfanout.terminate().await;
    let Finished { code, stderr, .. } = program().once("uninstall", &config.write(), &[]).await;
    assert_eq!(code, Some(0), "{stderr}");
    world.broker().ctl(&["delete_user", &user]).await;
    for (_, database, role) in &roles {
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
