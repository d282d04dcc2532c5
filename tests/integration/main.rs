//! Integration tests against real servers.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bank;
mod bounds;
mod capture;
mod command_line;
mod definition;
mod documents;
mod exact;
mod faults;
mod following;
mod holes;
mod joining;
mod large;
mod links;
mod load;
mod lost_answers;
mod messages;
mod refusals;
mod refuted;
mod soak;
mod status;
mod supervision;
mod support;
mod waking;
mod writing;
