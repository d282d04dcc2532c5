//! Capture on the primary: every change is logged by key, and the application never notices.

mod application;
mod counting;
mod ddl;
mod install;
mod keys;
mod privileges;
mod tables;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use pgfanout::{
    config::OldRecord,
    error::{Error, Result},
    postgres::{Database, Session},
    primary::{capture, install::install},
};
use pgfanout_testbed::postgres::Cluster;
use tokio::sync::OnceCell;
use tokio_postgres::Client;

/// One server for all of these tests, each with a database of its own in it.
static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(1);

/// A primary of one's own with pgfanout installed, and an application's connection to it.
struct Primary {
    database: String,
    session: Session,
    application: Client,
}

/// What the log says of one key, or of the table where the key is null.
type Entry = (String, Option<String>);

impl Primary {
    async fn start() -> Self {
        let primary = Self::bare().await;
        install(&primary.session).await.unwrap();
        primary
    }

    async fn bare() -> Self {
        let cluster = cluster().await;
        let database = format!("capture{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        cluster.create_database(&database).await;
        let session = connect(&database).await;
        let application = cluster.client(&database).await;
        Self { database, session, application }
    }

    /// Runs statements of the application.
    async fn run(&self, statements: &str) {
        if let Err(error) = self.application.batch_execute(statements).await {
            panic!("{statements}: {error:?}");
        }
    }

    async fn oid(&self, table: &str) -> u32 {
        let statement = "SELECT $1::text::regclass::oid";
        self.application.query_one(statement, &[&table]).await.unwrap().get(0)
    }

    async fn try_capture(&self, table: &str, old_record: OldRecord) -> Result<i32> {
        capture::capture(&self.session, self.oid(table).await, old_record, Duration::from_secs(10)).await
    }

    async fn capture(&self, table: &str) -> i32 {
        self.try_capture(table, OldRecord::Full).await.unwrap()
    }

    async fn refusal(&self, table: &str) -> String {
        match self.try_capture(table, OldRecord::Full).await {
            Err(Error::Unfit(text)) => text,
            other => panic!("{table} is not refused: {other:?}"),
        }
    }

    /// The log's entries of a table, in the order of operation and key; but for those that it was altered.
    async fn entries(&self, id: i32) -> Vec<Entry> {
        let statement = "SELECT operation::text, key FROM pgfanout.changelog WHERE table_id = $1 AND operation <> 'A' ORDER BY 1, 2";
        let rows = self.session.query("reading the log", statement, &[&id]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn forget(&self) {
        self.session.run("forgetting", "DELETE FROM pgfanout.changelog").await.unwrap();
    }

    /// One value as text.
    async fn value(&self, query: &str) -> Option<String> {
        let rows = self.session.query("looking", &format!("SELECT ({query})::text"), &[]).await.unwrap();
        rows[0].get(0)
    }
}

async fn cluster() -> &'static Cluster {
    CLUSTER.get_or_init(async || Cluster::start(&[("max_connections", "400")]).await).await
}

async fn connect(database: &str) -> Session {
    let config = cluster().await.url(database).parse().unwrap();
    let database = Database::new("primary", config);
    database.connect("pgfanout test").await.unwrap()
}

fn entry(operation: &str, key: &str) -> Entry {
    (operation.to_owned(), Some(key.to_owned()))
}
