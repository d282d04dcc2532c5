//! `reload`: the file is read anew by whatever runs with it, and the answer says whether it was.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::Path,
    process::{Command, Stdio},
};

use pgfanout_testbed::{binaries::skipped, process::Finished};

use crate::{
    messages::until_following,
    support::{Mode, PATIENCE, begin, program, until_same, world},
};

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE later (id int PRIMARY KEY);
    INSERT INTO t VALUES (1); INSERT INTO later VALUES (1)";

async fn reload(file: &Path) -> Finished {
    program().once("reload", file, &[]).await
}

fn has_read(process: u32, file: &Path) -> String {
    format!("process {process} has read {} anew\n", file.display())
}

#[tokio::test]
async fn the_file_is_read_anew_and_the_answer_says_whether_it_was() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(TABLES).await;
    let file = world.config().primary("exclude = [\"later\"]").write();
    let Finished { code, stdout, stderr } = reload(&file).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("no process on this machine runs with "), "{stderr}");

    let mut pgfanout = program().run(&file);
    until_same(&world, &["t"]).await;
    until_following(&world).await;
    let _ = world.config().write();
    let Finished { code, stdout, stderr } = reload(&file).await;
    assert_eq!((code, stdout, stderr.as_str()), (Some(0), has_read(pgfanout.pid(), &file), ""));
    pgfanout.wait_for_event("reloaded", PATIENCE).await;
    until_same(&world, &["t", "later"]).await;

    // What is wrong is told to whoever asked, and changes nothing.
    let goes_on = format!("process {} goes on as before:\n", pgfanout.pid());
    let _ = world.config().primary("tabels = []").write();
    let Finished { code, stdout, stderr } = reload(&file).await;
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(stderr.starts_with(&goes_on) && stderr.contains("pgfanout.toml:3:1: primary.tabels"), "{stderr}");
    pgfanout.wait_for_event("reload_failed", PATIENCE).await;
    world.primary().execute("INSERT INTO later VALUES (2)").await;
    until_same(&world, &["later"]).await;

    // Also where the primary cannot be reached: a file that gives it another address has to be read, and so has one
    // that takes that back.
    let mark = pgfanout.mark();
    let mut away = world.config();
    away.primary.url = "postgresql://postgres@127.0.0.1:1/x".to_owned();
    let _ = away.write();
    assert_eq!(reload(&file).await.code, Some(0));
    pgfanout.wait_for_event_after(mark, "failed", PATIENCE).await;
    world.primary().execute("INSERT INTO later VALUES (3)").await;
    let _ = world.config().write();
    assert_eq!(reload(&file).await.code, Some(0));
    until_same(&world, &["later"]).await;

    pgfanout.terminate().await;
    assert_eq!(reload(&file).await.code, Some(1), "nobody is there");
}

/// Whoever runs with the file is asked, by whatever name it goes, and nobody else.
#[tokio::test]
async fn all_that_run_with_the_file_are_asked_and_nobody_else() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(TABLES).await;
    let (file, other) = (world.config().write(), world.config().write_as("other.toml"));
    let mut first = begin(&world);
    until_following(&world).await;
    let (mut standing_by, mut elsewhere) = (begin(&world), program().run(&other));
    for waiting in [&mut standing_by, &mut elsewhere] {
        waiting.wait_for_event("standing_by", PATIENCE).await;
    }
    symlink(world.directory(), world.directory().join("by another name")).unwrap();
    let linked = world.directory().join("by another name/pgfanout.toml");
    for name in [file.as_path(), &linked, Path::new("./pgfanout.toml"), Path::new("pgfanout.toml")] {
        let marks = [first.mark(), standing_by.mark()];
        let finished = program().directory(world.directory()).once("reload", name, &[]).await;
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{}", finished.stdout);
        let mut lines: Vec<String> = finished.stdout.split_inclusive('\n').map(str::to_owned).collect();
        let mut expected = [first.pid(), standing_by.pid()].map(|process| has_read(process, name));
        lines.sort();
        expected.sort();
        assert_eq!(lines, expected);
        for (process, mark) in [&mut first, &mut standing_by].into_iter().zip(marks) {
            process.wait_for_event_after(mark, "reloaded", PATIENCE).await;
        }
    }
    assert_eq!(elsewhere.events("reloaded").len(), 0);
    until_following(&world).await;
}

/// A change of the process's own would be needed to stop it, and so it is for this.
#[tokio::test]
async fn strangers_are_refused() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(TABLES).await;
    let file = world.config().write();
    let mut pgfanout = begin(&world);
    until_following(&world).await;
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return skipped("reload by a stranger: only root can run a program as somebody else");
    }
    fs::set_permissions(world.directory(), fs::Permissions::from_mode(0o711)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgfanout"));
    command.args(["reload", "--config"]).arg(&file).uid(65534).gid(65534).stdin(Stdio::null());
    let Ok(output) = command.output() else {
        return skipped("reload by a stranger: he cannot run the program");
    };
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.ends_with("only root and the user that it runs as may say so\n"), "{said}");
    assert_eq!(pgfanout.events("reloaded").len(), 0);
    pgfanout.terminate().await;
}
