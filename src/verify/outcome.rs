//! What came of comparing, for eyes and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::status::{text::plain, units::count};

/// All that was compared.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Whether every row was proved to be right, or was changing.
    pub(super) right: bool,
    /// In the order of the configuration.
    pub(super) replicas: Vec<ReplicaOutcome>,
}

/// One replica.
#[derive(Debug, Serialize)]
pub(super) struct ReplicaOutcome {
    pub(super) name: String,
    /// Why its tables were not compared, or not all of them; null if they were.
    pub(super) not_compared: Option<String>,
    pub(super) tables: Vec<TableOutcome>,
}

/// One table of a replica.
#[derive(Debug, Default, Serialize)]
pub(super) struct TableOutcome {
    /// Its name, quoted where needed.
    pub(super) table: String,
    /// Why it was not compared, or not to its end; null if it was.
    pub(super) not_compared: Option<String>,
    /// The primary's rows.
    pub(super) rows: u64,
    /// Rows that the replica lacks.
    pub(super) missing: u64,
    /// Rows that only the replica has.
    pub(super) extra: u64,
    /// Rows of the same key that differ.
    pub(super) different: u64,
    /// Of these, how many were written anew and are equal now.
    pub(super) repaired: u64,
    /// Rows that had changed at every look.
    pub(super) changing: u64,
    /// Rows that changed, and the replica does not move on.
    pub(super) waiting: u64,
    /// Rows that PostgreSQL can't print: only that they are there was compared.
    pub(super) too_large: u64,
    /// The first differences.
    pub(super) differences: Vec<Difference>,
}

/// A row that is wrong.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Difference {
    /// What is wrong on the replica.
    pub(super) kind: Kind,
    /// The text of a row of the key's columns.
    pub(super) key: String,
    /// The primary's row, where values are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) primary: Option<String>,
    /// The replica's row, where values are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replica: Option<String>,
}

/// How a row is wrong on a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Missing,
    Extra,
    Different,
}

impl ReplicaOutcome {
    pub(super) fn is_right(&self) -> bool {
        self.not_compared.is_none() && self.tables.iter().all(TableOutcome::is_right)
    }
}

impl TableOutcome {
    /// Whether every row is proved, or changing.
    pub(super) fn is_right(&self) -> bool {
        self.wrong() == 0 && self.unproved().is_none()
    }

    /// How many rows differ still.
    pub(super) fn wrong(&self) -> u64 {
        (self.missing + self.extra + self.different).saturating_sub(self.repaired)
    }

    /// Why rows were not proved to be right or wrong, unless all were.
    pub(super) fn unproved(&self) -> Option<String> {
        match (&self.not_compared, self.waiting, self.too_large) {
            (Some(why), ..) => Some(why.clone()),
            (None, 0, 0) => None,
            (None, 0, rows) => Some(format!("{} rows are too large to be compared", count(rows))),
            (None, rows, _) => Some(format!("{} rows wait for the replica to move on", count(rows))),
        }
    }

    /// Counts a difference, and keeps it if there is room.
    pub(super) fn note(&mut self, difference: Difference, room: usize) {
        match difference.kind {
            Kind::Missing => self.missing += 1,
            Kind::Extra => self.extra += 1,
            Kind::Different => self.different += 1,
        }
        if self.differences.len() < room {
            self.differences.push(difference);
        }
    }

    /// A line, and one for each difference that is kept.
    pub(super) fn text(&self) -> String {
        let mut text = format!("  {}: ", plain(&self.table));
        let mut parts = Vec::new();
        for (number, what) in [
            (self.missing, "missing"),
            (self.extra, "extra"),
            (self.different, "different"),
            (self.repaired, "repaired"),
            (self.changing, "changed at every look"),
            (self.waiting, "wait for the replica to move on"),
            (self.too_large, "too large to be compared"),
        ] {
            if number > 0 {
                parts.push(format!("{} {what}", count(number)));
            }
        }
        if self.missing + self.extra + self.different == 0 && self.not_compared.is_none() {
            parts.insert(0, "equal".to_owned());
        }
        parts.extend(self.not_compared.iter().map(|why| format!("not compared: {}", plain(why))));
        let _ = writeln!(text, "{} rows, {}", count(self.rows), parts.join(", "));
        for Difference { kind, key, primary, replica } in &self.differences {
            let word = match kind {
                Kind::Missing => "missing",
                Kind::Extra => "extra",
                Kind::Different => "different",
            };
            let _ = writeln!(text, "    {word} {}", plain(key));
            for (side, row) in [("primary", primary), ("replica", replica)] {
                if let Some(row) = row {
                    let _ = writeln!(text, "      {side} {}", plain(row));
                }
            }
        }
        let untold =
            (self.missing + self.extra + self.different).saturating_sub(self.differences.len() as u64);
        if untold > 0 {
            let _ = writeln!(text, "    and {} more", count(untold));
        }
        text
    }
}
