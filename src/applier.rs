//! The actor that writes one replica: batches that its consumer brings, or the delta from where the
//! replica stands, and the copies of tables that join.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, AtomicResponse, Context, Handler,
    Message, Supervised, WrapFuture as _,
};
use actix_rt::task::JoinHandle;

use crate::{
    applying::Applying,
    batch::Part,
    config::{self, Config, OnTableError},
    error::{Error, Result},
    life::{Ending, Failed, Life, delay},
    postgres::Database,
    replica::{copy::Copier, followed::Followed, isolate::Told, reading::Readings},
    replicator::{Drain, SayStatus},
};

/// How often the replica's position is reported to the primary, and compared with what was published.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Applies parts of batches, in order. The answer means that all is committed, or that it was never
/// needed; it names the parts that are to be rejected, and why. After a failure offer the same parts again.
#[derive(Message)]
#[rtype(result = "Result<Vec<(usize, String)>, Failed>")]
pub struct Apply(pub Arc<Vec<Part>>);

/// How many failures of a copy in a row halt the replica, where it refuses what is copied.
const FAILURES: u32 = 3;

/// Reads from the primary whatever the replica lacks. A hint: several may be one.
#[derive(Message, Default)]
#[rtype(result = "()")]
pub struct CatchUp {
    /// The position is to move even if it lacks nothing.
    pub probed: bool,
    /// What was not hinted at before was committed since then, if that is known.
    pub since: Option<Instant>,
}

/// Asks whether the replica is connected, and nobody else applies to it.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Serving;

/// Asks why nothing is applied here for now, where that is wanted: another process does, or the replica is paused.
#[derive(Message)]
#[rtype(result = "Option<Error>")]
pub struct StandsBy;

/// Reports the position.
#[derive(Message)]
#[rtype(result = "()")]
struct Report;

/// A table's copy ended, or trying one that was set aside.
#[derive(Message)]
#[rtype(result = "()")]
struct CopyEnded(Tried, Result<()>);

/// What was tried.
struct Tried {
    id: i32,
    table: String,
    /// Whether it was set aside.
    mending: bool,
}

/// The actor.
pub struct Applier {
    primary: Database,
    replica: config::Replica,
    copier: Copier,
    life: Life<Applying>,
    /// Whether the replica was paused when it was last looked at.
    paused: bool,
    /// The copy of a table, in a task of its own: batches go on meanwhile.
    copy: Option<JoinHandle<()>>,
    copy_failures: u32,
    /// What was told of tables that are set aside.
    told: Told,
    /// Tries a table that is set aside.
    mending: Option<JoinHandle<()>>,
    /// Asks for reports; not a timer of the context, which would keep an applier alive whose owner has gone.
    ticker: Option<JoinHandle<()>>,
}

impl Applier {
    /// An applier for one replica, which shares what it reads for copies.
    #[must_use]
    pub fn new(config: &Config, replica: config::Replica, readings: Readings, ending: Ending) -> Self {
        let copier = Copier {
            replica: replica.name.clone(),
            from: config.primary.database.clone(),
            to: replica.database.clone(),
            settings: config.copy,
            readings: (config.replicas.len() > 1).then_some(readings),
        };
        let life = Life::new("applier", replica.name.clone(), ending);
        Self {
            primary: config.primary.database.clone(),
            replica,
            copier,
            life,
            paused: false,
            copy: None,
            copy_failures: 0,
            told: Told::default(),
            mending: None,
            ticker: None,
        }
    }

    fn connected(&mut self, result: Result<Applying>, context: &mut Context<Self>) {
        match result {
            Ok(session) => {
                self.life.begin(session);
                if std::mem::take(&mut self.paused) {
                    let replica = &self.replica.name;
                    tracing::info!(
                        event = "resumed",
                        stage = "applier",
                        replica,
                        "the replica is paused no more"
                    );
                }
                let _ = context.address().try_send(CatchUp::default());
            }
            Err(error) => self.fail(&error, context),
        }
    }

    fn fail(&mut self, error: &Error, context: &mut Context<Self>) {
        let begin_anew = self.life.fail(error);
        let (primary, replica) = (self.primary.clone(), self.replica.name.clone());
        if error.needs_operator() {
            let reason = error.halt();
            actix_rt::spawn(async move { Applying::report_halted(&primary, &replica, &reason).await });
        } else if matches!(error, Error::Paused) && !std::mem::replace(&mut self.paused, true) {
            tracing::info!(
                event = "paused",
                stage = "applier",
                replica,
                "the replica is paused: nothing is applied to it until pgfanout resume"
            );
            actix_rt::spawn(async move { Applying::report_paused(&primary, &replica).await });
        }
        match error {
            _ if !begin_anew => {}
            // A life that waits to connect answers nobody: who brings messages has to hear that they are not wanted.
            Error::StandBy(_) | Error::Paused => {
                context.run_later(self.life.take_delay(), |_, context| context.stop());
            }
            _ => context.stop(),
        }
    }

    /// Work on the session went well, or ends this life.
    fn settle<T>(
        &mut self,
        result: Result<(Applying, T), Option<Error>>,
        context: &mut Context<Self>,
    ) -> Result<T, Failed> {
        match result {
            Ok((session, answer)) => {
                self.copy_next(&session, context);
                self.life.keep(session);
                Ok(answer)
            }
            Err(error) => {
                if let Some(error) = error {
                    self.fail(&error, context);
                }
                Err(Failed)
            }
        }
    }

    /// Starts to copy the next table that has to be, and to try the next one that is set aside, if none is
    /// under way.
    fn copy_next(&mut self, session: &Applying, context: &Context<Self>) {
        let is_idle = |task: &Option<JoinHandle<()>>| task.as_ref().is_none_or(JoinHandle::is_finished);
        let start = |table: Rc<Followed>, wait, mending| {
            let (copier, address) = (self.copier.clone(), context.address().downgrade());
            actix_rt::spawn(async move {
                tokio::time::sleep(wait).await;
                let ended = copier.copy(&table).await;
                if let Some(address) = address.upgrade() {
                    let tried = Tried { id: table.id, table: table.shape.quoted(), mending };
                    let _ = address.send(CopyEnded(tried, ended)).await;
                }
            })
        };
        if let Some(table) = session.next_to_copy().filter(|_| is_idle(&self.copy)) {
            self.copy = Some(start(table, self.copy_delay(), false));
        }
        if let Some(table) = session.next_to_mend().filter(|_| is_idle(&self.mending)) {
            self.mending = Some(start(table, Duration::ZERO, true));
        }
    }

    fn copy_delay(&self) -> Duration {
        if self.copy_failures == 0 { Duration::ZERO } else { delay(self.copy_failures) }
    }

    fn stop_tasks(&mut self) {
        for task in [self.copy.take(), self.mending.take(), self.ticker.take()].into_iter().flatten() {
            task.abort();
        }
    }
}

impl Actor for Applier {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let (replica, primary, told) = (self.replica.clone(), self.primary.clone(), Rc::clone(&self.told));
        let connecting = self.life.connecting(async move { Applying::connect(replica, primary, told).await });
        context
            .wait(connecting.into_actor(self).map(|result, this, context| this.connected(result, context)));
        let address = context.address().downgrade();
        self.ticker = Some(actix_rt::spawn(async move {
            // Often at first: tables may be captured just now, by a listener that began with us.
            let mut interval = REPORT_INTERVAL / 16;
            loop {
                tokio::time::sleep(interval).await;
                interval = (interval * 2).min(REPORT_INTERVAL);
                let Some(address) = address.upgrade() else { return };
                if address.send(Report).await.is_err() {
                    return;
                }
            }
        }));
    }
}

impl Supervised for Applier {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.stop_tasks();
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.stop_tasks();
    }
}

/// A piece of work on the session, as a handler's answer.
macro_rules! with_session {
    ($this:ident, |$session:ident| $work:expr, |$actor:ident, $result:ident| $answer:expr) => {{
        let session = $this.life.take();
        let working = async move {
            let mut $session = session.map_err(|Failed| None)?;
            let answer = $work.await.map_err(Some)?;
            Ok(($session, answer))
        };
        AtomicResponse::new(Box::pin(working.into_actor($this).map(|result, $actor, context| {
            let $result = $actor.settle(result, context);
            $answer
        })))
    }};
}

impl Handler<Apply> for Applier {
    type Result = AtomicResponse<Self, Result<Vec<(usize, String)>, Failed>>;

    fn handle(&mut self, Apply(parts): Apply, _: &mut Self::Context) -> Self::Result {
        with_session!(self, |session| session.apply(&parts), |this, result| result)
    }
}

impl Handler<Serving> for Applier {
    type Result = bool;

    fn handle(&mut self, _: Serving, _: &mut Self::Context) -> bool {
        self.life.session().is_some()
    }
}

impl Handler<StandsBy> for Applier {
    type Result = Option<Error>;

    fn handle(&mut self, _: StandsBy, _: &mut Self::Context) -> Option<Error> {
        if self.paused {
            return Some(Error::Paused);
        }
        self.life.stands_by().then(|| Error::StandBy("another pgfanout applies".to_owned()))
    }
}

impl Handler<CatchUp> for Applier {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, CatchUp { probed, since }: CatchUp, _: &mut Self::Context) -> Self::Result {
        with_session!(self, |session| session.catch_up_hinted(probed, since), |this, result| {
            // Said in the log already.
            let _ = result;
        })
    }
}

impl Handler<Report> for Applier {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Report, _: &mut Self::Context) -> Self::Result {
        with_session!(self, |session| session.report(), |this, result| {
            // Said in the log already.
            let _ = result;
        })
    }
}

impl Handler<CopyEnded> for Applier {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, CopyEnded(tried, ended): CopyEnded, _: &mut Self::Context) -> Self::Result {
        let isolates = self.replica.on_table_error == OnTableError::Isolate;
        if tried.mending {
            self.mending = None;
        } else {
            self.copy = None;
        }
        self.copy_failures = match &ended {
            Ok(()) => 0,
            // It is set aside, or stays so, and that is said.
            Err(error) if isolates && error.refused_table().is_some() => 0,
            Err(error) => {
                let (replica, reason) = (&self.replica.name, error.chain());
                let retry_in_ms =
                    u64::try_from(delay(self.copy_failures + 1).as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(
                    event = "copy_failed",
                    replica,
                    retry_in_ms,
                    "{reason}; it goes on where it was"
                );
                self.copy_failures + 1
            }
        };
        let often = self.copy_failures >= FAILURES;
        with_session!(
            self,
            |session| async {
                match ended {
                    // It does not pass by itself.
                    Err(error) if often && error.is_refusal() => Err(error),
                    ended => session.after_copy(tried.id, &tried.table, ended.err()).await,
                }
            },
            |this, result| {
                // Said in the log already.
                let _ = result;
            }
        )
    }
}

impl Handler<Drain> for Applier {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.stop_tasks();
        let session = self.life.take();
        let draining = async move {
            if let Ok(mut session) = session
                && let Err(error) = session.drain().await
            {
                tracing::warn!(event = "drain_failed", stage = "applier", "{}", error.chain());
            }
        };
        AtomicResponse::new(Box::pin(draining.into_actor(self)))
    }
}

impl Handler<SayStatus> for Applier {
    type Result = ();

    fn handle(&mut self, _: SayStatus, _: &mut Self::Context) {
        if let Some(session) = self.life.session() {
            session.say_status();
        }
    }
}
