//! The servers, and what replicates between them.

use std::{fmt, time::Duration};

use pgfanout_testbed::{
    eventually,
    postgres::{Cluster, Shutdown},
    process::{Pgfanout, Program},
    world::World,
};
use tokio_postgres::Client;

use super::{Scope, probe};

/// Everything as it would be set for use; and logical replication must be possible.
const PRIMARY: [(&str, &str); 8] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "256MB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "30min"),
    ("wal_level", "logical"),
    ("max_connections", "200"),
    ("autovacuum_naptime", "10s"),
];

const REPLICA: [(&str, &str); 6] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "256MB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "30min"),
    ("autovacuum_naptime", "10s"),
];

/// Whoever makes the tables of all databases. What is looked for on the replicas is told by them.
const TABLES: &str =
    "ALTER TABLE pgbench_history ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
    CREATE TABLE probe (n bigint PRIMARY KEY);
    CREATE TABLE bulk (id bigint PRIMARY KEY, t text, n numeric, at timestamptz, j jsonb);";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    /// The primary, with no replication.
    Bare,
    /// PostgreSQL's own logical replication to both replicas.
    Logical,
    /// The primary with pgfanout's triggers, and nobody who reads what they log.
    CaptureFull,
    /// The same with `old_record = "key"`.
    CaptureKey,
    /// pgfanout to both replicas through the broker.
    Pgfanout,
    /// The same while the second replica is away.
    OneAway,
}

impl System {
    pub(crate) const ALL: [Self; 6] =
        [Self::Bare, Self::Logical, Self::CaptureFull, Self::CaptureKey, Self::Pgfanout, Self::OneAway];

    /// Those that have a database of their own.
    pub(crate) const HOUSED: [Self; 5] =
        [Self::Bare, Self::Logical, Self::CaptureFull, Self::CaptureKey, Self::Pgfanout];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Logical => "logical",
            Self::CaptureFull => "capture_full",
            Self::CaptureKey => "capture_key",
            Self::Pgfanout => "pgfanout",
            Self::OneAway => "one_away",
        }
    }

    /// Its database.
    pub(crate) const fn database(self) -> &'static str {
        match self {
            Self::OneAway => Self::Pgfanout.name(),
            own => own.name(),
        }
    }

    pub(crate) const fn replicates(self) -> bool {
        matches!(self, Self::Logical | Self::Pgfanout | Self::OneAway)
    }
}

impl fmt::Display for System {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The servers; on the primary a database for each system, called after it.
pub(crate) struct Stage {
    /// First: it ends before the servers.
    pub(crate) pgfanout: Option<Pgfanout>,
    pub(crate) world: World,
}

impl Stage {
    pub(crate) async fn set(scope: &Scope) -> Self {
        let plan = World::plan(2).own_primary(&PRIMARY).own_replicas_with(&REPLICA);
        let plan = if scope.own_broker { plan.own_broker() } else { plan };
        let stage = Self { pgfanout: None, world: plan.build().await };
        let (primary, replicas) = (stage.primary(), stage.replicas());
        initialize(primary, System::Bare.name(), scope.scale).await;
        for system in &System::HOUSED[1..] {
            let copy = format!("CREATE DATABASE {system} TEMPLATE {}", System::Bare);
            primary.client("postgres").await.batch_execute(&copy).await.expect("nobody is connected");
        }
        for (n, replica) in replicas.into_iter().enumerate() {
            stand_apart(replica, n).await;
            initialize(replica, System::Logical.name(), scope.scale).await;
            probe::tell(&replica.client(System::Logical.name()).await).await;
            replica.create_database(System::Pgfanout.name()).await;
        }
        let publish = "CREATE PUBLICATION everything FOR ALL TABLES";
        primary.client(System::Logical.name()).await.batch_execute(publish).await.expect("it is new");
        for system in [System::CaptureFull, System::CaptureKey] {
            let installed = program().once("install", &stage.config(system), &[]).await;
            assert_eq!(installed.code, Some(0), "{installed:?}");
        }
        stage
    }

    pub(crate) fn primary(&self) -> &Cluster {
        self.world.primary().cluster()
    }

    pub(crate) fn replicas(&self) -> [&Cluster; 2] {
        [1, 2].map(|n| self.world.replica(n).cluster())
    }

    /// Those that are there.
    pub(crate) fn present(&self, system: System) -> Vec<&Cluster> {
        self.replicas().into_iter().take(if system == System::OneAway { 1 } else { 2 }).collect()
    }

    /// A connection to the system's database on the primary.
    pub(crate) async fn client(&self, system: System) -> Client {
        self.primary().client(system.database()).await
    }

    /// The configuration by which the system replicates.
    pub(crate) fn config(&self, system: System) -> std::path::PathBuf {
        let mut config = self.world.config();
        config.primary.url = self.primary().url(system.database());
        for (section, replica) in config.replicas.iter_mut().zip(self.replicas()) {
            section.url = replica.url(System::Pgfanout.name());
        }
        let old = if system == System::CaptureKey { "key" } else { "full" };
        config.primary(&format!("old_record = \"{old}\"")).write_as(&format!("{system}.toml"))
    }

    /// Has the system replicate; returns when it follows.
    pub(crate) async fn begin(&mut self, system: System) {
        match system {
            System::Bare | System::CaptureFull | System::CaptureKey => {
                // What is logged there nobody reads; it is not to grow from round to round.
                if system != System::Bare {
                    let empty = "TRUNCATE pgfanout.changelog";
                    self.client(system).await.batch_execute(empty).await.expect("it is installed");
                }
            }
            System::Logical => self.subscribe().await,
            System::Pgfanout | System::OneAway => {
                self.start();
                for replica in self.replicas() {
                    let replica = replica.client(system.database()).await;
                    let joined =
                        "SELECT count(*) FILTER (WHERE snapshot IS NULL) = 6 FROM pgfanout.replicated_table";
                    eventually(Duration::from_secs(300), "the tables follow", async || {
                        replica.query_one(joined, &[]).await.is_ok_and(|row| row.get(0))
                    })
                    .await;
                    probe::tell(&replica).await;
                }
            }
        }
        if system == System::OneAway {
            self.replicas()[1].stop(Shutdown::Fast).await;
        }
        self.settle(system).await;
    }

    /// Has done at once what the servers would do of themselves meanwhile, about what was copied to begin with: they would
    /// take their time from whoever is measured next.
    async fn settle(&self, system: System) {
        let mut databases = vec![self.client(system).await];
        for replica in self.present(system).into_iter().filter(|_| system.replicates()) {
            databases.push(replica.client(system.database()).await);
        }
        for database in databases {
            for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
                database.batch_execute(statement).await.expect("a superuser's");
            }
        }
    }

    /// Starts the program.
    pub(crate) fn start(&mut self) {
        self.pgfanout = Some(program().run(&self.config(System::Pgfanout)));
    }

    /// Has a system that replicates stop for a while.
    pub(crate) async fn pause(&mut self, system: System) {
        match system {
            System::Pgfanout => self.end(system).await,
            _ => self.alter_subscriptions("DISABLE").await,
        }
    }

    /// Has it go on.
    pub(crate) async fn go_on(&mut self, system: System) {
        match system {
            System::Pgfanout => self.start(),
            _ => self.alter_subscriptions("ENABLE").await,
        }
    }

    async fn alter_subscriptions(&self, how: &str) {
        for (n, replica) in self.replicas().into_iter().enumerate() {
            let alter = format!("ALTER SUBSCRIPTION s{n} {how}");
            replica.client(System::Logical.name()).await.batch_execute(&alter).await.expect("it is there");
        }
    }

    async fn subscribe(&self) {
        for (n, replica) in self.replicas().into_iter().enumerate() {
            let (name, url) = (System::Logical.name(), self.primary().url(System::Logical.name()));
            let subscribe = format!(
                "CREATE SUBSCRIPTION s{n} CONNECTION '{url}' PUBLICATION everything WITH (copy_data = false)"
            );
            let replica = replica.client(name).await;
            replica.batch_execute(&subscribe).await.expect("the primary takes it");
            let ready = "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel";
            eventually(Duration::from_secs(60), "the subscription works", async || {
                replica.query_one(ready, &[]).await.unwrap().get::<_, Option<bool>>(0).unwrap_or(false)
            })
            .await;
        }
    }

    /// Ends what [`begin`](Self::begin) began; all that was written has arrived.
    pub(crate) async fn end(&mut self, system: System) {
        if system == System::OneAway {
            self.replicas()[1].start_again().await;
        }
        if let Some(mut pgfanout) = self.pgfanout.take() {
            let (status, _) = pgfanout.terminate().await;
            assert!(status.success(), "pgfanout ended with {status}");
        }
        if system == System::Logical {
            for (n, replica) in self.replicas().into_iter().enumerate() {
                let drop = format!("DROP SUBSCRIPTION s{n}");
                replica.client(system.name()).await.batch_execute(&drop).await.expect("it is there");
            }
        }
    }
}

/// All clusters are copies of one, with its identity, and would give the same oids: slots for copying tables are named
/// after both.
async fn stand_apart(cluster: &Cluster, number: usize) {
    let use_up = format!("SELECT lo_unlink(lo_create(0)) FROM generate_series(1, {number} * 1000)");
    cluster.client("postgres").await.batch_execute(&use_up).await.expect("a superuser's");
}

/// Makes the tables in a new database of the cluster.
async fn initialize(cluster: &Cluster, database: &str, scale: u32) {
    cluster.create_database(database).await;
    let pgbench = cluster.program_if_there("pgbench", "the benchmark").expect("it comes with PostgreSQL");
    let mut command = std::process::Command::new(pgbench);
    command.args(["--initialize", "--quiet", "--scale", &scale.to_string(), &cluster.url(database)]);
    let made = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("it is there");
    assert!(made.status.success(), "pgbench: {}", String::from_utf8_lossy(&made.stderr));
    cluster.client(database).await.batch_execute(TABLES).await.expect("the tables are new");
}

/// The program.
pub(crate) fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_pgfanout"))
}
