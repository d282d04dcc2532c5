//! Problems of a configuration, and where they are.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

/// Where a key stands; prints as `FILE:LINE:COL: KEY`, or less where less is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The configuration file.
    pub file: PathBuf,
    /// Line and column, from 1; none for a key that does not stand in the file.
    pub line_column: Option<(usize, usize)>,
    /// Such as `replica[1].url`, counted from 0; empty for the file as a whole.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file.display())?;
        if let Some((line, column)) = self.line_column {
            write!(out, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(out, ": {}", self.key)?;
        }
        Ok(())
    }
}

/// One reason not to start; prints as `FILE:LINE:COL: KEY: what was found, what is expected, remedy`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {text}")]
pub struct Problem {
    place: Place,
    text: String,
}

impl Problem {
    pub(super) fn new(place: Place, text: impl Into<String>) -> Self {
        Self { place, text: text.into() }
    }

    /// In the order of the file.
    pub(super) fn order(&self) -> Option<(usize, usize)> {
        self.place.line_column
    }
}

/// All reasons found, one a line; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(out, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// The place of a key, or under its name the place of the nearest thing around it that is there.
pub(super) fn place(file: &Path, places: &BTreeMap<String, Place>, key: &str) -> Place {
    let mut around = key;
    loop {
        if let Some(found) = places.get(around) {
            return Place { key: key.to_owned(), ..found.clone() };
        }
        match around.rfind(['.', '[']) {
            Some(end) => around = &around[..end],
            None => return Place { file: file.to_owned(), line_column: None, key: key.to_owned() },
        }
    }
}
