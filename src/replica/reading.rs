//! What a copy reads of the primary, once for all replicas that are copied at the same time.
//!
//! Replicas that begin together plan the same chunks, and each chunk is read by whichever comes to it first. The
//! others take its rows, as long as anybody still writes them; whoever comes later reads for itself.
//!
//! A reading serves only who connected to the same server before it began. So its rows are of a moment after that
//! replica's copy began, which is all that a copy asks for. And a [`hold`](crate::primary::batch::hold) on that
//! connection, after the reading, names a later moment of the same history: a server that lost something in between
//! would have lost the connection, too.

use std::{
    cell::{Cell, RefCell},
    fmt,
    pin::Pin,
    rc::{Rc, Weak},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream::ReadyChunks};
use tokio::time::Instant;
use tokio_postgres::{CopyOutStream, types::ToSql};

use super::{chunk::Chunk, followed::Followed, sending::Format, shelf::Shelf};
use crate::{
    error::Result,
    postgres::Session,
    primary::rows::{PIECE_BYTES, Rows, pieces},
    shape::{Shape, Text},
};

/// How many rows are taken at once of those that came.
const ROWS_AT_ONCE: usize = 256;

/// How many boundaries are kept: who lags by more chunks than that plans its own.
const BOUNDARIES: usize = 64;

/// How many chunks are kept that nobody writes any more.
const CHUNKS: usize = 2;

/// How many bytes of rows are gathered. Chunks that are planned to have more than a quarter of that, since it is only
/// estimated how large rows are, each replica reads as they come.
const MOST_BYTES: u64 = 32 << 20;

/// The rows of a chunk, as `COPY` writes and reads them.
#[derive(Debug)]
pub struct Gathered {
    /// Their form.
    pub format: Format,
    /// All of them, one after the other.
    pub pieces: Vec<Bytes>,
}

/// What the copies of a process read of the primary.
struct Shelves {
    boundaries: Shelf<Option<String>>,
    chunks: Shelf<Gathered>,
}

impl fmt::Debug for Shelves {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shelves").finish_non_exhaustive()
    }
}

/// Where the copies of a process find what others of them read. Nothing is kept while there are none.
#[derive(Clone, Debug, Default)]
pub struct Readings(Rc<RefCell<Weak<Shelves>>>);

impl Readings {
    fn shelves(&self) -> Rc<Shelves> {
        let mut known = self.0.borrow_mut();
        known.upgrade().unwrap_or_else(|| {
            let shelves = Shelves { boundaries: Shelf::new(BOUNDARIES), chunks: Shelf::new(CHUNKS) };
            let shelves = Rc::new(shelves);
            *known = Rc::downgrade(&shelves);
            shelves
        })
    }
}

/// A connection to the primary that reads for the copy of one table.
#[derive(Debug)]
pub struct Reader {
    session: Rc<Session>,
    table: Rc<Followed>,
    /// What others read; none where there are no others.
    shelves: Option<Rc<Shelves>>,
    /// Whether chunks are worth gathering.
    gathers: Cell<bool>,
    /// Which start of which server it is connected to, and since when.
    server: String,
    connected: Instant,
}

impl Reader {
    /// Takes a connection to where the table's copy was begun, by chunks of so many bytes.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn new(
        session: Session,
        table: Rc<Followed>,
        chunk_bytes: u64,
        readings: Option<&Readings>,
    ) -> Result<Self> {
        let connected = Instant::now();
        let start = "SELECT i.epoch::text || pg_postmaster_start_time()::text FROM pgfanout.installation i";
        let server = session.query_one("asking when the server was started", start, &[]).await?.get(0);
        let gathers = Cell::new(table.shape.is_ordered() && chunk_bytes <= MOST_BYTES / 4);
        let shelves = readings.map(Readings::shelves);
        Ok(Self { session: Rc::new(session), table, shelves, gathers, server, connected })
    }

    /// The connection, while nothing is read.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What is asked by this statement about rows behind a key.
    fn question(&self, statement: String, more: [Option<&str>; 3]) -> Vec<Option<String>> {
        let more = more.map(|one| one.map(str::to_owned));
        [Some(self.server.clone()), Some(statement)].into_iter().chain(more).collect()
    }

    /// The key that lies so many rows behind another, or behind the table's beginning; none behind the table's end.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn boundary(&self, after: Option<&str>, rows: u64) -> Result<Option<String>> {
        if let Some(shelves) = &self.shelves {
            let (session, table, from) =
                (Rc::clone(&self.session), Rc::clone(&self.table), after.map(str::to_owned));
            let statement = table.shape.select_boundary(after.is_none());
            let question = self.question(statement, [after, Some(&rows.to_string()), None]);
            let look = async move { boundary(&session, &table.shape, from.as_deref(), rows).await.ok() };
            if let Some(found) = shelves.boundaries.find(question, self.connected, look).await {
                return Ok((*found).clone());
            }
        }
        boundary(&self.session, &self.table.shape, after, rows).await
    }

    /// The rows of a chunk, read once for all; nothing where each has to read them as they come: there are no others, or
    /// the rows are too large to be gathered. `types` are those of who is to take them.
    pub async fn gather(&self, chunk: &Chunk, types: &Types) -> Option<Rc<Gathered>> {
        let shelves = self.shelves.as_ref().filter(|_| self.gathers.get())?;
        let statement = self.table.shape.copy_range(chunk.after.is_none(), chunk.until.is_none(), false, "");
        let listed = types.as_ref().map(|types| types.join(" "));
        let question =
            self.question(statement, [chunk.after.as_deref(), chunk.until.as_deref(), listed.as_deref()]);
        let (session, table) = (Rc::clone(&self.session), Rc::clone(&self.table));
        let (chunk, types) = (chunk.clone(), types.clone());
        let look = async move { gather(&session, &table.shape, &chunk, &types).await.ok().flatten() };
        let gathered = shelves.chunks.find(question, self.connected, look).await;
        self.gathers.set(gathered.is_some());
        gathered
    }

    /// Begins to read a chunk for one replica alone, whose types these are.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn begin<'a>(&'a self, chunk: &'a Chunk, types: &Types) -> Result<Reading<'a>> {
        Reading::begin(&self.session, &self.table.shape, chunk, types).await
    }
}

async fn boundary(
    primary: &Session,
    shape: &Shape,
    after: Option<&str>,
    rows: u64,
) -> Result<Option<String>> {
    if !shape.is_ordered() {
        return Ok(None);
    }
    let mut parameters = shape.key_as_parameters(after)?;
    parameters.push(Text((rows - 1).to_string()));
    let doing = format!("looking for the next piece of {}", shape.quoted());
    let mut rows = primary.stream(&doing, &shape.select_boundary(after.is_none()), &parameters).await?;
    let row = primary.limited(&doing, rows.try_next()).await?;
    Ok(row.map(|row| row.get(0)))
}

async fn gather(primary: &Session, shape: &Shape, chunk: &Chunk, types: &Types) -> Result<Option<Gathered>> {
    let reading = Reading::begin(primary, shape, chunk, types).await?;
    if reading.some_are_long {
        return Ok(None);
    }
    let (mut rows, mut pieces, mut bytes) = (reading.short_rows().await?, Vec::new(), 0);
    loop {
        let some = rows.next().await?;
        if some.is_empty() {
            break;
        }
        bytes += some.len() as u64;
        if bytes > MOST_BYTES {
            return Ok(None);
        }
        pieces.push(Bytes::from(some));
    }
    reading.end().await?;
    Ok(Some(Gathered { format: reading.format, pieces }))
}

/// The base types of a table's columns, if their binary form is exact and the same on every server that has them.
pub type Types = Option<Vec<String>>;

/// Reads the types of a table that is locked.
///
/// # Errors
/// When the link breaks.
pub async fn types(session: &Session, shape: &Shape) -> Result<Types> {
    let (doing, statement) = ("comparing the types of columns", include_str!("../../sql/binary_types.sql"));
    let columns: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
    let parameters: [&(dyn ToSql + Sync); 2] = [&shape.quoted(), &columns];
    Ok(session.query_one(doing, statement, &parameters).await?.get(0))
}

/// A chunk that is read at one moment.
pub struct Reading<'a> {
    primary: &'a Session,
    shape: &'a Shape,
    chunk: &'a Chunk,
    doing: String,
    /// The form of the rows.
    pub format: Format,
    /// Whether some of them may be long.
    pub some_are_long: bool,
    /// Of a table without a key, the moment.
    pub read_at: Option<String>,
}

impl<'a> Reading<'a> {
    async fn begin(primary: &'a Session, shape: &'a Shape, chunk: &'a Chunk, types: &Types) -> Result<Self> {
        let doing = format!("reading a piece of {}", shape.quoted());
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
        let is_binary = types.is_some() && *types == self::types(primary, shape).await?;
        let format = if is_binary { Format::Binary } else { Format::Csv };
        Ok(Self { primary, shape, chunk, doing, format, some_are_long, read_at })
    }

    /// The short rows, as they come.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn short_rows(&self) -> Result<ShortRows<'_>> {
        let (shape, chunk) = (self.shape, self.chunk);
        if let Some((set, keys)) = shape.set_range(chunk.after.as_deref(), chunk.until.as_deref())? {
            let keys: Vec<_> = keys.iter().map(|key| key as &(dyn ToSql + Sync)).collect();
            self.primary.query_one(&self.doing, &set, &keys).await?;
        }
        let (from_start, to_end) = (chunk.after.is_none(), chunk.until.is_none());
        let statement = shape.copy_range(from_start, to_end, self.some_are_long, self.format.name());
        let rows = self.primary.copy_out(&self.doing, &statement).await?.ready_chunks(ROWS_AT_ONCE);
        Ok(ShortRows { reading: self, rows })
    }

    /// The long ones, in pieces of their text.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn long_rows(&self) -> Result<Rows<'_>> {
        let (shape, chunk) = (self.shape, self.chunk);
        let mut parameters = shape.key_as_parameters(chunk.after.as_deref())?;
        parameters.extend(shape.key_as_parameters(chunk.until.as_deref())?);
        parameters.extend(pieces(PIECE_BYTES, true));
        let statement = shape.select_long(chunk.after.is_none(), chunk.until.is_none());
        let stream = self.primary.stream(&self.doing, &statement, &parameters).await?;
        Ok(Rows::in_pieces(self.primary, stream))
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn end(&self) -> Result<()> {
        self.primary.commit().await
    }
}

/// Rows in the form of their reading.
pub struct ShortRows<'a> {
    reading: &'a Reading<'a>,
    rows: ReadyChunks<Pin<Box<CopyOutStream>>>,
}

impl ShortRows<'_> {
    /// The next ones, so many that they are worth sending; none at the end.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn next(&mut self) -> Result<Vec<u8>> {
        let mut gathered = Vec::new();
        while (gathered.len() as u64) < PIECE_BYTES {
            let next = async { self.rows.next().await.into_iter().flatten().collect::<Result<Vec<_>, _>>() };
            let some = self.reading.primary.limited(&self.reading.doing, next).await?;
            if some.is_empty() {
                break;
            }
            some.iter().for_each(|line| gathered.extend_from_slice(line));
        }
        Ok(gathered)
    }
}
