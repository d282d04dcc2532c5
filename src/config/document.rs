//! A TOML document that knows where everything stands, which keys were asked for, and what is wrong.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::{Range, RangeInclusive},
    path::Path,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    environment::Environment,
    problem::{self, Place, Problem},
};

/// What reading the document has brought to light so far.
pub(super) struct Document<'a> {
    pub(super) file: &'a Path,
    text: &'a str,
    /// The environment variables.
    pub(super) environment: Environment<'a>,
    /// Every key that stands in the file.
    pub(super) places: RefCell<BTreeMap<String, Place>>,
    /// Every key that was asked for, without indexes: what the example has to document.
    pub(super) known: RefCell<BTreeSet<String>>,
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<String>>,
}

/// One table of the document; a table that is not there is empty.
pub(super) struct Section<'a> {
    pub(super) document: &'a Document<'a>,
    path: String,
    table: Option<&'a DeTable<'a>>,
    asked: RefCell<Vec<&'static str>>,
}

/// A string and the key it stands under.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) key: String,
    pub(super) value: String,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str, environment: Environment<'a>) -> Self {
        Self {
            file,
            text,
            environment,
            places: RefCell::default(),
            known: RefCell::default(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// Parses the text; what TOML itself does not allow is a problem, and none of the text is quoted,
    /// since it may hold a password.
    pub(super) fn parse(&self) -> Option<Spanned<DeTable<'a>>> {
        DeTable::parse(self.text)
            .map_err(|error| {
                let line_column = error.span().map(|span| self.line_column(span.start));
                let place = Place { file: self.file.to_owned(), line_column, key: String::new() };
                let message = error.message().replace('\n', ", ");
                self.problems.borrow_mut().push(Problem::new(place, format!("not valid TOML: {message}")));
            })
            .ok()
    }

    /// The whole document as a section.
    pub(super) fn root(&'a self, table: &'a DeTable<'a>) -> Section<'a> {
        Section { document: self, path: String::new(), table: Some(table), asked: RefCell::default() }
    }

    /// Notes a problem with the value of a key.
    pub(super) fn refuse(&self, key: &str, text: impl Into<String>) {
        let place = problem::place(self.file, &self.places.borrow(), key);
        self.problems.borrow_mut().push(Problem::new(place, text));
    }

    fn note_place(&self, key: &str, span: &Range<usize>) {
        let place = Place {
            file: self.file.to_owned(),
            line_column: Some(self.line_column(span.start)),
            key: key.to_owned(),
        };
        self.places.borrow_mut().insert(key.to_owned(), place);
    }

    /// Line and column in characters, from 1.
    fn line_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl<'a> Section<'a> {
    /// The full name of one of its keys.
    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Asks for a key: its value and full name.
    fn value(&self, key: &'static str) -> Option<(String, &'a DeValue<'a>)> {
        self.asked.borrow_mut().push(key);
        let path = self.path(key);
        self.document.known.borrow_mut().insert(without_indexes(&path));
        let (name, value) = self.table?.get_key_value(key)?;
        self.document.note_place(&path, &name.span());
        Some((path, value.get_ref()))
    }

    fn wrong_type(&self, key: &str, value: &DeValue<'_>, expected: &str) {
        self.document.refuse(key, format!("found {}, expected {expected}", kind(value)));
    }

    /// A table within this one.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        self.optional_section(key).unwrap_or_else(|| self.inner(self.path(key), None))
    }

    /// A table within this one, if it is there.
    pub(super) fn optional_section(&self, key: &'static str) -> Option<Section<'a>> {
        let (path, value) = self.value(key)?;
        let table = value.as_table();
        if table.is_none() {
            self.wrong_type(&path, value, &format!("a section [{key}]"));
        }
        Some(self.inner(path, table))
    }

    /// The tables of an array, `[[key]]` each.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some((path, value)) = self.value(key) else { return Vec::new() };
        let Some(array) = value.as_array() else {
            self.wrong_type(&path, value, &format!("sections headed [[{key}]], with two brackets"));
            return Vec::new();
        };
        let section = |(n, item): (usize, &'a Spanned<DeValue<'a>>)| {
            let path = format!("{path}[{n}]");
            self.document.note_place(&path, &item.span());
            let table = item.get_ref().as_table();
            if table.is_none() {
                self.wrong_type(&path, item.get_ref(), &format!("sections headed [[{key}]]"));
            }
            self.inner(path, table)
        };
        array.iter().enumerate().map(section).collect()
    }

    fn inner(&self, path: String, table: Option<&'a DeTable<'a>>) -> Section<'a> {
        Section { document: self.document, path, table, asked: RefCell::default() }
    }

    /// A string, if the key is there and holds one.
    pub(super) fn text(&self, key: &'static str) -> Option<Text> {
        let (path, value) = self.value(key)?;
        let Some(text) = value.as_str() else {
            self.wrong_type(&path, value, "a string in quotes");
            return None;
        };
        Some(Text { key: path, value: text.to_owned() })
    }

    /// A string that has no default.
    pub(super) fn required_text(&self, key: &'static str, remedy: &str) -> Option<Text> {
        if self.table.is_some_and(|table| table.contains_key(key)) {
            return self.text(key);
        }
        let _ = self.value(key);
        self.document.refuse(&self.path(key), format!("is missing; {remedy}"));
        None
    }

    /// A list of strings; none when the key is not there.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<Text>> {
        let (path, value) = self.value(key)?;
        let Some(array) = value.as_array() else {
            self.wrong_type(&path, value, "a list of strings, such as [\"…\", \"…\"]");
            return Some(Vec::new());
        };
        let text = |(n, item): (usize, &Spanned<DeValue<'_>>)| {
            let key = format!("{path}[{n}]");
            self.document.note_place(&key, &item.span());
            let text = item.get_ref().as_str().map(str::to_owned);
            if text.is_none() {
                self.wrong_type(&key, item.get_ref(), "a string in quotes");
            }
            Some(Text { key, value: text? })
        };
        Some(array.iter().enumerate().filter_map(text).collect())
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, key: &'static str, default: u64, allowed: RangeInclusive<u64>) -> u64 {
        let Some((path, value)) = self.value(key) else { return default };
        let expected = format!("a whole number from {} to {}", allowed.start(), allowed.end());
        let Some(digits) = value.as_integer() else {
            self.wrong_type(&path, value, &expected);
            return default;
        };
        let number = u64::from_str_radix(digits.as_str(), digits.radix());
        number.ok().filter(|number| allowed.contains(number)).unwrap_or_else(|| {
            self.document.refuse(&path, format!("found {digits}, expected {expected}"));
            default
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Clone>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let allowed: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.document
                .refuse(&text.key, format!("found {:?}, expected {}", text.value, allowed.join(" or ")));
        }
        found.map(|(_, value)| value.clone())
    }

    /// Refuses the keys that nobody asked for; called when all were.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table.into_iter().flat_map(DeTable::iter) {
            if asked.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let path = self.path(key.get_ref());
            self.document.note_place(&path, &key.span());
            let remedy = match nearest(key.get_ref(), &asked) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("expected one of {}", asked.join(", ")),
            };
            self.document.refuse(&path, format!("unknown key; {remedy}"));
        }
    }
}

/// What a value is, without telling its content, which may be a password.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn without_indexes(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

/// The key that was probably meant: at most a third of its letters wrong.
fn nearest(found: &str, keys: &[&'static str]) -> Option<&'static str> {
    let distances = keys.iter().map(|key| (edit_distance(found, key), *key));
    let (distance, key) = distances.min()?;
    (distance <= key.len().div_ceil(3)).then_some(key)
}

/// How many letters must be added, removed or changed to make one word of the other.
fn edit_distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (n, c) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, d) in other.iter().enumerate() {
            let changed = diagonal + usize::from(c != *d);
            diagonal = row[m + 1];
            row[m + 1] = changed.min(row[m] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
