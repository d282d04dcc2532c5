//! A private directory, and the certainty that nothing of it stays.

use std::{
    env, fs,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{account::Account, port::random_hex};

const WATCHDOG: &str = include_str!("watchdog.sh");

/// How the processes of the premises are asked to end before they are killed.
#[derive(Clone, Copy, Debug)]
pub enum Farewell {
    /// SIGQUIT: PostgreSQL's immediate shutdown, which gives back its shared memory.
    Quit,
    /// SIGKILL at once.
    Kill,
}

/// A directory under the system's temporary directory, readable for its owner only.
///
/// Every process that works in it (whose current directory is in it) ends, and the directory goes,
/// when the value is dropped or when our process ends, be it by SIGKILL: a small shell waits at the
/// other end of a pipe for that. (`PR_SET_PDEATHSIG` would end a shared server with the test *thread*
/// that started it, and would kill PostgreSQL's postmaster but none of its children.)
#[derive(Debug)]
pub struct Premises {
    path: PathBuf,
    watchdog: Child,
}

impl Premises {
    /// Makes the directory, for `account` where one is given.
    #[must_use]
    pub fn new(account: Option<Account>, farewell: Farewell) -> Self {
        // Short, as the path of a Unix socket has 107 bytes at most.
        let path = env::temp_dir().join(format!("pgfanout-{}", random_hex(5)));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .unwrap_or_else(|error| panic!("making {}: {error}", path.display()));
        let path = path.canonicalize().expect("it was just made");
        if let Some(account) = account {
            account.own(&path);
        }
        let watchdog = watch(&path, farewell);
        Self { path, watchdog }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn watch(path: &Path, farewell: Farewell) -> Child {
    let signal = match farewell {
        Farewell::Quit => "QUIT",
        Farewell::Kill => "KILL",
    };
    Command::new("sh")
        .args(["-c", WATCHDOG, "pgfanout-watchdog"])
        .arg(path)
        .arg(signal)
        .current_dir("/")
        // Not in our process group: what is sent to all of it, such as Ctrl-C, must not end the watchdog.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh starts")
}

impl Drop for Premises {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// The processes whose current directory is `directory` or below.
#[must_use]
pub fn working_in(directory: &Path) -> Vec<u32> {
    fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|current| current.starts_with(directory))
        })
        .collect()
}
