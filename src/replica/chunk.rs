//! The pieces in which a table is copied: planned along its key, noted on the replica before they are
//! handed out, each copied in one short transaction on either side.

use std::{collections::VecDeque, rc::Rc};

use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join};
use tokio_postgres::types::ToSql;

use super::{
    sending::{Copy, Format, Sending},
    state::{Followed, execute},
};
use crate::{
    error::{Error, Result},
    postgres::Session,
    primary::{
        batch::hold,
        rows::{PIECE_BYTES, Rows, pieces},
    },
    shape::{Shape, Text},
};

/// How many rows a chunk has at most, however small they are.
const MAX_ROWS: u64 = 100_000;

/// How many rows are taken at once of those that came.
const ROWS_AT_ONCE: usize = 256;

/// What an average row is taken for in a table that was never analyzed.
const UNKNOWN_ROW_BYTES: u64 = 1000;

/// A piece of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    number: i32,
    /// It begins behind this key (the text of a row); the table's beginning if none.
    after: Option<String>,
    /// It ends with this key; the table's end if none.
    until: Option<String>,
}

/// What all chunks of a copy have in common.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The installation on the primary.
    pub epoch: String,
    /// The replica's name.
    pub replica: String,
    /// Whether rows of different moments may meet in another unique index of the table.
    pub conflicts: bool,
}

/// What a chunk held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Rows.
    pub rows: u64,
    /// Bytes of their texts.
    pub bytes: u64,
}

impl From<(u64, u64)> for Copied {
    fn from((rows, bytes): (u64, u64)) -> Self {
        Self { rows, bytes }
    }
}

/// Plans the chunks of one table.
#[derive(Debug)]
pub struct Planner {
    table: Rc<Followed>,
    /// Planned before, and not copied yet.
    waiting: VecDeque<Chunk>,
    /// The last one planned.
    last: Option<Chunk>,
    /// How many rows a chunk is to have.
    rows: u64,
    /// About how many chunks the table has.
    expected: u64,
}

impl Planner {
    /// Takes up the plan that is noted on the replica. Returns also what was copied before.
    ///
    /// # Errors
    /// When the replica fails.
    pub async fn resume(replica: &Session, table: Rc<Followed>, chunk_bytes: u64) -> Result<(Self, Copied)> {
        let statement = include_str!("../../sql/replica/copy_chunks.sql");
        let rows = replica.query("reading how far a copy came", statement, &[&table.id, &table.copy]).await?;
        let size = "SELECT rows_expected, bytes_expected FROM pgfanout.replicated_table WHERE id = $1";
        let size = replica.query_one("reading a table's size", size, &[&table.id]).await?;
        let (expected_rows, expected_bytes): (i64, i64) = (size.get(0), size.get(1));
        let (mut waiting, mut last, mut copied) = (VecDeque::new(), None, Copied::default());
        for row in &rows {
            let chunk = Chunk { number: row.get("number"), after: row.get("after"), until: row.get("until") };
            match row.get::<_, Option<i64>>("row_count") {
                None => waiting.push_back(chunk.clone()),
                Some(rows) => {
                    copied.rows += rows.unsigned_abs();
                    copied.bytes += row.get::<_, i64>("byte_count").unsigned_abs();
                }
            }
            last = Some(chunk);
        }
        let row_bytes = match expected_rows {
            0 => UNKNOWN_ROW_BYTES,
            rows => (expected_bytes / rows).unsigned_abs().max(1),
        };
        let rows = (chunk_bytes / row_bytes).clamp(1, MAX_ROWS);
        let expected = expected_bytes.unsigned_abs() / chunk_bytes.max(1) + 1;
        Ok((Self { table, waiting, last, rows, expected }, copied))
    }

    /// About how many chunks the table has: a small one needs no second pair of connections.
    #[must_use]
    pub fn expected_chunks(&self) -> usize {
        usize::try_from(self.expected).unwrap_or(usize::MAX)
    }

    /// The next chunk, noted on the replica; `None` when all were handed out.
    ///
    /// # Errors
    /// When a database fails.
    pub async fn next(&mut self, primary: &Session, replica: &Session) -> Result<Option<Chunk>> {
        if let Some(chunk) = self.waiting.pop_front() {
            return Ok(Some(chunk));
        }
        let (number, after) = match &self.last {
            None => (0, None),
            Some(Chunk { until: None, .. }) => return Ok(None),
            Some(last) => (last.number + 1, last.until.clone()),
        };
        let until = self.boundary(primary, after.as_deref()).await?;
        let chunk = Chunk { number, after, until };
        let insert = "INSERT INTO pgfanout.copy_chunk (table_id, copy, number, \"after\", \"until\") \
            SELECT t.id, t.copy, $3, $4, $5 FROM pgfanout.replicated_table t WHERE t.id = $1 AND t.copy = $2::text::uuid";
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&self.table.id, &self.table.copy, &number, &chunk.after, &chunk.until];
        if execute(replica, "noting a piece of a copy", insert, &parameters).await? != 1 {
            return Err(begun_anew(replica, &self.table));
        }
        self.last = Some(chunk.clone());
        Ok(Some(chunk))
    }

    /// The last key of the chunk that begins behind `after`; the table's end if none.
    async fn boundary(&self, primary: &Session, after: Option<&str>) -> Result<Option<String>> {
        let shape = &self.table.shape;
        if !shape.is_ordered() {
            return Ok(None);
        }
        let mut parameters = shape.key_as_parameters(after)?;
        parameters.push(Text((self.rows - 1).to_string()));
        let doing = format!("looking for the next piece of {}", shape.quoted());
        let mut rows = primary.stream(&doing, &shape.select_boundary(after.is_none()), &parameters).await?;
        let row = primary.limited(&doing, rows.try_next()).await?;
        Ok(row.map(|row| row.get(0)))
    }
}

/// Copies a chunk in one transaction, with the note that it was copied. `primary` is what the table looks
/// like there.
///
/// A row that changed while the table is copied is in the changelog since the copy's start: it is read
/// again, so whichever of its states is copied here, or none, is right. Two rows that meet in another
/// unique index, which the primary has, too, have both changed: either may be left out. A table without a key is one piece, and stands where that
/// was read: what came before is not written again.
///
/// # Errors
/// When a database fails, or the outcome is unknown: resume the plan.
pub async fn copy_chunk(
    primary: &Session,
    replica: &Session,
    table: &Followed,
    chunk: &Chunk,
    origin: &Origin,
) -> Result<Copied> {
    let conflicts = origin.conflicts;
    let shape = &table.shape;
    // Locked before its types are looked at: they stay.
    let begin = format!("BEGIN READ WRITE; LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE", shape.quoted());
    replica.begin("beginning a piece of a copy", &begin).await?;
    let columns = shape.column_list("");
    if conflicts {
        let stage = format!(
            "CREATE TEMPORARY TABLE pgfanout_stage ON COMMIT DROP AS SELECT {columns} FROM {} WITH NO DATA",
            shape.quoted()
        );
        replica.run("making a stage", &stage).await?;
    }
    let (some_are_long, read_at) = begin_reading(primary, shape).await?;
    let into = if conflicts { "pg_temp.pgfanout_stage".to_owned() } else { shape.quoted() };
    let into = format!("{into} ({columns})");
    let passage = Passage { primary, replica, shape, chunk, into: &into };
    let mut copied = passage.short_rows(some_are_long).await?;
    if some_are_long {
        let long = passage.long_rows().await?;
        copied = Copied { rows: copied.rows + long.rows, bytes: copied.bytes + long.bytes };
    }
    primary.commit().await?;
    // Before it is committed here: a crash must not take back what a replica has, and a primary that was put
    // back does not know the name.
    let name = hold(primary, &origin.epoch, &origin.replica).await?;
    if conflicts {
        let insert = format!(
            "INSERT INTO {} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM pg_temp.pgfanout_stage \
             ON CONFLICT DO NOTHING",
            shape.quoted()
        );
        replica.run("writing a piece of a copy", &insert).await?;
    }
    let note = include_str!("../../sql/replica/chunk_copied.sql");
    let (row_count, byte_count) = (signed(copied.rows), signed(copied.bytes));
    let parameters: [&(dyn ToSql + Sync); 8] =
        [&table.id, &table.copy, &chunk.number, &row_count, &byte_count, &name.number, &name.token, &read_at];
    if replica.execute("noting a copied piece", note, &parameters).await? != 1 {
        return Err(begun_anew(replica, table));
    }
    replica.commit().await?;
    Ok(copied)
}

/// Begins to read rows of one moment. Returns whether some of them may be long; and, of a table without a key, that
/// moment.
async fn begin_reading(primary: &Session, shape: &Shape) -> Result<(bool, Option<String>)> {
    let doing = reading(shape);
    // Locked before the snapshot is taken: a rewrite that comes between would leave an empty table to it.
    let begin = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; LOCK TABLE {} IN ACCESS SHARE MODE",
        shape.quoted()
    );
    primary.begin(&doing, &begin).await?;
    let read_at = if shape.is_keyless() {
        let now = "SELECT pg_current_snapshot()::text";
        Some(primary.query_one(&doing, now, &[]).await?.get(0))
    } else {
        None
    };
    let some_are_long = match shape.may_be_long_inline() {
        Some(false) => {
            let statement = include_str!("../../sql/primary/is_toasted.sql");
            primary.query_one(&doing, statement, &[&shape.quoted()]).await?.get(0)
        }
        may_be => may_be.unwrap_or(false),
    };
    Ok((some_are_long, read_at))
}

/// Whether rows of the table, which both sides have locked, mean the same in binary on both.
async fn have_one_binary_form(primary: &Session, replica: &Session, shape: &Shape) -> Result<bool> {
    let (doing, statement) = ("comparing the types of columns", include_str!("../../sql/binary_types.sql"));
    let columns: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
    let table = shape.quoted();
    let parameters: [&(dyn ToSql + Sync); 2] = [&table, &columns];
    let (there, here) = try_join(
        primary.query_one(doing, statement, &parameters),
        replica.query_one(doing, statement, &parameters),
    )
    .await?;
    let [there, here] = [there, here].map(|row| row.get::<_, Option<Vec<String>>>(0));
    Ok(there.is_some() && there == here)
}

fn reading(shape: &Shape) -> String {
    format!("reading a piece of {}", shape.quoted())
}

/// From where to where the rows of a chunk go.
struct Passage<'a> {
    primary: &'a Session,
    replica: &'a Session,
    shape: &'a Shape,
    chunk: &'a Chunk,
    /// The table that takes them, with its columns.
    into: &'a str,
}

impl Passage<'_> {
    /// Copies the rows as they come, so that none of them costs more than its bytes: all, or `only` the short ones.
    async fn short_rows(&self, only: bool) -> Result<Copied> {
        let (shape, chunk, doing) = (self.shape, self.chunk, reading(self.shape));
        let binary = have_one_binary_form(self.primary, self.replica, shape).await?;
        let format = if binary { Format::Binary } else { Format::Csv };
        if let Some((set, keys)) = shape.set_range(chunk.after.as_deref(), chunk.until.as_deref())? {
            let keys: Vec<_> = keys.iter().map(|key| key as &(dyn ToSql + Sync)).collect();
            self.primary.query_one(&doing, &set, &keys).await?;
        }
        let statement = shape.copy_range(chunk.after.is_none(), chunk.until.is_none(), only, format.name());
        let mut rows = self.primary.copy_out(&doing, &statement).await?.ready_chunks(ROWS_AT_ONCE);
        let mut sending = Sending::new(Copy::into(self.replica, shape, self.into, format));
        loop {
            let next = async { rows.next().await.into_iter().flatten().collect::<Result<Vec<_>, _>>() };
            let some = self.primary.limited(&doing, next).await?;
            if some.is_empty() {
                return sending.finish().await.map(Copied::from);
            }
            some.iter().for_each(|line| sending.lines.push_line(line));
            sending.send_if_many().await?;
        }
    }

    /// Copies the others, in pieces of their text.
    async fn long_rows(&self) -> Result<Copied> {
        let (shape, chunk) = (self.shape, self.chunk);
        let mut parameters = shape.key_as_parameters(chunk.after.as_deref())?;
        parameters.extend(shape.key_as_parameters(chunk.until.as_deref())?);
        parameters.extend(pieces(PIECE_BYTES, true));
        let statement = shape.select_long(chunk.after.is_none(), chunk.until.is_none());
        let stream = self.primary.stream(&reading(shape), &statement, &parameters).await?;
        let mut rows = Rows::in_pieces(self.primary, stream);
        let mut sending = Sending::new(Copy::into(self.replica, shape, self.into, Format::Csv));
        while let Some(piece) = rows.next().await? {
            sending.lines.push(shape, &piece)?;
            sending.send_if_many().await?;
        }
        sending.finish().await.map(Copied::from)
    }
}

fn begun_anew(replica: &Session, table: &Followed) -> Error {
    Error::Disconnected(format!(
        "{}: the copy of {} was begun anew, or goes on elsewhere",
        replica.database(),
        table.shape.quoted()
    ))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
