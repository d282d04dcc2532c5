//! Statements that compare rows of two databases by hashes of their texts.

use super::{Shape, filter};

/// What of a row is hashed; the same on both sides. PostgreSQL's hash of bytes is one in all versions, since partitions
/// by hash rest on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// Its text as it is, where both databases are in UTF-8.
    Text,
    /// Its text in UTF-8, as base64, which is text in every encoding: twice the work.
    Utf8,
}

impl Shape {
    /// `SELECT`s the `rows` behind a key up to another, how many of them are too `large` for PostgreSQL to print, and the
    /// `sum` of the hashes of the others' texts. Equal rows have equal hashes on every server. `OFFSET 0` has each hash
    /// made once for all that is done with it.
    #[must_use]
    pub fn select_sum(&self, hashed: Hashed, from_start: bool, to_end: bool) -> String {
        let filter = filter(&self.range(from_start, to_end, |n, key| key.parameter(n)));
        format!(
            "SELECT count(*) AS rows, count(*) - count(r.hash) AS large, coalesce(sum(r.hash), 0)::text AS sum \
             FROM (SELECT {} AS hash FROM {} t{filter} OFFSET 0) r",
            self.row_hash(hashed),
            self.quoted()
        )
    }

    /// `SELECT`s the `key` of each row behind a key up to another, with its `hash`.
    #[must_use]
    pub fn select_hashes(&self, hashed: Hashed, from_start: bool, to_end: bool) -> String {
        let conditions = self.range(from_start, to_end, |n, key| key.parameter(n));
        if self.is_keyless() {
            return self.select_counts(&conditions);
        }
        let filter = filter(&conditions);
        format!(
            "SELECT {} AS key, {} AS hash FROM {} t{filter}",
            self.key_text(),
            self.row_hash(hashed),
            self.quoted()
        )
    }

    /// `SELECT`s, for arrays of key values, the number from 1 of each that has a row, that row's `key`, its
    /// `hash`, and its text if the last parameter is true.
    #[must_use]
    pub fn select_hashes_by_keys(&self, hashed: Hashed) -> String {
        if self.is_keyless() {
            return self.select_counts_by_rows();
        }
        format!(
            "SELECT k.n, {} AS key, {} AS hash, CASE WHEN ${}::bool THEN convert_from({}, 'UTF8') END AS row \
             FROM {} JOIN {} t ON {}",
            self.key_text(),
            self.row_hash(hashed),
            self.key.len() + 1,
            self.row_bytes(),
            self.unnest(" WITH ORDINALITY", "k", "n"),
            self.quoted(),
            self.matches("k"),
        )
    }

    /// A hash of the row's text, of a table called `t`; NULL if it is too large to be printed.
    fn row_hash(&self, hashed: Hashed) -> String {
        let hash = |text: &str| format!("hashtextextended({text} COLLATE \"C\", 0)");
        match hashed {
            Hashed::Text => self.if_printable(&hash(&self.row_text()), |bytes| {
                hash(&format!("convert_from({bytes}, 'UTF8')"))
            }),
            Hashed::Utf8 => hash(&format!("encode({}, 'base64')", self.row_bytes())),
        }
    }
}
