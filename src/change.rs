//! The message of one change, a line of JSON:
//! `{"schema":"public","table":"users","operation":"UPDATE","new_record":{…},"old_record":{…}}`.
//!
//! Numbers, booleans and strings are JSON values, with every digit; whatever JSON could not give back
//! exactly travels as the string that PostgreSQL prints.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Serialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    record::{self, ParseRecordError},
    snapshot::Snapshot,
};

/// What became of a row between two snapshots; of a table: that it was emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// The row is new.
    Insert,
    /// The row was there and has other values.
    Update,
    /// The row is gone.
    Delete,
    /// All rows are gone; comes before all other changes of its batch.
    Truncate,
}

/// How a column's value is written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As a JSON number where JSON has it, else (NaN, Infinity) as a string.
    Number,
    /// As `true` or `false`.
    Boolean,
    /// As the string that PostgreSQL prints.
    Text,
}

/// A column by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, unquoted.
    pub name: String,
    /// How its values are written.
    pub kind: Kind,
}

/// One change, read from a line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change<'a> {
    /// The table's schema.
    #[serde(borrow)]
    pub schema: Cow<'a, str>,
    /// The table.
    #[serde(borrow)]
    pub table: Cow<'a, str>,
    /// What happened.
    pub operation: Operation,
    /// The row as it stands at the end of the batch; INSERT and UPDATE have one.
    #[serde(borrow)]
    pub new_record: Option<Record<'a>>,
    /// The row, or its key alone, as it was; UPDATE and DELETE have one.
    #[serde(borrow)]
    pub old_record: Option<Record<'a>>,
    /// The row is too large for a message: to be fetched from the primary.
    #[serde(default)]
    pub by_reference: bool,
    /// Of a table without a key: the transaction in which a row came or went, one of several that may be equal. A
    /// replica that has this transaction has that change.
    #[serde(default)]
    pub transaction: Option<u64>,
}

/// A row: its columns' names and values, in the message's order.
#[derive(Debug)]
pub struct Record<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

/// The line is not a change.
#[derive(Debug, thiserror::Error)]
pub enum ParseChangeError {
    /// Not JSON, or not of this form. The text of the cause may quote the line: it is not logged.
    #[error("not a change in JSON")]
    Json(#[from] serde_json::Error),
    /// The records do not go with the operation.
    #[error("a change without the record that its operation needs")]
    Records,
    /// A value is an object or array, which no change holds.
    #[error("a value that is neither number, boolean, string nor null")]
    Value,
}

/// Reads one line.
///
/// # Errors
/// When it is not a change.
pub fn parse(line: &str) -> Result<Change<'_>, ParseChangeError> {
    let change: Change<'_> = serde_json::from_str(line)?;
    let fits = match change.operation {
        Operation::Insert | Operation::Update if change.by_reference => change.new_record.is_none(),
        Operation::Insert | Operation::Update => change.new_record.is_some(),
        Operation::Delete => change.new_record.is_none() && change.old_record.is_some(),
        Operation::Truncate => change.new_record.is_none() && change.old_record.is_none(),
    };
    if fits { Ok(change) } else { Err(ParseChangeError::Records) }
}

/// The text that PostgreSQL reads as the value; `None` is NULL.
///
/// # Errors
/// When the value is an object or an array.
pub fn value(raw: &RawValue) -> Result<Option<Cow<'_, str>>, ParseChangeError> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b't') => Ok(Some(Cow::Borrowed("t"))),
        Some(b'f') => Ok(Some(Cow::Borrowed("f"))),
        Some(b'"') => {
            let plain = &text[1..text.len() - 1];
            if memchr::memchr(b'\\', plain.as_bytes()).is_none() {
                return Ok(Some(Cow::Borrowed(plain)));
            }
            Ok(Some(Cow::Owned(serde_json::from_str(text)?)))
        }
        Some(b'{' | b'[') | None => Err(ParseChangeError::Value),
        Some(_) => Ok(Some(Cow::Borrowed(text))),
    }
}

/// Appends the value to a line for `COPY … FROM STDIN (FORMAT text)`; the caller writes the tabs. What stands between the
/// quotes of a JSON string means the same there, but for `\u`: it is not read, only copied.
///
/// # Errors
/// As [`value`].
pub fn push_copy_field(raw: &RawValue, out: &mut Vec<u8>) -> Result<(), ParseChangeError> {
    let text = raw.get().as_bytes();
    if let [b'"', plain @ .., b'"'] = text {
        let is_numbered = |at: usize| plain.get(at + 1) == Some(&b'u');
        if !memchr::memchr_iter(b'\\', plain).any(is_numbered) {
            out.extend_from_slice(plain);
            return Ok(());
        }
    }
    record::push_copy_field(value(raw)?.as_deref(), out);
    Ok(())
}

/// Writes the changes of one table.
#[derive(Debug)]
pub struct Writer {
    /// `{"schema":…,"table":…,"operation":"`
    head: Vec<u8>,
    /// For each column `"name":`, and its kind.
    columns: Vec<(Vec<u8>, Kind)>,
    /// Which of the columns are the key.
    key: Vec<usize>,
}

impl Writer {
    /// A writer for the table's rows with these columns; `key` are positions in them.
    #[must_use]
    pub fn new(schema: &str, table: &str, columns: &[Column], key: Vec<usize>) -> Self {
        let mut head = b"{\"schema\":".to_vec();
        push_string(schema, &mut head);
        head.extend_from_slice(b",\"table\":");
        push_string(table, &mut head);
        head.extend_from_slice(b",\"operation\":\"");
        let label = |column: &Column| {
            let mut label = Vec::new();
            push_string(&column.name, &mut label);
            label.push(b':');
            (label, column.kind)
        };
        Self { head, columns: columns.iter().map(label).collect(), key }
    }

    /// Appends a row that is there: an INSERT, or an UPDATE with what it was. `row` is the record's text.
    ///
    /// # Errors
    /// When the row's text is not a record of these columns.
    pub fn push_present(
        &self,
        row: &str,
        before: Option<Before<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), ParseRecordError> {
        let values = self.values(row)?;
        self.push_head(if before.is_some() { "UPDATE" } else { "INSERT" }, out);
        self.push_row(&values, out);
        self.push_before(before, out);
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    /// Appends a row of a table without a key that came, or one that went, in a transaction.
    ///
    /// # Errors
    /// As [`Self::push_present`].
    pub fn push_nameless(
        &self,
        row: &str,
        came: bool,
        transaction: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), ParseRecordError> {
        let values = self.values(row)?;
        self.push_head(if came { "INSERT" } else { "DELETE" }, out);
        if came {
            self.push_row(&values, out);
            self.push_before(None, out);
        } else {
            out.extend_from_slice(b"null,\"old_record\":");
            self.push_row(&values, out);
        }
        out.extend_from_slice(b",\"transaction\":");
        out.extend_from_slice(transaction.to_string().as_bytes());
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    /// The row's values, one for each column.
    fn values<'r>(&self, row: &'r str) -> Result<Vec<Option<Cow<'r, str>>>, ParseRecordError> {
        record::fields(row).ok().filter(|values| values.len() == self.columns.len()).ok_or(ParseRecordError)
    }

    fn push_row(&self, values: &[Option<Cow<'_, str>>], out: &mut Vec<u8>) {
        push_object(self.columns.iter().zip(values.iter().map(|value| value.as_deref())), out);
    }

    /// Appends a row that is gone.
    pub fn push_absent(&self, before: Before<'_>, out: &mut Vec<u8>) {
        self.push_head("DELETE", out);
        out.extend_from_slice(b"null");
        self.push_before(Some(before), out);
        out.extend_from_slice(b"}\n");
    }

    /// Appends a row that is too large for a message.
    pub fn push_reference(&self, key: &[Option<Cow<'_, str>>], out: &mut Vec<u8>) {
        self.push_head("UPDATE", out);
        out.extend_from_slice(b"null");
        self.push_before(Some(Before { key, old: None }), out);
        out.extend_from_slice(b",\"by_reference\":true}\n");
    }

    /// Appends that the table was emptied.
    pub fn push_truncate(&self, out: &mut Vec<u8>) {
        self.push_head("TRUNCATE", out);
        out.extend_from_slice(b"null,\"old_record\":null}\n");
    }

    fn push_head(&self, operation: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(operation.as_bytes());
        out.extend_from_slice(b"\",\"new_record\":");
    }

    fn push_before(&self, before: Option<Before<'_>>, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"old_record\":");
        match before {
            None => out.extend_from_slice(b"null"),
            Some(Before { old: Some(json), .. }) => out.extend_from_slice(json.as_bytes()),
            Some(Before { key, old: None }) => {
                let columns = self.key.iter().filter_map(|&at| self.columns.get(at));
                push_object(columns.zip(key.iter().map(|value| value.as_deref())), out);
            }
        }
    }
}

/// Appends the line of a batch in which nothing changed: it is there to be seen that changes would arrive.
pub fn push_heartbeat(snapshot: &Snapshot, out: &mut Vec<u8>) {
    let head = br#"{"schema":"pgfanout","table":"heartbeat","operation":"INSERT","new_record":{"snapshot":""#;
    out.extend_from_slice(head);
    out.extend_from_slice(snapshot.to_string().as_bytes());
    out.extend_from_slice(b"\"},\"old_record\":null}\n");
}

/// What a row was before the batch.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The values of its key, in the key's order.
    pub key: &'a [Option<Cow<'a, str>>],
    /// The whole row in JSON, where it was logged.
    pub old: Option<&'a str>,
}

fn push_object<'a>(pairs: impl Iterator<Item = (&'a (Vec<u8>, Kind), Option<&'a str>)>, out: &mut Vec<u8>) {
    for (n, ((label, kind), value)) in pairs.enumerate() {
        out.push(if n == 0 { b'{' } else { b',' });
        out.extend_from_slice(label);
        push_value(*kind, value, out);
    }
    out.push(b'}');
}

fn push_value(kind: Kind, value: Option<&str>, out: &mut Vec<u8>) {
    match (kind, value) {
        (_, None) => out.extend_from_slice(b"null"),
        // In a row it is printed as t, in the key of the changelog as true.
        (Kind::Boolean, Some("t" | "true")) => out.extend_from_slice(b"true"),
        (Kind::Boolean, Some(_)) => out.extend_from_slice(b"false"),
        (Kind::Number, Some(text)) if is_json_number(text) => out.extend_from_slice(text.as_bytes()),
        (Kind::Number | Kind::Text, Some(text)) => push_string(text, out),
    }
}

/// PostgreSQL prints finite numbers as JSON has them.
fn is_json_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit())
}

fn push_string(text: &str, out: &mut Vec<u8>) {
    // All of it, without a way out: so it is looked at many bytes at a time.
    let special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    if !text.bytes().fold(false, |found, byte| found | special(byte)) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing a string into memory cannot fail.
        let _ = serde_json::to_writer(out, text);
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Record<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Columns;
        impl<'de> Visitor<'de> for Columns {
            type Value = Record<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut columns = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    columns.push((name, map.next_value()?));
                }
                Ok(Record(columns))
            }
        }
        deserializer.deserialize_map(Columns)
    }
}

/// `Cow<str>` as a map key, borrowed where nothing is escaped.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests;
