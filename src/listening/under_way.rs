//! Batches that were handed to the broker, which has not told yet that it has them: the next one is cut meanwhile.

use std::{collections::VecDeque, time::Instant};

use crate::{broker::Confirmed, snapshot::Snapshot};

/// How many there may be: more only wait for one another.
const MOST: usize = 8;

/// Them, oldest first.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    batches: VecDeque<Handed>,
    /// The last one that the broker has, as it has all before it, if that is not noted yet on the primary; and when it
    /// was handed over.
    unnoted: Option<(i64, Instant)>,
}

/// One batch.
#[derive(Debug)]
struct Handed {
    number: i64,
    from: Snapshot,
    at: Instant,
    confirmed: Confirmed,
}

/// The broker may not have all of a batch that started here: what came since is cut anew.
#[derive(Debug)]
pub(super) struct Lost(pub(super) Snapshot);

impl UnderWay {
    /// Where batches go on if all of these are lost; nothing if there are none.
    pub(super) fn start(&self) -> Option<&Snapshot> {
        self.batches.front().map(|batch| &batch.from)
    }

    /// One more.
    pub(super) fn add(&mut self, number: i64, from: Snapshot, confirmed: Confirmed) {
        self.batches.push_back(Handed { number, from, at: Instant::now(), confirmed });
    }

    /// Takes note of what the broker has told, and waits for more only if they are too many.
    ///
    /// # Errors
    /// Where the first one started that is lost; all are forgotten then.
    pub(super) async fn settle(&mut self) -> Result<(), Lost> {
        while let Some(mut first) = self.batches.pop_front() {
            let told = match first.confirmed.known() {
                None if self.batches.len() < MOST - 1 => {
                    self.batches.push_front(first);
                    return Ok(());
                }
                told => told,
            };
            self.take(first, told).await?;
        }
        Ok(())
    }

    /// Waits until the broker has told of all.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub(super) async fn settle_all(&mut self) -> Result<(), Lost> {
        while let Some(mut first) = self.batches.pop_front() {
            let told = first.confirmed.known();
            self.take(first, told).await?;
        }
        Ok(())
    }

    async fn take(&mut self, batch: Handed, told: Option<bool>) -> Result<(), Lost> {
        let Handed { number, from, at, confirmed } = batch;
        let has = match told {
            Some(has) => has,
            None => confirmed.wait().await,
        };
        if !has {
            self.batches.clear();
            return Err(Lost(from));
        }
        self.unnoted = Some((number, at));
        Ok(())
    }

    /// Forgets all: none of them matters any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Since when it is to be noted that the last batch is published, as far as is known.
    pub(super) fn unnoted_since(&self) -> Option<Instant> {
        self.unnoted.filter(|_| self.batches.is_empty()).map(|(_, at)| at)
    }

    /// Whether something is to be noted, now or once the broker has told.
    pub(super) fn is_to_note(&self) -> bool {
        self.unnoted.is_some() || !self.batches.is_empty()
    }

    /// The number of the batch that is to be noted as published.
    pub(super) fn take_unnoted(&mut self) -> Option<i64> {
        self.unnoted.take().map(|(number, _)| number)
    }
}
