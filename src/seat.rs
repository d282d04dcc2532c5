//! Who publishes from a primary, or applies to a replica: one process at a time.
//!
//! A seat is an advisory lock in that database, held by a session of its own which says something every two
//! seconds, whatever its process is busy with. Another process stands by, and takes the seat when the session
//! is gone; where the holder's process was stopped, or its machine sleeps, the connection stays and says
//! nothing, so that whoever stands by ends it. The new holder first ends the sessions that its predecessor
//! worked with. Nothing rests on the predecessor's knowing: what it may still commit names the position that
//! it replaces.

use std::{rc::Rc, time::Duration};

use actix_rt::task::JoinHandle;

use crate::{
    error::{Error, Result},
    postgres::{Database, SESSION_LOCK, Session},
};

/// How often a holder shows a sign of life.
const PULSE: Duration = Duration::from_secs(2);

/// What the names of the sessions that hold seats begin with, as `end_dead_holder.sql` has it.
const NAME: &str = "pgfanout seat ";

/// For how long a holder may show none before it is taken for dead.
const SILENCE: Duration = Duration::from_secs(15);

/// How long the lock of a session that was ended may take to come free.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// A seat that is held until it is dropped, or its session is ended.
#[derive(Debug)]
pub struct Seat {
    session: Rc<Session>,
    pulse: JoinHandle<()>,
}

impl Seat {
    /// Takes the seat of `job` in this database, and ends the sessions by which its predecessor worked, which
    /// have these names. `None` if a living process holds it.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn take(database: &Database, job: &str, workers: &[String]) -> Result<Option<Self>> {
        let session = database.connect(&format!("{NAME}{job}")).await?;
        let mut taken = lock(&session).await?;
        let forced = !taken && end_dead_holder(&session).await?;
        if forced {
            tracing::warn!(
                event = "took_over",
                job,
                "{}: the process that did this work showed no sign of life; its sessions are ended",
                database.name
            );
            taken = wait_for_lock(&session).await?;
        }
        if !taken {
            return Ok(None);
        }
        let evict = include_str!("../sql/evict.sql");
        session.execute("ending a predecessor's sessions", evict, &[&workers, &forced, &seconds()]).await?;
        let session = Rc::new(session);
        let pulse = actix_rt::spawn(beat(Rc::clone(&session)));
        Ok(Some(Self { session, pulse }))
    }

    /// Shows by the session's name how the job goes, for as long as it lasts; it begins as it did.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn show(&self, name: &str) -> Result<()> {
        let statement = "SELECT set_config('application_name', $1, false)";
        self.session.execute("showing how the work goes", statement, &[&name]).await.map(drop)
    }

    /// Whether the seat is held still, as far as is known here.
    ///
    /// # Errors
    /// When its session is gone: another process may work already.
    pub fn check(&self) -> Result<()> {
        match self.session.is_closed() || self.pulse.is_finished() {
            true => Err(Error::Disconnected(format!(
                "{}: the session that keeps other processes away is gone",
                self.session.database()
            ))),
            false => Ok(()),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pulse.abort();
    }
}

/// Ends with the first failure.
async fn beat(session: Rc<Session>) {
    loop {
        tokio::time::sleep(PULSE).await;
        if session.query_one("showing a sign of life", "SELECT 1", &[]).await.is_err() {
            return;
        }
    }
}

async fn lock(session: &Session) -> Result<bool> {
    let locking = "SELECT pg_try_advisory_lock($1)";
    Ok(session.query_one("taking a seat", locking, &[&SESSION_LOCK]).await?.get(0))
}

/// Says whether there was one.
async fn end_dead_holder(session: &Session) -> Result<bool> {
    let statement = include_str!("../sql/end_dead_holder.sql");
    Ok(session.execute("looking after a seat's holder", statement, &[&SESSION_LOCK, &seconds()]).await? > 0)
}

async fn wait_for_lock(session: &Session) -> Result<bool> {
    let waiting = async {
        while !lock(session).await? {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(true)
    };
    tokio::time::timeout(RELEASE_LIMIT, waiting).await.unwrap_or(Ok(false))
}

fn seconds() -> f64 {
    SILENCE.as_secs_f64()
}
