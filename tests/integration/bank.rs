//! A bank whose money is constant in every snapshot that a replica shows, while clients transfer it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use pgfanout_testbed::{eventually, world::World};
use tokio_postgres::{Client, Error, error::SqlState};

use crate::support::{Mode, PATIENCE, begin, until_same, world};

const CLIENTS: usize = 8;
const ACCOUNTS: i32 = 60;
pub(crate) const MONEY: i64 = 1000 * ACCOUNTS as i64;
/// How many states each observer has to see; the first and the last alone would prove nothing.
const STATES: usize = 100;

pub(crate) const SETUP: &str = "CREATE TABLE checking (id int PRIMARY KEY, balance bigint NOT NULL);
    CREATE TABLE savings (id int PRIMARY KEY, balance bigint NOT NULL);
    CREATE TABLE transfer (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), taken_from int, given_to int, amount bigint);
    INSERT INTO checking SELECT n, 1000 FROM generate_series(0, 58, 2) n;
    INSERT INTO savings SELECT n, 1000 FROM generate_series(1, 59, 2) n";

/// One statement, one snapshot: the money, how much of it the transfers don't explain, how many there are,
/// and whether all tables stand at the position together.
pub(crate) const OBSERVE: &str = "WITH account AS (SELECT * FROM checking UNION ALL SELECT * FROM savings),
    moved AS (
        SELECT id, sum(amount) AS amount
        FROM (SELECT taken_from AS id, -amount AS amount FROM transfer UNION ALL SELECT given_to, amount FROM transfer) m
        GROUP BY id
    )
    SELECT sum(a.balance)::bigint AS money,
        sum(abs(a.balance - 1000 - coalesce(m.amount, 0)))::bigint AS unexplained,
        (SELECT count(*) FROM transfer) AS transfers,
        (SELECT number FROM pgfanout.position) AS batch,
        (SELECT count(*) >= 3 AND count(snapshot) = 0 FROM pgfanout.replicated_table) AS joined
    FROM account a LEFT JOIN moved m ON m.id = a.id";

pub(crate) const TABLES: [&str; 3] = ["checking", "savings", "transfer"];

/// Whether the batch with this number, where a replica stands, came through the broker.
pub(crate) async fn by_broker(primary: &Client, number: Option<i64>) -> bool {
    let published = "SELECT EXISTS (SELECT FROM pgfanout.batch WHERE number = $1 AND replica IS NULL)";
    match primary.query_one(published, &[&number]).await {
        // Nothing is installed yet, and so nothing was published.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => false,
        row => row.unwrap().get(0),
    }
}

/// Waits until so many tables stand at the position of every replica: those being copied are excepted from
/// showing one moment together.
pub(crate) async fn until_joined(world: &World, tables: usize) {
    let joined = "SELECT count(*) FILTER (WHERE snapshot IS NULL) FROM pgfanout.replicated_table";
    for replica in world.replicas() {
        eventually(PATIENCE, "tables join", async || {
            let client = replica.look().await.map_err(|error| error.to_string())?;
            let row = client.query_one(joined, &[]).await.map_err(|error| error.to_string())?;
            let count: i64 = row.get(0);
            if usize::try_from(count) == Ok(tables) { Ok(()) } else { Err(format!("{count} joined")) }
        })
        .await;
    }
}

fn table(account: i32) -> &'static str {
    if account % 2 == 0 { "checking" } else { "savings" }
}

/// One transfer; some are taken back.
pub(crate) async fn transfer(client: &Client, random: &mut fastrand::Rng) -> Result<(), Error> {
    let (from, to, amount) = (random.i32(0..ACCOUNTS), random.i32(0..ACCOUNTS), random.i64(1..50));
    let change = |account: i32, by: i64| {
        format!("UPDATE {} SET balance = balance + {by} WHERE id = {account}", table(account))
    };
    let isolation = random.choice(["READ COMMITTED", "READ COMMITTED", "REPEATABLE READ"]);
    client.batch_execute(&format!("BEGIN ISOLATION LEVEL {}", isolation.unwrap_or_default())).await?;
    client.batch_execute(&change(from, -amount)).await?;
    if random.u8(..) < 80 {
        // What is taken back must never be seen.
        client.batch_execute(&format!("SAVEPOINT s; {}", change(random.i32(0..ACCOUNTS), 1_000_000))).await?;
        client.batch_execute("DELETE FROM transfer; ROLLBACK TO s").await?;
    }
    client.batch_execute(&change(to, amount)).await?;
    let note = "INSERT INTO transfer (taken_from, given_to, amount) VALUES ($1, $2, $3)";
    client.execute(note, &[&from, &to, &amount]).await?;
    let end = if random.u8(..) < 230 { "COMMIT" } else { "ROLLBACK" };
    client.batch_execute(end).await
}

/// Transfers until told to stop; what another client was in the way of is tried again.
async fn client(client: Client, seed: u64, stop: Arc<AtomicBool>) {
    let mut random = fastrand::Rng::with_seed(seed);
    client.batch_execute("SET deadlock_timeout = '20ms'").await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        let Err(error) = transfer(&client, &mut random).await else { continue };
        let retry = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
        assert!(error.code().is_some_and(|code| retry.contains(code)), "a transfer failed: {error:?}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
}

/// Looks at a replica until it has shown enough states; returns how many of them came through the broker.
async fn observe(primary: Client, replica: Client, enough: usize) -> usize {
    let (mut states, mut by_broker_count, mut looks) = (BTreeSet::new(), 0, 0);
    let deadline = Instant::now() + 4 * PATIENCE;
    while states.len() < enough {
        let row = replica.query_one(OBSERVE, &[]).await.unwrap();
        looks += 1;
        let (money, unexplained): (i64, i64) = (row.get("money"), row.get("unexplained"));
        assert_eq!(
            (money, unexplained),
            (MONEY, 0),
            "look {looks}, with {} states seen before",
            states.len()
        );
        if states.insert(row.get::<_, i64>("transfers")) {
            by_broker_count += usize::from(by_broker(&primary, row.get("batch")).await);
        }
        assert!(Instant::now() < deadline, "only {} states in {looks} looks", states.len());
    }
    eprintln!("{looks} looks, {enough} states, {by_broker_count} through the broker");
    by_broker_count
}

async fn money_is_constant(mode: Mode) {
    let world: World = world(mode, 2).build().await;
    world.primary().execute(SETUP).await;
    let _pgfanout = begin(&world);
    until_joined(&world, TABLES.len()).await;
    for by_broker in transfers(&world, STATES, async |_| ()).await {
        match mode {
            Mode::Broker => assert!(by_broker > STATES / 2, "{by_broker} of {STATES} through the broker"),
            Mode::Postgres => assert_eq!(by_broker, 0),
        }
    }
}

/// Transfers money until every replica has shown so many states, none of which was impossible, while somebody
/// meddles; then compares the replicas with the primary. Returns how many states of each came through the broker.
pub(crate) async fn transfers(
    world: &World,
    states: usize,
    meddle: impl AsyncFnOnce(Arc<AtomicBool>),
) -> Vec<usize> {
    let (seed, stop) = (fastrand::u64(..), Arc::new(AtomicBool::new(false)));
    eprintln!("seed {seed}");
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..CLIENTS as u64 {
        clients.spawn(client(world.primary().client().await, seed.wrapping_add(n), Arc::clone(&stop)));
    }
    let mut observers = Vec::new();
    for replica in world.replicas() {
        let (primary, replica) = (world.primary().client().await, replica.client().await);
        observers.push(tokio::spawn(observe(primary, replica, states)));
    }
    let observing = async {
        let seen = futures_util::future::join_all(observers).await;
        stop.store(true, Ordering::Relaxed);
        seen.into_iter().map(Result::unwrap).collect()
    };
    let (seen, ()) = tokio::join!(observing, meddle(Arc::clone(&stop)));
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    until_same(world, &TABLES).await;
    seen
}

#[tokio::test]
async fn money_is_constant_through_the_broker() {
    money_is_constant(Mode::Broker).await;
}

#[tokio::test]
async fn money_is_constant_without_a_broker() {
    money_is_constant(Mode::Postgres).await;
}
