//! Rows on their way into a table of a replica.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::CopyInSink;

use crate::{
    error::Result,
    postgres::{COPY_MESSAGE, Session},
    primary::rows::Lines,
    shape::Shape,
};

/// A form in which `COPY` takes rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Their text, as rows are printed: of any type.
    Csv,
    /// Their text, as messages have it: of any type.
    Text,
    /// Nothing has to be printed nor read: of types whose binary form is exact.
    Binary,
}

impl Format {
    /// Its name in SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Text => "text",
            Self::Binary => "binary",
        }
    }
}

/// A `COPY` into a table, which begins when something is sent.
pub struct Copy<'a> {
    session: &'a Session,
    doing: String,
    /// What is to be done before.
    before: Option<String>,
    statement: String,
    sink: Option<Pin<Box<CopyInSink<Bytes>>>>,
    /// What is to be done when the rows are there.
    afterwards: Vec<String>,
}

impl<'a> Copy<'a> {
    /// Of rows of `shape`'s columns into its table, after [`delete`](super::apply::delete) has removed their keys in the
    /// same transaction.
    #[must_use]
    pub fn of_changes(session: &'a Session, shape: &Shape, format: Format) -> Self {
        if shape.has_own() {
            let mut copy = Self::into(session, shape, &shape.stage_for_copy(), format);
            copy.afterwards.push(shape.bring_back());
            return copy;
        }
        let into = format!("{} ({})", shape.quoted(), shape.column_list(""));
        Self::into(session, shape, &into, format)
    }

    /// Of rows of the table of this `shape` into `table (columns)`.
    #[must_use]
    pub fn into(session: &'a Session, shape: &Shape, into: &str, format: Format) -> Self {
        let doing = format!("writing rows of {}", shape.with_key());
        let (mut before, mut to, mut afterwards) = (None, into.to_owned(), Vec::new());
        if let Some((make, stage, move_on)) = shape.stage_for_chars(into).filter(|_| format != Format::Binary)
        {
            (before, to) = (Some(make), stage);
            afterwards.push(move_on);
        }
        let statement = format!("COPY {to} FROM STDIN (FORMAT {})", format.name());
        Self { session, doing, before, statement, sink: None, afterwards }
    }

    /// Begins now.
    ///
    /// # Errors
    /// When the replica refuses or the link breaks.
    pub async fn begin(&mut self) -> Result<()> {
        if let Some(statement) = &self.before {
            self.session.run(&self.doing, statement).await?;
        }
        let sink = self.session.copy_in(&self.doing, &self.statement).await?;
        self.sink = Some(Box::pin(sink));
        Ok(())
    }

    /// Sends some of the rows, which may end anywhere.
    ///
    /// # Errors
    /// When the replica refuses or the link breaks.
    pub async fn send(&mut self, mut rows: Bytes) -> Result<()> {
        if self.sink.is_none() {
            self.begin().await?;
        }
        let Some(sink) = &mut self.sink else { return Ok(()) };
        while !rows.is_empty() {
            let some = rows.split_to(rows.len().min(COPY_MESSAGE));
            self.session.limited(&self.doing, sink.send(some)).await?;
        }
        Ok(())
    }

    /// Ends the copy, if it was begun, and says how many rows were written.
    ///
    /// # Errors
    /// When the replica refuses a row or the link breaks.
    pub async fn finish(mut self) -> Result<u64> {
        let Some(sink) = &mut self.sink else { return Ok(0) };
        let rows = self.session.limited(&self.doing, sink.as_mut().finish()).await?;
        for statements in &self.afterwards {
            self.session.run(&self.doing, statements).await?;
        }
        Ok(rows)
    }
}

/// Rows that are gathered until it is worth sending them.
pub struct Sending<'a> {
    copy: Copy<'a>,
    /// What waits to be sent.
    pub lines: Lines,
    bytes: u64,
}

impl<'a> Sending<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn new(copy: Copy<'a>) -> Self {
        Self { copy, lines: Lines::default(), bytes: 0 }
    }

    /// Sends what waits, if it is worth it.
    ///
    /// # Errors
    /// When the replica refuses or the link breaks.
    pub async fn send_if_many(&mut self) -> Result<()> {
        if self.lines.are_many() { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<()> {
        let some = self.lines.take();
        self.bytes += some.len() as u64;
        self.copy.send(Bytes::from(some)).await
    }

    /// Sends the rest and ends the copy. Returns how many rows there were, and how many bytes.
    ///
    /// # Errors
    /// When the replica refuses a row or the link breaks.
    pub async fn finish(mut self) -> Result<(u64, u64)> {
        if !self.lines.is_empty() {
            self.send().await?;
        }
        Ok((self.copy.finish().await?, self.bytes))
    }
}
