//! Private, throw-away servers for pgfanout's tests and demonstration.
//!
//! Everything is real: PostgreSQL and RabbitMQ from the system's packages, the built `pgfanout`
//! binary, TCP. Everything is private: its own ports on 127.0.0.1, its own directory, its own
//! passwords; a service of the system is neither needed nor touched.
//!
//! - [`postgres::Cluster`] and [`rabbitmq::Broker`]: one server each, to be killed, stopped, paused and
//!   started again.
//! - [`world::World`]: one test's databases and exchange, in servers that the test process shares or in
//!   servers of its own.
//! - [`process::Pgfanout`]: the program under test, with its log.
//! - [`eventually()`], [`compare`], [`proxy::Proxy`]: waiting without sleeping, comparing byte for byte,
//!   cutting links.
//!
//! Nothing outlives the test process, however it ends: see [`premises::Premises`].
//!
//! [`binaries::Side`] tells which PostgreSQL each side runs: the installed one, if none was chosen.
//!
//! Failures of the test bed itself panic with what was tried: there is nothing a test could do about
//! them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test bed that does not stand fails the test")]

pub mod account;
pub mod binaries;
pub mod certificates;
pub mod compare;
pub mod config;
mod eventually;
pub mod port;
pub mod postgres;
pub mod premises;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
mod server;
mod template;
pub mod world;

pub use eventually::{Outcome, eventually};
