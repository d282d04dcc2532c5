//! The configuration file: what may stand in it, and what it becomes.
//!
//! The file is read whole and checked whole: every problem is told with file, line, column and key
//! before anything starts. What only a database can tell is checked later, and told in the same form
//! by [`Config::problem`].

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::ClientConfig;

use crate::{pattern::Pattern, postgres::Database, secret::Secret};

mod amqp_url;
mod broker;
mod document;
mod environment;
mod file;
mod nearest;
mod password;
mod postgres_url;
mod primary;
mod problem;
mod read;
mod replica;
mod section;
#[cfg(test)]
mod tests;
mod tls;

pub use amqp_url::AmqpUrl;
pub use problem::{Place, Problem, Problems};
pub use replica::check_name as check_replica_name;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where changes come from.
    pub primary: Primary,
    /// What carries them; without it each replica reads the primary itself.
    pub broker: Option<Broker>,
    /// Where they go: names and databases are unique.
    pub replicas: Vec<Replica>,
    /// What differs for single tables.
    pub tables: Vec<TableOptions>,
    /// How tables are copied to a replica that joins.
    pub copy: Copy,
    /// How replicas are verified by themselves; none if they are not.
    pub verify: Option<Verify>,
    /// How long the stages may take to finish what they hold when told to end.
    pub shutdown_grace: Duration,
    /// What is logged and how.
    pub log: Log,
    /// What is worth a word to the operator but no reason to refuse, such as a password file that
    /// everybody may read.
    pub warnings: Vec<String>,
    file: PathBuf,
    places: BTreeMap<String, Place>,
}

/// `[primary]`
#[derive(Clone, Debug)]
pub struct Primary {
    /// From `url` and `password_file`.
    pub database: Database,
    /// Which tables are replicated, in the order of the file; never empty.
    pub tables: Vec<Pattern>,
    /// Which of them are not.
    pub exclude: Vec<Pattern>,
    /// What capture keeps of old rows, unless [`Config::tables`] says otherwise: ask
    /// [`Config::old_record`].
    pub old_record: OldRecord,
    /// How long the changelog waits for a replica that is away, in hours.
    pub changelog_retention_hours: u32,
    /// How large the changelog may grow for replicas that are away, in bytes.
    pub changelog_max_bytes: u64,
    /// How often to look for changes that no notification told of.
    pub safety_poll: Duration,
}

/// What the messages of UPDATE and DELETE tell of the old row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldRecord {
    /// The whole row.
    Full,
    /// The key only, which is cheaper for the primary.
    Key,
}

/// `[broker]`
#[derive(Clone, Debug)]
pub struct Broker {
    /// The nodes of one cluster; never empty.
    pub urls: Vec<AmqpUrl>,
    /// For those addresses that are amqps.
    pub tls: Option<Arc<ClientConfig>>,
    /// The fanout exchange, and what the queues' names begin with.
    pub exchange: String,
    /// How many changes one message holds at most.
    pub max_changes_per_message: u32,
    /// A change whose line is larger travels as a reference, in bytes.
    pub max_message_bytes: u64,
    /// How the broker keeps the replicas' queues.
    pub queue_type: QueueType,
    /// How large one replica's queue may grow before it drops its oldest messages, in bytes.
    pub queue_max_bytes: u64,
    /// How many messages may be on their way without the broker's confirmation.
    pub confirm_window: usize,
    /// How long changes may gather for the next batch under load.
    pub linger: Duration,
    /// How bodies of messages travel.
    pub compression: Compression,
    /// What messages are sealed with: the first makes seals, each is accepted. None: no seals.
    pub hmac_keys: Vec<Secret>,
}

/// How the bodies of messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// Compressed.
    Zstd,
}

/// How the broker keeps a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueType {
    /// On one node.
    Classic,
    /// On a majority of a cluster's nodes.
    Quorum,
}

/// `[[replica]]`
#[derive(Clone, Debug)]
pub struct Replica {
    /// Part of the queue's name and of log fields: 1 to 63 of `A-Z a-z 0-9 _ . -`.
    pub name: String,
    /// From `url` and `password_file`.
    pub database: Database,
    /// What happens to rows found in a table that is to be copied for the first time.
    pub existing_rows: ExistingRows,
    /// What happens when one table does not take its changes.
    pub on_table_error: OnTableError,
}

/// What happens to rows that a replica holds in a table which pgfanout never filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingRows {
    /// They stay, and the replica halts with a message.
    Refuse,
    /// The primary's rows take their place.
    Replace,
}

/// What happens when a replica fails on one of its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTableError {
    /// Nothing is applied to the replica until the table is mended.
    Halt,
    /// The table is set aside until it is mended; the others go on.
    Isolate,
}

/// `[[table]]`
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// One table, without wildcards.
    pub name: Pattern,
    /// Instead of that of `[primary]`.
    pub old_record: OldRecord,
}

/// `[copy]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// How many chunks one replica copies at the same time.
    pub workers: usize,
    /// How large a chunk is about, in bytes.
    pub chunk_bytes: u64,
}

/// `[verify]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verify {
    /// How often each table of each replica is compared with the primary's.
    pub every: Duration,
    /// How many rows a second are compared at most.
    pub rate: u64,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// None: text on a terminal, JSON otherwise.
    pub format: Option<Format>,
    /// Level, or directives such as `info,pgfanout::applier=debug`; known to be well-formed.
    pub level: String,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For human eyes.
    Text,
}

impl Config {
    /// Tells the log what is worth a word, each time that the configuration was read.
    pub fn warn(&self) {
        for warning in &self.warnings {
            tracing::warn!(event = "configuration_warning", "{warning}");
        }
    }

    /// Reads and checks a file, with the environment of this process.
    ///
    /// # Errors
    /// All problems of the file together.
    pub fn load(file: &Path) -> Result<Self, Problems> {
        read::load(file)
    }

    /// The file it was read from.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Where a key such as `primary.tables[0]` or `replica[1].url` stands; a key that was left out
    /// is placed where its section begins.
    #[must_use]
    pub fn place(&self, key: &str) -> Place {
        problem::place(&self.file, &self.places, key)
    }

    /// A problem with the value of a key that only a database could tell, in the form of all others.
    /// `text` says what was found, what is expected, and the remedy.
    #[must_use]
    pub fn problem(&self, key: &str, text: impl Into<String>) -> Problem {
        Problem::new(self.place(key), text)
    }

    /// What capture keeps of the old rows of one table.
    #[must_use]
    pub fn old_record(&self, schema: &str, table: &str) -> OldRecord {
        let own = self.tables.iter().find(|options| options.name.matches(schema, table));
        own.map_or(self.primary.old_record, |options| options.old_record)
    }
}
