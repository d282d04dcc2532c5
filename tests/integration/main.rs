//! Integration tests against real servers.
#![allow(clippy::unwrap_used, clippy::panic)]

mod capture;
mod command_line;
mod definition;
mod faults;
mod following;
mod load;
mod messages;
mod refuted;
mod status;
mod support;
