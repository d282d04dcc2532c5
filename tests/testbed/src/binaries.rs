//! Which PostgreSQL a server runs, and what it knows.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
};

/// What a cluster is in replication: each side may run a PostgreSQL of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Of the primary.
    Primary,
    /// Of the replicas.
    Replica,
}

impl Side {
    /// The directory that `PGFANOUT_PRIMARY_POSTGRES` or `PGFANOUT_REPLICA_POSTGRES` names, or [`installed`].
    pub(crate) fn binaries(self) -> PathBuf {
        let name = match self {
            Self::Primary => "PGFANOUT_PRIMARY_POSTGRES",
            Self::Replica => "PGFANOUT_REPLICA_POSTGRES",
        };
        env::var_os(name).map_or_else(installed, PathBuf::from)
    }

    /// Whether primaries and replicas run the same PostgreSQL, and so may share a server.
    #[must_use]
    pub fn are_alike() -> bool {
        Self::Primary.binaries() == Self::Replica.binaries()
    }
}

/// Where PostgreSQL's programs are: `PGFANOUT_TEST_PG_BIN`, or the newest version in the place where
/// Debian and Ubuntu put them, or the first `postgres` on the `PATH`.
pub(crate) fn installed() -> PathBuf {
    if let Some(chosen) = env::var_os("PGFANOUT_TEST_PG_BIN") {
        return chosen.into();
    }
    let version = |directory: &Path| directory.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .map(|entry| entry.path())
        .filter(|directory| directory.join("bin/postgres").exists())
        .max_by_key(|directory| version(directory));
    let path = env::var_os("PATH").unwrap_or_default();
    newest
        .map(|directory| directory.join("bin"))
        .or_else(|| env::split_paths(&path).find(|directory| directory.join("postgres").exists()))
        .expect("PostgreSQL is installed: tests/setup.sh does that")
}

/// Says that a test, or a part of it, was left out, and why: on standard error, and as a line of the file that
/// `PGFANOUT_SKIPPED` names, so that whoever runs the tests over many servers can tell.
pub fn skipped(what: &str) {
    eprintln!("skipped: {what}");
    if let Some(file) = env::var_os("PGFANOUT_SKIPPED") {
        let mut file =
            fs::OpenOptions::new().create(true).append(true).open(file).expect("it can be written");
        file.write_all(format!("{what}\n").as_bytes()).expect("it can be written");
    }
}
