//! Which tables the operator means: `public.users`, `public.*`, `*.*`, `"Weird Name"`.

use std::fmt;

/// A name or pattern of tables, written as SQL writes identifiers.
///
/// * `schema.table`; a name without a dot is in the schema `public`, so `*` is `public.*`, and `*.*`
///   is every table.
/// * Unquoted letters are folded to lower case; `"Weird Name"` is taken as it stands, with `""` for
///   a quote.
/// * Outside quotes `*` stands for any characters, also none, and `?` for exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    source: String,
    schema: Glob,
    table: Glob,
}

/// Why a text is no pattern, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl Pattern {
    /// Reads a pattern; blanks around it do not count.
    ///
    /// # Errors
    /// When it has an empty part, more than two parts, an open quote, or a character that must be quoted.
    pub fn parse(source: &str) -> Result<Self, PatternError> {
        let source = source.trim();
        let mut parts = parts(source)?;
        if parts.iter().any(|part| part.0.is_empty()) {
            return Err(PatternError("has an empty name; write schema.table".to_owned()));
        }
        let (schema, table) = match (parts.pop(), parts.pop(), parts.pop()) {
            (Some(table), Some(schema), None) => (schema, table),
            (Some(table), None, None) => (Glob::exact("public"), table),
            _ => {
                let text =
                    "has more than two parts; write schema.table, and quote a dot that is part of a name";
                return Err(PatternError(text.to_owned()));
            }
        };
        Ok(Self { source: source.to_owned(), schema, table })
    }

    /// Whether it means this table; the names are as the catalog has them, unquoted.
    #[must_use]
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.schema.matches(schema) && self.table.matches(table)
    }

    /// Whether it means the same tables, however it is written.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        (&self.schema, &self.table) == (&other.schema, &other.table)
    }

    /// Whether it names one table and has no wildcard.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.schema.is_exact() && self.table.is_exact()
    }
}

/// The text as the operator wrote it.
impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.source)
    }
}

/// A name with wildcards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Glob(Vec<Piece>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Character(char),
    AnyOne,
    AnyMany,
}

impl Glob {
    fn exact(name: &str) -> Self {
        Self(name.chars().map(Piece::Character).collect())
    }

    fn is_exact(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Character(_)))
    }

    /// Walks along both; after a mismatch the last `*` takes one character more, which needs no
    /// earlier `*` to be tried again: time is at most pattern times name.
    fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut piece) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.0.get(piece) {
                Some(Piece::AnyMany) => {
                    star = Some((piece, at));
                    piece += 1;
                }
                Some(Piece::AnyOne) => (at, piece) = (at + 1, piece + 1),
                Some(Piece::Character(c)) if *c == name[at] => (at, piece) = (at + 1, piece + 1),
                _ => match &mut star {
                    Some((star_piece, taken)) => {
                        *taken += 1;
                        (at, piece) = (*taken, *star_piece + 1);
                    }
                    None => return false,
                },
            }
        }
        self.0[piece..].iter().all(|piece| *piece == Piece::AnyMany)
    }
}

/// Splits at the dots outside quotes.
fn parts(source: &str) -> Result<Vec<Glob>, PatternError> {
    let mut parts = vec![Glob::default()];
    let mut characters = source.chars().peekable();
    let mut quoted = false;
    while let Some(c) = characters.next() {
        let piece = match c {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => Piece::Character('"'),
            '"' => {
                quoted = !quoted;
                continue;
            }
            '.' if !quoted => {
                parts.push(Glob::default());
                continue;
            }
            c if quoted => Piece::Character(c),
            '*' => Piece::AnyMany,
            '?' => Piece::AnyOne,
            // PostgreSQL folds ASCII letters only, in every multi-byte encoding.
            c if is_bare(c) => Piece::Character(c.to_ascii_lowercase()),
            c => return Err(PatternError(format!("has {c:?} outside quotes; write \"…\" around the name"))),
        };
        if let Some(part) = parts.last_mut() {
            part.0.push(piece);
        }
    }
    if quoted {
        return Err(PatternError(
            "has an open quote; close it, and write \"\" for a quote in a name".to_owned(),
        ));
    }
    Ok(parts)
}

/// What an identifier may hold without quotes.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || c == '_'
        || c == '$'
        || (!c.is_ascii() && !c.is_whitespace() && !c.is_control())
}

#[cfg(test)]
mod tests;
