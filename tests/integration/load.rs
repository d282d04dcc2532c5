//! Clients that write to several tables in each transaction, and go on through every outage.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use pgfanout_testbed::{eventually, postgres::connect, world::Database};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::PATIENCE;

/// The tables that are written.
pub(crate) const TABLES: &[&str] = &["account", "entry", "note"];

/// Makes them.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL DEFAULT 0);
    INSERT INTO account (id) SELECT generate_series(1, 100);
    CREATE TABLE entry (
        writer int, number bigint, account int NOT NULL REFERENCES account, amount bigint NOT NULL,
        text text, at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (writer, number)
    );
    CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text UNIQUE);
";

/// Clients at work.
pub(crate) struct Load {
    commits: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many clients write to the database from now on.
    pub(crate) fn start(database: &Database, clients: i32) -> Self {
        Self::start_with(database, clients, Duration::from_millis(10))
    }

    /// One client writes at leisure.
    pub(crate) fn start_slow(database: &Database) -> Self {
        Self::start_with(database, 1, Duration::from_millis(400))
    }

    fn start_with(database: &Database, clients: i32, pause: Duration) -> Self {
        let (commits, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let writer = |number| {
            tokio::spawn(write(number, database.url(), pause, Arc::clone(&commits), Arc::clone(&stop)))
        };
        let writers = (1..=clients).map(writer).collect();
        Self { commits, stop, writers }
    }

    /// Waits until so many more transactions are committed.
    pub(crate) async fn more(&self, transactions: u64) {
        let before = self.commits.load(Ordering::Relaxed);
        let goal = before + transactions;
        eventually(PATIENCE, "the clients write", async || {
            let now = self.commits.load(Ordering::Relaxed);
            if now >= goal { Ok(()) } else { Err(format!("{before} then, {now} now")) }
        })
        .await;
    }

    /// Ends it when every client has finished what it was at.
    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.unwrap();
        }
    }
}

/// One client; it connects anew after each failure and never asks what became of a transaction.
async fn write(writer: i32, url: String, pause: Duration, commits: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut random = fastrand::Rng::with_seed(writer.unsigned_abs().into());
    let (mut client, mut number) = (None::<Client>, 0_i64);
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = client.take() else {
            client = connect(&url).await.ok();
            if client.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            continue;
        };
        number += 1;
        if open.batch_execute(&transaction(writer, number, &mut random)).await.is_ok() {
            commits.fetch_add(1, Ordering::Relaxed);
            client = Some(open);
        }
        // What people and networks need in between.
        tokio::time::sleep(pause.mul_f64(random.f64())).await;
    }
}

/// Moves money between two accounts, and writes and deletes some more; a part is taken back at times.
fn transaction(writer: i32, number: i64, random: &mut fastrand::Rng) -> String {
    let (payer, payee, amount) = (random.i32(1..=50), random.i32(51..=100), random.i64(1..100));
    let undone = if random.bool() { "ROLLBACK TO SAVEPOINT part" } else { "RELEASE SAVEPOINT part" };
    let end = if random.u8(0..10) == 0 { "ROLLBACK" } else { "COMMIT" };
    format!(
        "BEGIN;
         UPDATE account SET balance = balance - {amount} WHERE id = {payer};
         INSERT INTO entry VALUES ({writer}, {number}, {payer}, -{amount}, repeat('x', {payee}));
         SAVEPOINT part;
         INSERT INTO note (body) VALUES ('{writer} wrote {number}');
         DELETE FROM entry WHERE writer = {writer} AND number = {number} - 50;
         {undone};
         INSERT INTO entry VALUES ({writer}, -{number}, {payee}, {amount}, NULL);
         DELETE FROM note WHERE body = '{writer} wrote ' || ({number} - 100);
         UPDATE account SET balance = balance + {amount} WHERE id = {payee};
         {end}"
    )
}

/// Waits until what is committed on the primary now is on these replicas.
pub(crate) async fn until_arrived(primary: &Database, replicas: &[Database]) {
    let insert = "INSERT INTO note (body) VALUES (gen_random_uuid()) RETURNING body";
    let row = primary.client().await.query_one(insert, &[]).await.unwrap();
    let mark: String = row.get(0);
    for replica in replicas {
        eventually(PATIENCE, &format!("{replica} follows"), async || {
            let client = replica.look().await.map_err(|error| error.to_string())?;
            let found = client.query_one("SELECT EXISTS (SELECT FROM note WHERE body = $1)", &[&mark]).await;
            match found.map(|row| row.get(0)) {
                Ok(true) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}
