//! pgfanout replicates a PostgreSQL primary to any number of PostgreSQL replicas through RabbitMQ.

pub mod batch;
pub mod broker;
pub mod change;
pub mod cli;
pub mod commands;
pub mod config;
pub mod error;
pub mod log;
pub mod pattern;
pub mod postgres;
pub mod primary;
pub mod record;
pub mod replica;
pub mod secret;
pub mod shape;
pub mod snapshot;
