//! A TOML document that knows where everything stands, and collects what is wrong.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
};

use toml::{Spanned, de::DeTable};

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

    /// Notes a problem with the value of a key.
    pub(super) fn refuse(&self, key: &str, text: impl Into<String>) {
        let place = problem::place(self.file, &self.places.borrow(), key);
        self.problems.borrow_mut().push(Problem::new(place, text));
    }

    /// Notes where a key stands.
    pub(super) fn note_place(&self, key: &str, span: &Range<usize>) {
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
