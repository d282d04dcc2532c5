//! The servers of the show, and pgfanout between them.

use std::{env, path::Path, time::Duration};

use pgfanout_testbed::{
    compare, eventually,
    postgres::Cluster,
    premises::{Farewell, Premises},
    process::{Pgfanout, Program},
    rabbitmq::Broker,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::Client;

use crate::show;

/// The name of the database, the same on all three.
const DATABASE: &str = "demo";

/// For what takes a moment.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What the demonstration runs pgfanout with; the binary lies beside our own.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/demo.toml");

/// Everything that runs.
pub(crate) struct Stage {
    /// First, as fields are dropped in this order: without servers it would only complain.
    pub(crate) pgfanout: Pgfanout,
    pub(crate) primary: Cluster,
    pub(crate) replicas: [Cluster; 2],
    pub(crate) broker: Broker,
    program: Program,
    premises: Premises,
}

impl Stage {
    /// Starts the servers, creates the design's table on the primary, and starts pgfanout.
    pub(crate) async fn set() -> Self {
        show::title("A primary, two replicas and a broker");
        show::text("Starting three private PostgreSQL servers and one RabbitMQ: some seconds.");
        let (primary, replica1, replica2, broker) =
            tokio::join!(Cluster::start(&[]), Cluster::start(&[]), Cluster::start(&[]), Broker::start());
        for cluster in [&primary, &replica1, &replica2] {
            cluster.create_database(DATABASE).await;
        }
        show::fact(&format!(
            "ports on 127.0.0.1: primary {}, replica1 {}, replica2 {}, broker {}",
            primary.port(),
            replica1.port(),
            replica2.port(),
            broker.port()
        ));
        show::text("The primary alone gets a table:");
        let create = "CREATE TABLE users (id integer PRIMARY KEY, name text)";
        show::fact(create);
        primary.client(DATABASE).await.batch_execute(create).await.expect("an empty database takes it");

        let premises = Premises::new(None, Farewell::Kill);
        let binary = env::current_exe().expect("/proc is mounted").with_file_name("pgfanout");
        let program = Program::new(binary)
            .directory(premises.path())
            .env("DEMO_PRIMARY_URL", &primary.url(DATABASE))
            .env("DEMO_REPLICA1_URL", &replica1.url(DATABASE))
            .env("DEMO_REPLICA2_URL", &replica2.url(DATABASE))
            .env("DEMO_BROKER_URL", &broker.url());
        show::text("pgfanout starts, with config/demo.toml:");
        show::fact("pgfanout run --config config/demo.toml");
        let pgfanout = program.run(Path::new(CONFIG));
        let replicas = [replica1, replica2];
        let mut stage = Self { pgfanout, primary, replicas, broker, program, premises };
        stage.wait_for_tables(&["users"]).await;
        show::good("It has created the table on both replicas.");
        stage
    }

    /// Connections to the primary and both replicas.
    pub(crate) async fn clients(&self) -> (Client, [Client; 2]) {
        let [replica1, replica2] = &self.replicas;
        (
            self.primary.client(DATABASE).await,
            [replica1.client(DATABASE).await, replica2.client(DATABASE).await],
        )
    }

    /// Waits until both replicas hold the same rows of these tables as the primary, byte for byte.
    pub(crate) async fn wait_for_tables(&mut self, tables: &[&str]) {
        let clients = self.clients().await;
        self.wait_for_tables_with(&clients, tables).await;
    }

    /// The same with connections that are open already, which saves a moment.
    pub(crate) async fn wait_for_tables_with(&mut self, clients: &(Client, [Client; 2]), tables: &[&str]) {
        let (primary, replicas) = clients;
        let pgfanout = &mut self.pgfanout;
        eventually(SOON * 2, "both replicas equal the primary", async || {
            // A program that has ended makes nothing equal any more: fail with its log.
            assert!(pgfanout.is_running(), "pgfanout has ended");
            for replica in replicas {
                compare::same_tables(primary, replica, tables).await?;
            }
            Ok::<_, String>(())
        })
        .await;
    }

    /// A program of PostgreSQL for the primary, which ends with the show.
    pub(crate) fn on_primary(&self, program: &str, arguments: &[&str]) -> std::process::Command {
        let program = self.primary.program_if_there(program, "the demonstration");
        let mut command = std::process::Command::new(program.expect("it comes with PostgreSQL"));
        command.args(arguments).arg(self.primary.url(DATABASE)).current_dir(self.premises.path());
        command
    }

    /// The connection string of a cluster's database.
    pub(crate) fn url(cluster: &Cluster) -> String {
        cluster.url(DATABASE)
    }

    /// Shows what `pgfanout status` says.
    pub(crate) async fn show_status(&self) {
        show::title("Where every replica stands");
        show::fact("pgfanout status --config config/demo.toml");
        let status = self.program.once("status", Path::new(CONFIG), &[]).await;
        status.stdout.lines().chain(status.stderr.lines()).for_each(show::fact);
        assert_eq!(status.code, Some(0), "pgfanout status says that a replica does not follow");
    }

    /// Leaves everything running until Ctrl-C, with the ways in.
    pub(crate) async fn keep(&mut self) {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt()).unwrap(), signal(SignalKind::terminate()).unwrap());
        show::title("Everything runs on until Ctrl-C");
        show::text("Write on the primary, read on the replicas, listen on the exchange \"replication\":");
        show::fact(&format!("primary   psql {}", Self::url(&self.primary)));
        show::fact(&format!("replica1  psql {}", Self::url(&self.replicas[0])));
        show::fact(&format!("replica2  psql {}", Self::url(&self.replicas[1])));
        show::fact(&format!("broker    {}", self.broker.url()));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = self.pgfanout.wait_for_end(Duration::MAX) => show::action("pgfanout has ended."),
        }
    }

    /// Ends pgfanout in order, and all servers.
    pub(crate) async fn end(mut self) {
        show::title("The end");
        let peak = self.pgfanout.peak_rss_bytes() / 1024 / 1024;
        let (status, took) = self.pgfanout.terminate().await;
        assert!(status.success(), "pgfanout ended with {status}");
        show::text(&format!(
            "pgfanout ended on SIGTERM in {} ms; it used {peak} MiB at most.",
            took.as_millis()
        ));
    }
}
