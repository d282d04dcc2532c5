//! The benchmark. Real servers, fsync on, all on one machine; each workload is run against each system in
//! turn, round after round, so that a machine whose speed drifts is as fast or slow for all of them. What is
//! worth reading is the ratio within a round, and the CPU of a change, which drifts less than the clock.

mod behind;
mod bulk;
mod cpu;
mod crowd;
mod delays;
mod goals;
mod held;
mod load;
mod plot;
mod probe;
mod results;
mod stage;
mod verifying;

pub(crate) use results::Results;
use stage::Stage;

/// All workloads that there are.
pub(crate) const WORKLOADS: [&str; 11] = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11"];

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// Which workloads.
    pub(crate) workloads: Vec<String>,
    /// How long each measurement lasts.
    pub(crate) seconds: u32,
    /// How often all is measured.
    pub(crate) rounds: u32,
    /// With how many clients B1 is run.
    pub(crate) clients: Vec<u32>,
    /// pgbench's scale: 100,000 accounts each.
    pub(crate) scale: u32,
    /// Whether the broker is the benchmark's own.
    pub(crate) own_broker: bool,
}

/// Measures.
pub(crate) async fn run(scope: &Scope) -> Results {
    for workload in &scope.workloads {
        assert!(WORKLOADS.contains(&workload.as_str()), "{workload}: there are {WORKLOADS:?}");
    }
    let mut stage = Stage::set(scope).await;
    let mut results = Results::default();
    for round in 1..=scope.rounds {
        for workload in &scope.workloads {
            eprintln!("round {round} of {}: {workload}", scope.rounds);
            match workload.as_str() {
                "B1" => load::simple_update(&mut stage, scope, &mut results).await,
                "B2" => load::tpcb_like(&mut stage, scope, &mut results).await,
                "B3" => bulk::statements(&mut stage, scope, &mut results).await,
                "B4" => delays::single_rows(&mut stage, scope, &mut results).await,
                "B5" => behind::copies(&mut stage, scope, &mut results).await,
                "B6" => behind::changes(&mut stage, scope, &mut results).await,
                "B7" => crowd::replicas(&mut stage, scope, &mut results).await,
                "B8" => held::held_back(&mut stage, scope, &mut results).await,
                "B11" => verifying::narrow(&mut stage, scope, &mut results).await,
                "B10" => load::absent(&mut stage, scope, &mut results).await,
                _ => load::idle(&mut stage, scope, &mut results).await,
            }
        }
    }
    results
}
