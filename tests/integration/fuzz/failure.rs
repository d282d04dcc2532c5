//! What was found.

use std::{collections::BTreeSet, fmt};

use super::client::Place;

/// How a replica, or pgfanout, was not as it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A row is not there.
    Lost,
    /// A row is there more often than on the primary, or one that was never there.
    Doubled,
    /// A row is as it was before.
    Stale,
    /// What was there already is as it was before again.
    Backwards,
    /// A transaction is there in part, or before the position says so.
    Half,
    /// A value is one that the primary never had.
    Wrong,
    /// pgfanout says that it cannot go on, or that it should not have come to this.
    Said,
    /// The replica did not become equal in time.
    Late,
    /// The primary refuses what nobody should say: the fuzzer is wrong.
    Nonsense,
    /// Something of the test itself broke.
    Bench,
}

/// What was found, and where.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// The transactions of the primary that it is about.
    pub(super) transactions: Vec<u64>,
    /// Where they are in the script.
    pub(super) places: BTreeSet<Place>,
}

impl Failure {
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), transactions: Vec::new(), places: BTreeSet::new() }
    }

    pub(super) fn bench(error: tokio_postgres::Error) -> Self {
        Self::new(Kind::Bench, format!("{error:?}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}
