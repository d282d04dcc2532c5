//! A test's private world.

use std::{
    collections::HashMap,
    fmt,
    ops::Deref,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::Client;

use crate::{
    binaries::Side,
    certificates::ServerFiles,
    compare::pin_settings,
    config::ConfigFile,
    postgres::{self, Cluster},
    premises::{Farewell, Premises},
    rabbitmq::Broker,
};

/// Started by the first world that shares them; the watchdogs end them with the process.
/// The second cluster is for replicas, where these run another PostgreSQL than primaries.
static CLUSTERS: [OnceCell<Cluster>; 2] = [const { OnceCell::const_new() }; 2];
static BROKER: OnceCell<Broker> = OnceCell::const_new();
static WORLDS: AtomicU32 = AtomicU32::new(1);

/// A primary, its replicas `r1`, `r2`, … (all empty) and an exchange's name that nobody else uses.
///
/// Dropping it ends what works in its directory and removes its databases, queues and directory.
#[derive(Debug)]
pub struct World {
    exchange: String,
    primary: Database,
    replicas: Vec<Database>,
    broker: Option<Held<Broker>>,
    premises: Option<Premises>,
}

/// A database of a world, and the cluster it is in.
#[derive(Debug)]
pub struct Database {
    name: String,
    cluster: Held<Cluster>,
    look: Mutex<Option<Arc<Client>>>,
}

/// A server that is shared by the process, or belongs to one world.
#[derive(Debug)]
enum Held<T: 'static> {
    Shared(&'static T),
    Own(Arc<T>),
}

impl<T> Deref for Held<T> {
    type Target = T;
    fn deref(&self) -> &T {
        match self {
            Self::Shared(server) => server,
            Self::Own(server) => server,
        }
    }
}

/// What a world is to be made of; see [`World::plan`].
#[derive(Clone, Debug)]
pub struct Plan {
    replicas: usize,
    broker: Option<Ownership>,
    primary: Ownership,
    replica: Ownership,
    apart: usize,
    primary_options: Vec<(String, String)>,
    replica_options: Vec<(String, String)>,
    secured: Option<ServerFiles>,
    suffix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ownership {
    Shared,
    Own,
}

impl Plan {
    /// Replicates with PostgreSQL alone: the configuration has no `[broker]`.
    #[must_use]
    pub fn without_broker(self) -> Self {
        Self { broker: None, ..self }
    }

    /// A broker for this world alone, which it may kill.
    #[must_use]
    pub fn own_broker(self) -> Self {
        Self { broker: Some(Ownership::Own), ..self }
    }

    /// A primary cluster for this world alone, with these settings on top of the usual ones.
    #[must_use]
    pub fn own_primary(self, options: &[(&str, &str)]) -> Self {
        Self { primary: Ownership::Own, primary_options: owned(options), ..self }
    }

    /// A cluster for each replica of this world.
    #[must_use]
    pub fn own_replicas(self) -> Self {
        self.own_replicas_with(&[])
    }

    /// A cluster for each replica of this world, with these settings on top of the usual ones.
    #[must_use]
    pub fn own_replicas_with(self, options: &[(&str, &str)]) -> Self {
        Self { replica: Ownership::Own, replica_options: owned(options), ..self }
    }

    /// Servers of their own that offer TLS with these files.
    #[must_use]
    pub fn secured(self, files: ServerFiles) -> Self {
        let broker = self.broker.map(|_| Ownership::Own);
        Self { broker, primary: Ownership::Own, replica: Ownership::Own, secured: Some(files), ..self }
    }

    /// One cluster of their own, together, for the last `count` replicas of this world.
    #[must_use]
    pub fn replicas_apart(self, count: usize) -> Self {
        Self { apart: count, ..self }
    }

    /// Ends the names of its databases so.
    #[must_use]
    pub fn named(self, suffix: &str) -> Self {
        Self { suffix: suffix.to_owned(), ..self }
    }

    /// Starts what is not there yet and makes the databases.
    pub async fn build(self) -> World {
        let exchange = format!("world{}", WORLDS.fetch_add(1, Ordering::Relaxed));
        let (primary_options, replica_options) =
            (borrowed(&self.primary_options), borrowed(&self.replica_options));
        let suffix = &self.suffix;
        let (name, files) = (|n| format!("{exchange}_r{n}{suffix}"), self.secured.as_ref());
        let (near, far) = (1..=self.replicas - self.apart, self.replicas - self.apart + 1..=self.replicas);
        let (broker, primary, mut replicas, apart) = tokio::join!(
            hold_broker(self.broker, files),
            create(
                format!("{exchange}_primary{suffix}"),
                Side::Primary,
                self.primary,
                &primary_options,
                files
            ),
            futures_util::future::join_all(near.map(|n| create(
                name(n),
                Side::Replica,
                self.replica,
                &replica_options,
                files
            ))),
            create_apart(far.map(name).collect()),
        );
        replicas.extend(apart);
        World { exchange, primary, replicas, broker, premises: Some(Premises::new(None, Farewell::Kill)) }
    }
}

fn owned(options: &[(&str, &str)]) -> Vec<(String, String)> {
    options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn borrowed(options: &[(String, String)]) -> Vec<(&str, &str)> {
    options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

async fn hold_broker(ownership: Option<Ownership>, files: Option<&ServerFiles>) -> Option<Held<Broker>> {
    Some(match ownership? {
        Ownership::Shared => Held::Shared(BROKER.get_or_init(Broker::start).await),
        Ownership::Own => Held::Own(Arc::new(Broker::start_secured(files).await)),
    })
}

async fn create(
    name: String,
    side: Side,
    ownership: Ownership,
    options: &[(&str, &str)],
    files: Option<&ServerFiles>,
) -> Database {
    let cluster = match ownership {
        Ownership::Shared => Held::Shared(shared_cluster(side).await),
        Ownership::Own => Held::Own(Arc::new(Cluster::start_as(side, options, files).await)),
    };
    Database::create(name, cluster).await
}

async fn create_apart(names: Vec<String>) -> Vec<Database> {
    if names.is_empty() {
        return Vec::new();
    }
    let cluster = Arc::new(Cluster::start_as(Side::Replica, &[], None).await);
    let mut databases = Vec::new();
    for name in names {
        databases.push(Database::create(name, Held::Own(Arc::clone(&cluster))).await);
    }
    databases
}

async fn shared_cluster(side: Side) -> &'static Cluster {
    let side = if Side::are_alike() { Side::Primary } else { side };
    // Many worlds' connections meet here.
    let start = async || Cluster::start_as(side, &[("max_connections", "400")], None).await;
    CLUSTERS[side as usize].get_or_init(start).await
}

impl World {
    /// A world in the servers that this process shares. Made in some tens of milliseconds, once the
    /// first one has started them.
    pub async fn new(replicas: usize) -> Self {
        Self::plan(replicas).build().await
    }

    /// A world of another kind: without a broker, or with servers of its own to do harm to.
    #[must_use]
    pub fn plan(replicas: usize) -> Plan {
        let (broker, shared) = (Some(Ownership::Shared), Ownership::Shared);
        let (primary_options, replica_options) = (Vec::new(), Vec::new());
        Plan {
            replicas,
            broker,
            primary: shared,
            replica: shared,
            apart: 0,
            primary_options,
            replica_options,
            secured: None,
            suffix: String::new(),
        }
    }

    /// The primary.
    #[must_use]
    pub fn primary(&self) -> &Database {
        &self.primary
    }

    /// Replica `r1` is number 1.
    #[must_use]
    pub fn replica(&self, number: usize) -> &Database {
        &self.replicas[number - 1]
    }

    /// All of them, `r1` first.
    #[must_use]
    pub fn replicas(&self) -> &[Database] {
        &self.replicas
    }

    /// Runs statements that act on a whole server, such as CREATE ROLE, once on each.
    pub async fn execute_on_servers(&self, statements: &str) {
        let databases = self.replicas.iter().chain([&self.primary]);
        let servers: HashMap<u16, &Database> = databases.map(|one| (one.cluster().port(), one)).collect();
        for database in servers.values() {
            database.execute(statements).await;
        }
    }

    /// The broker. Panics in a world without.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        self.broker.as_ref().expect("this world has a broker")
    }

    /// The name of the exchange.
    #[must_use]
    pub fn exchange(&self) -> &str {
        &self.exchange
    }

    /// The name of the queue of replica `number`.
    #[must_use]
    pub fn queue(&self, number: usize) -> String {
        format!("{}.r{number}", self.exchange)
    }

    /// A directory for files of this world. What works in it ends with the world.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.premises.as_ref().expect("it is there until the drop").path()
    }

    /// The configuration of a pgfanout that replicates this world, to be changed and written.
    #[must_use]
    pub fn config(&self) -> ConfigFile {
        let broker = self.broker.as_ref().map(|broker| (broker.url(), self.exchange.clone()));
        let replicas = self.replicas.iter().map(Database::url);
        ConfigFile::new(self.directory().to_owned(), self.primary.url(), broker, replicas)
    }

    /// What this world leaves in servers that go on.
    async fn clean_up(&self) {
        for database in self.replicas.iter().chain([&self.primary]) {
            if let Held::Shared(cluster) = database.cluster {
                cluster.drop_database(&database.name).await;
            }
        }
        if let Some(Held::Shared(broker)) = self.broker {
            self.remove_queues(broker).await;
        }
    }

    async fn remove_queues(&self, broker: &Broker) {
        let connection = broker.connect().await;
        let channel = connection.create_channel().await.expect("the broker is up");
        let numbers = 1..=self.replicas.len();
        for queue in numbers.map(|n| self.queue(n)).chain([format!("{}.rejected", self.exchange)]) {
            channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await
                .expect("it can be deleted");
        }
        let exchange = self.exchange.clone().into();
        channel.exchange_delete(exchange, ExchangeDeleteOptions::default()).await.expect("it can be deleted");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.premises.take());
        let world = &*self;
        // In a thread: we may be inside a runtime, which must not be blocked by another one.
        thread::scope(|scope| {
            let cleaning = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime
                    .block_on(async { tokio::time::timeout(Duration::from_secs(20), world.clean_up()).await })
            });
            if !matches!(cleaning.join(), Ok(Ok(()))) {
                eprintln!("{} could not be removed from the shared servers", world.exchange);
            }
        });
    }
}

impl Database {
    async fn create(name: String, cluster: Held<Cluster>) -> Self {
        cluster.create_database(&name).await;
        Self { name, cluster, look: Mutex::default() }
    }

    /// The connection string, with the superuser's password.
    #[must_use]
    pub fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster it is in: to be harmed only where it is the world's own.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Opens a connection and drives it in a task of the current runtime.
    pub async fn client(&self) -> Client {
        self.cluster.client(&self.name).await
    }

    /// Runs statements on a connection of their own.
    pub async fn execute(&self, statements: &str) {
        let run = self.client().await.batch_execute(statements).await;
        run.unwrap_or_else(|error| panic!("{self}: {statements}: {error:?}"));
    }

    /// The connection for looks that come again and again, which prints values as [pinned](pin_settings): the one of
    /// the last look, or another where that broke. A connection costs the server more than most looks.
    ///
    /// # Errors
    /// The driver's, where the server takes no connection at the moment.
    pub async fn look(&self) -> Result<Arc<Client>, tokio_postgres::Error> {
        let mut look = self.look.lock().await;
        if let Some(client) = look.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.try_client().await?);
        pin_settings(&client).await?;
        Ok(Arc::clone(look.insert(client)))
    }

    /// Opens a connection, if the server takes one at the moment.
    ///
    /// # Errors
    /// The driver's.
    pub async fn try_client(&self) -> Result<Client, tokio_postgres::Error> {
        postgres::connect(&self.url()).await
    }
}

impl fmt::Display for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}
