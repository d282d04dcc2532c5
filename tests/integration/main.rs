//! Integration tests against real servers.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bank;
#[path = "../../benches/bench/mod.rs"]
mod bench;
mod benchmark;
mod bounds;
mod broker_faults;
mod capture;
mod command_line;
mod definition;
mod disks;
mod documents;
mod exact;
mod faults;
mod following;
mod halting;
mod history;
mod holes;
mod joining;
mod large;
mod links;
mod load;
mod lost_answers;
mod messages;
mod quiet;
mod refusals;
mod refuted;
mod soak;
mod status;
mod supervision;
mod support;
mod verify;
mod waking;
mod writing;
