//! The columns that only a replica has. Rows are written by removing their keys and copying them in; where a
//! table has columns of its own, their values are put aside meanwhile, in a temporary table.

use super::{Shape, list};
use crate::postgres::quote_identifier;

impl Shape {
    /// Whether it has columns of its own, whose values the following statements keep. Without a key nothing tells
    /// whose they were: new rows have the columns' defaults.
    #[must_use]
    pub fn has_own(&self) -> bool {
        !self.own.is_empty() && !self.is_keyless()
    }

    /// The statements that make room for values and rows, for the rest of the transaction.
    #[must_use]
    pub fn make_room(&self) -> String {
        let (kept, stage, table) = (self.kept(), self.stage(), self.quoted());
        let renamed = |name: &str, new, n| format!("t.{} AS {new}{}", quote_identifier(name), n + 1);
        let keys = self.key_names().enumerate().map(|(n, name)| renamed(name, "k", n));
        let own = self.own.iter().enumerate().map(|(n, name)| renamed(name, "o", n));
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {kept} ON COMMIT DROP AS SELECT {} FROM {table} t WITH NO DATA; \
             CREATE INDEX IF NOT EXISTS {kept}_key ON pg_temp.{kept} ({}); \
             CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DROP AS SELECT {} FROM {table} t WITH NO DATA",
            list(keys.chain(own)),
            list((1..=self.key.len()).map(|n| format!("k{n}"))),
            self.column_list("t."),
        )
    }

    /// As [`Self::delete_by_keys`], and puts aside what its own columns held.
    #[must_use]
    pub fn put_aside_by_keys(&self) -> String {
        format!(
            "WITH gone AS ({} RETURNING {}, {}) INSERT INTO pg_temp.{} SELECT * FROM gone",
            self.delete_by_keys(),
            self.key_list("t."),
            self.own_list("t."),
            self.kept(),
        )
    }

    /// Where rows are copied before they are put into the table: `table (columns)`.
    #[must_use]
    pub fn stage_for_copy(&self) -> String {
        format!("pg_temp.{} ({})", self.stage(), self.column_list(""))
    }

    /// The statements that put the rows into the table: with the values that were put aside, or with the
    /// columns' defaults where there are none.
    #[must_use]
    pub fn bring_back(&self) -> String {
        let (kept, stage, table, columns) = (self.kept(), self.stage(), self.quoted(), self.column_list(""));
        let same = self.key.iter().zip(self.key_names()).map(|(key, name)| {
            let name = quote_identifier(name);
            format!("t.{name} {} k.{name}", key.equals)
        });
        format!(
            "WITH back AS (DELETE FROM pg_temp.{kept} k USING pg_temp.{stage} t WHERE {} RETURNING {rows}, {}) \
             INSERT INTO {table} ({columns}, {}) OVERRIDING SYSTEM VALUE SELECT * FROM back; \
             INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {rows} FROM pg_temp.{stage} t \
             WHERE NOT EXISTS (SELECT FROM {table} k WHERE {}); \
             TRUNCATE pg_temp.{stage}",
            self.matches("k"),
            list((1..=self.own.len()).map(|n| format!("k.o{n}"))),
            self.own_list(""),
            same.collect::<Vec<_>>().join(" AND "),
            rows = self.column_list("t."),
        )
    }

    fn own_list(&self, prefix: &str) -> String {
        list(self.own.iter().map(|name| format!("{prefix}{}", quote_identifier(name))))
    }

    fn kept(&self) -> String {
        format!("pgfanout_kept_{}", self.oid)
    }

    fn stage(&self) -> String {
        format!("pgfanout_stage_{}", self.oid)
    }
}
