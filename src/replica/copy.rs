//! The initial copy: chunks, several at a time, then the changes since its start, then the indexes.
//!
//! No transaction is long and no lock is held for long on either side. Whatever is killed, the copy goes
//! on with the chunks that are not noted as copied.

use std::{cell::Cell, collections::HashSet, rc::Rc, time::Duration};

use futures_util::future::{try_join, try_join_all};
use tokio::{sync::Mutex, time::Instant};
use tokio_postgres::{Row, types::ToSql};

use super::{
    catch_up::{Caught, catch_up_table},
    chunk::{Copied, Origin, Planner, copy_chunk},
    create::finish,
    definition::TableDefinition,
    followed::Followed,
    made::note_built,
    reading::{Reader, Readings},
    state,
};
use crate::{
    config,
    error::{Error, Result},
    log,
    postgres::{Database, Session},
    primary::source::{Source, Standing, installation},
};

/// How often the log says how far a copy came.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// A delta of fewer keys is left for joining the other tables, which wait for it.
const SMALL_DELTA: u64 = 10_000;

/// Which replica is copied to, and how.
#[derive(Clone, Debug)]
pub struct Copier {
    /// The replica's name.
    pub replica: String,
    /// Where rows come from.
    pub from: Database,
    /// Where they go.
    pub to: Database,
    /// How many chunks at a time, and how large.
    pub settings: config::Copy,
    /// What is read for other replicas, too, if there are some.
    pub readings: Option<Readings>,
}

/// The two connections of one worker.
struct Worker {
    primary: Reader,
    replica: Session,
}

impl Copier {
    /// Copies one table and makes it ready to join: it stands at one moment of the primary then, with all
    /// its indexes. One that was copied before, and set aside, only lacks changes.
    ///
    /// # Errors
    /// When a database fails: call again, it goes on where it was.
    pub async fn copy(&self, table: &Rc<Followed>) -> Result<()> {
        let first = self.worker(table).await?;
        if !table.copying {
            return self.complete(&first.replica, table).await;
        }
        let chunk_bytes = self.settings.chunk_bytes;
        let (planner, copied) = Planner::resume(&first.replica, Rc::clone(table), chunk_bytes).await?;
        let mut workers = vec![first];
        while workers.len() < self.settings.workers.min(planner.expected_chunks()) {
            workers.push(self.worker(table).await?);
        }
        let Some(first) = workers.first() else { return Ok(()) };
        let progress = Progress::start(&first.replica, &self.replica, table, copied).await?;
        let origin = Origin {
            epoch: installation(first.primary.session()).await?.0,
            replica: self.replica.clone(),
            conflicts: may_skip(first, table).await?,
        };
        let planner = Mutex::new(planner);
        let work = workers.iter().map(|worker| worker.work(table, &planner, &origin, &progress));
        try_join_all(work).await.map_err(table.to_blame())?;
        progress.end();
        self.complete(&first.replica, table).await
    }

    async fn worker(&self, table: &Rc<Followed>) -> Result<Worker> {
        let application = format!("pgfanout copy {}", self.replica);
        let primary = self.from.connect(&application).await?;
        // By the key's index, chunk after chunk: the table may be far larger than memory.
        let settings =
            "SET enable_seqscan = off; SET enable_sort = off; SET plan_cache_mode = force_custom_plan";
        primary.run("setting up the session", settings).await?;
        let replica = state::connect(&self.to, &application).await?;
        self.compare_histories(&primary, &replica, table).await?;
        let (table, chunk_bytes) = (Rc::clone(table), self.settings.chunk_bytes);
        let primary = Reader::new(primary, table, chunk_bytes, self.readings.as_ref()).await?;
        Ok(Worker { primary, replica })
    }

    /// Whatever server answers now has to remember all that the copy saw before.
    async fn compare_histories(&self, primary: &Session, replica: &Session, table: &Followed) -> Result<()> {
        let noted =
            "SELECT number, token::text FROM pgfanout.replicated_table WHERE id = $1 AND copy::text = $2";
        let rows = replica.query("reading how far a copy came", noted, &[&table.id, &table.copy]).await?;
        let name = rows.first().map(|row| (row.get(0), row.get(1)));
        let other = |why| {
            Error::Disconnected(format!("{}: the copy of {} {why}", self.to.name, table.shape.quoted()))
        };
        let name = name.ok_or_else(|| other("was begun anew"))?;
        match Standing::read(primary, &[&name]).await? {
            Standing { unknown: None, forgotten: false, .. } => Ok(()),
            _ => Err(other("saw what this primary does not know")),
        }
    }

    /// Catches up with what changed since the copy began, then builds the secondary indexes: before, rows
    /// of different moments might not be unique in them.
    async fn complete(&self, replica: &Session, table: &Rc<Followed>) -> Result<()> {
        let source = Source::connect(&self.from, &self.replica).await?;
        self.compare_histories(&source.control, replica, table).await?;
        // Not where it stood when it was taken up: a table without a key moves by its copy.
        let stands = "SELECT snapshot::text FROM pgfanout.replicated_table WHERE id = $1";
        let row = replica.query_one("reading where a table stands", stands, &[&table.id]).await?;
        let noted: Option<&str> = row.get(0);
        let mut from = noted.map(|text| state::snapshot(replica.database(), text)).transpose()?;
        while let Some(snapshot) = &from {
            let caught = catch_up_table(replica, &self.replica, &source, table, snapshot).await;
            match caught.map_err(table.to_blame())? {
                Caught::To(batch, changes) if changes > SMALL_DELTA => from = Some(batch.to),
                Caught::To(..) | Caught::Nothing => break,
                Caught::Unfit => {
                    return Err(Error::Disconnected(format!(
                        "{}: table {} was altered, or its changes were trimmed, while it was copied",
                        self.to.name,
                        table.shape.quoted()
                    )));
                }
            }
        }
        if table.created && table.copying {
            self.build_indexes(&source, table).await?;
        }
        let ready = include_str!("../../sql/replica/end_copy.sql");
        state::execute(replica, "ending a copy", ready, &[&table.id, &table.copy]).await.map(drop)
    }

    async fn build_indexes(&self, source: &Source, table: &Rc<Followed>) -> Result<()> {
        let captured = source.captured().await?.into_iter().find(|captured| captured.id == table.id);
        let Some(captured) = captured else { return Ok(()) };
        let reading = TableDefinition::read(&source.control, captured.relation, &captured.key);
        let Some(definition) = reading.await? else { return Ok(()) };
        let builder = self.to.connect(&format!("pgfanout copy {}", self.replica)).await?;
        let built = finish(&builder, &definition).await.map_err(table.to_blame())?;
        note_built(&builder, &captured, &built).await
    }
}

impl Worker {
    async fn work(
        &self,
        table: &Rc<Followed>,
        planner: &Mutex<Planner>,
        origin: &Origin,
        progress: &Progress,
    ) -> Result<()> {
        loop {
            let chunk = planner.lock().await.next(&self.primary, &self.replica).await?;
            let Some(chunk) = chunk else { return Ok(()) };
            let copied = copy_chunk(&self.primary, &self.replica, table, &chunk, origin).await?;
            progress.add(copied);
        }
    }
}

/// Whether rows of different moments may meet in a unique index beside the key, and one may be left out: both changed
/// since the copy began. Where the replica demands what the primary does not, one that is left out might never come.
async fn may_skip(Worker { primary, replica }: &Worker, table: &Followed) -> Result<bool> {
    let primary = primary.session();
    let statement = include_str!("../../sql/unique_indexes.sql");
    let (schema, name) = (&table.shape.schema, &table.shape.table);
    let parameters: [&(dyn ToSql + Sync); 2] = [schema, name];
    let doing = "looking for unique indexes";
    let (here, there) =
        try_join(primary.query(doing, statement, &parameters), replica.query(doing, statement, &parameters))
            .await?;
    let demanded: HashSet<&str> = here.iter().map(|index| index.get("demand")).collect();
    let may_be_left_out =
        |index: &Row| index.get::<_, bool>("immediate") && demanded.contains(index.get::<_, &str>("demand"));
    Ok(there.len() > 1 && there.iter().all(may_be_left_out))
}

/// How far the copy of one table is, in the log and as a bar on a terminal.
struct Progress {
    replica: String,
    table: String,
    expected: Copied,
    before: Copied,
    copied: Cell<Copied>,
    started: Instant,
    said: Cell<Instant>,
    bar: indicatif::ProgressBar,
}

impl Progress {
    async fn start(session: &Session, replica: &str, table: &Followed, before: Copied) -> Result<Self> {
        let size = "SELECT rows_expected, bytes_expected FROM pgfanout.replicated_table WHERE id = $1";
        let row = session.query_one("reading a table's size", size, &[&table.id]).await?;
        let (rows, bytes): (i64, i64) = (row.get(0), row.get(1));
        let expected = Copied { rows: rows.unsigned_abs(), bytes: bytes.unsigned_abs() };
        let (table, now) = (table.shape.quoted(), Instant::now());
        let bar = log::bar(&format!("{replica} {table}"), expected.bytes);
        tracing::info!(
            event = "copy_started",
            replica,
            table,
            rows_expected = expected.rows,
            bytes_expected = expected.bytes,
            rows_before = before.rows,
            "copying a table to a replica"
        );
        let (replica, copied) = (replica.to_owned(), Cell::new(before));
        Ok(Self { replica, table, expected, before, copied, started: now, said: Cell::new(now), bar })
    }

    fn add(&self, more: Copied) {
        let copied = self.copied.get();
        self.copied.set(Copied { rows: copied.rows + more.rows, bytes: copied.bytes + more.bytes });
        self.bar.set_position(self.copied.get().bytes);
        if self.said.get().elapsed() >= PROGRESS_INTERVAL {
            self.said.set(Instant::now());
            self.say("copy_progress", "copying goes on");
        }
    }

    fn say(&self, event: &str, message: &str) {
        let (copied, seconds) = (self.copied.get(), self.started.elapsed().as_secs_f64().max(0.001));
        let rows_per_second = (copied.rows - self.before.rows) as f64 / seconds;
        let bytes_per_second = (copied.bytes - self.before.bytes) as f64 / seconds;
        let left = self.expected.bytes.saturating_sub(copied.bytes) as f64;
        let percent = (100.0 * copied.bytes as f64 / self.expected.bytes.max(1) as f64).min(100.0);
        tracing::info!(
            event,
            replica = self.replica,
            table = self.table,
            rows = copied.rows,
            bytes = copied.bytes,
            percent = percent.round() as u64,
            rows_per_second = rows_per_second.round() as u64,
            seconds_left = (left / bytes_per_second.max(1.0)).round() as u64,
            "{message}"
        );
    }

    fn end(&self) {
        self.bar.finish_and_clear();
        self.say("copy_ended", "all rows are copied; changes since then and indexes follow");
    }
}
