//! pgfanout replicates a PostgreSQL primary to any number of PostgreSQL replicas through RabbitMQ.

pub mod cli;
pub mod commands;
pub mod config;
pub mod error;
pub mod log;
pub mod pattern;
pub mod postgres;
pub mod prepare;
pub mod secret;

pub mod batch;
pub mod change;
pub mod record;
pub mod shape;
pub mod snapshot;

pub mod broker;
pub mod primary;
pub mod replica;

pub mod applier;
pub mod applying;
pub mod consumer;
pub mod cut;
pub mod life;
pub mod listening;
pub mod pg_listener;
pub mod publisher;
pub mod replicator;

pub mod status;
