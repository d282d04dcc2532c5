//! A table of the document: it is asked for each of its keys, and refuses the ones left over.

use std::{cell::RefCell, ops::RangeInclusive};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{document::Document, nearest::nearest};

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

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(document: &'a Document<'a>, table: &'a DeTable<'a>) -> Self {
        Section { document, path: String::new(), table: Some(table), asked: RefCell::default() }
    }

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

    /// The tables of an array, `[[key]]` each; none when something else is there.
    pub(super) fn sections(&self, key: &'static str) -> Option<Vec<Section<'a>>> {
        let Some((path, value)) = self.value(key) else { return Some(Vec::new()) };
        let Some(array) = value.as_array() else {
            self.wrong_type(&path, value, &format!("sections headed [[{key}]], with two brackets"));
            return None;
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
        Some(array.iter().enumerate().map(section).collect())
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
        self.require(key, remedy);
        self.text(key)
    }

    /// Refuses that a key is left out, unless something else stands where its section should be.
    fn require(&self, key: &str, remedy: &str) {
        let is_broken = self.table.is_none() && self.document.places.borrow().contains_key(&self.path);
        if !is_broken && !self.table.is_some_and(|table| table.contains_key(key)) {
            self.document.refuse(&self.path(key), format!("is missing; {remedy}"));
        }
    }

    /// A list of strings that has no default and may not be empty.
    pub(super) fn required_texts(&self, key: &'static str, remedy: &str) -> Vec<Text> {
        self.require(key, remedy);
        self.filled_texts(key, remedy).unwrap_or_default()
    }

    /// A list of strings that may not be empty.
    pub(super) fn filled_texts(&self, key: &'static str, remedy: &str) -> Option<Vec<Text>> {
        let is_empty = |table: &DeTable<'_>| {
            table.get(key).and_then(|value| value.get_ref().as_array()).is_some_and(|array| array.is_empty())
        };
        let texts = self.texts(key);
        if self.table.is_some_and(is_empty) {
            self.document.refuse(&self.path(key), format!("is empty; {remedy}"));
        }
        texts
    }

    /// A list of strings; none when the key is not there.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<Text>> {
        let (path, value) = self.value(key)?;
        let Some(array) = value.as_array() else {
            self.wrong_type(&path, value, "a list of strings, such as [\"…\", \"…\"]");
            return None;
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
