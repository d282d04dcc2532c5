//! pgbench's load: B1, B2, B10 with a replica that is away, and none at all: B9.

use std::{
    io::{BufRead, BufReader, Read as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    Scope, cpu,
    probe::Prober,
    results::{Course, Results, median},
    stage::{Stage, System},
};

/// What pgbench told.
struct Told {
    tps: f64,
    course: Course,
}

/// B1: one update and one insert a transaction.
pub(crate) async fn simple_update(stage: &mut Stage, scope: &Scope, results: &mut Results) {
    for &clients in &scope.clients {
        for system in System::HOUSED {
            measure(stage, scope, results, ("B1", "simple-update", 2.0), clients, system).await;
        }
    }
}

/// B2: three updates, two of hot rows, and an insert.
pub(crate) async fn tpcb_like(stage: &mut Stage, scope: &Scope, results: &mut Results) {
    for system in [System::Bare, System::Logical, System::Pgfanout] {
        measure(stage, scope, results, ("B2", "tpcb-like", 4.0), 4, system).await;
    }
}

/// B10: the same with both replicas, and with one of them away.
pub(crate) async fn absent(stage: &mut Stage, scope: &Scope, results: &mut Results) {
    for system in [System::Pgfanout, System::OneAway] {
        measure(stage, scope, results, ("B10", "simple-update", 2.0), 4, system).await;
    }
}

/// What came of a load.
pub(crate) struct Loaded {
    told: Told,
    /// When each probe was written, in seconds, and how long it took to be seen in milliseconds.
    delays: Course,
    /// How long after the load its last change was seen.
    drained: Duration,
    spent: cpu::Spent,
    changes: f64,
}

impl Loaded {
    pub(crate) const fn tps(&self) -> f64 {
        self.told.tps
    }

    pub(crate) fn median_delay(&self) -> f64 {
        median(&self.delays.iter().map(|delay| delay.1).collect::<Vec<_>>())
    }

    /// Microseconds of a processor for each change, of so many seconds in all.
    fn each(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.changes
    }

    /// What each change cost the primary, in microseconds of a processor.
    pub(crate) fn primary(&self) -> f64 {
        self.each(self.spent.primary())
    }
}

/// Loads a system that has begun, by one of pgbench's scripts.
pub(crate) async fn load(
    stage: &Stage,
    system: System,
    (script, changes_each): (&str, f64),
    (clients, seconds, rate): (u32, u32, Option<u32>),
) -> Loaded {
    let mut prober = Prober::new(stage, system).await;
    let before = cpu::used(stage);
    let load = pgbench(stage, system, script, (clients, seconds, rate));
    let (told, delays) = probing(load, &mut prober, Instant::now()).await;
    // Of what was written all that is still under way is to be counted too.
    let ended = Instant::now();
    let number = prober.write().await;
    let drained = prober.seen(number).await.duration_since(ended);
    let spent = before.until(&cpu::used(stage));
    let changes = told.tps * f64::from(seconds) * changes_each;
    Loaded { told, delays, drained, spent, changes }
}

async fn measure(
    stage: &mut Stage,
    scope: &Scope,
    results: &mut Results,
    (workload, script, changes_each): (&'static str, &str, f64),
    clients: u32,
    system: System,
) {
    stage.begin(system).await;
    let loaded = load(stage, system, (script, changes_each), (clients, scope.seconds, None)).await;
    let mut add = |what: &str, value: f64| {
        results.add(workload, &format!("{clients} clients: {what}"), system, value);
    };
    add("tps", loaded.tps());
    add("CPU of the primary a change, µs", loaded.primary());
    let of = |stagehand| loaded.each(loaded.spent.primary_of(stagehand));
    add("CPU of its application sessions a change, µs", of(cpu::Stagehand::Application));
    if system.replicates() {
        add("CPU of its replicating sessions a change, µs", of(cpu::Stagehand::Replication));
        add("CPU of a replica a change, µs", loaded.each(loaded.spent.replica()));
        add("longest delay, ms", loaded.delays.iter().map(|delay| delay.1).fold(0.0, f64::max));
        add("median delay, ms", loaded.median_delay());
        add("drained after, ms", loaded.drained.as_secs_f64() * 1e3);
    }
    if let Some(pgfanout) = &stage.pgfanout {
        add("CPU of the broker a change, µs", loaded.each(loaded.spent.broker));
        add("CPU of pgfanout a change, µs", loaded.each(loaded.spent.pgfanout));
        add("RSS, MiB", pgfanout.peak_rss_bytes() as f64 / f64::from(1 << 20));
    }
    let Loaded { told, delays, .. } = loaded;
    results.course(workload, &format!("{clients} clients: transactions a second"), system, told.course);
    if system.replicates() {
        results.course(workload, &format!("{clients} clients: delay, ms"), system, delays);
    }
    stage.end(system).await;
}

/// Five probes a second until the load ends: when, and how long each took to be seen in milliseconds.
async fn probing(load: impl Future<Output = Told>, prober: &mut Prober, started: Instant) -> (Told, Course) {
    let mut load = std::pin::pin!(load);
    let mut delays = Vec::new();
    loop {
        let pause = tokio::time::sleep(Duration::from_millis(200));
        tokio::select! {
            told = &mut load => return (told, delays),
            () = pause => {}
        }
        let written = Instant::now();
        let number = prober.write().await;
        let delay = prober.seen(number).await.duration_since(written);
        delays.push((written.duration_since(started).as_secs_f64(), delay.as_secs_f64() * 1e3));
    }
}

/// Runs pgbench with so many clients, for so many seconds, at so many transactions a second or as many as can be.
fn pgbench(
    stage: &Stage,
    system: System,
    script: &str,
    (clients, seconds, rate): (u32, u32, Option<u32>),
) -> impl Future<Output = Told> + use<> {
    let mut command = Command::new(stage.primary().program("pgbench"));
    command.args(["--no-vacuum", "--jobs", "2", "--progress", "1", "--protocol", "prepared"]);
    command.args(["--client", &clients.to_string(), "--time", &seconds.to_string()]);
    command.args(rate.map(|rate| format!("--rate={rate}")));
    command.args(["--builtin", script, &stage.primary().url(system.database())]);
    let run = tokio::task::spawn_blocking(move || {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is there");
        let progress = BufReader::new(child.stderr.take().unwrap());
        // "progress: 1.0 s, 1234.5 tps, lat …"
        let second = |line: String| {
            let mut words = line.strip_prefix("progress: ")?.split(", ");
            let seconds = words.next()?.strip_suffix(" s")?.parse().ok()?;
            Some((seconds, words.next()?.strip_suffix(" tps")?.parse().ok()?))
        };
        let course: Course = progress.lines().map_while(Result::ok).filter_map(second).collect();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).expect("it prints text");
        assert!(child.wait().is_ok_and(|status| status.success()), "pgbench: {text}");
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        Told { tps: tps.unwrap_or_else(|| panic!("pgbench: {text}")), course }
    });
    async move { run.await.expect("it does not panic") }
}

/// B9: nothing to do.
pub(crate) async fn idle(stage: &mut Stage, scope: &Scope, results: &mut Results) {
    let system = System::Pgfanout;
    stage.begin(system).await;
    // What follows the start, such as the first looks and reports, is over soon.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (before, started) = (cpu::used(stage), Instant::now());
    tokio::time::sleep(Duration::from_secs(scope.seconds.into())).await;
    let (spent, seconds) = (before.until(&cpu::used(stage)), started.elapsed().as_secs_f64());
    let mut add = |what: &str, value: f64| results.add("B9", what, system, value);
    add("idle CPU of pgfanout, % of a core", spent.pgfanout / seconds * 100.0);
    add("idle CPU of the primary, % of a core", spent.primary() / seconds * 100.0);
    add("idle CPU of a replica, % of a core", spent.replica() / seconds * 100.0);
    if let Some(pgfanout) = &stage.pgfanout {
        add("RSS, MiB", pgfanout.rss_bytes() as f64 / f64::from(1 << 20));
    }
    stage.end(system).await;
}
