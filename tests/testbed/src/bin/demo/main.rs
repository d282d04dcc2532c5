//! `make demo`: shows pgfanout at work with servers of its own, and leaves nothing behind.
//!
//! With `--keep` everything runs on at the end, until Ctrl-C.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a demonstration that does not work ends with the reason"
)]

use std::{env, panic, process::ExitCode, time::Instant};

use crate::stage::Stage;

mod faults;
mod first_changes;
mod listener;
mod load;
mod show;
mod stage;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let keep = match env::args().nth(1).as_deref() {
        None => false,
        Some("--keep") => true,
        Some(_) => {
            eprintln!("usage: demo [--keep]");
            return ExitCode::from(2);
        }
    };
    // Why it failed is said in a sentence; where in the demonstration's code is nobody's concern.
    panic::set_hook(Box::new(|failure| {
        let (text, words) = (failure.payload().downcast_ref(), failure.payload().downcast_ref::<&str>());
        let reason = text.map(String::as_str).or(words.copied()).unwrap_or("no reason was given");
        eprintln!("\nThe demonstration failed: {reason}");
    }));
    let started = Instant::now();
    let mut stage = Stage::set().await;
    first_changes::show(&mut stage).await;
    load::show(&mut stage).await;
    faults::show(&mut stage).await;
    stage.show_status().await;
    if keep {
        stage.keep().await;
    }
    stage.end().await;
    show::text(&format!("That was all, in {:.0} s. Nothing is left of it.", started.elapsed().as_secs_f64()));
    ExitCode::SUCCESS
}
