//! Private PostgreSQL clusters.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio_postgres::{Client, NoTls};

use crate::{
    account::Account,
    binaries::{self, Side, skipped},
    certificates::ServerFiles,
    port,
    premises::{Farewell, Premises},
    server::Server,
    template,
};

/// Small, quick to start, and safe against the kill of processes, though not of the machine.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "32MB"),
    ("max_connections", "100"),
    ("max_wal_size", "256MB"),
    ("jit", "off"),
    // Segments in /dev/shm would stay behind when the server is killed.
    ("dynamic_shared_memory_type", "mmap"),
];

/// Who comes in where TLS is offered.
const HBA_SECURED: &str = "hostssl all all 127.0.0.1/32 cert\nhostnossl all all 127.0.0.1/32 scram-sha-256\n";

/// How a cluster is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Ends the sessions, writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers from the log.
    Immediate,
}

/// A PostgreSQL server of our own, on a free port of 127.0.0.1, with superuser `postgres`.
///
/// Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    binaries: PathBuf,
    account: Option<Account>,
    port: u16,
    password: String,
    premises: Premises,
}

impl Cluster {
    /// Starts a fresh cluster for primaries with the given settings of `postgresql.conf` on top of the test bed's own
    /// (among them `fsync = off`), and returns when it takes connections.
    pub async fn start(options: &[(&str, &str)]) -> Self {
        Self::start_as(Side::Primary, options, None).await
    }

    /// As [`start`](Self::start), of this side; with files, TLS is offered too. By TLS only clients come in who have a
    /// certificate of the authority with the name of their user, and they need no password.
    pub async fn start_as(side: Side, options: &[(&str, &str)], files: Option<&ServerFiles>) -> Self {
        let (binaries, account) = (side.binaries(), Account::for_servers());
        let premises = Premises::new(account, Farewell::Quit);
        let data = premises.path().join("data");
        let password = template::copy_to(&data, &binaries, account);
        let mut options = options.to_vec();
        if let Some(files) = files {
            files.write(&data);
            fs::write(data.join("pg_hba.conf"), HBA_SECURED).expect("the directory is ours");
            options.extend([("ssl", "on"), ("ssl_ca_file", "root.crt")]);
        }
        if let Some(account) = account {
            account.own_all(&data);
        }
        let server = Server::new("PostgreSQL", data);
        let mut cluster = Self { server, binaries, account, port: 0, password, premises };
        // A port that was free a moment ago may be taken by somebody else's server by now.
        for _ in 0..3 {
            cluster.port = port::free();
            cluster.configure(&options);
            match cluster.run().await {
                Ok(()) => return cluster,
                Err(problem) if problem.contains("Address already in use") => {}
                Err(problem) => panic!("{problem}"),
            }
        }
        panic!("no port stayed free long enough to start PostgreSQL on it");
    }

    fn configure(&self, options: &[(&str, &str)]) {
        let mut text = format!("port = {}\n", self.port);
        let socket_directory = self.premises.path().to_str().expect("a path in UTF-8");
        for (name, value) in
            SETTINGS.iter().chain(&[("unix_socket_directories", socket_directory)]).chain(options)
        {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''")).expect("a String takes all");
        }
        // Read after postgresql.conf, and the later line wins.
        let file = self.data().join("postgresql.auto.conf");
        fs::write(file, text).expect("the settings can be written");
    }

    async fn run(&self) -> Result<(), String> {
        let mut command = Command::new(self.binaries.join("postgres"));
        command.arg("-D").arg(self.data());
        if let Some(account) = self.account {
            account.run(&mut command);
        }
        self.server.start(&mut command, &self.log());
        self.server.wait_until(&self.log(), async || self.is_ready()).await
    }

    /// The postmaster says so in its lock file; one that was killed left its own there.
    fn is_ready(&self) -> bool {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        let pid = lines.next().and_then(|line| line.trim().parse().ok());
        let status = lines.nth(6).map(str::trim);
        pid.is_some() && pid == self.server.pid() && status == Some("ready")
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill9`](Self::kill9), on the same port with the
    /// same data, and returns when it takes connections.
    pub async fn start_again(&self) {
        self.run().await.unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Stops it and returns when all of its processes have ended.
    pub async fn stop(&self, how: Shutdown) {
        self.server.signal(match how {
            Shutdown::Fast => Signal::SIGINT,
            Shutdown::Immediate => Signal::SIGQUIT,
        });
        self.server.wait_for_end(Duration::from_secs(60)).await;
    }

    /// Kills all of its processes with SIGKILL and returns when none is left.
    pub async fn kill9(&self) {
        self.server.kill9().await;
    }

    /// Stops all of its processes where they are: connections stay open and nobody answers.
    pub fn pause(&self) {
        self.server.signal_all(Signal::SIGSTOP);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.server.signal_all(Signal::SIGCONT);
    }

    /// The connection string of a database, with the superuser's password.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_of("postgres", &self.password, database)
    }

    /// The connection string of a database for another role.
    #[must_use]
    pub fn url_of(&self, role: &str, password: &str, database: &str) -> String {
        let [role, password, database] = [role, password, database].map(percent_encode);
        format!("postgresql://{role}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of its main process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// The ids of all its processes.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.server.processes()
    }

    /// Creates an empty database.
    pub async fn create_database(&self, name: &str) {
        // From template0, which nobody can be connected to: that would be in the way.
        let create = format!("CREATE DATABASE {} TEMPLATE template0", quote(name));
        self.client("postgres").await.batch_execute(&create).await.expect("the database can be created");
    }

    /// Drops a database, and every connection to it.
    pub async fn drop_database(&self, name: &str) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote(name));
        self.client("postgres").await.batch_execute(&drop).await.expect("the database can be dropped");
    }

    /// Opens a connection and drives it in a task of the current runtime.
    pub async fn client(&self, database: &str) -> Client {
        connect(&self.url(database))
            .await
            .unwrap_or_else(|error| panic!("connecting to {database}: {error:?}"))
    }

    /// The major version of its PostgreSQL.
    #[must_use]
    pub fn version(&self) -> u32 {
        let text =
            fs::read_to_string(self.data().join("PG_VERSION")).expect("every cluster tells its version");
        text.trim().parse().expect("a number")
    }

    /// Whether its PostgreSQL is of this major version or newer. Where it is not, [tells](skipped) that `what` is
    /// left out.
    #[must_use]
    pub fn knows(&self, what: &str, since: u32) -> bool {
        let knows = self.version() >= since;
        if !knows {
            skipped(&format!("{what}: not in PostgreSQL {}", self.version()));
        }
        knows
    }

    /// One of PostgreSQL's own programs, such as `pgbench`, of the version that this cluster runs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// As [`program`](Self::program), but where a server that was chosen by its version came without its programs it is
    /// the installed one, unless that is too old for this server: then [tells](skipped) that `what` is left out.
    #[must_use]
    pub fn program_if_there(&self, name: &str, what: &str) -> Option<PathBuf> {
        let (own, installed) = (self.binaries.join(name), binaries::installed());
        if own.exists() || self.binaries == installed {
            return Some(own);
        }
        if template::version(&installed) >= self.version() {
            return Some(installed.join(name));
        }
        skipped(&format!("{what}: no {name} for PostgreSQL {}", self.version()));
        None
    }

    /// The server's log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.premises.path().join("log")
    }

    /// Copies the files of a stopped cluster away, over an earlier copy.
    pub fn back_up(&self) {
        let _ = fs::remove_dir_all(self.backup());
        template::copy(&self.data(), &self.backup());
    }

    /// Copies the files of a running cluster away with this `pg_basebackup`, over an earlier copy.
    pub async fn back_up_online(&self, pg_basebackup: &Path) {
        let _ = fs::remove_dir_all(self.backup());
        let mut command = Command::new(pg_basebackup);
        command.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--no-manifest", "--dbname"]);
        command.arg(self.url("postgres")).arg("--pgdata").arg(self.backup());
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
        let output = output.expect("pg_basebackup is there");
        assert!(output.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Puts the copy in the place of a stopped cluster's files.
    pub fn put_back(&self) {
        fs::remove_dir_all(self.data()).expect("it is stopped");
        template::copy(&self.backup(), &self.data());
        self.own_data();
    }

    /// Starts another cluster, on a port of its own, with the copied files: the same identity, and from now on
    /// another history.
    pub async fn start_backup(&self) -> Self {
        let premises = Premises::new(self.account, Farewell::Quit);
        let data = premises.path().join("data");
        template::copy(&self.backup(), &data);
        let server = Server::new("PostgreSQL", data);
        let (binaries, password) = (self.binaries.clone(), self.password.clone());
        let cluster =
            Self { server, binaries, account: self.account, port: port::free(), password, premises };
        cluster.own_data();
        cluster.configure(&[]);
        cluster.start_again().await;
        cluster
    }

    fn own_data(&self) {
        if let Some(account) = self.account {
            account.own_all(&self.data());
        }
    }

    fn backup(&self) -> PathBuf {
        self.premises.path().join("backup")
    }

    fn data(&self) -> PathBuf {
        self.premises.path().join("data")
    }
}

/// Opens a connection and drives it in a task of the current runtime, which ends with the client.
///
/// # Errors
/// The driver's, where the server does not take the connection.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// As a part of a URL.
fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

/// Quotes an identifier for SQL.
#[must_use]
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
