//! Statements for tables without a key: a row has no other name than the text of all that it holds, and there may be
//! several of one name.

use super::{Key, Shape, filter};

/// `SELECT`s the texts of an array, as [`Shape::row_bytes`] has those of rows.
const TEXTS: &str = "SELECT convert_to(k.k1, 'UTF8') AS data FROM unnest($1::text[]) AS k (k1)";

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

    /// `DELETE`s as many rows of each text as the array has of it, whichever of them. A session that writes knows no
    /// join but loops, and would compare each row with each text: so the texts are looked up in a hashed subquery, and
    /// those rows are counted together with them, rows first.
    pub(super) fn delete_equal_rows(&self) -> String {
        format!(
            "DELETE FROM {table} d USING (\
             SELECT m.found_in, m.place FROM (\
             SELECT e.found_in, e.place, sum(e.wanted) OVER (PARTITION BY e.data) AS wanted, \
             row_number() OVER (PARTITION BY e.data ORDER BY e.wanted) AS met FROM (\
             SELECT r.found_in, r.place, r.data, 0 AS wanted FROM (\
             SELECT t.tableoid AS found_in, t.ctid AS place, {row} AS data FROM {table} t OFFSET 0\
             ) r WHERE (r.data IN ({TEXTS})) IS TRUE \
             UNION ALL SELECT NULL, NULL, w.data, 1 FROM ({TEXTS}) w\
             ) e) m WHERE m.place IS NOT NULL AND m.met <= m.wanted\
             ) g WHERE d.tableoid = g.found_in AND d.ctid = g.place",
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

    /// As [`Self::select_hashes_by_keys`]: as in [`Self::delete_equal_rows`], no row is compared with each text.
    pub(super) fn select_counts_by_rows(&self) -> String {
        format!(
            "SELECT e.n, convert_from(e.data, 'UTF8') AS key, e.hash, \
             CASE WHEN $2::bool THEN convert_from(e.data, 'UTF8') END AS row FROM (\
             SELECT max(a.n) AS n, a.data, count(*) FILTER (WHERE a.n IS NULL) AS hash FROM (\
             SELECT NULL::int8 AS n, r.data FROM (SELECT {row} AS data FROM {table} t OFFSET 0) r \
             WHERE (r.data IN ({TEXTS})) IS TRUE \
             UNION ALL SELECT k.n, convert_to(k.k1, 'UTF8') FROM unnest($1::text[]) WITH ORDINALITY AS k (k1, n)\
             ) a GROUP BY a.data\
             ) e WHERE e.hash > 0",
            row = self.row_bytes(),
            table = self.quoted(),
        )
    }
}
