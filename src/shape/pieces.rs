//! The text of large rows in pieces, and which rows have none.

use super::Shape;
use crate::postgres::quote_identifier;

/// How many bytes the long values of a row may have, so that their text stays below the 1 GiB that PostgreSQL
/// allows a value, whatever has to be doubled in it.
const MAX_ROW_BYTES: u64 = 500_000_000;

/// Up to this size, as it is stored, the text of a value of any type stays far below that, too: compressed
/// numbers in a jsonb or an array can become a million times as long.
pub(super) const SURELY_PRINTABLE: u64 = 256;

impl Shape {
    /// `SELECT`s the same rows in pieces, whether they are short or not.
    #[must_use]
    pub fn select_pieces_by_keys(&self) -> String {
        self.in_pieces("k.n", "''::pg_catalog.text", &self.by_keys(), self.key.len() + 1)
    }

    /// `SELECT`s rows of a table called `t` in pieces of `$first` bytes: `n`, `place`, the `length` of the row's
    /// text, at which byte from 1 the piece `start`s, and the `piece`. The parameter behind `$first` is 1 if of
    /// each row only the first piece is wanted, else 0. Length and piece are NULL for a row whose text would be
    /// too large for PostgreSQL.
    ///
    /// The text is made once, below the inner `OFFSET 0`; its pieces are cut as they are fetched.
    pub(super) fn in_pieces(&self, number: &str, place: &str, from: &str, first: usize) -> String {
        format!(
            "SELECT s.n, s.place, s.length, s.start, substr(s.data, s.start, ${first}::int4) AS piece FROM \
             (SELECT r.n, r.place, r.data, octet_length(r.data) AS length, \
             generate_series(1, coalesce(least(octet_length(r.data), nullif(${next}::int4, 0)), 1), ${first}::int4) AS start \
             FROM (SELECT {number} AS n, {place} AS place, {} AS data FROM {from} OFFSET 0) r) s",
            self.row_bytes(),
            next = first + 1,
        )
    }

    /// The bytes of [`Self::row_text`] in UTF-8; NULL where the text is, or might be, larger than a value may be.
    pub(super) fn row_bytes(&self) -> String {
        self.if_printable(&format!("convert_to({}, 'UTF8')", self.row_text()), str::to_owned)
    }

    /// What is `made` of the row's text, of a table called `t`; NULL where that is, or might be, larger than a value may
    /// be. Where only trying shows it, `made_of` is asked what to make of the text's bytes in UTF-8.
    pub(super) fn if_printable(&self, made: &str, made_of: impl Fn(&str) -> String) -> String {
        let mut made = made.to_owned();
        if !self.unmeasured.is_empty() {
            let stored = self.sizes(&self.unmeasured, "pg_column_size");
            let tried = made_of(&format!("pgfanout.row_bytes(ROW({}))", self.printed_list()));
            made = format!("CASE WHEN {stored} <= {SURELY_PRINTABLE} THEN {made} ELSE {tried} END");
        }
        // Hexadecimal digits are two a byte, and so is a quote.
        match self.sizes(&self.sized, "octet_length") {
            none if none.is_empty() => made,
            sum => format!("CASE WHEN {sum} <= {MAX_ROW_BYTES} THEN {made} END"),
        }
    }

    /// The sum of the sizes of these columns of a table called `t`, as a function tells; empty if there are none.
    pub(super) fn sizes(&self, columns: &[usize], size: &str) -> String {
        let columns = columns.iter().filter_map(|&at| self.columns.get(at));
        let sizes =
            columns.map(|column| format!("coalesce({size}(t.{}), 0)::int8", quote_identifier(&column.name)));
        sizes.collect::<Vec<_>>().join(" + ")
    }
}
