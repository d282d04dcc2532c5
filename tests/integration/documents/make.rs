//! What the targets of the Makefile do that are mentioned. What builds for minutes, or runs for them, is run with a
//! `cargo` that only notes what it is told, and what it would do is run here for less long.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use pgfanout_testbed::postgres::connect;

use super::{commands::all_mentioned, project, text};
use crate::support::{Mode, world};

/// For how long the demonstration may show nothing new.
const ACT: Duration = Duration::from_secs(120);

#[test]
fn every_target_of_make_that_is_mentioned_is_there() {
    let mut targets: Vec<String> = Vec::new();
    for command in all_mentioned().iter().filter(|command| command.starts_with("make ")) {
        let words: Vec<&str> = command.split(' ').collect();
        let output =
            Command::new("make").arg("-n").args(&words[1..]).current_dir(project(".")).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        targets.push(words[1].to_owned());
    }
    let every = text("Makefile");
    let every = every.lines().find_map(|line| line.strip_prefix(".PHONY: ")).unwrap();
    for target in every.split(' ').filter(|target| *target != "setup") {
        assert!(targets.iter().any(|told| told == target), "nobody is told of make {target}");
    }
}

/// What a command of make tells cargo, a line each, behind the settings that it makes for it.
fn told(command: &str, place: &Path) -> Vec<String> {
    let (cargo, notes) = (place.join("cargo"), place.join("notes"));
    let script = format!(
        "env | grep -E '^(PGFANOUT|CARGO_PROFILE)_' | sort | tr '\\n' ' ' >>{notes}\necho \"cargo $*\" >>{notes}",
        notes = notes.display()
    );
    fs::write(&cargo, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&notes, "").unwrap();
    let path = format!("{}:{}", place.display(), env::var("PATH").unwrap());
    let words: Vec<String> =
        command.replace('…', place.to_str().unwrap()).split(' ').map(str::to_owned).collect();
    let mut make = Command::new("make");
    make.args(&words[1..]).current_dir(project(".")).env("PATH", path);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("PGFANOUT_")) {
        make.env_remove(name);
    }
    let output = make.output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(notes).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn what_takes_minutes_is_what_runs_here_for_less_long() {
    let world = world(Mode::Postgres, 0).build().await;
    let every = [
        ("make demo", "cargo run --locked --release --quiet --package pgfanout-testbed --bin demo --"),
        (
            "make demo KEEP=1",
            "cargo run --locked --release --quiet --package pgfanout-testbed --bin demo -- --keep",
        ),
        ("make bench", "cargo bench --locked --bench bench"),
        ("make soak SECONDS=600", "PGFANOUT_SOAK_SECONDS=600"),
        ("make fuzz SECONDS=300", "PGFANOUT_FUZZ_SECONDS=300"),
        ("make samples DIR=…", "samples::"),
        ("make large", "--ignored"),
    ];
    let tests = Command::new(env::current_exe().unwrap()).arg("--list").output().unwrap();
    let tests = String::from_utf8(tests.stdout).unwrap();
    let tests: Vec<&str> = tests.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    for (command, expected) in every {
        let told = told(command, world.directory());
        let wanted = told.iter().any(|line| {
            line.trim_end().ends_with(expected)
                || (!expected.starts_with("cargo ") && line.contains(expected))
        });
        assert!(wanted, "{command}: {told:?}");
        // A name that no test has would have none run, and nobody see it.
        for line in told.iter().filter(|line| line.contains("cargo test ")) {
            let (_, words) = line.split_once(" -- ").unwrap();
            let names: Vec<&str> = words.split(' ').filter(|word| !word.starts_with("--")).collect();
            let exact = words.contains("--exact");
            for name in names {
                let is_there =
                    tests.iter().any(|test| if exact { *test == name } else { test.contains(name) });
                assert!(is_there, "{command}: there is no test {name}");
            }
        }
    }
}

/// As `make demo KEEP=1`, which ends as `make demo` does when it is told to.
#[tokio::test]
async fn the_demonstration_shows_what_is_said_of_it_and_leaves_nothing() {
    let world = world(Mode::Postgres, 1).build().await;
    if world.primary().cluster().program_if_there("pgbench", "the demonstration").is_none() {
        return;
    }
    let demo = PathBuf::from(env!("CARGO_BIN_EXE_pgfanout")).with_file_name("demo");
    assert!(demo.exists(), "{}: cargo build --workspace makes it", demo.display());
    let mut demo = Command::new(demo);
    demo.arg("--keep")
        .current_dir(project("."))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // It is told to end by a signal of its own.
    let mut demo = demo.process_group(0).spawn().unwrap();
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let shown = BufReader::new(demo.stdout.take().unwrap());
    std::thread::spawn(move || shown.lines().map_while(Result::ok).for_each(|line| _ = sender.send(line)));
    let mut errors = demo.stderr.take().unwrap();
    let failed = std::thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text)
    });
    let mut seen = Vec::new();
    for wanted in [
        "It has created the table on both replicas.",
        "{\"schema\":\"public\",\"table\":\"users\",\"operation\":\"INSERT\",\"new_record\":{\"id\":1,\"name\":\"bob\"}",
        "replica2  (1, bob) (2, alfonso)",
        "replica2  (2, alfonso)",
        "Created and copied to both replicas in ",
        " row changes a second, delay ",
        "Both replicas equal the primary, byte for byte; ",
        "kill -9 of the broker",
        "kill -9 of replica2",
        "Both replicas equal the primary, byte for byte, ",
        "replica2  following",
        "== Everything runs on until Ctrl-C",
        "replica2  psql ",
    ] {
        while !seen.last().is_some_and(|line: &String| line.contains(wanted)) {
            let line = tokio::time::timeout(ACT, lines.recv()).await.ok().flatten();
            let Some(line) = line else {
                _ = demo.kill();
                panic!("{wanted:?} is not shown: {}\n{}", seen.join("\n"), failed.join().unwrap().unwrap());
            };
            seen.push(line);
        }
    }
    // It runs on.
    let address = seen.last().unwrap().split_once("psql ").unwrap().1.to_owned();
    let replica = connect(&address).await.unwrap();
    let rows: i64 = replica.query_one("SELECT count(*) FROM users", &[]).await.unwrap().get(0);
    assert_eq!(rows, 1);
    let pid = demo.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || demo.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}: {}", failed.join().unwrap().unwrap());
    while let Some(line) = lines.recv().await {
        seen.push(line);
    }
    assert!(seen.last().unwrap().ends_with("Nothing is left of it."), "{seen:?}");
    assert!(connect(&address).await.is_err(), "its servers have ended");
}
