//! A look that is held back, that waits for a lock, that is cut off in its middle, and that is watched.

use std::{
    collections::HashSet,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pgfanout_testbed::{eventually, process::Finished, world::World};

use super::{found, sum, verify};
use crate::{
    bank::until_joined,
    command_line::terminal::on_a_terminal,
    support::{Mode, PATIENCE, begin, program, world},
};

/// Four ranges.
const SETUP: &str = "CREATE TABLE long (id int PRIMARY KEY, v text); ANALYZE long;
    INSERT INTO long SELECT n, 'v' FROM generate_series(1, 70000) n; ANALYZE long";

async fn started() -> (World, pgfanout_testbed::process::Pgfanout) {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(SETUP).await;
    let pgfanout = begin(&world);
    until_joined(&world, 1).await;
    (world, pgfanout)
}

#[tokio::test]
async fn a_look_that_was_cut_off_goes_on_where_it_was() {
    let (world, _pgfanout) = started().await;
    world.replica(1).execute("UPDATE long SET v = 'w' WHERE id IN (5, 69999)").await;
    let (config, program) = (world.config().write(), program());
    // It rests for seconds between its ranges.
    let slow = program.once("verify", &config, &["--rate", "5000"]);
    let cutting = async {
        let client = world.replica(1).client().await;
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
            AND application_name = 'pgfanout verify' AND state LIKE 'idle%' AND query LIKE '%count(r.hash)%'
            AND state_change < now() - interval '1 second'";
        eventually(PATIENCE, "it rests", async || !client.query(cut, &[]).await.unwrap().is_empty()).await;
    };
    let (Finished { code, stdout, .. }, ()) = tokio::join!(slow, cutting);
    assert_eq!(code, Some(1), "{stdout}");
    let (_, told) = stdout.split_once("to go on where public.long was: pgfanout verify … ").expect(&stdout);
    let words: Vec<&str> = told.trim().split(' ').map(|word| word.trim_matches('\'')).collect();
    let ["--table", table, "--after", after] = words[..] else { panic!("{stdout}") };
    let done: u64 = after.trim_matches(['(', ')']).parse().unwrap();
    assert!((1..70_000).contains(&done), "{stdout}");
    let (code, outcome) = verify(&world, &["--table", table, "--after", after]).await;
    assert_eq!((code, sum(&outcome, "rows")), (Some(1), 70_000 - done), "{outcome}");
    let later = ("public.long".to_owned(), "different".to_owned(), "(69999)".to_owned());
    assert_eq!(found(&outcome), [later]);
}

#[tokio::test]
async fn no_look_is_faster_than_it_may_be_and_a_terminal_shows_how_far_it_is() {
    let (world, _pgfanout) = started().await;
    let config = world.config().write();
    let begun = Instant::now();
    let Some(shown) = on_a_terminal(&["verify", "--rate", "25000"], &config, &[]).await else { return };
    // Of four ranges the last is not waited for.
    assert!(begun.elapsed() > Duration::from_millis(2000), "{:?}", begun.elapsed());
    assert!(
        shown.contains("public.long ") && shown.contains(" rows, ") && shown.contains(" left"),
        "{shown:?}"
    );
    assert!(shown.contains("public.long: 70,000 rows, equal"), "{shown:?}");
    let (_, rate) = shown.split_once(" rows, ").unwrap();
    let (rate, _) = rate.split_once("/s, ").unwrap();
    assert!(rate.chars().all(|c| c.is_ascii_digit() || c == ','), "{rate:?}");
}

/// As by Ctrl-C.
#[tokio::test]
async fn who_interrupts_a_look_is_told_how_to_go_on() {
    let (world, _pgfanout) = started().await;
    let (client, config) = (world.replica(1).client().await, world.config().write());
    let mut looking = Command::new(env!("CARGO_BIN_EXE_pgfanout"));
    looking.args(["verify", "--rate", "5000", "--config", config.to_str().unwrap()]);
    let looking = looking.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let rests = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgfanout verify'
        AND state LIKE 'idle%' AND query LIKE '%count(r.hash)%' AND state_change < now() - interval '1 second'";
    eventually(PATIENCE, "it rests", async || !client.query(rests, &[]).await.unwrap().is_empty()).await;
    assert!(Command::new("kill").args(["-INT", &looking.id().to_string()]).status().unwrap().success());
    let output = tokio::task::spawn_blocking(move || looking.wait_with_output()).await.unwrap().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    let wanted =
        "interrupted; to go on where public.long was: pgfanout verify … --table 'public.long' --after '(";
    assert!(output.status.code() == Some(1) && told.contains(wanted), "{}: {told}", output.status);
}

/// For as long as it takes to give way twice, or for good; on either side, before a table's first row is read or between
/// two ranges. Other tables are compared whatever becomes of one.
#[tokio::test]
async fn a_look_gives_way_to_locks_and_tries_again() {
    let (world, _pgfanout) = started().await;
    world.primary().execute("CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)").await;
    until_joined(&world, 2).await;
    for (database, until_end) in
        [(world.primary(), false), (world.replica(1), false), (world.primary(), true)]
    {
        let client = database.client().await;
        client.batch_execute("BEGIN; LOCK TABLE long IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let holding = async {
            let waiting = "SELECT query_start::text FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = 'pgfanout verify' AND wait_event_type = 'Lock'";
            let watching = database.client().await;
            let mut met = HashSet::new();
            eventually(PATIENCE, "it gives way", async || {
                let rows = watching.query(waiting, &[]).await.unwrap();
                met.extend(rows.iter().map(|row| row.get::<_, String>(0)));
                met.len() > 1
            })
            .await;
            if !until_end {
                client.batch_execute("COMMIT").await.unwrap();
            }
        };
        let ((code, outcome), ()) = tokio::join!(verify(&world, &[]), holding);
        let tables = outcome["replicas"][0]["tables"].as_array().unwrap();
        let why = tables.iter().map(|table| table["not_compared"].as_str()).collect::<Vec<_>>();
        let expected = if until_end { Some("it is locked") } else { None };
        assert_eq!((code, why), (Some(i32::from(until_end)), vec![expected, None]), "{outcome}");
        assert_eq!(sum(&outcome, "rows"), if until_end { 1 } else { 70_001 });
    }
}
