//! pgfanout replicates a PostgreSQL primary to any number of PostgreSQL replicas through RabbitMQ.

pub mod config;
pub mod error;
pub mod log;
pub mod pattern;
pub mod postgres;
pub mod secret;
