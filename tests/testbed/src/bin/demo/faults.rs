//! The third act: the broker and a replica are killed under load, and come back.

use std::time::{Duration, Instant};

use pgfanout_testbed::postgres::{self, Cluster};
use tokio::time::sleep;

use crate::{
    load::{Load, TABLES},
    show,
    stage::Stage,
};

/// More than the act can take.
const SECONDS: u32 = 120;

pub(crate) async fn show(stage: &mut Stage) {
    show::title("The broker and a replica are killed");
    show::text(
        "pgbench writes all along. The numbers are the rows of pgbench_history, of which every transaction\n\
         inserts one:",
    );
    let mark = stage.pgfanout.mark();
    let load = Load::start(stage, SECONDS);
    break_and_mend(stage).await;
    load.stop();
    show::text("The load is stopped. What pgfanout's log warned of meanwhile:");
    show_warnings(stage, mark);
    let ended = Instant::now();
    stage.wait_for_tables(&TABLES).await;
    show::good(&format!(
        "Both replicas equal the primary, byte for byte, {:.1} s after the load's end.",
        ended.elapsed().as_secs_f64()
    ));
    for (name, cluster) in servers(stage) {
        show::fact(&format!("{name:8}  {}", count(cluster).await));
    }
}

/// The order of events; the load goes on all along.
async fn break_and_mend(stage: &Stage) {
    watch_for(stage, 3).await;
    show::action("kill -9 of the broker");
    stage.broker.kill9().await;
    watch_for(stage, 3).await;
    show::action("the broker is started again");
    tokio::select! {
        () = stage.broker.start_again() => {}
        // It takes some five seconds.
        () = watch_for(stage, SECONDS) => {}
    }
    watch_for(stage, 3).await;
    show::action("kill -9 of replica2");
    stage.replicas[1].kill9().await;
    watch_for(stage, 3).await;
    show::action("replica2 is started again");
    stage.replicas[1].start_again().await;
    watch_for(stage, 3).await;
}

/// Shows every second how far everybody is.
async fn watch_for(stage: &Stage, seconds: u32) {
    for _ in 0..seconds {
        sleep(Duration::from_secs(1)).await;
        let mut line = String::new();
        for (name, cluster) in servers(stage) {
            line += &format!("{name} {:>8}   ", count(cluster).await);
        }
        show::fact(line.trim_end());
    }
}

fn servers(stage: &Stage) -> [(&'static str, &Cluster); 3] {
    let [replica1, replica2] = &stage.replicas;
    [("primary", &stage.primary), ("replica1", replica1), ("replica2", replica2)]
}

/// The number of rows, or that the server is down.
async fn count(cluster: &Cluster) -> String {
    let rows = async {
        let client = postgres::connect(&Stage::url(cluster)).await.ok()?;
        let row = client.query_one("SELECT count(*) FROM pgbench_history", &[]).await.ok()?;
        Some(show::number(row.get::<_, i64>(0).unsigned_abs()))
    };
    rows.await.unwrap_or_else(|| "down".to_owned())
}

/// What pgfanout warned of since the mark: once for each stage, as it repeats itself while it tries again.
fn show_warnings(stage: &Stage, mark: usize) {
    let mut told = Vec::new();
    for line in stage.pgfanout.log_after(mark) {
        let text = |field| line[field].as_str().unwrap_or_default().to_owned();
        let stage = (text("event"), text("stage"), text("replica"));
        if matches!(line["level"].as_str(), Some("WARN" | "ERROR")) && !told.contains(&stage) {
            show::fact(&format!("{} {}  {:.100}", stage.1, stage.2, text("message")));
            told.push(stage);
        }
    }
}
