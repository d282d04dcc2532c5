//! pgfanout replicates a PostgreSQL primary to any number of PostgreSQL replicas through RabbitMQ.

pub mod error;
pub mod postgres;
pub mod replica;
