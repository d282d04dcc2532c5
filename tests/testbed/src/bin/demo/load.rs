//! The second act: tables that join, and pgbench's load on them.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pgfanout_testbed::eventually;
use tokio_postgres::Client;

use crate::{show, stage::SOON, stage::Stage};

/// pgbench's tables.
pub(crate) const TABLES: [&str; 4] =
    ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"];

/// One of pgbench's transactions updates three rows and inserts one.
const CHANGES_PER_TRANSACTION: f64 = 4.0;

const SECONDS: u32 = 8;

pub(crate) async fn show(stage: &mut Stage) {
    show::title("Tables join, and are copied");
    create_tables(stage).await;
    let started = Instant::now();
    stage.pgfanout.reload();
    stage.wait_for_tables(&TABLES).await;
    show::good(&format!("Created and copied to both replicas in {:.1} s.", started.elapsed().as_secs_f64()));

    show::title("pgbench's load");
    show::text(&format!(
        "Four clients write for {SECONDS} s. The delay is that of a probe: a row written on the primary, and looked\n\
         for on both replicas. (For the show, its servers do not wait for the disk.)"
    ));
    let load = Load::start(stage, SECONDS);
    let (primary, replicas) = stage.clients().await;
    let mut probes = Vec::new();
    for second in 1..=SECONDS {
        let delays = probe_for_a_second(&primary, &replicas).await;
        let changes = show::number((load.rate() * CHANGES_PER_TRANSACTION) as u64);
        show::fact(&format!("{second} s: {changes:>7} row changes a second, delay {}", summary(&delays)));
        probes.extend(delays);
    }
    load.end().await;
    let ended = Instant::now();
    stage.wait_for_tables(&TABLES).await;
    show::text(&format!("Delay of all {} probes: {}.", probes.len(), summary(&probes)));
    show::good(&format!(
        "Both replicas equal the primary, byte for byte; looking took {} ms.",
        ended.elapsed().as_millis()
    ));
}

async fn create_tables(stage: &Stage) {
    show::text("pgbench makes its tables on the primary. The one without a key gets one: rows need a name.");
    show::fact("pgbench --initialize");
    let mut pgbench = stage.on_primary("pgbench", &["--initialize", "--quiet"]);
    let made = pgbench.output().expect("pgbench is there");
    assert!(made.status.success(), "pgbench: {}", String::from_utf8_lossy(&made.stderr));
    let key = "ALTER TABLE pgbench_history ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY";
    show::fact(key);
    let (primary, _) = stage.clients().await;
    primary.batch_execute(key).await.expect("the table is new");
    let rows =
        show::rows(&primary, "SELECT count(*) FROM pgbench_accounts").await.expect("the table is there");
    show::text(&format!(
        "pgfanout is told to look at its tables again (SIGHUP). Rows of the largest: {rows}"
    ));
}

/// Writes to a row of the first act again and again, and returns how long each write took to be seen
/// on both replicas, in milliseconds.
async fn probe_for_a_second(primary: &Client, replicas: &[Client; 2]) -> Vec<f64> {
    let (started, mut delays) = (Instant::now(), Vec::new());
    while started.elapsed() < Duration::from_secs(1) {
        let write = "UPDATE users SET name = 'probe ' || clock_timestamp() WHERE id = 2 RETURNING name";
        let name: String = primary.query_one(write, &[]).await.expect("the row is there").get(0);
        let written = Instant::now();
        let seen = futures_util::future::join_all(replicas.each_ref().map(|replica| see(replica, &name)));
        tokio::time::timeout(SOON, seen).await.expect("the probe's row comes to both replicas");
        delays.push(written.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    delays
}

/// Returns when the replica has the row with this name.
async fn see(replica: &Client, name: &str) {
    let read = "SELECT FROM users WHERE id = 2 AND name = $1";
    while replica.query_opt(read, &[&name]).await.expect("the table is there").is_none() {
        // As often as the two cores that all this shares can bear.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn summary(delays: &[f64]) -> String {
    let mut sorted = delays.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(median), Some(longest)) => format!("{median:.1} ms (median), {longest:.1} ms (longest)"),
        _ => "unknown".to_owned(),
    }
}

/// A running pgbench.
pub(crate) struct Load {
    pgbench: Child,
    /// Transactions a second, in thousandths, in the last second.
    rate: Arc<AtomicU64>,
}

impl Load {
    /// Starts four clients that write for some seconds, or until they are stopped.
    pub(crate) fn start(stage: &Stage, seconds: u32) -> Self {
        let seconds = seconds.to_string();
        let arguments =
            ["--no-vacuum", "--client", "4", "--jobs", "1", "--progress", "1", "--time", &seconds];
        let mut pgbench = stage
            .on_primary("pgbench", &arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pgbench is there");
        let rate = Arc::new(AtomicU64::new(0));
        let (progress, told) = (pgbench.stderr.take().expect("it is piped"), rate.clone());
        thread::spawn(move || {
            // "progress: 1.0 s, 1234.5 tps, lat …"
            for line in BufReader::new(progress).lines().map_while(Result::ok) {
                let tps = line.split(", ").find_map(|part| part.strip_suffix(" tps")?.parse::<f64>().ok());
                told.store((tps.unwrap_or(0.0) * 1000.0) as u64, Ordering::Relaxed);
            }
        });
        Self { pgbench, rate }
    }

    /// Transactions a second, in the last second.
    pub(crate) fn rate(&self) -> f64 {
        self.rate.load(Ordering::Relaxed) as f64 / 1000.0
    }

    /// Stops it.
    pub(crate) fn stop(mut self) {
        let status = self.pgbench.try_wait().expect("it is our child");
        assert!(status.is_none(), "pgbench ended by itself: {status:?}");
        let _ = (self.pgbench.kill(), self.pgbench.wait());
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) {
        let limit = Duration::from_secs(60);
        let status =
            eventually(limit, "pgbench ends", async || self.pgbench.try_wait().unwrap().ok_or("it runs"))
                .await;
        assert!(status.success(), "pgbench: {status}");
    }
}
