//! `make bench`: the workloads against the yardsticks of the same run. See `bench/mod.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that does not stand has no result")]

mod bench;

use std::{env, str::FromStr};

use bench::{Scope, run};

/// An environment variable's list of values, or what stands for it.
fn given<T: FromStr + Clone>(name: &str, default: &[T]) -> Vec<T> {
    let text = env::var(format!("PGFANOUT_BENCH_{name}")).unwrap_or_default();
    let value = |word: &str| {
        word.trim().parse().unwrap_or_else(|_| panic!("{name}: {word:?} is not what it should be"))
    };
    match text.trim().is_empty() {
        true => default.to_vec(),
        false => text.split(',').map(value).collect(),
    }
}

fn main() {
    let all = bench::WORKLOADS.map(str::to_owned);
    let scope = Scope {
        workloads: given("WORKLOADS", &all),
        seconds: given("SECONDS", &[30])[0],
        rounds: given("ROUNDS", &[3])[0],
        clients: given("CLIENTS", &[4, 16]),
        scale: given("SCALE", &[10])[0],
        own_broker: true,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let results = runtime.block_on(run(&scope));
    results.print();
    results.write("target/bench");
}
