//! What PostgreSQL and RabbitMQ have in common here: a process that is started, watched and ended.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::premises::working_in;

/// How long a server may take to get ready. A RabbitMQ node that starts among other work on two cores
/// was seen to need half a minute.
const READY: Duration = Duration::from_secs(120);

/// A server that works in a directory of its own, with all its child processes.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    directory: PathBuf,
    process: Mutex<Option<Child>>,
}

impl Server {
    pub(crate) fn new(name: &'static str, directory: PathBuf) -> Self {
        Self { name, directory, process: Mutex::new(None) }
    }

    /// Starts the server's process; its output goes to the end of `log`.
    pub(crate) fn start(&self, command: &mut Command, log: &Path) {
        let output = File::options().create(true).append(true).open(log).expect("the log can be written");
        command
            .current_dir(&self.directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        *self.process.lock().unwrap() = Some(child);
    }

    /// The id of the process that was started, if it has not been ended by us.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.lock().unwrap().as_ref().map(Child::id)
    }

    /// The ids of all its processes.
    pub(crate) fn processes(&self) -> Vec<u32> {
        working_in(&self.directory)
    }

    /// Waits until `ready` says so. `Err` with the end of the log where the process ended instead or
    /// did not get ready in time.
    pub(crate) async fn wait_until(&self, log: &Path, ready: impl AsyncFn() -> bool) -> Result<(), String> {
        let started = Instant::now();
        loop {
            if ready().await {
                return Ok(());
            }
            let ended = self.exit_status().map(|status| format!("ended with {status}"));
            let slow = (started.elapsed() > READY).then(|| format!("is not ready after {READY:?}"));
            if let Some(problem) = ended.or(slow) {
                return Err(format!("{} {problem}; its log ends:\n{}", self.name, tail(log, 40)));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends `signal` to the main process.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            send(pid, signal);
        }
    }

    /// Sends `signal` to every process of the server, the main one first so that it starts no others.
    pub(crate) fn signal_all(&self, signal: Signal) {
        self.signal(signal);
        for pid in working_in(&self.directory) {
            send(pid, signal);
        }
    }

    /// Kills every process of the server and returns when none is left.
    pub(crate) async fn kill9(&self) {
        while !working_in(&self.directory).is_empty() {
            self.signal_all(Signal::SIGKILL);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if let Some(mut child) = self.process.lock().unwrap().take() {
            let _ = child.wait();
        }
    }

    /// Waits for the end that a signal asked for.
    pub(crate) async fn wait_for_end(&self, limit: Duration) {
        let started = Instant::now();
        while self.pid().is_some() && self.exit_status().is_none() || !working_in(&self.directory).is_empty()
        {
            assert!(started.elapsed() < limit, "{} has not stopped within {limit:?}", self.name);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        *self.process.lock().unwrap() = None;
    }

    fn exit_status(&self) -> Option<ExitStatus> {
        self.process.lock().unwrap().as_mut().and_then(|child| child.try_wait().expect("it is our child"))
    }
}

/// Sends a signal; a process that is gone already is none of our business.
pub(crate) fn send(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.try_into().expect("a process id")), signal);
}

/// The last `lines` lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let skip = text.lines().count().saturating_sub(lines);
    text.lines().skip(skip).collect::<Vec<_>>().join("\n")
}
