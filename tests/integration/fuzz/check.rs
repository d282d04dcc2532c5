//! Whether what a replica shows is the primary at the snapshot where it says it stands.

use std::time::Instant;

use pgfanout_testbed::world::{Database, World};
use tokio_postgres::Client;

use super::{
    bench::PAUSE,
    failure::{Failure, Kind},
    history::{self, Line, Lines, Look, Shown, When},
    script::Case,
};
use crate::support::PATIENCE;

/// Looks at a replica, and remembers what it saw.
pub(super) struct Checker<'a> {
    case: &'a Case,
    primary: &'a Database,
    replica: &'a Database,
    /// What was seen last, which was right.
    last: Option<Look>,
    /// How many moments were seen.
    pub(super) moments: usize,
}

impl<'a> Checker<'a> {
    pub(super) fn new(case: &'a Case, world: &'a World) -> Self {
        Self { case, primary: world.primary(), replica: world.replica(1), last: None, moments: 0 }
    }

    /// Looks once; whether there was something to see.
    pub(super) async fn look(&mut self) -> Result<bool, Failure> {
        let Some(look) = history::look(self.case, self.replica).await? else { return Ok(false) };
        if self.last.as_ref().is_some_and(|last| last.snapshot == look.snapshot && last.lines == look.lines) {
            return Ok(true);
        }
        let started = Instant::now();
        loop {
            // The primary may be killed meanwhile, and has to be asked again.
            let primary = self.primary.look().await;
            let asked = match &primary {
                Ok(primary) => self.compare(primary, &look).await,
                Err(error) => Err(Failure::new(Kind::Bench, format!("{error:?}"))),
            };
            match asked {
                Err(failure) if failure.kind == Kind::Bench && started.elapsed() < PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                }
                asked => break asked?,
            }
        }
        self.moments += 1;
        self.last = Some(look);
        Ok(true)
    }

    async fn compare(&self, primary: &Client, look: &Look) -> Result<(), Failure> {
        let here = &history::at(primary, &look.snapshot).await?;
        let at = &look.snapshot;
        if let Some(last) = &self.last {
            let ((xmin, xmax), (last_xmin, last_xmax)) = (look.ends(), last.ends());
            if xmin < last_xmin || xmax < last_xmax {
                let text = format!("the position went from {} to {at}", last.snapshot);
                return Err(Failure::new(Kind::Backwards, text));
            }
        }
        let (begun, ended) = (look.counters(0), look.counters(1));
        if begun != ended {
            let text = format!("at {at} the witnesses are {begun:?} and {ended:?}");
            return Err(Failure::new(Kind::Half, text));
        }
        let less = |some: &Lines, others: &Lines| -> Vec<Line> {
            let fewer = |(line, times): &(&Line, &i64)| others.get(*line).copied().unwrap_or(0) < **times;
            some.iter().filter(fewer).map(|(line, _)| line.clone()).collect()
        };
        let (missing, extra) = (less(here, &look.lines), less(&look.lines, here));
        if missing.is_empty() && extra.is_empty() {
            return Ok(());
        }
        let kind = self.judge(primary, here, look, &extra).await?;
        let (mut past, mut transactions) = (String::new(), Vec::new());
        if let Some(line) = extra.first().or(missing.first()) {
            (past, transactions) = history::past(primary, line).await?;
        }
        let (missing, extra): (Vec<_>, Vec<_>) = (missing.iter().collect(), extra.iter().collect());
        let text = format!(
            "at {at} only the primary had {} and only the replica has {}\nthe history of the first one's key:{past}",
            Shown(&missing),
            Shown(&extra)
        );
        Err(Failure { transactions, ..Failure::new(kind, text) })
    }

    /// The kind of the first row that should not be there, or that none is.
    async fn judge(
        &self,
        primary: &Client,
        here: &Lines,
        look: &Look,
        extra: &[Line],
    ) -> Result<Kind, Failure> {
        let Some(line) = extra.first() else { return Ok(Kind::Lost) };
        if here.contains_key(line) {
            return Ok(Kind::Doubled);
        }
        Ok(match history::when(primary, line, &look.snapshot).await? {
            // What the last look had not shown any more came back.
            When::Before if self.last.as_ref().is_some_and(|last| !last.lines.contains_key(line)) => {
                Kind::Backwards
            }
            When::Before => Kind::Stale,
            When::After => Kind::Half,
            When::Never if here.keys().any(|other| (other.0, &other.1) == (line.0, &line.1)) => Kind::Wrong,
            When::Never => Kind::Doubled,
        })
    }
}
