//! What the listener does with its connections to the primary.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use actix::{Addr, WeakAddr};
use futures_util::StreamExt as _;
use tokio_postgres::AsyncMessage;

use crate::{
    config::{Config, Problem},
    cut,
    error::{Error, Result},
    pg_listener::{PgListener, Wake},
    postgres::{Database, Session},
    prepare::{Wanted, wanted_tables},
    primary::{
        batch::{begin_term, mark_published, record, resume_from, start_anew},
        capture,
        delta::{Cut, Reader},
        gate::Gate,
        install::install,
        look::{Since, look, present},
        trim::Trimmer,
    },
    publisher::{Publisher, Readiness, Ready},
    seat::Seat,
    snapshot::Snapshot,
};

/// How often to look while a transaction may be at work that did not see the flag, or where none notifies.
const POLL: Duration = Duration::from_millis(20);

/// How long to wait for a publisher that is not ready, or for a lock that was not to be had.
const RETRY: Duration = Duration::from_millis(500);

/// How long the publisher may take to say that it is ready; connecting, it does not answer.
const READY_LIMIT: Duration = Duration::from_secs(1);

/// How long writers of a table may have to wait behind the creation of its triggers.
const CAPTURE_LOCK_LIMIT: Duration = Duration::from_millis(300);

/// How often to try to capture a table whose writers did not end.
const CAPTURE_INTERVAL: Duration = Duration::from_secs(1);

/// How often to look for tables that came or were mended.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(20);

/// How often the changelog is trimmed.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// What to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Whether there were changes that the appliers should know of.
    pub changed: bool,
    /// When to look again without being woken.
    pub after: Duration,
}

/// The listener's session.
pub struct Listening {
    /// Keeps other processes away.
    seat: Seat,
    /// Listens, and takes short statements.
    control: Session,
    reader: Reader,
    epoch: String,
    /// The end of the last batch; without a broker, of the last look that found something.
    from: Snapshot,
    gate: Gate,
    /// Whether transactions notify at all.
    notify: bool,
    /// How often to look in any case while asleep.
    safety_poll: Duration,
    /// Whether the appliers were told that there is a listener again.
    greeted: bool,
    /// The last batch, if it is not noted yet that it was published.
    unnoted: Option<i64>,
    /// Tables that are to be captured and whose writers did not end yet.
    uncaptured: Vec<Wanted>,
    capture_tried: Instant,
    /// What was last said about tables that the configuration names and that can't be captured.
    problems: Vec<Problem>,
    resolved: Instant,
    trimmed: Instant,
    limits: cut::Limits,
    trimmer: Trimmer,
    batches: Cell<u64>,
    /// What [`Self::show`] told last.
    shown: Readiness,
}

impl Listening {
    /// Connects, takes the publisher's lock, installs and upgrades capture, and begins to listen.
    ///
    /// # Errors
    /// When the primary cannot be reached, another process publishes, or a table cannot be captured.
    pub async fn connect(config: &Config, listener: WeakAddr<PgListener>) -> Result<Self> {
        let primary = &config.primary.database;
        let workers = ["listener", "publisher"].map(|job| format!("pgfanout {job}"));
        let Some(seat) = Seat::take(primary, "publisher", &workers).await? else {
            return Err(Error::StandBy("primary: another pgfanout publishes".to_owned()));
        };
        let control = listen(primary, listener).await?;
        let installation = install(&control).await?;
        begin_term(&control).await?;
        forget_removed_replicas(&control, config).await?;
        let reader = Reader::connect(primary, "pgfanout publisher").await?;
        let publishes = config.broker.is_some();
        let from = if publishes { resume_from(&control).await? } else { present(&control).await? };
        let (changes, change_bytes) = config
            .broker
            .as_ref()
            .map_or((1, 1), |broker| (broker.max_changes_per_message, broker.max_message_bytes));
        let mut session = Self {
            seat,
            control,
            reader,
            epoch: installation.epoch,
            from,
            gate: Gate::default(),
            notify: installation.notify,
            safety_poll: config.primary.safety_poll,
            greeted: false,
            unnoted: None,
            uncaptured: Vec::new(),
            problems: Vec::new(),
            resolved: Instant::now(),
            capture_tried: Instant::now(),
            trimmed: Instant::now(),
            limits: cut::Limits { changes, change_bytes },
            trimmer: Trimmer::new(
                config.primary.changelog_retention_hours,
                config.primary.changelog_max_bytes,
            ),
            batches: Cell::new(0),
            shown: Readiness::Ready,
        };
        session.resolve(config, true).await?;
        // A process that was killed may have left it set.
        session.gate.wake_up(&session.control).await?;
        session.control.run("listening", "LISTEN pgfanout_wake").await?;
        Ok(session)
    }

    /// Looks for changes, passes on what is there, or prepares to sleep.
    ///
    /// # Errors
    /// When the primary fails.
    pub async fn step(&mut self, config: &Config, publisher: Option<&Addr<Publisher>>) -> Result<Next> {
        self.seat.check()?;
        if self.resolved.elapsed() >= RESOLVE_INTERVAL {
            self.resolve(config, false).await?;
        }
        if !self.uncaptured.is_empty() && self.capture_tried.elapsed() >= CAPTURE_INTERVAL {
            self.capture().await?;
        }
        if self.trimmed.elapsed() >= TRIM_INTERVAL {
            self.trimmed = Instant::now();
            self.trimmer.trim(&self.control, publisher.is_some()).await?;
        }
        if publisher.is_none() && !std::mem::replace(&mut self.greeted, true) {
            // What was committed before we came: nobody else tells the appliers.
            return Ok(Next { changed: true, after: Duration::ZERO });
        }
        let since = Since { from: self.from.clone(), tables: None };
        let look = look(&self.control, &since).await?;
        if look.trimmed && publisher.is_some() {
            return self.start_anew().await;
        }
        if look.tables.is_empty() {
            return self.rest(&look.now).await;
        }
        if self.gate.is_asleep() {
            self.gate.wake_up(&self.control).await?;
        }
        match publisher {
            Some(publisher) => self.publish(publisher, since, &look.tables).await,
            None => {
                self.from = look.now;
                Ok(Next { changed: true, after: Duration::ZERO })
            }
        }
    }

    /// Nothing changed: sets the flag, then waits as long as somebody may not have seen it.
    async fn rest(&mut self, now: &Snapshot) -> Result<Next> {
        if let Some(number) = self.unnoted.take() {
            mark_published(&self.control, number).await?;
        }
        let after = if !self.notify {
            POLL
        } else if !self.gate.is_asleep() {
            self.gate.fall_asleep(&self.control).await?;
            Duration::ZERO
        } else if !self.gate.may_wait(now) {
            POLL
        } else if self.uncaptured.is_empty() {
            self.safety_poll
        } else {
            self.safety_poll.min(CAPTURE_INTERVAL)
        };
        Ok(Next { changed: false, after })
    }

    async fn publish(&mut self, publisher: &Addr<Publisher>, since: Since, changed: &[i32]) -> Result<Next> {
        let later = Next { changed: true, after: RETRY };
        // No delta is opened that could not be published: it would hold back vacuum on the primary.
        let told = tokio::time::timeout(READY_LIMIT, publisher.send(Ready)).await;
        let readiness = told.ok().and_then(Result::ok).unwrap_or(Readiness::Disconnected);
        self.show(readiness).await?;
        if readiness != Readiness::Ready {
            return Ok(later);
        }
        let delta = match self.reader.cut(vec![since], changed).await {
            Ok(Cut::Open(delta)) => delta,
            Ok(Cut::Again) => return Ok(Next { changed: true, after: Duration::ZERO }),
            Ok(Cut::Trimmed) => return self.start_anew().await,
            Err(error) if capture::was_locked(&error) => return Ok(later),
            Err(error) => return Err(error),
        };
        let to = delta.to()?.clone();
        let batch = record(&self.control, &self.epoch, None, &self.from, &to).await?;
        let number = batch.number;
        let published = cut::publish(&delta, batch, self.limits, publisher).await?;
        delta.end().await?;
        if !published {
            return Ok(later);
        }
        self.from = to;
        self.unnoted = Some(number);
        self.batches.set(self.batches.get() + 1);
        Ok(Next { changed: true, after: Duration::ZERO })
    }

    /// What the next batch had to tell was trimmed before it could be published: batches go on from now, and
    /// each replica finds that something before is missing.
    async fn start_anew(&mut self) -> Result<Next> {
        tracing::warn!(
            event = "batches_anew",
            "changes were trimmed from the changelog before they could be published; replicas that lack them \
             are copied anew"
        );
        self.unnoted = None;
        self.from = start_anew(&self.control).await?;
        Ok(Next { changed: true, after: Duration::ZERO })
    }

    /// Leaves word, for as long as this session lasts, of what holds the publisher up: for `status`.
    async fn show(&mut self, readiness: Readiness) -> Result<()> {
        if std::mem::replace(&mut self.shown, readiness) == readiness {
            return Ok(());
        }
        self.seat.show(readiness.shown()).await
    }

    /// Compares the tables that the configuration names with those that are captured. At the start `all` are
    /// looked into: a trigger may have been disabled meanwhile.
    async fn resolve(&mut self, config: &Config, all: bool) -> Result<()> {
        self.resolved = Instant::now();
        let (wanted, problems) = wanted_tables(&self.control, config).await?;
        // The start refuses them; what the application creates later must not stop the rest.
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::error!(event = "table_refused", "{problem}");
        }
        self.problems = problems;
        let statement = "SELECT id, relation FROM pgfanout.captured_table WHERE broken IS NULL";
        let rows = self.control.query("reading the captured tables", statement, &[]).await?;
        let captured: Vec<(i32, u32)> = rows.iter().map(|row| (row.get("id"), row.get("relation"))).collect();
        for (id, _) in
            captured.iter().filter(|(_, relation)| !wanted.iter().any(|table| table.relation == *relation))
        {
            match capture::release(&self.control, *id, CAPTURE_LOCK_LIMIT).await {
                Err(error) if !capture::was_locked(&error) => return Err(error),
                // A table that stays captured a while longer does no harm: the next time tries again.
                _ => {}
            }
        }
        let is_captured = |table: &Wanted| captured.iter().any(|(_, relation)| *relation == table.relation);
        self.uncaptured = wanted.into_iter().filter(|table| all || !is_captured(table)).collect();
        if self.uncaptured.is_empty() { Ok(()) } else { self.capture().await }
    }

    /// Captures what is to be captured, as far as its writers let us.
    async fn capture(&mut self) -> Result<()> {
        self.capture_tried = Instant::now();
        let mut waiting = Vec::new();
        for table in std::mem::take(&mut self.uncaptured) {
            match capture::capture(&self.control, table.relation, table.old_record, CAPTURE_LOCK_LIMIT).await
            {
                Ok(_) => {}
                Err(error) if capture::was_locked(&error) => waiting.push(table),
                Err(error) => return Err(error),
            }
        }
        if !waiting.is_empty() {
            let tables = waiting.iter().map(|table| table.name.as_str()).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                event = "capture_waits",
                tables,
                "waiting for transactions that wrote these tables to end, to capture them"
            );
        }
        self.uncaptured = waiting;
        Ok(())
    }

    /// Shows that the connections live: a link may die silently while nothing is to be done.
    ///
    /// # Errors
    /// When one is dead.
    pub async fn prove(&self) -> Result<()> {
        self.control.prove().await?;
        self.reader.session().prove().await
    }

    /// Says how it is.
    pub fn say_status(&self) {
        let (asleep, batches) = (self.gate.is_asleep(), self.batches.take());
        tracing::info!(
            event = "status",
            stage = "pg_listener",
            asleep,
            batches,
            uncaptured = self.uncaptured.len(),
            "batches cut since the last status"
        );
    }

    /// Leaves the primary so that nobody notifies for nothing.
    ///
    /// # Errors
    /// When the link breaks: each transaction notifies then until the next start.
    pub async fn end(mut self) -> Result<()> {
        if let Some(number) = self.unnoted.take() {
            mark_published(&self.control, number).await?;
        }
        self.gate.wake_up(&self.control).await
    }
}

/// Opens the connection whose notifications wake the listener.
async fn listen(primary: &Database, listener: WeakAddr<PgListener>) -> Result<Session> {
    let (mut session, mut connection) = primary.open("pgfanout listener").await?;
    actix_rt::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, AsyncMessage::Notification(_))
                && let Some(listener) = listener.upgrade()
            {
                let _ = listener.try_send(Wake);
            }
        }
        // The next statement finds the connection gone.
        if let Some(listener) = listener.upgrade() {
            let _ = listener.try_send(Wake);
        }
    });
    session.set_up().await?;
    Ok(session)
}

/// Holds nothing back any more for replicas that the configuration does not name.
async fn forget_removed_replicas(primary: &Session, config: &Config) -> Result<()> {
    let names: Vec<&str> = config.replicas.iter().map(|replica| replica.name.as_str()).collect();
    let forget = "DELETE FROM pgfanout.replica WHERE name <> ALL ($1)";
    primary.execute("forgetting removed replicas", forget, &[&names]).await.map(drop)
}
