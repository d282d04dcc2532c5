//! B4: how long a commit of one row takes to be seen on both replicas.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio_postgres::{Client, Statement};

use super::{
    Scope, cpu,
    probe::Prober,
    results::{Course, Results, percentile},
    stage::{Stage, System},
};

/// How many connections write: one alone could not commit as often.
const WRITERS: usize = 8;

/// How many probes are sent, one after the other, before it is measured.
const WARM_UP: usize = 20;

pub(crate) async fn single_rows(stage: &mut Stage, scope: &Scope, results: &mut Results) {
    for rate in [50, 500] {
        for system in [System::Logical, System::Pgfanout] {
            measure(stage, scope, results, rate, system).await;
        }
    }
}

async fn writer(stage: &Stage, system: System) -> Arc<(Client, Statement)> {
    let client = stage.client(system).await;
    let insert = client.prepare("INSERT INTO probe VALUES ($1)").await.expect("the table is there");
    Arc::new((client, insert))
}

async fn measure(stage: &mut Stage, scope: &Scope, results: &mut Results, rate: u32, system: System) {
    stage.begin(system).await;
    let mut prober = Prober::new(stage, system).await;
    let writers = join_all((0..WRITERS).map(|_| writer(stage, system))).await;
    // The first ones find nothing prepared, in any system.
    for _ in 0..WARM_UP {
        let number = prober.write().await;
        prober.seen(number).await;
    }
    let (before, started) = (cpu::used(stage), Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut written = Vec::new();
    for n in 0..(rate * scope.seconds) as usize {
        ticks.tick().await;
        let (writer, number) = (Arc::clone(&writers[n % WRITERS]), prober.number());
        written.push((number, Instant::now()));
        tokio::spawn(async move { writer.0.execute(&writer.1, &[&number]).await.expect("it is committed") });
    }
    let mut course: Course = Vec::new();
    for (number, at) in written {
        let delay = prober.seen(number).await.duration_since(at).as_secs_f64() * 1e3;
        course.push((at.duration_since(started).as_secs_f64(), delay));
    }
    let spent = before.until(&cpu::used(stage));
    let delays: Vec<f64> = course.iter().map(|point| point.1).collect();
    let mut add = |what: &str, value: f64| results.add("B4", &format!("{rate}/s: {what}"), system, value);
    add("delay p50, ms", percentile(&delays, 0.5));
    add("delay p99, ms", percentile(&delays, 0.99));
    let each = |seconds: f64| seconds * 1e6 / delays.len() as f64;
    add("CPU of the primary a change, µs", each(spent.primary()));
    add("CPU of a replica a change, µs", each(spent.replica()));
    if system == System::Pgfanout {
        add("CPU of the broker a change, µs", each(spent.broker));
        add("CPU of pgfanout a change, µs", each(spent.pgfanout));
    }
    results.course("B4", &format!("{rate}/s: delay, ms"), system, course);
    stage.end(system).await;
}
