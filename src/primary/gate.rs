//! The gate that keeps NOTIFY out of busy times: a transaction that has notified commits under a lock of
//! the whole cluster, so only those notify that find the publisher asleep.
//!
//! A trigger writes first and reads the flag then. Before the publisher sleeps it sets the flag, and takes
//! the snapshot M. A transaction that read "awake" had its number before the flag was set, so it had ended
//! at M, or is in progress in M. Once all of those have ended and a look finds nothing, nothing can be
//! waiting that did not notify.
//!
//! While little is committed the flag stays set, and each commit notifies: the publisher, woken, cuts, and
//! whatever its delta did not see will notify. It clears the flag when it finds more each time it looks, and when those
//! that notify make others wait; it sets it again when a few looks find nothing, or little.

use super::look::present;
use crate::{error::Result, postgres::Session, snapshot::Snapshot};

/// Whether the flag says that the publisher sleeps, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// M: the first moment after the flag was set.
    asleep_since: Option<Snapshot>,
}

impl Gate {
    /// Whether transactions notify.
    #[must_use]
    pub const fn is_asleep(&self) -> bool {
        self.asleep_since.is_some()
    }

    /// Has transactions notify from now on.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn fall_asleep(&mut self, primary: &Session) -> Result<()> {
        set(primary, 1).await?;
        // A statement of its own: its snapshot must be later than the flag.
        self.asleep_since = Some(present(primary).await?);
        Ok(())
    }

    /// Has transactions notify no more.
    ///
    /// # Errors
    /// When the link breaks.
    pub async fn wake_up(&mut self, primary: &Session) -> Result<()> {
        self.asleep_since = None;
        set(primary, 0).await
    }

    /// Whether, if nothing was found at `now`, or all until then was passed on, whatever comes later will notify.
    #[must_use]
    pub fn may_wait(&self, now: &Snapshot) -> bool {
        self.asleep_since.as_ref().is_some_and(|since| {
            since.is_subset_of(now) && since.in_progress().iter().all(|&xid| now.contains(xid))
        })
    }
}

/// Without waiting for the disk: it works at once, and whoever comes after a crash sets it anew.
async fn set(primary: &Session, value: i64) -> Result<()> {
    let set = "SELECT set_config('synchronous_commit', 'off', true), setval('pgfanout.asleep', $1)";
    primary.execute("setting the flag", set, &[&value]).await.map(drop)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests;
