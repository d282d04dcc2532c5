//! A table as replication sees it: its columns, its key, and the statements that follow from them.

use std::{borrow::Cow, fmt::Write as _};

use crate::{
    change::{Column, Kind, Writer},
    error::{Error, Result},
    postgres::{Session, quote_identifier, quote_names},
    record,
};

mod chars;
mod forward;
mod hashes;
mod keyless;
mod own;
mod pieces;
mod text;

pub use hashes::Hashed;
pub use text::{Text, key_arrays};

/// A table's columns and key, on the primary or on a replica.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    oid: u32,
    /// Its schema, unquoted.
    pub schema: String,
    /// Its name, unquoted.
    pub table: String,
    /// The replicated columns, in the order of the primary.
    pub columns: Vec<Column>,
    /// The columns that say which row it is; none where only all that a row holds does.
    pub key: Vec<KeyColumn>,
    /// Which of the columns may be long, and tell cheaply how long a value's text is.
    sized: Vec<usize>,
    /// Those of which only printing shows it.
    unmeasured: Vec<usize>,
    /// Those of the type `"char"`.
    chars: Vec<usize>,
    /// Whether the server reads what others print of them as something else.
    misreads_chars: bool,
    /// The columns that are not replicated: of a replica's own.
    own: Vec<String>,
}

/// One column of the key.
#[derive(Clone, Debug)]
pub struct KeyColumn {
    /// Which of the table's columns it is.
    pub at: usize,
    /// Its base type, quoted and with schema, without modifier.
    type_name: String,
    /// The equality of the unique index, `OPERATOR(schema.=)`.
    equals: String,
    /// Whether its order needs no operator of another schema.
    comparable: bool,
    /// Whether equal values may be printed differently (numeric 1.0 and 1.00).
    respellable: bool,
    /// Whether its type is `"char"`.
    is_char: bool,
}

/// The values of one key, in the key's order; `None` would be NULL, which no key holds. Without a key, the text of the
/// row.
pub type Key = Vec<Option<Cow<'static, str>>>;

impl Shape {
    /// That of a table which does not fit: nothing is written to it.
    #[must_use]
    pub fn unknown(schema: &str, table: &str) -> Self {
        Self { schema: schema.to_owned(), table: table.to_owned(), ..Self::default() }
    }

    /// Reads the shape of the table `oid` from the catalogs.
    ///
    /// # Errors
    /// When the link breaks, or the table has no column or no unique index for the key any more.
    pub async fn read(
        session: &Session,
        (schema, table): (&str, &str),
        oid: u32,
        columns: &[String],
        key: &[String],
    ) -> Result<Self> {
        let statement = include_str!("../sql/shape.sql");
        let rows = session.query("reading a table's columns", statement, &[&oid, &columns, &key]).await?;
        let database = session.database();
        let mut shape = Self { oid, ..Self::unknown(schema, table) };
        let mut key_columns = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let kind = match row.get("kind") {
                "n" => Kind::Number,
                "b" => Kind::Boolean,
                _ => Kind::Text,
            };
            shape.columns.push(Column { name: row.get("name"), kind });
            match row.get("length") {
                "o" => shape.sized.push(at),
                "p" => shape.unmeasured.push(at),
                _ => {}
            }
            shape.misreads_chars = row.get("misreads_chars");
            if row.get("is_char") {
                shape.chars.push(at);
            }
            shape.own = row.get("own");
            let place: Option<i32> = row.get("place");
            let equals: Option<String> = row.get("equals");
            if let (Some(place), Some(equals)) = (place, equals) {
                let (comparable, respellable) = (row.get("comparable"), row.get("respellable"));
                let (type_name, is_char) = (row.get("type_name"), row.get("is_char"));
                let column = KeyColumn { at, type_name, equals, comparable, respellable, is_char };
                key_columns.push((place, column));
            }
        }
        key_columns.sort_by_key(|(place, _)| *place);
        shape.key = key_columns.into_iter().map(|(_, column)| column).collect();
        if shape.columns.len() != columns.len() {
            let missing =
                columns.iter().find(|name| !shape.columns.iter().any(|column| column.name == **name));
            return Err(Error::Unfit(format!(
                "{database}: table {} has no column {}; add it as it is on the primary",
                shape.quoted(),
                missing.map_or_else(String::new, |name| quote_identifier(name)),
            )));
        }
        if shape.key.len() != key.len() {
            let names: Vec<_> = key.iter().map(|name| quote_identifier(name)).collect();
            return Err(Error::Unfit(format!(
                "{database}: table {} has no unique index on its key; run: CREATE UNIQUE INDEX ON {} ({})",
                shape.quoted(),
                shape.quoted(),
                names.join(", "),
            )));
        }
        Ok(shape)
    }

    /// Its name in SQL.
    #[must_use]
    pub fn quoted(&self) -> String {
        quote_names(&self.schema, &self.table)
    }

    /// The table with the names of its key's columns, for whoever has to look into it.
    #[must_use]
    pub fn with_key(&self) -> String {
        if self.is_keyless() {
            return format!("{} (which has no key)", self.quoted());
        }
        let key: Vec<String> = self.key_names().map(quote_identifier).collect();
        format!("{} (key {})", self.quoted(), key.join(", "))
    }

    /// The writer of its changes' messages.
    #[must_use]
    pub fn writer(&self) -> Writer {
        let key = self.key.iter().map(|column| column.at).collect();
        Writer::new(&self.schema, &self.table, &self.columns, key)
    }

    /// Whether two texts may be the same key.
    #[must_use]
    pub fn is_respellable(&self) -> bool {
        self.key.iter().any(|column| column.respellable)
    }

    /// Whether a row is written by removing its key and copying it in, and nothing else.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.is_respellable() && !self.has_own()
    }

    /// Whether ranges of its key can be asked for.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        !self.is_keyless() && self.key.iter().all(|column| column.comparable)
    }

    /// `SELECT`s, for arrays of key values, each row that is there: the key's number from 1, where the row lies, if
    /// keys are respellable, as the same row may answer twice then, and the row's text; NULL if it is not short.
    #[must_use]
    pub fn select_by_keys(&self) -> String {
        let place = match self.is_respellable() {
            true => "t.tableoid::pg_catalog.text OPERATOR(pg_catalog.||) t.ctid::pg_catalog.text",
            false => "''::pg_catalog.text",
        };
        let text = match self.is_short() {
            Some(short) => format!("CASE WHEN {short} THEN {} END", self.row_text()),
            None => self.row_text(),
        };
        format!("SELECT k.n, {place} AS place, {text} AS text FROM {}", self.by_keys())
    }

    /// The table, as `t`, joined with the arrays of key values, as `k`.
    fn by_keys(&self) -> String {
        let keys = self.unnest(" WITH ORDINALITY", "k", "n");
        format!("{keys} JOIN {} t ON {}", self.quoted(), self.matches("k"))
    }

    /// `SELECT`s the key that lies `$n` rows behind the key `$1…`, or behind the table's beginning.
    #[must_use]
    pub fn select_boundary(&self, from_start: bool) -> String {
        let keys = self.key_list("t.");
        let (after, offset) = match from_start {
            true => (String::new(), 1),
            false => (format!("WHERE ({keys}) > ({}) ", self.key_parameters()), self.key.len() + 1),
        };
        let (key, table) = (self.key_text(), self.quoted());
        // Below, so that of all the keys that are passed over none is printed.
        format!(
            "SELECT {key} FROM (SELECT {keys} FROM {table} t {after}ORDER BY {keys} \
             OFFSET ${offset}::pg_catalog.int8 LIMIT 1) t"
        )
    }

    /// The condition on rows behind a key up to another, of a table called `t`. `bound` writes the value of a key
    /// column, given its number from 1.
    fn range(
        &self,
        from_start: bool,
        to_end: bool,
        bound: impl Fn(usize, &KeyColumn) -> String,
    ) -> Vec<String> {
        let keys = self.key_list("t.");
        let bounds = [(from_start, ">"), (to_end, "<=")].into_iter().filter(|(unbounded, _)| !unbounded);
        let condition = |(at, (_, relation)): (usize, (bool, &str))| {
            let first = 1 + at * self.key.len();
            let values = self.key.iter().enumerate().map(|(n, key)| bound(first + n, key));
            format!("({keys}) {relation} ({})", list(values))
        };
        bounds.enumerate().map(condition).collect()
    }

    /// `DELETE`s the rows with the keys in the arrays.
    #[must_use]
    pub fn delete_by_keys(&self) -> String {
        if self.is_keyless() {
            return self.delete_equal_rows();
        }
        format!(
            "DELETE FROM {} t USING {} WHERE {}",
            self.quoted(),
            self.unnest("", "k", ""),
            self.matches("k")
        )
    }

    /// `INSERT`s a row; a parameter for each column.
    #[must_use]
    pub fn insert_row(&self) -> String {
        let values =
            self.columns.iter().enumerate().map(|(at, _)| self.read_printed(at, format!("${}", at + 1)));
        let values = list(values);
        let (table, columns) = (self.quoted(), self.column_list(""));
        format!("INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values})")
    }

    /// `ROW(…)::text` of the columns, of a table called `t`.
    #[must_use]
    pub fn row_text(&self) -> String {
        format!("ROW({})::pg_catalog.text", self.printed_list())
    }

    /// `ROW(…)::text` of the key, of a table called `t`.
    #[must_use]
    pub fn key_text(&self) -> String {
        let printed = |key: &KeyColumn| self.columns.get(key.at).map(|column| self.printed(key.at, column));
        format!("ROW({})::pg_catalog.text", list(self.key.iter().filter_map(printed)))
    }

    /// The columns, quoted, each after `prefix`.
    #[must_use]
    pub fn column_list(&self, prefix: &str) -> String {
        list(self.columns.iter().map(|column| format!("{prefix}{}", quote_identifier(&column.name))))
    }

    /// The key's columns, quoted, each after `prefix`.
    #[must_use]
    pub fn key_list(&self, prefix: &str) -> String {
        list(self.key_names().map(|name| format!("{prefix}{}", quote_identifier(name))))
    }

    /// The values of a key that is given as the text of a row of its columns.
    ///
    /// # Errors
    /// When it is none of this key.
    pub fn key_values(&self, text: &str) -> Result<Key> {
        if self.is_keyless() {
            return Ok(Self::row_as_key(text.to_owned()));
        }
        let malformed =
            || Error::Unfit(format!("a key of {} is expected, as the text of a row", self.quoted()));
        let fields = record::fields(text).map_err(|_| malformed())?;
        if fields.len() != self.key.len() {
            return Err(malformed());
        }
        Ok(fields.into_iter().map(|field| field.map(|field| Cow::Owned(field.into_owned()))).collect())
    }

    /// The same as parameters; none for no key.
    ///
    /// # Errors
    /// As [`Self::key_values`].
    pub fn key_as_parameters(&self, text: Option<&str>) -> Result<Vec<Text>> {
        let values = text.map(|text| self.key_values(text)).transpose()?.unwrap_or_default();
        Ok(values.into_iter().map(|value| Text(value.unwrap_or_default().into_owned())).collect())
    }

    /// The names of the key's columns.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().filter_map(|key| self.columns.get(key.at)).map(|column| column.name.as_str())
    }

    /// One parameter for each key column, of its type.
    fn key_parameters(&self) -> String {
        list(self.key.iter().enumerate().map(|(n, key)| key.parameter(n + 1)))
    }

    /// The arrays of key values as a table `name (k1, k2, …)`.
    fn unnest(&self, ordinality: &str, name: &str, number: &str) -> String {
        let arrays = list(self.key.iter().enumerate().map(|(n, key)| key.array(&format!("${}", n + 1))));
        let mut names = list((1..=self.key.len()).map(|n| format!("k{n}")));
        if !number.is_empty() {
            let _ = write!(names, ", {number}");
        }
        // Side by side works only under the plain name, which the pinned search path leaves no choice about.
        format!("unnest({arrays}){ordinality} AS {name} ({names})")
    }

    fn matches(&self, keys: &str) -> String {
        let pairs = self.key.iter().zip(self.key_names()).enumerate();
        pairs
            .map(|(n, (key, name))| format!("t.{} {} {keys}.k{}", quote_identifier(name), key.equals, n + 1))
            .collect::<Vec<_>>()
            .join(" AND ")
    }
}

/// A `WHERE` with these conditions, if there are some.
fn filter(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
