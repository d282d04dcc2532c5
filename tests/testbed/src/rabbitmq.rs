//! Private RabbitMQ nodes.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use lapin::{Connection, ConnectionProperties};
use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    account::Account,
    certificates::ServerFiles,
    port,
    premises::{Farewell, Premises},
    server::{Server, tail},
};

const NODE: &str = "pgfanout@localhost";

/// A RabbitMQ node of our own, without plugins, on free ports of 127.0.0.1.
///
/// Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Broker {
    node: Server,
    /// Erlang's name service, one of our own: one that is shared may belong to a service of the system.
    epmd: Server,
    installation: PathBuf,
    account: Option<Account>,
    port: u16,
    secured_port: Option<u16>,
    distribution_port: u16,
    epmd_port: u16,
    password: String,
    premises: Premises,
}

impl Broker {
    /// Starts a fresh node and returns when it takes connections: some five seconds.
    pub async fn start() -> Self {
        Self::start_secured(None).await
    }

    /// As [`start`](Self::start); with files, TLS is offered on a port of its own, to clients who have a certificate of
    /// the authority.
    pub async fn start_secured(files: Option<&ServerFiles>) -> Self {
        let account = Account::for_servers();
        let premises = Premises::new(account, Farewell::Kill);
        let broker = Self {
            node: Server::new("RabbitMQ", premises.path().join("node")),
            epmd: Server::new("epmd", premises.path().join("epmd")),
            installation: installation(),
            account,
            port: port::free(),
            secured_port: files.map(|_| port::free()),
            distribution_port: port::free(),
            epmd_port: port::free(),
            password: port::random_hex(16),
            premises,
        };
        broker.lay_out(files);
        broker.start_epmd();
        broker.start_again().await;
        broker
    }

    fn lay_out(&self, files: Option<&ServerFiles>) {
        let home = self.premises.path();
        let cookie = home.join(".erlang.cookie");
        fs::write(&cookie, port::random_hex(16)).expect("the cookie can be written");
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).expect("the cookie is ours");
        fs::create_dir(home.join("node")).expect("the directory is fresh");
        fs::create_dir(home.join("epmd")).expect("the directory is fresh");
        fs::write(home.join("enabled_plugins"), "[].").expect("the directory is ours");
        fs::write(home.join("environment"), "").expect("the directory is ours");
        let mut settings = vec![
            format!("listeners.tcp.1 = 127.0.0.1:{}", self.port),
            "default_user = pgfanout".to_owned(),
            format!("default_pass = {}", self.password),
            "vm_memory_high_watermark.absolute = 1GB".to_owned(),
            "disk_free_limit.absolute = 50MB".to_owned(),
        ];
        if let (Some(files), Some(port)) = (files, self.secured_port) {
            files.write(home);
            let file = |key: &str, name: &str| format!("ssl_options.{key} = {}", home.join(name).display());
            settings.extend([
                format!("listeners.ssl.1 = 127.0.0.1:{port}"),
                file("cacertfile", "root.crt"),
                file("certfile", "server.crt"),
                file("keyfile", "server.key"),
                "ssl_options.verify = verify_peer".to_owned(),
                "ssl_options.fail_if_no_peer_cert = true".to_owned(),
            ]);
        }
        fs::write(home.join("rabbitmq.conf"), settings.join("\n")).expect("the directory is ours");
        if let Some(account) = self.account {
            account.own_all(home);
        }
    }

    fn start_epmd(&self) {
        let mut command = Command::new("epmd");
        command.args(["-address", "127.0.0.1", "-port", &self.epmd_port.to_string()]);
        self.prepare(&mut command);
        self.epmd.start(&mut command, &self.premises.path().join("epmd.log"));
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill9`](Self::kill9), on the same port with the
    /// same data, and returns when it takes connections.
    pub async fn start_again(&self) {
        let Err(first) = self.boot().await else { return };
        // Seen once in many hundred boots: a node that neither ended nor got ready.
        eprintln!("{first}\nkilled, and started once more");
        self.node.kill9().await;
        self.boot().await.unwrap_or_else(|problem| panic!("{problem}"));
    }

    async fn boot(&self) -> Result<(), String> {
        // Called directly: the wrapper in /usr/sbin insists on the user rabbitmq.
        let mut command = Command::new(self.installation.join("sbin/rabbitmq-server"));
        self.prepare(&mut command);
        self.node.start(&mut command, &self.log());
        let ready = self.node.wait_until(&self.log(), async || self.answers().await).await;
        ready.map_err(|problem| {
            let log = self.premises.path().join(format!("log/{NODE}.log"));
            format!("{problem}\nand its own log:\n{}", tail(&log, 40))
        })
    }

    /// What node, name service and command line tools must agree on.
    fn prepare(&self, command: &mut Command) {
        let home = self.premises.path();
        let local = "-kernel inet_dist_use_interface {127,0,0,1}";
        command
            .env("HOME", home)
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", NODE)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", home.join("node"))
            .env("RABBITMQ_LOG_BASE", home.join("log"))
            .env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", home.join("environment"))
            .env("RABBITMQ_PID_FILE", home.join("node.pid"))
            .env("RABBITMQ_CTL_ERL_ARGS", local)
            // Idle schedulers that spin would eat the cores that the tests need.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                format!("{local} +sbwt none +sbwtdcpu none +sbwtdio none"),
            )
            // The start script then becomes the node, instead of waiting beside it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env_remove("NOTIFY_SOCKET");
        if let Some(account) = self.account {
            account.run(command);
        }
    }

    /// Whether it answers a protocol header, which it does only when its queues are there.
    async fn answers(&self) -> bool {
        let greet = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
            stream.read_u8().await
        };
        matches!(tokio::time::timeout(Duration::from_secs(5), greet).await, Ok(Ok(_)))
    }

    /// Stops it in an orderly way and returns when it has ended.
    pub async fn stop(&self) {
        self.node.signal(Signal::SIGTERM);
        self.node.wait_for_end(Duration::from_secs(60)).await;
    }

    /// Kills it with SIGKILL and returns when none of its processes is left.
    pub async fn kill9(&self) {
        self.node.kill9().await;
    }

    /// Removes all that it knows, after [`stop`](Self::stop) or [`kill9`](Self::kill9).
    pub fn wipe(&self) {
        let data = self.premises.path().join("node");
        fs::remove_dir_all(&data).and_then(|()| fs::create_dir(&data)).expect("the directory is ours");
        if let Some(account) = self.account {
            account.own_all(&data);
        }
    }

    /// Stops it where it is: connections stay open and nobody answers.
    pub fn pause(&self) {
        self.node.signal_all(Signal::SIGSTOP);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.node.signal_all(Signal::SIGCONT);
    }

    /// The address for AMQP clients, with user and password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://pgfanout:{}@127.0.0.1:{}/%2f", self.password, self.port)
    }

    /// The address for clients by TLS, with user and password. Panics where it is not offered.
    #[must_use]
    pub fn secured_url(&self) -> String {
        let port = self.secured_port.expect("this broker offers TLS");
        format!("amqps://pgfanout:{}@127.0.0.1:{port}/%2f", self.password)
    }

    /// The AMQP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The ids of all its processes.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.node.processes()
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Connection {
        Connection::connect(&self.url(), ConnectionProperties::default()).await.expect("the broker is up")
    }

    /// Runs `rabbitmqctl` with these arguments and returns its output: a second or two each time.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.installation.join("sbin/rabbitmqctl"));
        self.prepare(&mut command);
        command.arg("--quiet").args(arguments).current_dir(self.premises.path());
        let described = format!("{arguments:?}");
        let run = tokio::task::spawn_blocking(move || command.output());
        let done = run.await.expect("it does not panic").expect("rabbitmqctl starts");
        let (output, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "rabbitmqctl {described}: {output}{errors}");
        output.into_owned()
    }

    /// The directory with all that it knows: its own, not the one that the node works in.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.premises.path().join("node").join(NODE)
    }

    /// The file that the node's output goes to.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.premises.path().join("node.log")
    }
}

/// Where RabbitMQ is installed: `PGFANOUT_TEST_RABBITMQ`, or the place of the Debian package.
fn installation() -> PathBuf {
    if let Some(chosen) = env::var_os("PGFANOUT_TEST_RABBITMQ") {
        return chosen.into();
    }
    let versions = fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten();
    let is_complete = |path: &Path| path.join("sbin/rabbitmq-server").exists();
    let found = versions.map(|entry| entry.path()).find(|path| is_complete(path));
    found.expect("RabbitMQ is installed: tests/setup.sh does that")
}
