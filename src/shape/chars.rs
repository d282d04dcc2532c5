//! Values of the type `"char"`. PostgreSQL 14 and older print one beyond ASCII as its byte, which is no text, and take
//! three octal digits behind a backslash, as newer servers print it, for a backslash. So that form is printed by a
//! function of ours, on all servers alike, and read by one where it would be misread.

use super::{KeyColumn, Shape, list};
use crate::{change::Column, postgres::quote_identifier};

impl Shape {
    /// A column of a table called `t`, so that it is printed as everywhere.
    pub(super) fn printed(&self, at: usize, column: &Column) -> String {
        let value = format!("t.{}", quote_identifier(&column.name));
        if self.chars.contains(&at) { format!("pgfanout.print_char({value})") } else { value }
    }

    /// The columns of a table called `t`, so.
    pub(super) fn printed_list(&self) -> String {
        list(self.columns.iter().enumerate().map(|(at, column)| self.printed(at, column)))
    }

    /// A value that is printed, as that of a column.
    pub(super) fn read_printed(&self, at: usize, printed: String) -> String {
        if self.misreads_chars && self.chars.contains(&at) {
            format!("pgfanout.read_char({printed}::text)")
        } else {
            printed
        }
    }

    /// Where such columns would be misread: the statement that makes another one for the rest of the transaction, where
    /// rows are copied as they are printed; its name with its columns; and the statement that moves them `into` the
    /// table.
    #[must_use]
    pub fn stage_for_chars(&self, into: &str) -> Option<(String, String, String)> {
        if !self.misreads_chars || self.chars.is_empty() {
            return None;
        }
        let stage = format!("pgfanout_chars_{}", self.oid);
        let typed = |(at, column): (usize, &Column)| {
            let name = quote_identifier(&column.name);
            let text = if self.chars.contains(&at) { format!("::text AS {name}") } else { String::new() };
            format!("t.{name}{text}")
        };
        let columns = self.columns.iter().enumerate();
        let read = columns
            .clone()
            .map(|(at, column)| self.read_printed(at, format!("t.{}", quote_identifier(&column.name))));
        Some((
            format!(
                "CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DROP AS SELECT {} FROM {} t WITH NO DATA",
                list(columns.map(typed)),
                self.quoted()
            ),
            format!("pg_temp.{stage} ({})", self.column_list("")),
            format!(
                "INSERT INTO {into} OVERRIDING SYSTEM VALUE SELECT {} FROM pg_temp.{stage} t; TRUNCATE pg_temp.{stage}",
                list(read)
            ),
        ))
    }
}

impl KeyColumn {
    /// A parameter of that number, of its type.
    pub(super) fn parameter(&self, number: usize) -> String {
        match self.is_char {
            true => format!("pgfanout.read_char(${number}::text)"),
            false => format!("${number}::{}", self.type_name),
        }
    }

    /// The text of an array of its values, as an array of its type.
    pub(super) fn array(&self, text: &str) -> String {
        match self.is_char {
            true => format!("pgfanout.read_chars({text}::text[])"),
            false => format!("{text}::{}[]", self.type_name),
        }
    }
}
