//! The benchmark's smallest form: that it runs, not how fast anything is.

use serde_json::json;

use crate::{
    bench::{Scope, run},
    support::{Mode, world},
};

#[tokio::test]
async fn the_benchmark_runs() {
    let world = world(Mode::Postgres, 1).build().await;
    for database in [world.primary(), world.replica(1)] {
        if database.cluster().program_if_there("pgbench", "the benchmark").is_none() {
            return;
        }
    }
    let scope = Scope {
        workloads: vec!["B4".to_owned(), "B11".to_owned()],
        seconds: 1,
        rounds: 1,
        clients: vec![1],
        scale: 1,
        own_broker: false,
    };
    let results = run(&scope).await;
    results.print();
    results.write(concat!(env!("CARGO_TARGET_TMPDIR"), "/bench"));
    let results = results.json();
    let measures = results["measures"].as_array().expect("a list");
    let of = |what: &str| measures.iter().find(|measure| measure["what"] == what);
    for what in ["50/s: delay p50, ms", "500/s: delay p99, ms"] {
        let measure = of(what).unwrap_or_else(|| panic!("{what} is missing: {results:#}"));
        for system in ["logical", "pgfanout"] {
            let value = &measure["systems"][system]["median"];
            assert!(value.as_f64() > Some(0.0), "{what}, {system}: {value}");
        }
    }
    let verified =
        &of("narrow rows verified a second").expect("it was measured")["systems"]["pgfanout"]["median"];
    assert!(verified.as_f64() > Some(0.0), "{verified}");
    assert_ne!(of("500/s: delay p50, ms").expect("it was measured")["goals"], json!([]));
}
