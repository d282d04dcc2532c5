//! Integration tests against real servers.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bank;
mod capture;
mod definition;
mod faults;
mod following;
mod load;
mod refuted;
mod status;
mod support;
