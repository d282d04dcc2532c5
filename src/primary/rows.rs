//! Rows as they come from the primary, large ones in pieces: no row is ever held as a whole.

use std::{collections::HashSet, pin::Pin};

use futures_util::StreamExt as _;
use tokio_postgres::{Row, RowStream};

use crate::{
    error::{Error, Result},
    postgres::Session,
    record::CsvLines,
    shape::{Shape, Text},
};

/// How large a piece of a row's text is on its way from the primary to a replica.
pub const PIECE_BYTES: u64 = 256 << 10;

/// The last two parameters of such a query: how large a piece is, and whether `all` pieces of a row are wanted,
/// or only the first.
#[must_use]
pub fn pieces(bytes: u64, all: bool) -> [Text; 2] {
    [Text(bytes.to_string()), Text(u8::from(!all).to_string())]
}

/// The rows of a query that [`Shape`] wrote.
pub struct Rows<'a> {
    primary: &'a Session,
    stream: Pin<Box<RowStream>>,
    /// Where the rows lie that came, if one may come twice.
    met: Option<HashSet<String>>,
    /// Whether the row that comes was met before.
    again: bool,
    /// Which keys asked for a row that another one had asked for.
    others: Vec<usize>,
    /// Where the next piece of the row begins, from 1.
    next: i32,
}

/// A piece of a row's text; of a small row, all of it.
#[derive(Debug)]
pub struct Piece {
    /// Which of the keys asked for the row, from 0.
    pub at: usize,
    /// Whether the row ends with it.
    pub last: bool,
    row: Row,
}

impl<'a> Rows<'a> {
    /// Rows that come from now on. If they are `respellable`, one may be asked for by several keys, and comes
    /// once all the same.
    #[must_use]
    pub fn new(primary: &'a Session, stream: Pin<Box<RowStream>>, respellable: bool) -> Self {
        Self {
            primary,
            stream,
            met: respellable.then(HashSet::new),
            again: false,
            others: Vec::new(),
            next: 1,
        }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            let next = async { self.stream.next().await.transpose() };
            let Some(row) = self.primary.limited("reading rows", next).await? else { return Ok(None) };
            let (start, length): (i32, Option<i32>) = (row.get("start"), row.get("length"));
            if start == 1 {
                self.again = self.met.as_mut().is_some_and(|places| !places.insert(row.get("place")));
            } else if start != self.next {
                return Err(Error::Unfit("primary: the pieces of a row are out of order".to_owned()));
            }
            let bytes = row.get::<_, Option<&[u8]>>("piece").map_or(0, <[u8]>::len);
            self.next = start.saturating_add(i32::try_from(bytes).unwrap_or(i32::MAX));
            let at = usize::try_from(row.get::<_, i64>("n") - 1).unwrap_or(usize::MAX);
            if self.again {
                self.others.push(at);
            } else {
                let last = length.is_none_or(|length| self.next > length);
                return Ok(Some(Piece { at, last, row }));
            }
        }
    }

    /// The keys, from 0, that are other spellings of one whose row has come: their row is there, too.
    #[must_use]
    pub fn other_spellings(&self) -> &[usize] {
        &self.others
    }
}

impl Piece {
    /// Its bytes; `None` if the row is larger than PostgreSQL can print.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.row.get("piece")
    }

    /// The text of a row that is all in this piece.
    #[must_use]
    pub fn whole(&self) -> Option<&str> {
        let whole = self.last && self.row.get::<_, i32>("start") == 1;
        self.bytes().filter(|_| whole).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }
}

/// Lines of CSV, gathered from pieces.
#[derive(Debug, Default)]
pub struct Lines {
    csv: CsvLines,
    lines: Vec<u8>,
}

impl Lines {
    /// Adds a piece of a row of the table.
    ///
    /// # Errors
    /// When it is no row, or larger than PostgreSQL can print.
    pub fn push(&mut self, shape: &Shape, piece: &Piece) -> Result<()> {
        let Some(bytes) = piece.bytes() else {
            return Err(Error::Unfit(format!(
                "primary: a row of {} is larger than PostgreSQL can print (1 GB of text, or more than 500 MB in text \
                 and bytea columns): make it smaller, delete it, or exclude the table",
                shape.quoted()
            )));
        };
        self.push_bytes(shape, bytes, piece.last)
    }

    /// Adds the text of a whole row of the table.
    ///
    /// # Errors
    /// When it is none.
    pub fn push_whole(&mut self, shape: &Shape, text: &str) -> Result<()> {
        self.push_bytes(shape, text.as_bytes(), true)
    }

    fn push_bytes(&mut self, shape: &Shape, bytes: &[u8], last: bool) -> Result<()> {
        let pushed = self.csv.push(bytes, last, &mut self.lines);
        pushed.map_err(|error| Error::Unfit(format!("primary: a row of {}: {error}", shape.quoted())))
    }

    /// Adds a whole line.
    pub fn push_line(&mut self, line: &[u8]) {
        self.lines.extend_from_slice(line);
    }

    /// Whether it is time to send them on.
    #[must_use]
    pub fn are_many(&self) -> bool {
        self.lines.len() as u64 >= PIECE_BYTES
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What was gathered.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.lines)
    }
}
