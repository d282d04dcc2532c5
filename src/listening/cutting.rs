//! One try to cut the next batch, and to have it published.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use actix::Addr;

use super::{Listening, Next, capturing::Suspects, under_way::Lost};
use crate::{
    config::Config,
    cut,
    error::Result,
    primary::{
        capture,
        look::{Since, look},
        reader::{Cut, Table},
    },
    publisher::{Publisher, Readiness, Ready},
};

/// How long to wait for a publisher that is not ready, or for a lock that was not to be had.
const RETRY: Duration = Duration::from_millis(500);

/// How long the publisher may take to say that it is ready; connecting, it does not answer.
const READY_LIMIT: Duration = Duration::from_secs(1);

impl Listening {
    /// Cuts the next batch, and has it published.
    pub(super) async fn cut(&mut self, config: &Config, publisher: &Addr<Publisher>) -> Result<Next> {
        let (at_once, later) = (Next::changed(Duration::ZERO), Next::changed(RETRY));
        if let Err(Lost(from)) = self.under_way.settle().await {
            self.go_on_from(from);
            return Ok(later);
        }
        self.pace.begin(Instant::now());
        let since = Since::all(self.from.clone());
        let asked = self.probes.asked();
        let mut changed = std::mem::take(&mut self.turned_up);
        if changed.is_empty() {
            changed = self.recent.tables();
        }
        if changed.is_empty() {
            let look = look(&self.control, &since).await?;
            self.new_tables.note(look.made);
            match (look.trimmed, look.tables.is_empty()) {
                (true, _) => return self.start_anew().await,
                (false, true) if asked.is_none() && look.made == 0 => return self.rest(&look.now).await,
                (false, _) => changed = look.tables,
            }
        }
        // No delta is opened that could not be published: it would hold back vacuum on the primary.
        let told = tokio::time::timeout(READY_LIMIT, publisher.send(Ready)).await;
        let readiness = told.ok().and_then(Result::ok).unwrap_or(Readiness::Disconnected);
        self.show(readiness).await?;
        if readiness != Readiness::Ready {
            return Ok(later);
        }
        let cut = self.reader.cut(vec![since.clone()], &changed, true).await;
        if let Ok(Cut::Open(delta)) = &cut {
            self.new_tables.note(delta.made());
        }
        match cut {
            // What tells of tables alone is a batch, too: positions would stay before it until it is too old.
            Ok(Cut::Open(delta)) if delta.is_empty() && delta.made() == 0 && asked.is_none() => {
                let now = delta.to()?.clone();
                delta.end().await?;
                self.rest(&now).await
            }
            Ok(Cut::Open(delta)) if delta.altered().any(|altered| !self.is_looked_into(altered)) => {
                self.looked_into = delta.altered().map(|(table, times)| (table.id, *times)).collect();
                delta.end().await?;
                let altered: Vec<i32> = self.looked_into.keys().copied().collect();
                self.resolve(config, Suspects::These(&altered)).await?;
                Ok(at_once)
            }
            Ok(Cut::Open(delta)) => {
                let (to, changes) = (delta.to()?.clone(), delta.changes());
                self.recent.add(&delta.tables().map(|table| (table.id, table.definition)).collect());
                let again_from = self.under_way.start().unwrap_or(&self.from);
                let (control, epoch, from) = (&self.control, self.epoch.as_str(), &self.from);
                let named = cut::Named { control, epoch, from, again_from, since: self.since };
                match cut::publish(delta, named, self.limits, publisher).await? {
                    None => Ok(later),
                    Some((number, confirmed)) => {
                        let from = std::mem::replace(&mut self.from, to);
                        self.since = Some(self.pace.began());
                        self.under_way.add(number, from, confirmed);
                        self.batches.set(self.batches.get() + 1);
                        self.looked_into.clear();
                        self.new_tables.pass_on();
                        self.probes.answer(asked);
                        if asked.is_some() {
                            // Whoever asks often sees it nevertheless.
                            self.note_published().await?;
                        }
                        self.pass_on(changes).await
                    }
                }
            }
            Ok(Cut::Again(found)) => {
                if found.is_empty() {
                    // Who they are now a look tells.
                    self.recent.forget();
                }
                self.turned_up = found;
                Ok(at_once)
            }
            Ok(Cut::Trimmed) => self.start_anew().await,
            Err(error) if capture::was_locked(&error) => {
                // Perhaps by a table that did not change, and was only likely to.
                self.recent.forget();
                Ok(later)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether an altered table was looked into since it was altered last.
    fn is_looked_into(&self, (table, times): &(Rc<Table>, i64)) -> bool {
        self.looked_into.get(&table.id).is_some_and(|known| known >= times)
    }
}
