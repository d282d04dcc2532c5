//! The pieces in which a table is copied: planned along its key, noted on the replica before they are
//! handed out, each copied in one short transaction on either side.

use std::{collections::VecDeque, rc::Rc};

use bytes::Bytes;
use tokio_postgres::types::ToSql;

use super::{
    difference::quote_literal,
    followed::Followed,
    reading::{Gathered, Reader, Reading, types},
    sending::{Copy, Format, Sending},
    state::execute,
};
use crate::{
    error::{Error, Result},
    postgres::Session,
    primary::batch::hold,
    shape::Shape,
};

/// How many rows a chunk has at most, however small they are.
const MAX_ROWS: u64 = 100_000;

/// What an average row is taken for in a table that was never analyzed.
const UNKNOWN_ROW_BYTES: u64 = 1000;

/// A piece of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    number: i32,
    /// It begins behind this key (the text of a row); the table's beginning if none.
    pub after: Option<String>,
    /// It ends with this key; the table's end if none.
    pub until: Option<String>,
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
    pub async fn next(&mut self, reader: &Reader, replica: &Session) -> Result<Option<Chunk>> {
        if let Some(chunk) = self.waiting.pop_front() {
            return Ok(Some(chunk));
        }
        let (number, after) = match &self.last {
            None => (0, None),
            Some(Chunk { until: None, .. }) => return Ok(None),
            Some(last) => (last.number + 1, last.until.clone()),
        };
        let until = reader.boundary(after.as_deref(), self.rows).await?;
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
}

/// Copies a chunk in one transaction, with the note that it was copied.
///
/// A row that changed while the table is copied is in the changelog since the copy's start: it is read
/// again, so whichever of its states is copied here, or none, is right. Two rows that meet in another
/// unique index, which the primary has, too, have both changed: either may be left out. A table without a key is one piece, and stands where that
/// was read: what came before is not written again.
///
/// # Errors
/// When a database fails, or the outcome is unknown: resume the plan.
pub async fn copy_chunk(
    reader: &Reader,
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
    let into = if conflicts { "pg_temp.pgfanout_stage".to_owned() } else { shape.quoted() };
    let into = format!("{into} ({columns})");
    let types = types(replica, shape).await?;
    let writing = |format| Copy::into(replica, shape, &into, format);
    let (copied, read_at) = match reader.gather(chunk, &types).await {
        Some(gathered) => (write(&gathered, writing).await?, None),
        None => pass(&reader.begin(chunk, &types).await?, shape, writing).await?,
    };
    // Before it is committed here: a crash must not take back what a replica has, and a primary that was put
    // back does not know the name.
    let name = hold(reader.session(), &origin.epoch, &origin.replica).await?;
    if conflicts {
        replica.run("writing a piece of a copy", &move_on(shape)).await?;
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

/// The statement that writes what was staged, but for rows that meet others in a unique index. A table with rules takes no
/// ON CONFLICT, whether they would fire or not: each row is tried there.
fn move_on(shape: &Shape) -> String {
    let (table, columns, staged) = (shape.quoted(), shape.column_list(""), shape.column_list("s."));
    let insert = format!(
        "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {staged} FROM pg_temp.pgfanout_stage s"
    );
    let body = format!(
        "#variable_conflict use_variable
        DECLARE place pg_catalog.tid;
        BEGIN
            IF NOT EXISTS (
                SELECT FROM pg_catalog.pg_rewrite r
                WHERE r.ev_class = {}::pg_catalog.regclass AND r.ev_type IN ('2', '3')
            ) THEN
                {insert} ON CONFLICT DO NOTHING;
                RETURN;
            END IF;
            FOR place IN SELECT s.ctid FROM pg_temp.pgfanout_stage s LOOP
                BEGIN
                    {insert} WHERE s.ctid = place;
                EXCEPTION WHEN unique_violation OR exclusion_violation THEN NULL;
                END;
            END LOOP;
        END",
        quote_literal(&table)
    );
    format!("DO {}", quote_literal(&body))
}

/// Writes rows that were read before.
async fn write<'a>(gathered: &Gathered, writing: impl Fn(Format) -> Copy<'a>) -> Result<Copied> {
    let (mut copy, mut bytes) = (writing(gathered.format), 0);
    for piece in &gathered.pieces {
        bytes += piece.len() as u64;
        copy.send(piece.clone()).await?;
    }
    Ok(Copied { rows: copy.finish().await?, bytes })
}

/// Writes the rows as they come, so that none of them costs more than its bytes. Returns also, of a table without a key,
/// at which moment they were read.
async fn pass<'a>(
    reading: &Reading<'_>,
    shape: &Shape,
    writing: impl Fn(Format) -> Copy<'a>,
) -> Result<(Copied, Option<String>)> {
    let (mut copy, mut copied) = (writing(reading.format), Copied::default());
    let mut rows = reading.short_rows().await?;
    loop {
        let some = rows.next().await?;
        if some.is_empty() {
            break;
        }
        copied.bytes += some.len() as u64;
        copy.send(Bytes::from(some)).await?;
    }
    copied.rows += copy.finish().await?;
    if reading.some_are_long {
        let mut rows = reading.long_rows().await?;
        let mut sending = Sending::new(writing(Format::Csv));
        while let Some(piece) = rows.next().await? {
            sending.lines.push(shape, &piece)?;
            sending.send_if_many().await?;
        }
        let (rows, bytes) = sending.finish().await?;
        copied = Copied { rows: copied.rows + rows, bytes: copied.bytes + bytes };
    }
    reading.end().await?;
    Ok((copied, reading.read_at.clone()))
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
