//! The program as scripts and operators meet it: arguments, exit codes, what it says and what it never says.

mod installing;
mod reloading;
mod secrets;
pub(crate) mod terminal;

use std::process::{Command, Stdio};

use pgfanout_testbed::{
    process::Finished,
    proxy::Proxy,
    world::{Database, World},
};

use crate::support::{Mode, PATIENCE, begin, program, world};

const EVERY_COMMAND: [&str; 5] = ["run", "check", "install", "uninstall", "status"];

/// Runs the program with these arguments, and nothing else.
fn called_with(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgfanout"));
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The line, counted from 1, of the text that stands in the file only once.
fn line_of(text: &str, wanted: &str) -> usize {
    let lines: Vec<_> = (1..).zip(text.lines()).filter(|(_, line)| line.contains(wanted)).collect();
    assert_eq!(lines.len(), 1, "{wanted} in {text}");
    lines[0].0
}

/// What an object of a database is, and what it is part of.
const OBJECTS: &str = "SELECT coalesce(string_agg(DISTINCT concat_ws(' ', classid::regclass, objid, pg_describe_object(classid, objid, 0)), E'\n'), '')
    FROM pg_depend WHERE objid >= 16384";

/// A whole schema as SQL; where that cannot be had, a list of all objects.
async fn dump(database: &Database) -> String {
    let Some(pg_dump) =
        database.cluster().program_if_there("pg_dump", "a schema as SQL, for a list of objects")
    else {
        return database.client().await.query_one(OBJECTS, &[]).await.unwrap().get(0);
    };
    let dumped = Command::new(pg_dump).args(["--schema-only", "--dbname", &database.url()]).output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    // Newer ones begin and end with a random word.
    let text = String::from_utf8(dumped.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
}

#[test]
fn help_and_version_are_there_and_wrong_arguments_are_told() {
    let (code, out, err) = called_with(&["--version"]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (Some(0), concat!("pgfanout ", env!("CARGO_PKG_VERSION"), "\n"), "")
    );
    let (code, help, err) = called_with(&["--help"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(help.contains("Exit codes:"), "{help}");
    for command in ["resync", "pause", "resume"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    for command in EVERY_COMMAND {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let (code, out, _) = called_with(&[command, "--help"]);
        assert_eq!(code, Some(0));
        assert!(out.contains("--config <FILE>") && out.contains("Exit codes:"), "{out}");
        let (code, out, err) = called_with(&[command]);
        assert_eq!((code, out.as_str()), (Some(2), ""));
        assert!(err.contains("--config <FILE>"), "{err}");
        let (code, out, err) = called_with(&[command, "--config", "/no/such/file.toml"]);
        assert_eq!((code, out.as_str()), (Some(2), ""));
        assert!(err.starts_with("/no/such/file.toml: cannot be read: No such file"), "{err}");
        let (code, ..) = called_with(&[command, "--config", "/no/such/file.toml", "--fast"]);
        assert_eq!(code, Some(2));
    }
    for wrong in [&[][..], &["fly"], &["--config", "x"]] {
        let (code, out, err) = called_with(wrong);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(err.contains("Usage:"), "{err}");
    }
}

#[tokio::test]
async fn what_is_wrong_in_the_file_is_told_by_file_line_and_key() {
    let world = world(Mode::Broker, 1).build().await;
    let cases = [
        ("exclued = []", "primary.exclued", "exclude"),
        ("tables = \"public.*\"", "primary.tables", "expected"),
        ("tables = []", "primary.tables", "all tables"),
        ("tables = [\"a.b.c\"]", "primary.tables[0]", "more than two parts"),
        ("old_record = \"half\"", "primary.old_record", "full"),
        ("changelog_max_bytes = 1.5", "primary.changelog_max_bytes", "expected"),
    ];
    for (line, key, said) in cases {
        let config = world.config().primary(line);
        let (file, number) = (config.write(), line_of(&config.text(), line));
        for command in EVERY_COMMAND {
            let Finished { code, stdout, stderr } = program().once(command, &file, &[]).await;
            assert_eq!((code, stdout.as_str()), (Some(2), ""), "{command}: {stderr}");
            let place = format!("{}:{number}:", file.display());
            assert!(stderr.starts_with(&place) && stderr.contains(&format!(" {key}: ")), "{stderr}");
            assert!(stderr.contains(said) && stderr.lines().count() == 1, "{stderr}");
        }
    }
}

/// Refused by `check` and `install` with exit code 2 and these words, and by `run` in its log.
async fn is_refused(file: &std::path::Path, expected: &[String]) {
    for command in ["check", "install"] {
        let Finished { code, stdout, stderr } = program().once(command, file, &[]).await;
        assert_eq!(
            (code, command == "install" && !stdout.is_empty()),
            (Some(2), false),
            "{command}: {stderr}"
        );
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{stderr}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line} is not {expected}…");
        }
    }
    let mut pgfanout = program().run(file);
    let status = pgfanout.wait_for_end(PATIENCE).await;
    assert_eq!(status.code(), Some(2));
    let told = pgfanout.events("ended");
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (line, expected) in told.iter().zip(expected) {
        assert!(line["message"].as_str().unwrap().contains(expected), "{line} is not {expected}…");
    }
}

#[tokio::test]
async fn what_only_the_databases_can_tell_is_told_by_file_line_and_key_too() {
    let world = world(Mode::Broker, 2).build().await;
    let tables = "CREATE SCHEMA s; CREATE TABLE good (id int PRIMARY KEY); CREATE UNLOGGED TABLE s.passing (id int PRIMARY KEY); \
        CREATE VIEW seen AS SELECT * FROM good";
    world.primary().execute(tables).await;
    let passing = "table s.passing is unlogged, so a crash empties it unseen: exclude it, or ALTER TABLE ... SET LOGGED";
    for (line, key, said) in [
        ("tables = [\"absent\"]", "tables[0]", "absent matches no table on the primary"),
        ("tables = [\"good\", \"other.*\"]", "tables[1]", "other.* matches no table on the primary"),
        ("exclude = [\"s.*\", \"t.*\"]", "exclude[1]", "t.* excludes nothing"),
        ("tables = [\"good\", \"s.*\"]", "tables[1]", passing),
        ("tables = [\"s.passing\", \"*.*\"]", "tables[0]", passing),
        ("tables = [\"good\", \"seen\"]\nexclude = [\"s.*\"]", "tables[1]", "table public.seen is a view"),
    ] {
        let config = world.config().primary(line);
        let file = config.write();
        let (number, column) = (line_of(&config.text(), line.lines().next().unwrap()), column_of(line, key));
        is_refused(&file, &[format!("{}:{number}:{column}: primary.{key}: {said}", file.display())]).await;
    }
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgfanout'";
    let schemas = world.primary().client().await.query_one(schemas, &[]).await.unwrap();
    assert_eq!(schemas.get::<_, i64>(0), 0, "nothing was started");
}

/// Where the element of the list stands in the line, from 1.
fn column_of(line: &str, key: &str) -> usize {
    let at: usize = key.rsplit_once('[').unwrap().1.trim_end_matches(']').parse().unwrap();
    line.match_indices('"').nth(2 * at).unwrap().0 + 1
}

#[tokio::test]
async fn one_database_is_not_two_however_it_is_written() {
    let world = world(Mode::Postgres, 2).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut config = world.config();
    for (database, other) in [(world.primary(), "the primary"), (world.replica(1), "replica r1")] {
        let port = database.cluster().port();
        let proxy = Proxy::start(port);
        config.replicas[1].url = proxy.detour(&database.url(), port);
        let (file, number) = (config.write(), line_of(&config.text(), &config.replicas[1].url));
        let text = format!("replica[1].url: leads to the same database as {other}; give each its own");
        is_refused(&file, &[format!("{}:{number}:1: {text}", file.display())]).await;
    }
}

async fn a_check_says_that_all_is_well_or_what_is_missing_and_changes_nothing(mode: Mode) {
    let world = world(mode, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let before = (dump(world.primary()).await, dump(world.replica(1)).await);
    let Finished { code, stdout, stderr } = program().once("check", &world.config().write(), &[]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    // The servers of the tests are told that fsync is off.
    assert!(stdout.ends_with("\nit will work; warnings: 4\n"), "{stdout}");
    assert_eq!((dump(world.primary()).await, dump(world.replica(1)).await), before);
    if mode == Mode::Broker {
        assert!(
            stdout.contains("consumer_timeout can't be asked for from here: rabbitmqctl eval"),
            "{stdout}"
        );
        assert_eq!(left_on_the_broker(&world).await, Vec::<String>::new());
    }

    let role = format!("{}_plain", world.exchange());
    world.execute_on_servers(&format!("CREATE ROLE {role} LOGIN PASSWORD 'plain'")).await;
    let as_plain = |database: &Database| {
        format!("postgresql://{role}:plain@127.0.0.1:{}/{}", database.cluster().port(), database.name())
    };
    let (mut primary, mut replica) = (world.config(), world.config());
    primary.primary.url = as_plain(world.primary());
    replica.replicas[0].url = as_plain(world.replica(1));
    let (mut away, mut broker_away) = (world.config(), world.config());
    away.replicas[0].url = "postgresql://postgres@127.0.0.1:1/x".to_owned();
    let mut wrong = vec![
        (primary, "primary: privileges: role ", "SUPERUSER"),
        (replica, "replica r1: privileges: ", "session_replication_role"),
        (away, "replica r1: connection: connecting", "refused"),
    ];
    if let Some(broker) = &mut broker_away.broker {
        broker.urls = vec!["amqp://guest:guest@127.0.0.1:1/".to_owned()];
        wrong.push((broker_away, "broker: connection: connecting to ", "refused"));
    }
    for (config, place, remedy) in wrong {
        let Finished { code, stdout, stderr } = program().once("check", &config.write(), &[]).await;
        assert_eq!((code, stderr.as_str()), (Some(1), ""), "{stdout}");
        let errors = stdout.split("\nerror    ").skip(1);
        let told = errors.clone().any(|error| error.starts_with(place) && error.contains(remedy));
        assert!(told, "{stdout}");
    }
    world.primary().execute(&format!("DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_check_says_that_all_is_well_or_what_is_missing_with_a_broker() {
    a_check_says_that_all_is_well_or_what_is_missing_and_changes_nothing(Mode::Broker).await;
}

#[tokio::test]
async fn a_check_says_that_all_is_well_or_what_is_missing_without_a_broker() {
    a_check_says_that_all_is_well_or_what_is_missing_and_changes_nothing(Mode::Postgres).await;
}

#[tokio::test]
async fn run_ends_well_when_it_is_told_to() {
    for mode in [Mode::Broker, Mode::Postgres] {
        let world = world(mode, 1).build().await;
        world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
        let mut pgfanout = begin(&world);
        pgfanout.wait_for_event("connected", PATIENCE).await;
        let (status, _) = pgfanout.terminate().await;
        assert_eq!(status.code(), Some(0));
        assert_eq!(pgfanout.events("stopped").len(), 1);
    }
}

/// The world's queues and exchange.
async fn left_on_the_broker(world: &World) -> Vec<String> {
    let mut left = Vec::new();
    for list in ["list_queues", "list_exchanges"] {
        let names = world.broker().ctl(&[list, "name"]).await;
        let ours = names.lines().filter(|name| {
            name.strip_prefix(world.exchange()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        left.extend(ours.map(str::to_owned));
    }
    left
}
