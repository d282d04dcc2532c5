//! `pgfanout check`: all that is in the way at once, and remedies that are right as they are printed.

mod making;
mod pooler;

use std::process::Command;

use pgfanout_testbed::{
    config::ConfigFile,
    eventually,
    process::Finished,
    world::{Database, World},
};
use serde_json::Value;

use crate::support::{Mode, PATIENCE, program, until_same, world};

/// What is found, as `--json` has it. The exit code fits.
pub(crate) async fn findings(config: &ConfigFile) -> Vec<Value> {
    let Finished { code, stdout, stderr } = program().once("check", &config.write(), &["--json"]).await;
    let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
    assert_eq!(stdout.matches('\n').count(), 1, "one line");
    let findings = report["findings"].as_array().unwrap().clone();
    let bad = findings.iter().any(|finding| finding["level"] == "error");
    assert_eq!((report["fits"].as_bool().unwrap(), code == Some(0)), (!bad, !bad), "{stdout}{stderr}");
    findings
}

/// Those of a level, as `place: subject: text`, with their remedies.
pub(crate) fn of_level<'a>(findings: &'a [Value], level: &str) -> Vec<(String, &'a str)> {
    let text = |finding: &'a Value, key: &str| finding[key].as_str().unwrap_or_default();
    let one = |finding: &'a Value| {
        let (place, subject) = (text(finding, "place"), text(finding, "subject"));
        (format!("{place}: {subject}: {}", text(finding, "text")), text(finding, "remedy"))
    };
    findings.iter().filter(|finding| finding["level"] == level).map(one).collect()
}

fn as_role(database: &Database, role: &str) -> String {
    format!("postgresql://{role}:narrow@127.0.0.1:{}/{}", database.cluster().port(), database.name())
}

#[tokio::test]
async fn all_that_is_in_the_way_is_told_at_once_and_every_statement_removes_it() {
    let world = world(Mode::Broker, 1).build().await;
    let (primary, replica) = (world.primary(), world.replica(1));
    let user = format!("{}_role", world.exchange());
    world.execute_on_servers(&format!("CREATE ROLE {user} LOGIN PASSWORD 'narrow'")).await;
    let kinds = "CREATE TYPE mood AS ENUM ('sad', 'ok')";
    primary
        .execute(&format!(
            "{kinds}; CREATE SCHEMA \"S 1\";
             CREATE TABLE \"S 1\".new (id int PRIMARY KEY);
             CREATE TABLE kept (id int PRIMARY KEY, a numeric(8, 2), b mood, c text, d int[] DEFAULT '{{1}}');
             CREATE TABLE full_of (id int PRIMARY KEY);
             INSERT INTO kept VALUES (1, 1.5, 'ok', 'x')"
        ))
        .await;
    replica
        .execute(
            "CREATE TYPE mood AS ENUM ('sad'); CREATE SCHEMA \"S 1\";
             CREATE TABLE kept (id int, a numeric(6, 1), b mood, extra int NOT NULL);
             CREATE TABLE full_of (id int PRIMARY KEY); INSERT INTO full_of VALUES (7)",
        )
        .await;
    world.broker().ctl(&["add_user", &user, "narrow"]).await;
    world.broker().ctl(&["set_permissions", &user, "^$", "^$", "^$"]).await;
    let mut config = world.config();
    config.primary.url = as_role(primary, &user);
    config.replicas[0].url = as_role(replica, &user);
    config.broker.as_mut().unwrap().urls =
        vec![format!("amqp://{user}:narrow@127.0.0.1:{}/%2f", world.broker().port())];

    let expected = [
        "primary: privileges: role USER is no superuser",
        "broker: permissions: ",
        "replica r1: privileges: role USER may not set session_replication_role",
        "replica r1: privileges: role USER may not create the schema pgfanout",
        "replica r1: privileges: role USER may not create \"S 1\".new",
        "replica r1: privileges: public.kept does not belong to role USER",
        "replica r1: privileges: public.full_of does not belong to role USER",
    ];
    let narrow = replica.cluster().version() >= 15;
    let found = findings(&config).await;
    let errors = of_level(&found, "error");
    for expected in expected {
        let expected = expected.replace("USER", &user);
        assert!(errors.iter().any(|(text, _)| text.starts_with(&expected)), "{expected}: {errors:#?}");
    }
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    follow(&world, &errors).await;
    if !narrow {
        assert!(errors.iter().any(|(_, remedy)| remedy.contains("SUPERUSER")), "{errors:#?}");
    }

    // Only its owner sees what is in a table, and how it differs.
    let found = findings(&config).await;
    let errors = of_level(&found, "error");
    for expected in [
        "column a: the replica has numeric(6,1), the primary numeric(8,2)",
        "column c: the replica has no such column, the primary text",
        "column d: the replica has no such column, the primary integer[]",
        "column extra: the replica has it NOT NULL without a default, the primary no such column",
        "type public.mood: the replica has no such label, the primary \"ok\"",
        "key: the replica has no immediate unique index over it, the primary (id)",
        "it holds rows that pgfanout did not write",
    ] {
        assert!(errors.iter().any(|(text, _)| text.ends_with(expected)), "{expected}: {errors:#?}");
    }
    assert_eq!(errors.len(), 7, "{errors:#?}");
    follow(&world, &errors).await;

    let found = findings(&config).await;
    assert_eq!(of_level(&found, "error"), []);
    let mut pgfanout = program().run(&config.write());
    until_same(&world, &["public.full_of", "\"S 1\".new"]).await;
    pgfanout.terminate().await;
    assert_eq!(of_level(&findings(&config).await, "error"), [], "also of what is installed");
    world.broker().ctl(&["delete_user", &user]).await;
    program().once("uninstall", &world.config().write(), &[]).await;
    for database in [primary, replica] {
        let clear = format!("REASSIGN OWNED BY {user} TO postgres; DROP OWNED BY {user} CASCADE");
        database.execute(&clear).await;
    }
    world.execute_on_servers(&format!("DROP ROLE {user}")).await;
}

/// Runs every remedy where it says, as it says: one that is none fails there.
async fn follow(world: &World, errors: &[(String, &str)]) {
    for (text, remedy) in errors {
        // What an operator may do as well stands behind the statement.
        let statement = remedy.split(", or ").next().unwrap();
        match text.split(':').next().unwrap() {
            "primary" => world.primary().execute(statement).await,
            "broker" => {
                let script = format!("printf '%s\\n' {}", statement.strip_prefix("rabbitmqctl ").unwrap());
                let output = Command::new("sh").args(["-c", &script]).output().unwrap();
                let words = String::from_utf8(output.stdout).unwrap();
                world.broker().ctl(&words.lines().collect::<Vec<_>>()).await;
            }
            _ => world.replica(1).execute(statement).await,
        }
    }
}

#[tokio::test]
async fn a_broker_that_could_not_do_its_part_is_told() {
    let world = world(Mode::Broker, 1).own_broker().build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let config = world.config();
    let broker = world.broker();
    assert_eq!(of_level(&findings(&config).await, "error"), []);
    assert_eq!(broker.ctl(&["list_queues", "name"]).await, "");
    assert!(!broker.ctl(&["list_exchanges", "name"]).await.contains(world.exchange()));

    broker.ctl(&["eval", "application:set_env(rabbit, max_message_size, 100000)."]).await;
    let found = findings(&config).await;
    let errors = of_level(&found, "error");
    assert!(errors.len() == 1 && errors[0].0.starts_with("broker: limits: "), "{errors:#?}");
    assert!(errors[0].0.contains("1048576") && errors[0].1.contains("max_message_size"), "{errors:#?}");
    assert_eq!(of_level(&findings(&config.clone().broker("max_message_bytes = 65536")).await, "error"), []);
    broker.ctl(&["eval", "application:set_env(rabbit, max_message_size, 134217728)."]).await;

    let queue = format!(
        "rabbit_amqqueue:declare(rabbit_misc:r(<<\"/\">>, queue, <<\"{}\">>), true, false, [], none, <<\"test\">>).",
        world.queue(1)
    );
    broker.ctl(&["eval", &queue]).await;
    let found = findings(&config).await;
    let errors = of_level(&found, "error");
    assert!(errors.len() == 1 && errors[0].0.starts_with("broker: settings: "), "{errors:#?}");
    assert!(errors[0].0.contains("has other settings") && errors[0].0.contains("delete it"), "{errors:#?}");
    broker.ctl(&["delete_queue", &world.queue(1)]).await;

    for (policy, kept) in [("{\"max-length\": 10}", 10), ("{\"max-length-bytes\": 1000}", 0)] {
        let pattern = format!("^{}\\.", world.exchange());
        broker.ctl(&["set_policy", "--apply-to", "queues", "narrow", &pattern, policy]).await;
        let found = findings(&config).await;
        let told = format!(
            "broker: policies: of 1000 messages in a queue named like those of the replicas it keeps {kept}:"
        );
        let warnings = of_level(&found, "warning");
        assert!(warnings.iter().any(|(text, _)| text.starts_with(&told)), "{warnings:#?}");
        assert_eq!(of_level(&found, "error"), []);
    }
    broker.ctl(&["clear_policy", "narrow"]).await;
    assert!(
        !of_level(&findings(&config).await, "warning").iter().any(|(text, _)| text.starts_with("broker: "))
    );

    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]).await;
    let found = findings(&config).await;
    let errors = of_level(&found, "error");
    assert!(errors.len() == 1 && errors[0].0.starts_with("broker: alarms: "), "{errors:#?}");
}

#[tokio::test]
async fn a_pooler_that_hands_sessions_around_is_told() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    for (mode, fits) in [("session", true), ("transaction", false)] {
        let primary = pooler::Pooler::start(world.primary(), mode);
        let replica = pooler::Pooler::start(world.replica(1), mode);
        let mut config = world.config();
        (config.primary.url, config.replicas[0].url) = (primary.url(), replica.url());
        let found = findings(&config).await;
        let errors = of_level(&found, "error");
        let told =
            |place: &str| errors.iter().any(|(text, _)| text.starts_with(&format!("{place}: pooler: ")));
        assert_eq!((told("primary"), told("replica r1")), (!fits, !fits), "{mode}: {errors:#?}");
        assert!(!fits || errors.is_empty(), "{mode}: {errors:#?}");
    }
}

#[tokio::test]
async fn what_needs_no_remedy_but_a_word_is_a_warning() {
    let world = world(Mode::Postgres, 1)
        .own_primary(&[
            ("max_prepared_transactions", "3"),
            ("max_connections", "12"),
            ("track_activities", "off"),
        ])
        .build()
        .await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE bare (a int)").await;
    let found = findings(&world.config()).await;
    let warnings = of_level(&found, "warning");
    for expected in [
        "primary: settings: fsync is off",
        "primary: settings: only ",
        "primary: settings: track_activities is off",
        "primary: settings: max_prepared_transactions is above 0",
        "primary: tables: no key names the rows of \"public\".\"bare\"",
    ] {
        assert!(warnings.iter().any(|(text, _)| text.starts_with(expected)), "{expected}: {warnings:#?}");
    }
    let Finished { code, stdout, .. } = program().once("check", &world.config().write(), &[]).await;
    assert_eq!(code, Some(0));
    assert!(stdout.contains("\nwarning  primary: settings: fsync is off"), "{stdout}");
    assert!(
        stdout.contains("\n         remedy: ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()\n"),
        "{stdout}"
    );
    assert!(stdout.lines().last().unwrap().starts_with("it will work; warnings: "), "{stdout}");
}

/// Event triggers that do not fire, for whatever reason, each with what removes it.
#[tokio::test]
async fn where_ddl_is_not_followed_is_told() {
    let world = world(Mode::Postgres, 1).own_primary(&[]).build().await;
    let primary = world.primary();
    primary.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE \"an app\"").await;
    let told = async || -> Vec<(String, String)> {
        let found = findings(&world.config()).await;
        let errors = of_level(&found, "error").into_iter();
        errors.map(|(text, remedy)| (text, remedy.to_owned())).collect()
    };
    assert_eq!(program().once("install", &world.config().write(), &[]).await.code, Some(0));
    assert_eq!(told().await, []);
    primary.execute("ALTER EVENT TRIGGER pgfanout_note_rewrite DISABLE").await;
    let found = told().await;
    let remedy = "ALTER EVENT TRIGGER pgfanout_note_rewrite ENABLE ALWAYS";
    assert!(
        found[0].0.starts_with("primary: settings: event trigger pgfanout_note_rewrite is disabled"),
        "{found:?}"
    );
    assert_eq!((found.len(), found[0].1.as_str()), (1, remedy), "{found:?}");
    primary.execute(remedy).await;
    assert_eq!(told().await, []);
    // Installing mends it, too, also where one is gone.
    primary
        .execute("ALTER EVENT TRIGGER pgfanout_note_rewrite DISABLE; DROP EVENT TRIGGER pgfanout_follow_ddl")
        .await;
    assert_eq!(program().once("install", &world.config().write(), &[]).await.code, Some(0));
    assert_eq!(told().await, []);
    primary.execute("ALTER TABLE t ADD a int").await;
    let columns = "SELECT columns::text FROM pgfanout.captured_table";
    let columns: String = primary.client().await.query_one(columns, &[]).await.unwrap().get(0);
    assert_eq!(columns, "{id,a}");

    if !primary.cluster().knows("event_triggers", 17) {
        return;
    }
    let database = primary.name();
    for (off, whom, remedy) in [
        (
            "ALTER ROLE \"an app\" SET event_triggers = off",
            " for role an app",
            "ALTER ROLE \"an app\" RESET event_triggers",
        ),
        (
            &*format!("ALTER ROLE \"an app\" IN DATABASE {database} SET event_triggers = 'false'"),
            " for role an app in this database",
            &*format!("ALTER ROLE \"an app\" IN DATABASE {database} RESET event_triggers"),
        ),
        (
            &*format!("ALTER DATABASE {database} SET event_triggers = off"),
            " for this database",
            &*format!("ALTER DATABASE {database} RESET event_triggers"),
        ),
        ("ALTER ROLE ALL SET event_triggers = off", " for all roles", "ALTER ROLE ALL RESET event_triggers"),
    ] {
        primary.execute(off).await;
        let found = told().await;
        let text = format!("primary: settings: event_triggers is off{whom}: ");
        assert!(found.len() == 1 && found[0].0.starts_with(&text), "{off}: {found:?}");
        assert_eq!(found[0].1, remedy);
        primary.execute(remedy).await;
        assert_eq!(told().await, []);
    }
    primary.execute("ALTER SYSTEM SET event_triggers = off").await;
    primary.execute("SELECT pg_reload_conf()").await;
    eventually(PATIENCE, "it is told", async || {
        let found = told().await;
        let is_told =
            found.len() == 1 && found[0].0.starts_with("primary: settings: event_triggers is off: ");
        if is_told { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test]
async fn a_schema_of_somebody_else_is_told() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let (replica, user) = (world.replica(1), format!("{}_role", world.exchange()));
    world.execute_on_servers(&format!("CREATE ROLE {user} LOGIN PASSWORD 'narrow'")).await;
    let mut config = world.config();
    config.replicas[0].url = as_role(replica, &user);
    replica.execute("CREATE SCHEMA pgfanout_status").await;
    let told = "replica r1: privileges: the schema pgfanout_status does not belong to role ";
    let found = findings(&config).await;
    let errors = of_level(&found, "error");
    assert!(errors.iter().any(|(text, _)| text.starts_with(told)), "{errors:#?}");
    world.execute_on_servers(&format!("DROP ROLE {user}")).await;
}
