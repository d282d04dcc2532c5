//! The tables that are likely to have changed again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::primary::look::Changed;

/// How long a table counts as one.
const RECENT: Duration = Duration::from_secs(10);

/// How many are locked on suspicion.
const MOST: usize = 32;

/// Tables, their definitions and when they changed last.
#[derive(Debug, Default)]
pub(super) struct Recent(BTreeMap<i32, (i64, Instant)>);

impl Recent {
    /// Those that are likely to have changed.
    pub(super) fn tables(&mut self) -> Changed {
        self.0.retain(|_, (_, at)| at.elapsed() < RECENT);
        if self.0.len() > MOST {
            self.0.clear();
        }
        self.0.iter().map(|(&id, &(definition, _))| (id, definition)).collect()
    }

    /// These changed.
    pub(super) fn add(&mut self, tables: &Changed) {
        let now = Instant::now();
        self.0.extend(tables.iter().map(|(&id, &definition)| (id, (definition, now))));
    }

    /// Nothing is likely: one of them is locked, or altered.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}
