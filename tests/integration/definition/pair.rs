//! The two databases that the tests of definitions need.

use std::process::Command;

use pgfanout::{
    error::{Error, Result},
    postgres::{Database, Session},
    replica::{
        create::create_missing,
        definition::TableDefinition,
        difference::{Difference, differences},
    },
};
use pgfanout_testbed::{
    binaries::{Side, skipped},
    postgres::Cluster,
};

/// The tables that are replicated as such, and the columns of their primary keys.
const TABLES: &str = "
    SELECT c.oid, n.nspname::text, c.relname::text, ARRAY(
        SELECT a.attname::text
        FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.oid >= 16384
    ORDER BY c.oid";

/// Two databases: the primary and a replica without tables.
pub(super) struct Pair {
    cluster: Cluster,
    /// The replica's own server, where it runs another PostgreSQL.
    other: Option<Cluster>,
    pub(super) primary: Session,
    pub(super) replica: Session,
}

impl Pair {
    pub(super) async fn start() -> Self {
        let cluster = Cluster::start(&[]).await;
        let other = match Side::are_alike() {
            true => None,
            false => Some(Cluster::start_as(Side::Replica, &[], None).await),
        };
        let primary = connect(&cluster, "a").await;
        let replica = connect(other.as_ref().unwrap_or(&cluster), "b").await;
        Self { cluster, other, primary, replica }
    }

    /// The server of the primary, "a", or of the replica, "b".
    pub(super) fn cluster(&self, database: &str) -> &Cluster {
        self.other.as_ref().filter(|_| database == "b").unwrap_or(&self.cluster)
    }

    /// Whether both servers are of this major version or newer; if not, says that `what` is left out.
    pub(super) fn both_know(&self, what: &str, since: u32) -> bool {
        ["a", "b"].into_iter().all(|database| self.cluster(database).knows(what, since))
    }

    /// Runs statements of an application: with its search path, not ours.
    pub(super) async fn run(&self, database: &str, statements: &str) {
        self.cluster(database).client(database).await.batch_execute(statements).await.unwrap();
    }

    pub(super) async fn tables(&self) -> Vec<TableDefinition> {
        let mut tables = Vec::new();
        for row in self.primary.query("looking", TABLES, &[]).await.unwrap() {
            let key: Vec<String> = row.get(3);
            let definition = TableDefinition::read(&self.primary, row.get(0), &key).await.unwrap();
            tables.push(definition.unwrap());
        }
        tables
    }

    pub(super) async fn table(&self, name: &str) -> TableDefinition {
        self.tables().await.into_iter().find(|definition| definition.name == name).unwrap()
    }

    pub(super) async fn on_replica(&self, like: &TableDefinition) -> TableDefinition {
        let found = TableDefinition::find(&self.replica, &like.schema, &like.name, &like.key_columns).await;
        found.unwrap().unwrap()
    }

    pub(super) async fn create(&self, definition: &TableDefinition) -> Result<bool> {
        self.replica.run("beginning", "ROLLBACK; BEGIN").await.unwrap();
        let created = create_missing(&self.replica, definition).await?;
        self.replica.run("committing", "COMMIT").await.unwrap();
        Ok(created.contains(&definition.table))
    }

    pub(super) async fn refusal(&self, definition: &TableDefinition) -> String {
        match self.create(definition).await {
            Err(Error::Unfit(text)) => text,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(super) async fn differences(&self, primary: &TableDefinition) -> Vec<Difference> {
        differences(primary, &self.on_replica(primary).await)
    }

    /// The database as SQL, where that can be had.
    pub(super) fn dump(&self, database: &str) -> Option<String> {
        let cluster = self.cluster(database);
        let output = Command::new(cluster.program_if_there("pg_dump", "a look at the schema as SQL")?)
            .args(["--schema-only", "--no-owner", "--no-comments", "--dbname", &cluster.url(database)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Newer ones begin and end with a random word.
        let text = String::from_utf8(output.stdout).unwrap();
        Some(text.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n"))
    }

    /// Both databases as SQL, where their servers print it alike.
    pub(super) fn dumps(&self) -> Option<(String, String)> {
        if self.other.is_some() {
            skipped("the comparison of both schemas as SQL: the servers are of different versions");
            return None;
        }
        self.dump("a").zip(self.dump("b"))
    }
}

async fn connect(cluster: &Cluster, name: &str) -> Session {
    cluster.create_database(name).await;
    let config = cluster.url(name).parse().unwrap();
    Database::new(name, config).connect("test").await.unwrap()
}
