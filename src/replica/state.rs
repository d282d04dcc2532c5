//! A connection to a replica, with what it holds: its position and its tables.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Instant};

use tokio_postgres::types::ToSql;

pub use super::session::connect;
use super::{
    filled::forget_gone,
    followed::Followed,
    install::install,
    isolate::{Isolated, Told},
    leave::forget_dropped,
    moves::Moves,
};
use crate::{
    batch::Batch,
    config::{self, OnTableError},
    error::{Error, Result},
    postgres::{Database, Session},
    primary::source::Name,
    shape::Shape,
    snapshot::Snapshot,
};

/// The definition of a table that has to be copied again; the primary's begin with 1.
pub const ANEW: i64 = 0;

/// Stands for the definition of a table that is not as when it was checked against one: it is compared again.
const UNFIT: i64 = -1;

pub(super) const REPLICATED_TABLES: &str = concat!(
    "WITH form AS NOT MATERIALIZED (\n",
    include_str!("../../sql/replica/form.sql"),
    ")\n",
    include_str!("../../sql/replica/replicated_tables.sql")
);

const SAVE_POSITION: &str = concat!(
    "WITH form AS NOT MATERIALIZED (\n",
    include_str!("../../sql/replica/form.sql"),
    "),\n",
    include_str!("../../sql/replica/save_position.sql")
);

/// A replica as one session sees it.
#[derive(Debug)]
pub struct Replica {
    /// The connection.
    pub session: Session,
    /// Its name in the configuration.
    pub name: String,
    /// Where the tables stand that have no snapshot of their own; none before the first table joined.
    pub position: Option<Position>,
    /// How that moved since the primary was told.
    pub moves: Moves,
    /// The tables replicated here.
    pub tables: Vec<Rc<Followed>>,
    /// Those that are to be copied anew and could not yet, when last compared with the primary's.
    pub waiting: Vec<i32>,
    /// The tables that the open transaction writes, with their forms.
    written: RefCell<BTreeMap<u32, i64>>,
    /// Whether a table on which it fails is set aside.
    pub on_table_error: OnTableError,
    /// Tables that are set aside: some of those above, and such as never fitted.
    pub isolated: BTreeMap<i32, Isolated>,
    /// What was told of them; kept when the replica is connected again.
    pub(super) told: Told,
}

/// Where a replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The installation on the primary.
    pub epoch: String,
    /// The moment of its history.
    pub snapshot: Snapshot,
    /// The name of the batch that brought it there.
    pub name: Name,
    /// The publisher's term at that time; empty: none.
    pub term: String,
}

/// Begins a transaction that may write.
///
/// # Errors
/// When it fails or the link breaks.
pub async fn begin(session: &Session) -> Result<()> {
    session.begin("beginning a transaction", "BEGIN READ WRITE").await
}

/// Reads a position that is noted on a replica.
///
/// # Errors
/// When it is none.
pub(super) fn snapshot(replica: &str, text: &str) -> Result<Snapshot> {
    text.parse().map_err(|error| Error::Unfit(format!("{replica}: position {text:?}: {error}")))
}

/// Runs one statement in the open transaction, or, where there is none, in one of its own.
///
/// # Errors
/// When it fails or the link breaks.
pub(super) async fn execute(
    session: &Session,
    doing: &str,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<u64> {
    if session.is_in_transaction() {
        return session.execute(doing, sql, parameters).await;
    }
    begin(session).await?;
    let affected = session.execute(doing, sql, parameters).await?;
    session.commit().await?;
    Ok(affected)
}

impl Replica {
    /// Opens the session that applies, installs our schema there, and reads what the replica holds. Only who
    /// has the seat there may do so.
    ///
    /// # Errors
    /// When the replica cannot be reached, or what is there does not fit.
    pub async fn connect(replica: &config::Replica, primary: &Database, told: Told) -> Result<Self> {
        let config::Replica { database, name, on_table_error, .. } = replica;
        let session = connect(database, &format!("pgfanout applier {name}")).await?;
        install(&session).await?;
        if *on_table_error == OnTableError::Halt {
            // Those that were set aside come back into line: they join, or the replica halts on them.
            execute(&session, "taking tables back", "DELETE FROM pgfanout.isolated_table", &[]).await?;
        }
        forget_gone(&session).await?;
        forget_dropped(&session, primary, name).await?;
        let mut replica = Self {
            session,
            name: name.clone(),
            position: None,
            moves: Moves::default(),
            tables: Vec::new(),
            waiting: Vec::new(),
            on_table_error: *on_table_error,
            isolated: BTreeMap::new(),
            told,
            written: RefCell::default(),
        };
        replica.reload().await?;
        Ok(replica)
    }

    /// Reads the position and the tables anew. A table that does not fit any more is set aside if that is
    /// wanted: what is open is given up then.
    ///
    /// # Errors
    /// When the link breaks, or a table is gone or does not fit any more.
    pub async fn reload(&mut self) -> Result<()> {
        while let Err(error) = self.look().await {
            if !self.isolate(&error).await? {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Reads the position and the tables anew, and changes nothing.
    ///
    /// # Errors
    /// When the link breaks, or a table is gone or does not fit any more.
    pub async fn look(&mut self) -> Result<()> {
        let statement = "SELECT epoch::text, snapshot::text, number, token::text, term FROM pgfanout.position \
            ORDER BY number DESC LIMIT 1";
        let rows = self.session.query("reading the position", statement, &[]).await?;
        self.position = rows.first().map(|row| self.read_position(row)).transpose()?;
        self.read_isolated().await?;
        let rows = self.session.query("reading the replicated tables", REPLICATED_TABLES, &[]).await?;
        let mut tables = Vec::new();
        for row in &rows {
            tables.push(Rc::new(self.read_table(row).await?));
        }
        self.tables = tables;
        Ok(())
    }

    fn read_position(&self, row: &tokio_postgres::Row) -> Result<Position> {
        Ok(Position {
            epoch: row.get("epoch"),
            snapshot: snapshot(self.session.database(), row.get("snapshot"))?,
            name: (row.get("number"), row.get("token")),
            term: row.get("term"),
        })
    }

    async fn read_table(&self, row: &tokio_postgres::Row) -> Result<Followed> {
        let (id, name): (i32, (&str, &str)) =
            (row.get("id"), (row.get("schema_name"), row.get("table_name")));
        let (lost, mut definition): (bool, i64) = (row.get("lost"), row.get("definition"));
        if lost && definition != ANEW {
            self.have_copied_anew(id).await?;
            definition = ANEW;
        }
        let oid: Option<u32> = row.get("oid");
        let gone = oid.is_none();
        if definition != ANEW && !gone && row.get("altered") {
            definition = UNFIT;
        }
        let shape = match self.read_shape(row, name).await {
            Err(error) if self.is_isolated(id) && error.is_refusal() => Shape::unknown(name.0, name.1),
            // It may fit what the primary has by now; else comparing tells how it does not.
            Err(error) if error.is_refusal() => {
                definition = if definition == ANEW { ANEW } else { UNFIT };
                Shape::unknown(name.0, name.1)
            }
            found => found.map_err(Error::of_table(id, name.0, name.1))?,
        };
        let own: Option<&str> = row.get("snapshot");
        let (number, token): (Option<i64>, Option<String>) = (row.get("number"), row.get("token"));
        Ok(Followed {
            id,
            shape,
            definition,
            own: own.map(|text| snapshot(self.session.database(), text)).transpose()?,
            name: number.zip(token),
            copy: row.get("copy"),
            copying: row.get("copying"),
            created: row.get("created"),
            gone,
            form: oid.zip(row.get("form")).unwrap_or_default(),
        })
    }

    async fn read_shape(&self, row: &tokio_postgres::Row, name: (&str, &str)) -> Result<Shape> {
        let Some(oid) = row.get::<_, Option<u32>>("oid") else {
            return Err(self.is_gone(row.get("id"), name));
        };
        let (columns, key): (Vec<String>, Vec<String>) = (row.get("columns"), row.get("key_columns"));
        Shape::read(&self.session, name, oid, &columns, &key).await
    }

    /// Whether a table does not fit what was noted of it: the list of tables is to be compared with the primary's.
    #[must_use]
    pub fn has_unfit(&self) -> bool {
        let unfit =
            |table: &Rc<Followed>| table.definition == UNFIT || (table.gone && !self.is_isolated(table.id));
        self.tables.iter().any(unfit)
    }

    /// The table of this name, if it is replicated and stands at the replica's position.
    #[must_use]
    pub fn joined(&self, schema: &str, table: &str) -> Option<&Rc<Followed>> {
        let called = self.tables.iter().find(|followed| followed.is_called(schema, table));
        called.filter(|followed| followed.own.is_none())
    }

    /// The numbers of the tables that do not stand at the replica's position.
    #[must_use]
    pub fn ids_apart(&self) -> Vec<i32> {
        let apart = self.tables.iter().filter(|table| table.own.is_some()).map(|table| table.id);
        apart.chain(self.isolated.keys().copied()).collect()
    }

    /// Moments of the primary's history, by name: the position, and those of tables that stand apart; of those
    /// that are set aside if that is wanted.
    pub fn moments(&self, also_isolated: bool) -> impl Iterator<Item = (&Snapshot, &Name)> {
        let counts = move |table: &&Rc<Followed>| also_isolated || !self.is_isolated(table.id);
        let own =
            self.tables.iter().filter(counts).filter_map(|table| table.own.as_ref().zip(table.name.as_ref()));
        self.position.iter().map(|position| (&position.snapshot, &position.name)).chain(own)
    }

    /// Whether all is as it was read or written here last. Says whether there are tables that are to be copied
    /// anew since then.
    ///
    /// # Errors
    /// When the link breaks, the replica is paused, or the position is another: read it anew.
    pub async fn feel_pulse(&self) -> Result<bool> {
        let statement = include_str!("../../sql/replica/pulse.sql");
        let row = self.session.query_one("looking for a word of others", statement, &[]).await?;
        if row.get("paused") {
            // Whoever said so may have been killed before it ended our sessions.
            return Err(Error::Paused);
        }
        let (token, resync): (Option<String>, Vec<i32>) = (row.get("token"), row.get("resync"));
        if token.as_ref() != self.position.as_ref().map(|position| &position.name.1) {
            return Err(self.moved());
        }
        Ok(resync.iter().any(|id| !self.waiting.contains(id)))
    }

    pub(super) fn moved(&self) -> Error {
        Error::Disconnected(format!(
            "{}: the position was moved by another process, or for a new copy, or a table was altered",
            self.session.database()
        ))
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn begin(&self) -> Result<()> {
        self.written.borrow_mut().clear();
        begin(&self.session).await
    }

    /// Notes that the open transaction writes a table.
    pub fn writes(&self, table: &Followed) {
        self.written.borrow_mut().extend([table.form]);
    }

    /// Writes that the batch brought the replica to its end, and commits.
    ///
    /// # Errors
    /// When the position is not where we believed it, somebody altered a table that was written, or the outcome is
    /// unknown: read it all anew.
    pub async fn commit(&mut self, batch: &Batch) -> Result<()> {
        self.save_position_and_commit(batch).await?;
        self.stand_at(batch);
        Ok(())
    }

    /// The position is saved at the end of the batch.
    pub(super) fn stand_at(&mut self, batch: &Batch) {
        if let Some(Position { name: (since, _), .. }) = self.position {
            self.moves.note(since, batch.number, Instant::now());
        }
        self.position = Some(Position {
            epoch: batch.epoch.clone(),
            snapshot: batch.to.clone(),
            name: (batch.number, batch.token.clone()),
            term: batch.term.clone(),
        });
    }

    pub(super) async fn save_position_and_commit(&self, batch: &Batch) -> Result<()> {
        let Some(position) = &self.position else {
            return Err(Error::Disconnected(format!("{}: no position yet", self.session.database())));
        };
        let to = batch.to.to_string();
        let (tables, forms): (Vec<u32>, Vec<i64>) = self.written.borrow().iter().unzip();
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &position.name.1,
            &to,
            &batch.number,
            &batch.token,
            &batch.term,
            &position.name.0,
            &tables,
            &forms,
        ];
        let saved =
            self.session.query_one_and_commit("saving the position", SAVE_POSITION, &parameters).await;
        saved.map(drop).map_err(|error| match error.sqlstate() {
            Some(&tokio_postgres::error::SqlState::DIVISION_BY_ZERO) => self.moved(),
            _ => error,
        })
    }
}
