//! What all actors share: a session that ends with its first failure, and a next one after a delay.
//!
//! An actor takes its session out for each piece of work and puts it back when that went well. A failure
//! drops the session and stops the actor; its supervisor starts the next life of the same actor, which
//! opens a new session after a delay. There is no other way of recovering.

use std::{future::Future, time::Duration};

use tokio::sync::watch;

use crate::error::{Error, Result};

/// The first delay after a failure.
const SHORTEST: Duration = Duration::from_millis(100);

/// The longest delay: what fails at once costs little to try, and a stage that is needed should not be late.
const LONGEST: Duration = Duration::from_secs(5);

/// How often we look whether an operator has mended what only one can mend.
const OPERATOR: Duration = Duration::from_secs(20);

/// How often a process that stands by, or a stage of a replica that is paused, looks whether its turn has come.
const STANDBY: Duration = Duration::from_secs(1);

/// The reply of a stage that failed: it has said why in the log, and the asker keeps what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// Hears that the root ends. A stage that waits for a server does not read its mailbox: it hears this.
#[derive(Clone, Debug)]
pub struct Ending(watch::Receiver<bool>);

impl Ending {
    /// The side that tells, with `true`, and the side that hears.
    #[must_use]
    pub fn channel() -> (watch::Sender<bool>, Self) {
        let (tell, hear) = watch::channel(false);
        (tell, Self(hear))
    }

    /// Whether the root ends.
    #[must_use]
    pub fn is_told(&self) -> bool {
        *self.0.borrow()
    }

    async fn told(&mut self) {
        // An error means that the root is gone.
        let _ = self.0.wait_for(|told| *told).await;
    }
}

/// The lives of one actor.
#[derive(Debug)]
pub struct Life<S> {
    /// The actor, as the log calls it.
    stage: &'static str,
    /// Its replica; empty for those that serve all.
    replica: String,
    session: Option<S>,
    /// Failures since work last went well.
    failures: u32,
    /// How long the next life waits before it connects.
    delay: Duration,
    /// Whether another process is known to do the work.
    standing_by: bool,
    ending: Ending,
}

impl<S> Life<S> {
    /// For the actor that the log calls `stage`.
    #[must_use]
    pub const fn new(stage: &'static str, replica: String, ending: Ending) -> Self {
        Self { stage, replica, session: None, failures: 0, delay: Duration::ZERO, standing_by: false, ending }
    }

    /// Waits for the delay that is due, then connects.
    ///
    /// # Errors
    /// That of `connect`, or [`Error::Ending`] as soon as the root ends.
    pub fn connecting<T, F: Future<Output = Result<T>>>(
        &self,
        connect: F,
    ) -> impl Future<Output = Result<T>> + use<T, F, S> {
        let (delay, mut ending) = (self.delay, self.ending.clone());
        async move {
            let connecting = async {
                tokio::time::sleep(delay).await;
                connect.await
            };
            tokio::select! {
                () = ending.told() => Err(Error::Ending),
                result = connecting => result,
            }
        }
    }

    /// Hears that the root ends.
    #[must_use]
    pub const fn ending(&self) -> &Ending {
        &self.ending
    }

    /// The actor's replica.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// A session was opened. That alone ends no series of failures: what made the last one fail may
    /// still be there.
    pub fn begin(&mut self, session: S) {
        self.session = Some(session);
        let again = std::mem::take(&mut self.standing_by) || self.failures > 0;
        let (stage, replica) = (self.stage, &self.replica);
        tracing::info!(event = "connected", stage, replica, again, "a stage is connected");
    }

    /// Whether another process is known to do the work.
    #[must_use]
    pub const fn stands_by(&self) -> bool {
        self.standing_by
    }

    /// How long the actor has to wait before its next life, which does not wait then.
    pub fn take_delay(&mut self) -> Duration {
        std::mem::take(&mut self.delay)
    }

    /// Takes the session for a piece of work.
    ///
    /// # Errors
    /// When there is none: the actor is ending.
    pub fn take(&mut self) -> Result<S, Failed> {
        self.session.take().ok_or(Failed)
    }

    /// Work went well.
    pub fn keep(&mut self, session: S) {
        self.session = Some(session);
        self.failures = 0;
        self.delay = Duration::ZERO;
    }

    /// The session is good, though nothing was done that would end a series of failures.
    pub fn put_back(&mut self, session: S) {
        self.session = Some(session);
    }

    /// The session between two pieces of work.
    #[must_use]
    pub const fn session(&self) -> Option<&S> {
        self.session.as_ref()
    }

    /// Work or connecting failed: says so, and what happens next. Says whether the actor is to stop, to begin
    /// anew: not if the root ends, it waits to be drained then.
    #[must_use]
    pub fn fail(&mut self, error: &Error) -> bool {
        self.session = None;
        match error {
            Error::Ending => {}
            // The applier says so.
            Error::Paused => self.delay = STANDBY,
            _ => self.say_failure(error),
        }
        !self.ending.is_told()
    }

    fn say_failure(&mut self, error: &Error) {
        let (stage, replica) = (self.stage, &self.replica);
        if matches!(error, Error::StandBy(_)) {
            self.delay = STANDBY;
            if !std::mem::replace(&mut self.standing_by, true) {
                tracing::info!(
                    event = "standing_by",
                    stage,
                    replica,
                    "{error}; this process takes over when it ends"
                );
            }
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.delay = if error.needs_operator() { OPERATOR } else { delay(self.failures) };
        let retry_in_ms = u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX);
        let failures = self.failures;
        if error.needs_operator() {
            tracing::error!(event = "halted", stage, replica, failures, retry_in_ms, "{}", error.halt());
        } else {
            tracing::warn!(event = "failed", stage, replica, failures, retry_in_ms, "{}", error.chain());
        }
    }
}

/// Doubles with every failure, up to the longest; up to a half is left to chance, so that what failed
/// together does not come back together.
#[must_use]
pub fn delay(failures: u32) -> Duration {
    let whole = SHORTEST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    whole.mul_f64(fastrand::f64().mul_add(-0.5, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        for failures in 1..60 {
            let whole = SHORTEST.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST);
            let delay = delay(failures);
            assert!(delay <= whole && delay >= whole / 2, "{failures}: {delay:?}");
        }
    }

    #[test]
    fn only_work_that_went_well_ends_a_series_of_failures() {
        let mut life = Life::new("test", String::new(), Ending::channel().1);
        for _ in 0..3 {
            life.begin(());
            assert!(life.fail(&Error::Disconnected("gone".into())), "it is to begin anew");
        }
        assert!(life.delay >= Duration::from_millis(200));
        life.keep(());
        assert_eq!(life.delay, Duration::ZERO);
    }

    #[actix::test]
    async fn who_waits_for_a_server_hears_the_end() {
        let (tell, ending) = Ending::channel();
        let mut life = Life::<()>::new("test", String::new(), ending);
        let connecting = life.connecting(std::future::pending::<Result<()>>());
        tell.send(true).expect("somebody hears");
        let error = connecting.await.expect_err("it ended");
        assert!(matches!(error, Error::Ending));
        assert!(!life.fail(&error), "it waits to be drained");
    }
}
