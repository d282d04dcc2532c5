//! One table: ranges of its key, the keys that differ in them, and what becomes of those.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use futures_util::{
    TryStreamExt as _,
    future::{try_join, try_join3},
};

use tokio_postgres::error::SqlState;

use super::{
    outcome::TableOutcome,
    pair::{Finding, LOCKED, Look, Pair, Subject, is_locked},
};
use crate::{
    cli::VerifyOptions as Options,
    error::{Error, Result},
    log,
    postgres::Session,
    primary::source::Captured,
    shape::{Shape, Text},
};

/// How many rows a range has at most, and bytes about.
const RANGE_ROWS: u64 = 20_000;
const RANGE_BYTES: u64 = 16 << 20;

/// What an average row is taken for in a table that was never analyzed.
const UNKNOWN_ROW_BYTES: u64 = 1000;

/// How many keys are looked at at once.
const KEYS_AT_ONCE: usize = 4000;

/// For how long rows that change are looked at again.
const CHANGING: Duration = Duration::from_secs(5);

/// For how long a replica may stand still, or a table be locked or not be comparable.
const STANDING: Duration = Duration::from_secs(10);

/// How often a replica's position is read meanwhile.
const INTERVAL: Duration = Duration::from_millis(20);

/// The classes of SQLSTATE of a statement that no longer fits the table: names and types (42), schemas (3F), plans (0A),
/// and what a catalog lost while it was read (XX).
const ALTERED: [&str; 4] = ["42", "3F", "0A", "XX"];

/// What stands for a row of a table without a key, whose name is all that it holds.
const NAMELESS: &str = "a row without a key";

/// A range's rows on one side.
#[derive(PartialEq, Eq)]
struct Sum {
    rows: i64,
    large: i64,
    sum: String,
}

/// The rows behind a key up to another; none is the table's beginning or end.
struct Range {
    after: Option<String>,
    until: Option<String>,
}

/// What reading a range brought.
struct Seen {
    /// The primary's rows.
    rows: u64,
    /// Those that can't be printed.
    large: u64,
    /// The keys whose rows are not the same on both sides.
    differing: Vec<String>,
    /// Where the next range ends.
    next: Option<String>,
}

/// A table that is being compared.
struct Comparison<'a> {
    pair: &'a Pair,
    table: &'a Subject<'a>,
    options: &'a Options,
    outcome: TableOutcome,
    reached: &'a Reached,
    /// The replica did not move for too long: nobody waits for it any more.
    stuck: bool,
}

/// How far the table is that is being compared, to go on there where that was interrupted.
#[derive(Default)]
pub(super) struct Reached(RefCell<Option<(String, String)>>);

/// Compares a table, and notes on the replica what came of it, if that was all of the table; why it could not be
/// compared is in the outcome.
///
/// # Errors
/// When a database fails.
pub(super) async fn verify(
    pair: &Pair,
    captured: &Captured,
    options: &Options,
    reached: &Reached,
) -> Result<TableOutcome> {
    let outcome = compare(pair, captured, options, reached).await?;
    reached.0.take();
    if options.after.is_none() {
        pair.note(captured.id, &outcome).await?;
    }
    Ok(outcome)
}

async fn compare(
    pair: &Pair,
    captured: &Captured,
    options: &Options,
    reached: &Reached,
) -> Result<TableOutcome> {
    let name = format!("{}.{}", captured.schema, captured.table);
    let not_compared = |why: String| TableOutcome {
        table: name.clone(),
        not_compared: Some(why),
        ..TableOutcome::default()
    };
    if let Some(why) = &captured.broken {
        return Ok(not_compared(why.clone()));
    }
    let subject = match patiently(async || pair.subject(captured).await).await {
        Ok(subject) => subject,
        Err(Error::Unfit(why)) => return Ok(not_compared(why)),
        Err(error) => return Ok(not_compared(lies_with_table(error)?)),
    };
    let outcome = TableOutcome { table: name.clone(), ..TableOutcome::default() };
    let mut comparison = Comparison { pair, table: &subject, options, outcome, reached, stuck: false };
    if let Err(error) = comparison.all_ranges().await {
        comparison.outcome.not_compared = Some(lies_with_table(error)?);
    }
    Ok(comparison.outcome)
}

/// Why a table can't be compared, where others can: what a database answers to reading it, but for what passes, is about
/// the table.
fn lies_with_table(error: Error) -> Result<String> {
    if is_locked(&error) {
        return Ok(LOCKED.to_owned());
    }
    if error.answer().is_none() || !error.needs_operator() {
        return Err(error);
    }
    let remedy = match error.sqlstate() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => "; let the role read the table",
        Some(state) if ALTERED.contains(&&state.code()[..2]) => {
            "; where the table was dropped or altered meanwhile, verify again"
        }
        _ => "",
    };
    Ok(format!("{}{remedy}", error.chain()))
}

/// Reads again what gave way to a lock, as a TRUNCATE takes it, but not for ever.
async fn patiently<T>(read: impl AsyncFn() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match read().await {
            Err(error) if is_locked(&error) && started.elapsed() < STANDING => {}
            done => return done,
        }
    }
}

impl Reached {
    /// With the command that goes on: a table that takes hours is not begun anew because a link broke.
    pub(super) fn resumable(&self, error: Error) -> Error {
        let Some((table, after)) = self.0.take() else { return error };
        Error::Disconnected(format!(
            "{}; to go on where {table} was: pgfanout verify … --table '{table}' --after '{}'",
            error.chain(),
            after.replace('\'', "'\\''")
        ))
    }
}

impl Comparison<'_> {
    async fn all_ranges(&mut self) -> Result<()> {
        let (rows, bytes) = patiently(async || self.pair.size(self.table.captured).await).await?;
        let (rows, bytes) = (rows.unsigned_abs(), bytes.unsigned_abs());
        let row_bytes = bytes.checked_div(rows).unwrap_or(UNKNOWN_ROW_BYTES).max(1);
        let range_rows = (RANGE_BYTES / row_bytes).clamp(1, RANGE_ROWS);
        let bar = log::row_bar(&self.outcome.table, rows);
        let started = Instant::now();
        let mut range = Range { after: self.options.after.clone(), until: None };
        let begun = patiently(async || self.boundary(range.after.as_deref(), range_rows).await).await;
        range.until = begun?;
        self.note(&range);
        loop {
            let next = self.range(&range, range_rows).await?;
            bar.set_position(self.outcome.rows);
            if range.until.is_none() || self.outcome.not_compared.is_some() {
                return Ok(());
            }
            range = Range { after: range.until, until: next };
            self.note(&range);
            if let Some(rate) = self.options.rate {
                let due = Duration::from_secs_f64(self.outcome.rows as f64 / rate.max(1) as f64);
                tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            }
        }
    }

    /// Notes where a range begins.
    fn note(&self, range: &Range) {
        let after = range.after.clone();
        self.reached.0.replace(after.map(|after| (self.outcome.table.clone(), after)));
    }

    /// Compares a range; where the next one ends.
    async fn range(&mut self, range: &Range, rows: u64) -> Result<Option<String>> {
        let seen = patiently(async || self.read(range, rows).await).await?;
        self.outcome.rows += seen.rows;
        self.outcome.too_large += seen.large;
        for keys in seen.differing.chunks(KEYS_AT_ONCE) {
            self.settle(keys.to_vec()).await?;
            if self.outcome.not_compared.is_some() {
                break;
            }
        }
        Ok(seen.next)
    }

    /// Reads a range, on both sides at the same time, and where the next one ends meanwhile.
    async fn read(&self, range: &Range, rows: u64) -> Result<Seen> {
        let (here, there) = (&self.table.here, &self.table.there);
        let (from_start, to_end) = (range.after.is_none(), range.until.is_none());
        let mut keys = here.key_as_parameters(range.after.as_deref())?;
        keys.extend(here.key_as_parameters(range.until.as_deref())?);
        let (Pair { primary, replica, hashed, .. }, doing) = (self.pair, "comparing rows");
        let next = async {
            match range.until.as_deref() {
                Some(until) => self.boundary(Some(until), rows).await,
                None => Ok(None),
            }
        };
        let (sum_here, sum_there, next) = try_join3(
            sum(primary, doing, &here.select_sum(*hashed, from_start, to_end), &keys),
            sum(replica, doing, &there.select_sum(*hashed, from_start, to_end), &keys),
            next,
        )
        .await?;
        let mut differing = Vec::new();
        if sum_here != sum_there {
            let (hashes_here, hashes_there) = try_join(
                hashes(primary, doing, &here.select_hashes(*hashed, from_start, to_end), &keys),
                hashes(replica, doing, &there.select_hashes(*hashed, from_start, to_end), &keys),
            )
            .await?;
            differing = differing_keys(hashes_here, hashes_there);
        }
        let Sum { rows, large, .. } = sum_here;
        Ok(Seen { rows: rows.unsigned_abs(), large: large.unsigned_abs(), differing, next })
    }

    /// The key that lies so many rows behind another.
    async fn boundary(&self, after: Option<&str>, rows: u64) -> Result<Option<String>> {
        let shape: &Shape = &self.table.here;
        if !shape.is_ordered() {
            return Ok(None);
        }
        let mut parameters = shape.key_as_parameters(after)?;
        parameters.push(Text((rows - 1).to_string()));
        let (doing, select) = ("looking for the next range", shape.select_boundary(after.is_none()));
        let mut rows = self.pair.control.stream(doing, &select, &parameters).await?;
        let row = self.pair.control.limited(doing, rows.try_next()).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Looks at rows until each is proved to be right or wrong, or it is no use.
    async fn settle(&mut self, mut open: Vec<String>) -> Result<()> {
        // Those that were logged to be written anew; counted as repaired unless it turns out otherwise.
        let mut touched = HashSet::new();
        let started = Instant::now();
        loop {
            let stood = self.pair.stands().await?;
            let why = match self.pair.look(self.table, &open, self.options.show_values).await? {
                Look::NotNow(why) => Some(why),
                Look::Seen(findings) => {
                    open = self.take(findings, &mut touched).await?;
                    None
                }
            };
            if open.is_empty() {
                return Ok(());
            }
            let moved = self.until_moved(stood).await?;
            let limit = if why.is_some() || !touched.is_empty() { STANDING } else { CHANGING };
            if moved && started.elapsed() <= limit {
                continue;
            }
            self.outcome.repaired -= open.iter().filter(|key| touched.contains(*key)).count() as u64;
            match why {
                Some(why) => _ = self.outcome.not_compared.get_or_insert(why),
                None if moved => self.outcome.changing += open.len() as u64,
                None => self.outcome.waiting += open.len() as u64,
            }
            return Ok(());
        }
    }

    /// Notes what is wrong, and has it repaired if that is wanted; the keys to be looked at again. What was
    /// repaired before, reached the replica and is still wrong, is left so.
    async fn take(&mut self, findings: Vec<Finding>, touched: &mut HashSet<String>) -> Result<Vec<String>> {
        let (changed, wrong): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.changed);
        let mut open: Vec<String> = changed.into_iter().map(|finding| finding.difference.key).collect();
        let wrong = wrong.into_iter().map(|finding| finding.difference);
        let (still, new): (Vec<_>, Vec<_>) = wrong.partition(|difference| touched.contains(&difference.key));
        self.outcome.repaired -= still.len() as u64;
        for difference in &new {
            let mut shown = difference.clone();
            if self.table.here.is_keyless() && !self.options.show_values {
                NAMELESS.clone_into(&mut shown.key);
            }
            self.outcome.note(shown, self.options.list);
        }
        if self.options.repair && !new.is_empty() {
            self.pair.touch(self.table, &new).await?;
            self.outcome.repaired += new.len() as u64;
            open.extend(new.iter().map(|difference| difference.key.clone()));
            touched.extend(new.into_iter().map(|difference| difference.key));
        }
        Ok(open)
    }

    /// Waits until the replica stands elsewhere; false if it does not.
    async fn until_moved(&mut self, from: Option<String>) -> Result<bool> {
        let started = Instant::now();
        while !self.stuck {
            if self.pair.stands().await? != from {
                return Ok(true);
            }
            self.stuck = started.elapsed() > STANDING;
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(false)
    }
}

async fn sum(session: &Session, doing: &str, select: &str, keys: &[Text]) -> Result<Sum> {
    let mut rows = session.stream(doing, select, keys).await?;
    let row = session.limited(doing, rows.try_next()).await?;
    let row = row.ok_or_else(|| Error::Disconnected(format!("{}: no answer", session.database())))?;
    Ok(Sum { rows: row.get("rows"), large: row.get("large"), sum: row.get("sum") })
}

async fn hashes(
    session: &Session,
    doing: &str,
    select: &str,
    keys: &[Text],
) -> Result<HashMap<String, Option<i64>>> {
    let mut rows = session.stream(doing, select, keys).await?;
    let mut hashes = HashMap::new();
    while let Some(row) = session.limited(doing, rows.try_next()).await? {
        hashes.insert(row.get("key"), row.get("hash"));
    }
    Ok(hashes)
}

/// The keys whose rows are not the same.
fn differing_keys(
    here: HashMap<String, Option<i64>>,
    mut there: HashMap<String, Option<i64>>,
) -> Vec<String> {
    let mut keys: Vec<String> = here
        .into_iter()
        .filter(|(key, hash)| there.remove(key).is_none_or(|found| found != *hash))
        .map(|(key, _)| key)
        .collect();
    keys.extend(there.into_keys());
    keys.sort_unstable();
    keys
}
