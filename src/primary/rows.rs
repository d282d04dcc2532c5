//! Rows as they come from the primary, large ones in pieces: no row is ever held as a whole.

use std::{collections::HashSet, pin::Pin};

use futures_util::StreamExt as _;
use tokio_postgres::{Row, RowStream};

use super::keys::Group;
use crate::{
    error::{Error, Result},
    postgres::Session,
    record::CsvLines,
    shape::{Shape, Text, key_arrays},
};

/// How large a piece of a row's text is on its way from the primary to a replica.
pub const PIECE_BYTES: u64 = 256 << 10;

/// Where rows that come whole have their text.
const TEXT: usize = 2;

/// Where pieces of rows have their bytes.
const BYTES: usize = 4;

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
    /// How they come.
    form: Form<'a>,
    /// Which keys asked for a row that another one had asked for.
    others: Vec<usize>,
}

/// How rows come.
enum Form<'a> {
    /// Short ones, as text; then the long ones that were met.
    Whole {
        group: &'a Group,
        /// Where the rows lie that came, if one may come twice.
        met: Option<HashSet<String>>,
        /// Which of the keys asked for long rows.
        long: Vec<usize>,
        /// How large a piece of them is, and whether all of them are wanted.
        pieces: (u64, bool),
    },
    /// In pieces.
    Pieces {
        /// Which of the keys each number means; empty if there are none.
        keys: Vec<usize>,
        /// Where the next piece of the row begins, from 1.
        next: i32,
    },
}

/// A piece of a row's text; of a small row, all of it.
#[derive(Debug)]
pub struct Piece {
    /// Which of the keys asked for the row, from 0.
    pub at: usize,
    /// Whether the row ends with it.
    pub last: bool,
    /// Whether it begins with it.
    first: bool,
    /// In which column of the answer it is: as text where a row comes whole, else as bytes.
    column: usize,
    row: Row,
}

impl<'a> Rows<'a> {
    /// The rows of a group's keys, long ones in `pieces` of so many bytes: all of them, or only the first. A row that is
    /// asked for by several spellings of its key comes once.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn by_keys(primary: &'a Session, group: &'a Group, pieces: (u64, bool)) -> Result<Self> {
        let (shape, keys) = (&group.table.shape, group.keys.iter().map(|changed| &changed.key));
        let arrays = key_arrays(shape.key_width(), keys);
        let stream = primary.stream(&reading(shape), &group.table.select, &arrays).await?;
        let met = shape.is_respellable().then(HashSet::new);
        let form = Form::Whole { group, met, long: Vec::new(), pieces };
        Ok(Self { primary, stream, form, others: Vec::new() })
    }

    /// Rows that come in pieces from now on.
    #[must_use]
    pub const fn in_pieces(primary: &'a Session, stream: Pin<Box<RowStream>>) -> Self {
        Self { primary, stream, form: Form::Pieces { keys: Vec::new(), next: 1 }, others: Vec::new() }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            let next = async { self.stream.next().await.transpose() };
            let Some(row) = self.primary.limited("reading rows", next).await? else {
                if self.go_on_with_long().await? {
                    continue;
                }
                return Ok(None);
            };
            let at = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
            match &mut self.form {
                Form::Whole { met, long, .. } => {
                    if met.as_mut().is_some_and(|places| !places.insert(row.get(1))) {
                        self.others.push(at);
                    } else if row.get::<_, Option<&str>>(TEXT).is_none() {
                        long.push(at);
                    } else {
                        return Ok(Some(Piece { at, first: true, last: true, column: TEXT, row }));
                    }
                }
                Form::Pieces { keys, next } => {
                    let (length, start): (Option<i32>, i32) = (row.get(2), row.get(3));
                    if start != 1 && start != *next {
                        return Err(Error::Unfit("primary: the pieces of a row are out of order".to_owned()));
                    }
                    let bytes = row.get::<_, Option<&[u8]>>(BYTES).map_or(0, <[u8]>::len);
                    *next = start.saturating_add(i32::try_from(bytes).unwrap_or(i32::MAX));
                    let last = length.is_none_or(|length| *next > length);
                    let at = keys.get(at).copied().unwrap_or(at);
                    return Ok(Some(Piece { at, first: start == 1, last, column: BYTES, row }));
                }
            }
        }
    }

    /// Asks for the long rows that were met, if there are some.
    async fn go_on_with_long(&mut self) -> Result<bool> {
        let Form::Whole { group, long, pieces, .. } = &mut self.form else { return Ok(false) };
        if long.is_empty() {
            return Ok(false);
        }
        let (group, keys) = (*group, std::mem::take(long));
        let asked = keys.iter().filter_map(|&at| group.keys.get(at)).map(|changed| &changed.key);
        let mut parameters = key_arrays(group.table.shape.key_width(), asked);
        parameters.extend(self::pieces(pieces.0, pieces.1));
        let (doing, select) = (reading(&group.table.shape), &group.table.select_pieces);
        self.stream = self.primary.stream(&doing, select, &parameters).await?;
        self.form = Form::Pieces { keys, next: 1 };
        Ok(true)
    }

    /// The keys, from 0, that are other spellings of one whose row has come: their row is there, too.
    #[must_use]
    pub fn other_spellings(&self) -> &[usize] {
        &self.others
    }
}

fn reading(shape: &Shape) -> String {
    format!("reading changed rows of {}", shape.quoted())
}

impl Piece {
    /// Its bytes; `None` if the row is larger than PostgreSQL can print.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self.column {
            TEXT => self.row.get::<_, Option<&str>>(TEXT).map(str::as_bytes),
            bytes => self.row.get(bytes),
        }
    }

    /// The text of a row that is all in this piece.
    #[must_use]
    pub fn whole(&self) -> Option<&str> {
        self.bytes().filter(|_| self.first && self.last).and_then(|bytes| std::str::from_utf8(bytes).ok())
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
