//! Statements for tables without a key: a row has no other name than the text of all that it holds, and there may be
//! several of one name.

use super::{Key, Shape, filter};

impl Shape {
    /// Whether nothing names a row but all that it holds.
    #[must_use]
    pub fn is_keyless(&self) -> bool {
        self.key.is_empty()
    }

    /// How many values name a row.
    #[must_use]
    pub fn key_width(&self) -> usize {
        self.key.len().max(1)
    }

    /// What names a row without a key: its text.
    #[must_use]
    pub fn row_as_key(text: String) -> Key {
        vec![Some(text.into())]
    }

    /// `SELECT`s all rows, in pieces.
    #[must_use]
    pub fn select_all(&self) -> String {
        self.in_pieces("1::int8", "''::text", &format!("{} t", self.quoted()), 1)
    }

    /// `DELETE`s as many rows of each text as the array has of it, whichever of them.
    pub(super) fn delete_equal_rows(&self) -> String {
        format!(
            "DELETE FROM {table} d USING (\
             SELECT m.tableoid, m.ctid FROM (\
             SELECT r.tableoid, r.ctid, w.wanted, row_number() OVER (PARTITION BY w.k1) AS met \
             FROM (SELECT k.k1, count(*) AS wanted FROM unnest($1::text[]) AS k (k1) GROUP BY k.k1) w \
             JOIN (SELECT t.tableoid, t.ctid, {row} AS data FROM {table} t) r ON r.data = convert_to(w.k1, 'UTF8')\
             ) m WHERE m.met <= m.wanted\
             ) g WHERE d.tableoid = g.tableoid AND d.ctid = g.ctid",
            table = self.quoted(),
            row = self.row_bytes(),
        )
    }

    /// As [`Self::select_hashes`]: the number of equal rows stands for a hash.
    pub(super) fn select_counts(&self, conditions: &[String]) -> String {
        format!(
            "SELECT convert_from(r.data, 'UTF8') AS key, count(*) AS hash \
             FROM (SELECT {} AS data FROM {} t{}) r WHERE r.data IS NOT NULL GROUP BY r.data",
            self.row_bytes(),
            self.quoted(),
            filter(conditions),
        )
    }

    /// As [`Self::select_hashes_by_keys`].
    pub(super) fn select_counts_by_rows(&self) -> String {
        format!(
            "SELECT k.n, k.k1 AS key, count(*) AS hash, CASE WHEN $2::bool THEN k.k1 END AS row \
             FROM unnest($1::text[]) WITH ORDINALITY AS k (k1, n) \
             JOIN (SELECT {} AS data FROM {} t) r ON r.data = convert_to(k.k1, 'UTF8') GROUP BY k.n, k.k1",
            self.row_bytes(),
            self.quoted(),
        )
    }
}
