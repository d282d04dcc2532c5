//! What the listener does with its connections to the primary.

mod capturing;
mod cutting;
mod pace;
mod probes;
mod recent;
mod under_way;

use std::{
    cell::Cell,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use actix::Addr;

use capturing::{NewTables, Suspects};
use pace::Pace;
use probes::Probes;
use recent::Recent;
use under_way::{Lost, UnderWay};

use crate::{
    config::{Config, Problem},
    cut,
    error::{Error, Result},
    pg_listener::Waker,
    postgres::Session,
    prepare::Wanted,
    primary::{
        batch::{begin_term, mark_published, resume_from, start_anew},
        gate::Gate,
        install::install,
        look::{Changed, Since, look, present},
        reader::Reader,
        trim::Trimmer,
    },
    publisher::{Publisher, Readiness},
    seat::Seat,
    snapshot::Snapshot,
};

/// How often to look while a transaction may be at work that did not see the flag, or where none notifies.
const POLL: Duration = Duration::from_millis(20);

/// How long nothing is published before it is noted that the last batch was.
const NOTE_AFTER: Duration = Duration::from_secs(1);

/// How long writers of a table may have to wait behind the creation of its triggers.
const CAPTURE_LOCK_LIMIT: Duration = Duration::from_millis(300);

/// How often to try to capture a table whose writers did not end.
const CAPTURE_INTERVAL: Duration = Duration::from_secs(1);

/// How often to look for tables that came or were mended.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(20);

/// The same while it is logged that tables are made: a restored dump makes thousands, one after the other.
const NEW_TABLES_INTERVAL: Duration = Duration::from_secs(1);

/// How often the changelog is trimmed.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// What to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Whether there were changes that the appliers should know of.
    pub changed: bool,
    /// Since when they were committed, if that is known.
    pub since: Option<Instant>,
    /// Whether the position is to move even if there were none: somebody waits for it.
    pub probed: bool,
    /// When to look again without being woken.
    pub after: Duration,
}

impl Next {
    const fn changed(after: Duration) -> Self {
        Self { changed: true, since: None, probed: false, after }
    }
}

/// The listener's session.
pub struct Listening {
    /// Keeps other processes away.
    seat: Seat,
    /// Listens, and takes short statements.
    control: Session,
    reader: Reader,
    epoch: String,
    /// The end of the last batch that was handed over; without a broker, of the last look that found something.
    from: Snapshot,
    /// What was not handed over then was committed since; not known of what was there before us.
    since: Option<Instant>,
    /// Whether whatever is committed next will notify.
    waits: Cell<bool>,
    gate: Gate,
    pace: Pace,
    recent: Recent,
    /// All that changed since the last batch, as the last try to cut the next one found: not all were known before.
    turned_up: Changed,
    probes: Probes,
    /// Whether transactions notify at all.
    notify: bool,
    /// How often to look in any case while asleep.
    safety_poll: Duration,
    /// Whether the appliers were told that there is a listener again.
    greeted: bool,
    /// Batches of which the broker has not told yet, or of which it is not noted yet, that it has them.
    under_way: UnderWay,
    /// Tables that are to be captured and whose writers did not end yet.
    uncaptured: Vec<Wanted>,
    capture_tried: Instant,
    /// Tables that were altered since the last batch, and how often that was logged when they were looked into.
    looked_into: BTreeMap<i32, i64>,
    new_tables: NewTables,
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
    pub async fn connect(config: &Config, waker: Waker) -> Result<Self> {
        let primary = &config.primary.database;
        let workers = ["listener", "publisher"].map(|job| format!("pgfanout {job}"));
        let Some(seat) = Seat::take(primary, "publisher", &workers).await? else {
            return Err(Error::StandBy("primary: another pgfanout publishes".to_owned()));
        };
        let probes = Probes::default();
        let control = probes.listen(primary, waker).await?;
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
            since: None,
            waits: Cell::new(false),
            gate: Gate::default(),
            pace: Pace::new(config.broker.as_ref().map_or(Duration::ZERO, |broker| broker.linger)),
            recent: Recent::default(),
            turned_up: Changed::new(),
            probes,
            notify: installation.notify,
            safety_poll: config.primary.safety_poll,
            greeted: false,
            under_way: UnderWay::default(),
            uncaptured: Vec::new(),
            looked_into: BTreeMap::new(),
            new_tables: NewTables::default(),
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
        session.resolve(config, Suspects::All).await?;
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
        if self.waits.take() {
            self.since = Some(Instant::now());
        }
        let interval = if self.new_tables.due { NEW_TABLES_INTERVAL } else { RESOLVE_INTERVAL };
        if self.resolved.elapsed() >= interval {
            self.resolve(config, Suspects::None).await?;
        }
        if !self.uncaptured.is_empty() && self.capture_tried.elapsed() >= CAPTURE_INTERVAL {
            self.capture().await?;
        }
        let next = match publisher {
            Some(publisher) => self.cut(config, publisher).await?,
            None => self.tell(config).await?,
        };
        // Afterwards: what waits only to be cut is not what somebody keeps us from trimming.
        if self.trimmed.elapsed() >= TRIM_INTERVAL {
            self.trimmed = Instant::now();
            self.note_published().await?;
            self.trimmer.trim(&self.control, publisher.is_some()).await?;
        }
        Ok(next)
    }

    /// Without a broker: looks whether the appliers have anything to read.
    async fn tell(&mut self, config: &Config) -> Result<Next> {
        if !std::mem::replace(&mut self.greeted, true) {
            // What was committed before we came: nobody else tells the appliers.
            return Ok(Next::changed(Duration::ZERO));
        }
        self.pace.begin(Instant::now());
        let asked = self.probes.asked();
        let look = look(&self.control, &Since::all(self.from.clone())).await?;
        self.new_tables.note(look.made);
        // What tells of tables alone is passed on, too: positions would stay before it until it is too old.
        let probed = asked.is_some() || look.made > 0;
        if look.tables.is_empty() && !probed {
            return self.rest(&look.now).await;
        }
        if !look.altered.is_empty() {
            self.resolve(config, Suspects::These(&look.altered)).await?;
        }
        self.from = look.now;
        self.new_tables.pass_on();
        let since = self.since.replace(self.pace.began());
        self.probes.answer(asked);
        Ok(Next { since, probed, ..self.pass_on(1).await? })
    }

    /// All up to now is passed on, with so many entries of the log.
    async fn pass_on(&mut self, entries: u64) -> Result<Next> {
        let grow = self.pace.found(entries, Instant::now());
        if !self.gate.is_asleep() {
            if self.notify && self.pace.is_calm() {
                self.gate.fall_asleep(&self.control).await?;
            }
        } else if self.pace.is_busy() || self.others_wait().await? {
            self.gate.wake_up(&self.control).await?;
        }
        Ok(Next::changed(self.until_notified(&self.from).unwrap_or(grow)))
    }

    /// Whether commits that notify make others wait, as far as that is known: it is not asked each time.
    async fn others_wait(&mut self) -> Result<bool> {
        if !self.pace.is_to_ask() {
            return Ok(false);
        }
        let statement = include_str!("../sql/primary/notify_waits.sql");
        let row = self.control.query_one("looking whether commits wait", statement, &[]).await?;
        Ok(self.pace.note_waits(row.get("waits")))
    }

    /// How long to wait when all up to a moment is passed on, if whatever comes later will notify.
    fn until_notified(&self, passed_on: &Snapshot) -> Option<Duration> {
        let note = self.under_way.is_to_note().then_some(NOTE_AFTER);
        let capture = (!self.uncaptured.is_empty()).then_some(CAPTURE_INTERVAL);
        let made = self.new_tables.due.then(|| NEW_TABLES_INTERVAL.saturating_sub(self.resolved.elapsed()));
        let sooner = note.into_iter().chain(capture).chain(made).min();
        let wait = self.safety_poll.min(sooner.unwrap_or(Duration::MAX));
        self.waits.set(self.gate.may_wait(passed_on));
        self.waits.get().then_some(wait)
    }

    /// Nothing changed: sets the flag, then waits as long as somebody may not have seen it.
    async fn rest(&mut self, now: &Snapshot) -> Result<Next> {
        self.since = Some(self.pace.began());
        // Not after each single batch.
        if self.under_way.unnoted_since().is_some_and(|at| at.elapsed() >= NOTE_AFTER) {
            self.note_published().await?;
        }
        let after = if !self.notify {
            POLL
        } else if !self.gate.is_asleep() {
            match self.pace.found_nothing() {
                Some(soon) => soon,
                None => {
                    self.gate.fall_asleep(&self.control).await?;
                    Duration::ZERO
                }
            }
        } else {
            self.until_notified(now).unwrap_or(POLL)
        };
        Ok(Next { changed: false, since: None, probed: false, after })
    }

    /// Notes that the last batch was published, once the broker has told.
    async fn note_published(&mut self) -> Result<()> {
        if let Err(Lost(from)) = self.under_way.settle_all().await {
            self.go_on_from(from);
        }
        match self.under_way.take_unnoted() {
            Some(number) => mark_published(&self.control, number).await,
            None => Ok(()),
        }
    }

    /// The broker may not have what came since then.
    fn go_on_from(&mut self, from: Snapshot) {
        (self.from, self.since) = (from, None);
    }

    /// What the next batch had to tell was trimmed before it could be published: batches go on from now, and
    /// each replica finds that something before is missing.
    async fn start_anew(&mut self) -> Result<Next> {
        tracing::warn!(
            event = "batches_anew",
            "changes were trimmed from the changelog before they could be published; replicas that lack them \
             are copied anew"
        );
        self.under_way.forget();
        self.from = start_anew(&self.control).await?;
        Ok(Next::changed(Duration::ZERO))
    }

    /// Leaves word, for as long as this session lasts, of what holds the publisher up: for `status`.
    async fn show(&mut self, readiness: Readiness) -> Result<()> {
        if std::mem::replace(&mut self.shown, readiness) == readiness {
            return Ok(());
        }
        self.seat.show(readiness.shown()).await
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
        self.note_published().await?;
        self.gate.wake_up(&self.control).await
    }
}

/// Holds nothing back any more for replicas that the configuration does not name.
async fn forget_removed_replicas(primary: &Session, config: &Config) -> Result<()> {
    let names: Vec<&str> = config.replicas.iter().map(|replica| replica.name.as_str()).collect();
    let forget = "DELETE FROM pgfanout.replica WHERE name <> ALL ($1)";
    primary.execute("forgetting removed replicas", forget, &[&names]).await.map(drop)
}
