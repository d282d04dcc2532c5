//! A table that is replicated, as a replica knows it.

use super::empty::Named;
use crate::{error::Error, primary::source::Name, shape::Shape, snapshot::Snapshot};

/// A table that is replicated here.
#[derive(Debug)]
pub struct Followed {
    /// Its number on the primary.
    pub id: i32,
    /// Its columns and key on the replica; of a table that is set aside perhaps not known.
    pub shape: Shape,
    /// The definition on the primary that it was checked against.
    pub definition: i64,
    /// Where it stands, if not at the replica's position.
    pub own: Option<Snapshot>,
    /// The last moment that was noted for it while it stands apart.
    pub name: Option<Name>,
    /// The copy that is under way, or was the last.
    pub copy: Option<String>,
    /// Whether it is being copied.
    pub copying: bool,
    /// Whether pgfanout made it.
    pub created: bool,
    /// Whether it is not there.
    pub gone: bool,
    /// Its oid, and what tells whether it was altered since it was read.
    pub(super) form: (u32, i64),
}

impl Followed {
    /// Its number and its name.
    #[must_use]
    pub fn named(&self) -> Named<'_> {
        (self.id, &self.shape.schema, &self.shape.table)
    }

    /// Whether this is its name.
    #[must_use]
    pub fn is_called(&self, schema: &str, table: &str) -> bool {
        self.shape.table == table && self.shape.schema == schema
    }

    /// Builds the adapter for `map_err` that says with which table a failure lies.
    pub fn to_blame(&self) -> impl FnOnce(Error) -> Error + use<'_> {
        Error::of_table(self.id, &self.shape.schema, &self.shape.table)
    }
}
