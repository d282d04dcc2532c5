//! `on_table_error = "isolate"`: a table on which the replica fails is set aside, and the others go on.
//!
//! It stays where it stands, with a snapshot of its own like a table that was copied and has not joined, and is
//! noted in `pgfanout.isolated_table` with the cause. So neither batches nor catching up touch it. Every now and
//! then it is compared with the primary's, and the delta from its snapshot is tried on connections of its own:
//! once that was written, the table joins the others as one that was copied does. Where its delta was trimmed
//! from the changelog, or a column that it had is gone, it alone is copied anew. See
//! [`protocol`](crate::protocol) for why that is right.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio_postgres::{error::SqlState, types::ToSql};

use super::{
    followed::Followed,
    state::{ANEW, Replica, connect, execute},
};
use crate::{
    config::OnTableError,
    error::{Error, OfTable, Result},
    postgres::quote_names,
};

/// How often a table that is set aside is tried again.
const RETRY: Duration = Duration::from_secs(20);

/// A table that is set aside.
#[derive(Clone, Debug)]
pub struct Isolated {
    /// What is wrong, with the remedy.
    pub cause: String,
    /// When it was tried last, in this process.
    tried: Option<Instant>,
    /// Whether it fits the primary's: then its changes are to be tried.
    pub fits: bool,
}

/// The causes that this process told, by table.
pub type Told = Rc<RefCell<BTreeMap<i32, String>>>;

/// Whether the table or a column of it is gone, and what was in it: should it be there again, it is another.
pub(super) fn is_loss(error: &Error) -> bool {
    let gone = [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_TABLE];
    error.sqlstate().is_some_and(|state| gone.contains(state))
}

impl Isolated {
    fn is_due(&self) -> bool {
        !self.fits && self.tried.is_none_or(|tried| tried.elapsed() >= RETRY)
    }
}

impl Replica {
    /// Whether a table is set aside.
    #[must_use]
    pub fn is_isolated(&self, id: i32) -> bool {
        self.isolated.contains_key(&id)
    }

    /// Whether a failure lies with one table that is to be set aside.
    #[must_use]
    pub fn isolates<'a>(&self, error: &'a Error) -> Option<&'a OfTable> {
        error.refused_table().filter(|_| self.on_table_error == OnTableError::Isolate)
    }

    /// Sets the table aside with which a failure lies, if that is wanted; says whether it did. What is open is
    /// given up. Reload after it.
    ///
    /// # Errors
    /// When the replica takes not even a note of it, or is not where it was believed to be.
    pub async fn isolate(&mut self, error: &Error) -> Result<bool> {
        let isolates = is_loss(error) || self.on_table_error == OnTableError::Isolate;
        let Some(of) = error.refused_table().filter(|_| isolates) else { return Ok(false) };
        self.renew().await?;
        let (id, cause) = (of.id, error.halt());
        let (schema, table) = &of.table;
        if is_loss(error) {
            self.have_copied_anew(id).await?;
        }
        if self.isolates(error).is_none() {
            return Ok(false);
        }
        if self.isolated.get(&id).is_none_or(|known| known.cause != cause) {
            let token = self.position.as_ref().map(|position| &position.name.1);
            let statement = include_str!("../../sql/replica/isolate_table.sql");
            let parameters: [&(dyn ToSql + Sync); 5] = [&id, schema, table, &cause, &token];
            let noted = execute(&self.session, "setting a table aside", statement, &parameters).await?;
            if noted != 1 {
                return Err(self.moved());
            }
        }
        self.tell(id, &quote_names(schema, table), &cause);
        self.isolated.insert(id, Isolated { cause, tried: Some(Instant::now()), fits: false });
        Ok(true)
    }

    /// Tells that a table is set aside, once in a process for each cause.
    fn tell(&self, id: i32, table: &str, cause: &str) {
        let before = self.told.borrow_mut().insert(id, cause.to_owned());
        if before.is_none_or(|before| before != cause) {
            tracing::error!(
                event = "table_isolated",
                replica = self.name,
                table,
                "{cause}; until then the table stays as it is, and the others follow"
            );
        }
    }

    /// Gives up what is open, with the session: on one that was refused a COPY the driver loses count of the
    /// answers.
    ///
    /// # Errors
    /// When the replica cannot be reached.
    pub async fn renew(&mut self) -> Result<()> {
        let application = format!("pgfanout applier {}", self.name);
        self.session = connect(self.session.server(), &application).await?;
        Ok(())
    }

    /// What was in the table is not all there any more.
    pub(super) async fn have_copied_anew(&self, id: i32) -> Result<()> {
        let statement = include_str!("../../sql/replica/resync_tables.sql");
        execute(&self.session, "having a table copied anew", statement, &[&vec![id]]).await.map(drop)
    }

    /// Reads which tables are set aside. What an earlier process noted is told anew.
    pub(super) async fn read_isolated(&mut self) -> Result<()> {
        let statement =
            "SELECT i.id, i.schema_name, i.table_name, i.cause FROM pgfanout.isolated_table i ORDER BY i.id";
        let rows = self.session.query("reading which tables are set aside", statement, &[]).await?;
        let mut known = std::mem::take(&mut self.isolated);
        let table = |row: &tokio_postgres::Row| {
            let (id, cause) = (row.get("id"), row.get("cause"));
            let (tried, fits) = known.remove(&id).map_or((None, false), |known| (known.tried, known.fits));
            (id, Isolated { cause, tried, fits })
        };
        self.isolated = rows.iter().map(table).collect::<BTreeMap<_, _>>();
        for row in &rows {
            let table = quote_names(row.get("schema_name"), row.get("table_name"));
            self.tell(row.get("id"), &table, row.get("cause"));
        }
        self.told.borrow_mut().retain(|id, _| self.isolated.contains_key(id));
        Ok(())
    }

    /// Notes that a table that is set aside was tried, and whether it fits the primary's.
    pub fn tried(&mut self, id: i32, fits: bool) {
        if let Some(isolated) = self.isolated.get_mut(&id) {
            (isolated.tried, isolated.fits) = (Some(Instant::now()), fits);
        }
    }

    /// Whether it is time to try a table that is set aside.
    #[must_use]
    pub fn is_retry_due(&self) -> bool {
        self.isolated.values().any(Isolated::is_due)
    }

    /// Whether a table is set aside and its time has not come.
    pub(super) fn is_left_alone(&self, id: i32) -> bool {
        let to_be_copied = self.tables.iter().any(|table| table.id == id && table.definition == ANEW);
        !to_be_copied && self.isolated.get(&id).is_some_and(|one| !one.is_due())
    }

    /// A table that is set aside and whose changes are to be tried.
    #[must_use]
    pub fn next_to_mend(&self) -> Option<Rc<Followed>> {
        let fits = |table: &&Rc<Followed>| self.isolated.get(&table.id).is_some_and(|one| one.fits);
        self.tables.iter().find(fits).cloned()
    }

    /// A table whose copy is due, and that fits.
    #[must_use]
    pub fn next_to_copy(&self) -> Option<Rc<Followed>> {
        let due =
            |table: &&Rc<Followed>| table.copying && table.definition > ANEW && !self.is_isolated(table.id);
        self.tables.iter().find(due).cloned()
    }
}
