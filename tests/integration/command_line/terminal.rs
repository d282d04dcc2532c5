//! What the program shows on a terminal, and only there.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use pgfanout_testbed::binaries::skipped;

use crate::{
    messages::until_following,
    support::{Mode, begin, world},
};

/// All that a terminal gets, where there is a program that plays one; these words before `--config`.
pub(crate) async fn on_a_terminal(
    arguments: &[&str],
    config: &Path,
    environment: &[(&str, &str)],
) -> Option<String> {
    let words =
        [&[env!("CARGO_BIN_EXE_pgfanout")], arguments, &["--config", config.to_str().unwrap()]].concat();
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &words.join(" "), "/dev/null"]).stdin(Stdio::null());
    command.env("TERM", "xterm").env_remove("NO_COLOR").envs(environment.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    if output.is_err() {
        skipped("what a terminal shows: there is no `script`");
    }
    output.ok().map(|output| String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn a_terminal_shows_colours_and_a_view_that_stays() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut pgfanout = begin(&world);
    until_following(&world).await;
    let config = world.config().write();
    let Some(shown) = on_a_terminal(&["status"], &config, &[]).await else { return };
    assert!(shown.contains("\x1b[32mfollowing\x1b[0m"), "{shown:?}");
    let shown = on_a_terminal(&["status"], &config, &[("NO_COLOR", "1")]).await.unwrap();
    assert!(shown.contains("following") && !shown.contains("\x1b["), "{shown:?}");
    // Until it is told to end, as by Ctrl-C; then what was there before comes back.
    let watch = ["-s", "INT", "4", env!("CARGO_BIN_EXE_pgfanout"), "status", "--watch"];
    let words = [&["timeout", "--foreground"][..], &watch, &["--config", config.to_str().unwrap()]].concat();
    let mut command = Command::new("script");
    command.args(["-q", "-c", &words.join(" "), "/dev/null"]).stdin(Stdio::null()).env("TERM", "xterm");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.starts_with("\x1b[?1049h") && shown.trim_end().ends_with("\x1b[?1049l"), "{shown:?}");
    assert!(shown.contains("in the last 15 min") && shown.matches("\x1b[H").count() > 1, "{shown:?}");
    pgfanout.terminate().await;
}
