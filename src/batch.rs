//! A delta under way: its name, its two snapshots, and the parts it travels in.

use crate::snapshot::Snapshot;

/// A delta that was given a name on the primary before anybody saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Which installation on the primary cut it.
    pub epoch: String,
    /// Its number there, ascending.
    pub number: i64,
    /// Its random token: after a restore numbers come round again, tokens do not.
    pub token: String,
    /// The publisher's term in which it was cut; empty if the server was started since the last one began. All
    /// batches of a term are of one history.
    pub term: String,
    /// Where the delta starts.
    pub from: Snapshot,
    /// Where it ends.
    pub to: Snapshot,
}

/// About how large a part is: large enough to keep the broker and both sides busy, small enough to stream. It is
/// larger only where one change is. Somewhat less than a power of two: who receives it gathers it in a buffer that doubles.
pub const PART_BYTES: usize = 1_000_000;

/// Of how many tables a part has changes at most: all of them are named in its headers, which have to fit into one frame.
pub const PART_TABLES: usize = 500;

/// A piece of a batch small enough for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The batch it belongs to.
    pub batch: Batch,
    /// Its place in the batch, from 0.
    pub number: u32,
    /// Whether the batch ends with it.
    pub last: bool,
    /// The tables in the body, with the numbers of their definitions: a replica that was compared with
    /// another definition compares itself anew before it applies anything.
    pub tables: Vec<(i32, i64)>,
    /// Changes, one a line of JSON.
    pub body: Vec<u8>,
}
