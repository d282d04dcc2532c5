//! The program under test.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{eventually, server::send};

/// How long an end that was asked for may take, and a command that ends by itself.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A built `pgfanout` binary and the environment it is given: `Program::new(env!("CARGO_BIN_EXE_pgfanout"))`.
#[derive(Clone, Debug)]
pub struct Program {
    binary: PathBuf,
    directory: Option<PathBuf>,
    environment: BTreeMap<String, String>,
}

/// What a command that ended by itself left.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Program {
    /// The program in this file.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self { binary: binary.into(), directory: None, environment: BTreeMap::new() }
    }

    /// Sets an environment variable for all that is started with it.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Has all that is started with it work in this directory. Otherwise it is the configuration's.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Starts `pgfanout run` with this configuration.
    #[must_use]
    pub fn run(&self, config: &Path) -> Pgfanout {
        Pgfanout::start(self.command("run", config))
    }

    /// Runs another of its commands, such as `status`, with more arguments, to its end.
    pub async fn once(&self, subcommand: &str, config: &Path, arguments: &[&str]) -> Finished {
        let mut command = self.command(subcommand, config);
        command.args(arguments);
        let described = format!("{command:?}");
        let run = tokio::task::spawn_blocking(move || command.output());
        let ended = tokio::time::timeout(END_LIMIT, run).await;
        let ended = ended.unwrap_or_else(|_| panic!("{described} has not ended within {END_LIMIT:?}"));
        let output = ended.expect("it does not panic").expect("the binary is there");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The configuration's directory is a world's usually: what works in it ends with the world.
    fn command(&self, subcommand: &str, config: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(subcommand).arg("--config").arg(config).envs(&self.environment).stdin(Stdio::null());
        let beside = || config.parent().expect("a file is in a directory").to_owned();
        command.current_dir(self.directory.clone().unwrap_or_else(beside)).process_group(0);
        command
    }
}

/// A running `pgfanout run`, and all that it has logged.
///
/// Dropping it kills it; the end of its log is printed if the test is failing.
#[derive(Debug)]
pub struct Pgfanout {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    collectors: Vec<thread::JoinHandle<()>>,
}

impl Pgfanout {
    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let log = Arc::<Mutex<Vec<String>>>::default();
        let collectors = vec![
            collect(child.stdout.take().expect("it is piped"), log.clone()),
            collect(child.stderr.take().expect("it is piped"), log.clone()),
        ];
        Self { child, log, collectors }
    }

    /// The lines logged so far. `mark` the place before you trigger what you then wait for.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    /// The log lines that are JSON, from the beginning.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        self.log_after(0)
    }

    /// The log lines that are JSON, from a mark on.
    #[must_use]
    pub fn log_after(&self, mark: usize) -> Vec<Value> {
        let log = self.log.lock().unwrap();
        log.iter().skip(mark).filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Every line, as it is.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// All lines so far whose event has this name.
    #[must_use]
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.log().into_iter().filter(|line| line["event"] == name).collect()
    }

    /// Waits for a line whose event has this name, now or earlier, and returns it.
    ///
    /// # Panics
    /// When there is none within `limit`, or the program has ended without.
    pub async fn wait_for_event(&mut self, name: &str, limit: Duration) -> Value {
        self.wait_for_event_after(0, name, limit).await
    }

    /// As [`wait_for_event`](Self::wait_for_event), looking only at what was logged after the mark.
    ///
    /// # Panics
    /// Likewise.
    pub async fn wait_for_event_after(&mut self, mark: usize, name: &str, limit: Duration) -> Value {
        self.wait_for(mark, name, limit, |line| line["event"] == name).await
    }

    /// Waits for a line after the mark that is as `wanted`; `what` names it should it not come.
    ///
    /// # Panics
    /// When there is none within `limit`, or the program has ended without.
    pub async fn wait_for(
        &mut self,
        mark: usize,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(limit, &format!("pgfanout logs {what}"), async || {
            // Before looking: what it logged last is still to be found once it has ended.
            let ended = self.child.try_wait().expect("it is our child");
            let found = self.log_after(mark).into_iter().find(&wanted);
            assert!(found.is_some() || ended.is_none(), "pgfanout ended ({ended:?}) without logging {what}");
            found.ok_or("other lines")
        })
        .await
    }

    /// Asks it to end with SIGTERM; returns its exit status and how long that took.
    pub async fn terminate(&mut self) -> (ExitStatus, Duration) {
        let started = Instant::now();
        self.signal(Signal::SIGTERM);
        (self.wait_for_end(END_LIMIT).await, started.elapsed())
    }

    /// Kills it with SIGKILL and returns when it is gone.
    pub async fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_end(END_LIMIT).await;
    }

    /// Has it read its configuration again.
    pub fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// Stops it where it is.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits until it has ended by itself, and its log is whole.
    ///
    /// # Panics
    /// When it has not within `limit`.
    pub async fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        let ended = eventually(limit, "pgfanout ends", async || {
            self.child.try_wait().ok().flatten().ok_or("it runs")
        })
        .await;
        for collector in self.collectors.drain(..) {
            collector.join().expect("it collects");
        }
        ended
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that it uses now.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most bytes of memory that it ever used.
    #[must_use]
    pub fn peak_rss_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("it runs");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kilobytes * 1024
    }

    fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }
}

fn collect(output: impl Read + Send + 'static, log: Arc<Mutex<Vec<String>>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            log.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
        }
    })
}

impl Drop for Pgfanout {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log.lock().unwrap();
            eprintln!("pgfanout's last log lines:");
            log.iter().skip(log.len().saturating_sub(60)).for_each(|line| eprintln!("{line}"));
        }
    }
}
