//! B3: statements that change half a million rows.

use std::time::Instant;

use super::{
    Scope, cpu,
    probe::Prober,
    results::Results,
    stage::{Stage, System},
};

const ROWS_PER_SCALE: u32 = 50_000;

pub(crate) async fn statements(stage: &mut Stage, scope: &Scope, results: &mut Results) {
    let insert = format!(
        "INSERT INTO bulk SELECT g, md5(g::text), g * 1.5, '2026-01-01'::timestamptz + g * interval '1 s', \
         jsonb_build_object('id', g, 'text', repeat(md5(g::text), 4)) FROM generate_series(1, {}) g",
        scope.scale * ROWS_PER_SCALE
    );
    let statements = [
        ("INSERT", insert.as_str()),
        ("UPDATE", "UPDATE bulk SET n = n + 1"),
        ("DELETE", "DELETE FROM bulk"),
    ];
    for system in [System::Bare, System::Logical, System::Pgfanout] {
        stage.begin(system).await;
        let mut prober = Prober::new(stage, system).await;
        // The first change after the start finds nothing prepared, in any system.
        let first = prober.write().await;
        prober.seen(first).await;
        for (name, statement) in statements {
            let number = prober.number();
            let transaction = format!("BEGIN; {statement}; INSERT INTO probe VALUES ({number}); COMMIT");
            let (before, started) = (cpu::used(stage), Instant::now());
            prober.writer.batch_execute(&transaction).await.expect("it is committed");
            let mut add = |what: &str, at: Instant| {
                let seconds = at.duration_since(started).as_secs_f64();
                results.add("B3", &format!("{name} {what}, s"), system, seconds);
            };
            add("statement", Instant::now());
            if system.replicates() {
                add("until seen", prober.seen(number).await);
                let spent = before.until(&cpu::used(stage));
                let mut spent_by = |who: &str, seconds: f64| {
                    results.add("B3", &format!("{name} CPU of {who}, s"), system, seconds);
                };
                spent_by("the primary", spent.primary());
                spent_by("a replica", spent.replica());
                if system == System::Pgfanout {
                    spent_by("the broker", spent.broker);
                    spent_by("pgfanout", spent.pgfanout);
                }
            }
        }
        if let Some(pgfanout) = &stage.pgfanout {
            let peak = pgfanout.peak_rss_bytes() as f64 / f64::from(1 << 20);
            results.add("B3", "RSS, MiB", system, peak);
        }
        prober.writer.batch_execute("VACUUM bulk").await.expect("it is its own");
        stage.end(system).await;
    }
}
