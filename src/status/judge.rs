//! A replica's state, from what everybody told.

use serde::Serialize;

use super::{
    broker::Queue,
    primary::{Behind, Reported, Source},
    probe::{LIMIT, Probed},
    recent::Recent,
    replica::{Replica, Told},
    units::duration,
};
use crate::error::Result;

/// A change that waits for longer means that the replica does not keep up; shorter ones are on their way.
const SOON_SECONDS: f64 = 10.0;

/// A replica's state; the rules are those of [the module](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has every change, or will in a moment.
    Following,
    /// It lacks changes, or nobody can say.
    CatchingUp,
    /// Tables are set aside, and the others go on.
    Isolating,
    /// A table is not yet where the others are.
    Copying,
    /// Nothing is applied, until `pgfanout resume`.
    Paused,
    /// Nothing is applied.
    Halted,
    /// Its database could not be asked.
    Unreachable,
}

impl State {
    /// The word for it, as in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Following => "following",
            Self::CatchingUp => "catching-up",
            Self::Isolating => "isolating",
            Self::Copying => "copying",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Puts together what is known of a replica.
pub(super) fn judge(
    name: &str,
    told: Result<Told>,
    source: Option<&Source>,
    behind: Option<Result<Behind>>,
    probed: Option<Probed>,
    queue: Option<Queue>,
) -> Replica {
    let reported = source.and_then(|source| source.reports.get(name)).cloned();
    let mut replica = Replica {
        name: name.to_owned(),
        state: State::Unreachable,
        reason: None,
        position: None,
        delay_seconds: match probed {
            Some(Probed::After(delay)) => Some(delay.as_secs_f64()),
            Some(Probed::Missed) | None => None,
        },
        overdue: probed == Some(Probed::Missed),
        behind: behind.as_ref().and_then(|behind| behind.as_ref().ok()).copied(),
        queue,
        reported,
        recent: None,
        tables: None,
        missing_tables: None,
        copies: Vec::new(),
        isolated: Vec::new(),
        verified: None,
    };
    replica.recent = source.filter(|_| replica.reported.is_some()).map(|source| {
        let (recent, elapsed) = &source.recent;
        let moved = recent.get(name).map_or(&[][..], Vec::as_slice);
        Recent::new(moved, *elapsed, late(&replica))
    });
    let told = match told {
        Ok(told) => told,
        Err(error) => {
            replica.reason = Some(error.chain());
            return replica;
        }
    };
    let missing = source.map(|source| {
        let is_missing = |id: &&i32| !told.tables.contains(id);
        source.tables.iter().filter(is_missing).count()
    });
    let is_foreign =
        source.zip(told.position.as_ref()).is_some_and(|(source, position)| source.epoch != position.epoch);
    let is_lost = replica.behind.is_some_and(|behind| behind.foreign);
    (replica.state, replica.reason) = decide(&Facts {
        name,
        paused: told.paused,
        installed: told.installed,
        applied_to: told.applied_to,
        is_foreign,
        is_lost,
        reported: replica.reported.as_ref(),
        apart: told.copies.len(),
        isolated: told.isolated.len(),
        missing,
        behind: behind.as_ref().map(|behind| behind.as_ref().map_err(|error| error.chain())),
        overdue: replica.overdue,
        held_up: source.and_then(|source| source.held_up),
        has_position: told.position.is_some(),
    });
    replica.tables = Some(told.tables.len());
    replica.missing_tables = missing;
    replica.position = told.position;
    replica.copies = told.copies;
    replica.isolated = told.isolated;
    replica.verified = told.verified;
    replica
}

/// How far behind it is now, in seconds, if that is known.
fn late(replica: &Replica) -> Option<f64> {
    let behind = replica.behind.map(|behind| behind.seconds);
    match replica.overdue {
        true => behind.map(|seconds| seconds.max(LIMIT.as_secs_f64())),
        false => replica.delay_seconds.or(behind),
    }
}

/// What the state follows from, once the replica has answered.
pub(super) struct Facts<'a> {
    /// The replica.
    pub(super) name: &'a str,
    /// Nothing is to be applied.
    pub(super) paused: bool,
    /// Our schema is there.
    pub(super) installed: bool,
    /// A process applies.
    pub(super) applied_to: bool,
    /// It follows another installation than the primary's.
    pub(super) is_foreign: bool,
    /// It stands at a moment that the primary's history does not hold.
    pub(super) is_lost: bool,
    pub(super) reported: Option<&'a Reported>,
    /// How many tables do not stand where the others stand.
    pub(super) apart: usize,
    /// How many are set aside.
    pub(super) isolated: usize,
    /// How many captured tables it has not taken up; none if the primary could not say.
    pub(super) missing: Option<usize>,
    /// What it lacks, if it has a position and the primary was asked.
    pub(super) behind: Option<Result<&'a Behind, String>>,
    /// A commit on the primary was not seen in time.
    pub(super) overdue: bool,
    /// Why no changes are passed on, to anybody.
    pub(super) held_up: Option<&'static str>,
    pub(super) has_position: bool,
}

/// The state, and what more there is to say.
pub(super) fn decide(facts: &Facts<'_>) -> (State, Option<String>) {
    if facts.paused {
        return (
            State::Paused,
            Some(format!("until pgfanout resume --config FILE --replica {}", facts.name)),
        );
    }
    if let Some(reason) = halted(facts) {
        return (State::Halted, Some(reason));
    }
    if facts.isolated > 0 {
        return (State::Isolating, None);
    }
    let missing = facts.missing.unwrap_or(0);
    if facts.apart > 0 || missing > 0 {
        let reason = format!("{missing} captured tables are not taken up yet");
        return (State::Copying, (missing > 0).then_some(reason));
    }
    if !facts.has_position && facts.missing.is_some() {
        return (State::Copying, Some("no table is captured on the primary yet".to_owned()));
    }
    match catching_up(facts) {
        Ok(_) if facts.held_up.is_some() => (State::CatchingUp, facts.held_up.map(str::to_owned)),
        Ok(false) if facts.overdue => (State::CatchingUp, Some(overdue())),
        Ok(false) => (State::Following, None),
        Ok(true) => (State::CatchingUp, None),
        Err(reason) => (State::CatchingUp, Some(reason)),
    }
}

fn halted(facts: &Facts<'_>) -> Option<String> {
    let reported = facts.reported.filter(|reported| reported.state == "halted").map(|reported| {
        let error = reported.error.as_deref().unwrap_or("its log tells why");
        (error, reported.seconds_ago)
    });
    match (facts.installed, facts.applied_to, reported) {
        // An applier that cannot go on tries again now and then, and lets go of the replica in between.
        (_, false, Some((error, ago))) => {
            Some(format!("nothing is applied to it; reported {} ago: {error}", duration(ago)))
        }
        (false, ..) => Some("pgfanout has never run for it".to_owned()),
        (true, true, Some((error, _))) => Some(error.to_owned()),
        _ if facts.is_foreign => Some(format!(
            "it follows another installation of pgfanout than the primary has; {}",
            remedy(facts.name)
        )),
        _ if facts.is_lost => Some(format!(
            "it stands at a moment that the primary does not know: that was put back to an older state, or is \
             another copy; {}",
            remedy(facts.name)
        )),
        (true, false, None) => Some("no process applies changes to it".to_owned()),
        (true, true, None) => None,
    }
}

fn remedy(replica: &str) -> String {
    format!("to have all its tables copied anew: pgfanout resync --config FILE --replica {replica}")
}

fn overdue() -> String {
    let limit = LIMIT.as_secs();
    format!(
        "a commit on the primary was not seen within {limit} s; if that stays so, the log tells what is held up"
    )
}

fn catching_up(facts: &Facts<'_>) -> Result<bool, String> {
    match &facts.behind {
        Some(Ok(Behind { trimmed: true, .. })) => {
            Err("changes that it lacks were trimmed; it is copied anew".to_owned())
        }
        Some(Ok(behind)) => Ok(behind.seconds > SOON_SECONDS),
        Some(Err(error)) => Err(format!("how far behind is not known: {error}")),
        None => Err("how far behind is not known: the primary cannot tell".to_owned()),
    }
}
