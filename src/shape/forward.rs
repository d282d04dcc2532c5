//! Statements that send rows on as they are: a short row may be held as a whole, and needs no look at it.

use super::{KeyColumn, Shape, Text, filter, key_arrays, list, pieces::SURELY_PRINTABLE};
use crate::error::Result;

/// Up to how many bytes a row's long values may have together for the row to be short.
const SHORT: u64 = 64 << 10;

impl Shape {
    /// The condition that the row of a table called `t` is short; nothing if all are.
    pub(super) fn is_short(&self) -> Option<String> {
        let sized = Some(self.sizes(&self.sized, "octet_length")).filter(|sum| !sum.is_empty());
        let unmeasured = Some(self.sizes(&self.unmeasured, "pg_column_size")).filter(|sum| !sum.is_empty());
        let limits = [sized.map(|sum| (sum, SHORT)), unmeasured.map(|sum| (sum, SURELY_PRINTABLE))];
        let limits: Vec<_> =
            limits.into_iter().flatten().map(|(sum, limit)| format!("{sum} <= {limit}")).collect();
        Some(limits.join(" AND ")).filter(|condition| !condition.is_empty())
    }

    /// Whether rows may be long though none of their values is stored apart from them; nothing if no row can be long.
    #[must_use]
    pub fn may_be_long_inline(&self) -> Option<bool> {
        self.is_short().map(|_| !self.unmeasured.is_empty())
    }

    /// `COPY`s the rows behind a key up to another in a format: all, or only those that are `short`. The keys that are
    /// given are those of [`Self::set_range`]: a `COPY` has no parameters.
    #[must_use]
    pub fn copy_range(&self, from_start: bool, to_end: bool, short: bool, format: &str) -> String {
        let key = |n: usize, key: &KeyColumn| {
            format!("({})[1]", key.array(&format!("current_setting('pgfanout.key_{n}')")))
        };
        let mut conditions = self.range(from_start, to_end, key);
        if short {
            conditions.extend(self.is_short());
        }
        format!(
            "COPY (SELECT {} FROM {} t{}) TO STDOUT (FORMAT {format})",
            self.printed_list(),
            self.quoted(),
            filter(&conditions)
        )
    }

    /// `SELECT`s those of the same rows that are not short, in pieces; the parameters are the keys that are given.
    #[must_use]
    pub fn select_long(&self, from_start: bool, to_end: bool) -> String {
        let mut conditions = self.range(from_start, to_end, |n, key| key.parameter(n));
        let first = 1 + conditions.len() * self.key.len();
        conditions.extend(self.is_short().map(|short| format!("NOT ({short})")));
        let from = format!("{} t{}", self.quoted(), filter(&conditions));
        self.in_pieces("1::int8", "''::text", &from, first)
    }

    /// Sets the keys for [`Self::copy_range`] until the end of the transaction, each the text of a row, with the
    /// parameters; nothing for no keys.
    ///
    /// # Errors
    /// When one is none of this key.
    pub fn set_range(&self, after: Option<&str>, until: Option<&str>) -> Result<Option<(String, Vec<Text>)>> {
        let mut values = Vec::new();
        for key in [after, until].into_iter().flatten() {
            values.extend(key_arrays(self.key.len(), [self.key_values(key)?].iter()));
        }
        let set = (1..=values.len()).map(|n| format!("set_config('pgfanout.key_{n}', ${n}, true)"));
        let statement = format!("SELECT {}", list(set));
        Ok(Some((statement, values)).filter(|(_, values)| !values.is_empty()))
    }
}
