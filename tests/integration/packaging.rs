//! What a distribution's package is made of: the unit, what the service manager is told, the manual.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use pgfanout_testbed::{binaries::skipped, eventually, world::World};
use serde_json::Value;

use crate::support::{Mode, PATIENCE, program, until_same, world};

const UNIT: &str = include_str!("../../config/pgfanout.service");
const BINARY: &str = env!("CARGO_BIN_EXE_pgfanout");

/// The end of the socket that the service manager holds.
struct Manager {
    socket: UnixDatagram,
    told: Vec<String>,
}

impl Manager {
    fn new(world: &World) -> Self {
        let socket = UnixDatagram::bind(world.directory().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, told: Vec::new() }
    }

    /// Waits until these lines have come, in this order among others, and forgets what came.
    async fn hears(&mut self, lines: &[&str]) {
        let mut buffer = [0; 4096];
        let (socket, told) = (&self.socket, std::cell::RefCell::new(std::mem::take(&mut self.told)));
        eventually(PATIENCE, &format!("the service manager hears {lines:?}"), async || {
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = std::str::from_utf8(&buffer[..length]).unwrap();
                told.borrow_mut().extend(text.lines().map(str::to_owned));
            }
            let told = told.borrow();
            let mut said = told.iter();
            let all = lines.iter().all(|line| said.any(|said| said == line));
            if all { Ok(()) } else { Err(told.clone()) }
        })
        .await;
    }
}

#[tokio::test]
async fn the_service_manager_hears_that_it_is_ready_lives_reloads_and_stops() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let mut manager = Manager::new(&world);
    let socket = world.directory().join("notify");
    let program = program().env("NOTIFY_SOCKET", socket.to_str().unwrap()).env("WATCHDOG_USEC", "300000");
    let mut pgfanout = program.run(&world.config().write());
    manager.hears(&["READY=1", "STATUS=replicating to 1 replicas", "WATCHDOG=1", "WATCHDOG=1"]).await;
    // Nobody takes what it says meanwhile, which must not hold it up.
    until_same(&world, &["t"]).await;
    pgfanout.reload();
    manager.hears(&["RELOADING=1", "READY=1", "WATCHDOG=1"]).await;
    // A process that does nothing more says nothing more.
    pgfanout.pause();
    let silent = Instant::now();
    eventually(PATIENCE, "a second of silence", async || {
        let mut buffer = [0; 4096];
        while manager.socket.recv(&mut buffer).is_ok() {}
        if silent.elapsed() > Duration::from_secs(1) { Ok(()) } else { Err(silent.elapsed()) }
    })
    .await;
    assert!(manager.socket.recv(&mut [0; 4096]).is_err(), "nothing is said");
    pgfanout.resume();
    manager.hears(&["WATCHDOG=1"]).await;
    let (status, _) = pgfanout.terminate().await;
    assert_eq!(status.code(), Some(0));
    manager.hears(&["STOPPING=1"]).await;
}

fn analyze(arguments: &[&str], unit: &Path) -> Option<Output> {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output();
    if output.is_err() {
        skipped("checks of the systemd unit: there is no systemd-analyze");
    }
    output.ok()
}

#[tokio::test]
async fn the_unit_is_valid_and_confined() {
    let world = world(Mode::Postgres, 0).build().await;
    let unit = world.directory().join("pgfanout.service");
    assert!(UNIT.contains("ExecStart=/usr/bin/pgfanout run "), "where the package installs it");
    // The binary must exist to be verified, and so must the user.
    let here = UNIT.replace("/usr/bin/pgfanout", BINARY).replace("User=pgfanout", "User=daemon");
    fs::write(&unit, here).unwrap();
    let Some(verified) = analyze(&["verify", "--man=no"], &unit) else { return };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    // Of the machine's other units nothing is of interest.
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("pgfanout.service")).collect();
    assert!(about_ours.is_empty(), "{said}");
    // In tenths: 0 is perfect, 100 is unconfined.
    let secured = analyze(&["security", "--offline=yes", "--threshold=20", "--no-pager"], &unit).unwrap();
    let said = String::from_utf8_lossy(&secured.stdout).into_owned();
    assert!(secured.status.success(), "{said}{}", String::from_utf8_lossy(&secured.stderr));
}

#[test]
fn the_manual_and_the_completions_tell_every_command() {
    let printed = |arguments: &[&str]| {
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let page = printed(&["man"]);
    let shells = ["bash", "zsh", "fish"].map(|shell| printed(&["completions", shell]));
    let help = printed(&["--help"]);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    let mut names: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names.pop(), Some("help"));
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        assert!(page.contains(&format!(".SS \"pgfanout {name}\"\n")), "{name}: {page}");
        assert!(shells.iter().all(|completions| completions.contains(name)), "{name}");
    }
    assert!(page.contains("Exit codes:") && page.contains("\\-\\-watch"), "{page}");
}

/// No container is built here: at least all is copied into it that the build reads.
#[tokio::test]
async fn the_container_file_copies_what_is_built() {
    let world = world(Mode::Postgres, 0).build().await;
    let (project, copy) = (Path::new(env!("CARGO_MANIFEST_DIR")), world.directory().join("build"));
    fs::create_dir(&copy).unwrap();
    let file = fs::read_to_string(project.join("config/Containerfile")).unwrap();
    let copied =
        file.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--"));
    for line in copied {
        let mut names: Vec<&str> = line.split(' ').collect();
        let target = names.pop().unwrap();
        let mut command = Command::new("cp");
        command.current_dir(project).arg("-R").args(names).arg(copy.join(target));
        assert!(command.status().unwrap().success(), "{line}");
    }
    let mut metadata = Command::new(env!("CARGO"));
    metadata.current_dir(&copy).args([
        "metadata",
        "--locked",
        "--offline",
        "--no-deps",
        "--format-version=1",
    ]);
    let output = metadata.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let targets =
        metadata["packages"].as_array().unwrap().iter().flat_map(|package| package["targets"].as_array());
    let files: Vec<&Path> =
        targets.flatten().map(|target| Path::new(target["src_path"].as_str().unwrap())).collect();
    assert!(files.len() > 4, "{files:?}");
    assert!(files.iter().all(|file| file.exists()), "{files:?}");
    let mut waiting = vec![copy.join("src")];
    let mut included = 0;
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let code = fs::read_to_string(&path).unwrap();
        for name in code.split("include_str!(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let file = path.parent().unwrap().join(name);
            assert!(file.exists(), "{} includes {name}", path.display());
            included += 1;
        }
    }
    assert!(included > 50, "{included}");
}
