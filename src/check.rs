//! A look at everything before it is needed: all that stands in the way of replicating, at once, each with
//! what removes it. Lasting changes are made nowhere: tables that a replica does not have are made there and given up
//! again, for ten seconds at the most, since what they are made of may be newer than its server.
//!
//! For people it is a line each, errors last. With `--json` it is one object in one line:
//!
//! ```json
//! {"fits": false, "findings": [{"level": "error", "place": "replica a", "subject": "privileges",
//!   "text": "the role may not set session_replication_role",
//!   "remedy": "GRANT SET ON PARAMETER session_replication_role TO app"}]}
//! ```
//!
//! `level` is `ok`, `warning` or `error`; `fits` is whether there is no error. `place` is `configuration`,
//! `primary`, `broker` or `replica NAME`. `remedy` is null, or a statement to be run at that place by one who
//! may, or a sentence. Keys may be added, and subjects; none will change its meaning.
//!
//! The broker is asked by its protocol for messages alone. So of policies there only those show that keep less than a
//! thousand messages. What a queue drops is caught up. Its `consumer_timeout` does not show: how to
//! ask for it is told, and the guide has [what is enough](crate::guide::three_machines#how-long-the-broker-waits). It does
//! no harm: a channel that it closes, since a replica was held up for so long, is opened again, and what was on it comes
//! again.

mod broker;
mod primary;
mod replica;
mod server;

use std::fmt::Write as _;

use futures_util::future::{join, join_all};
use serde::Serialize;

use crate::{
    config::{Config, Problems},
    prepare::problems,
};

/// Before the definitions of many tables are read one after the other: else each reads whole catalogs, which are the larger
/// the more tables there are.
const TABLE_BY_TABLE: &str = "SET enable_hashjoin = off; SET enable_mergejoin = off";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but there is a better way.
    Warning,
    /// It will not work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Where: `configuration`, `primary`, `broker` or `replica NAME`.
    pub place: String,
    /// What, in a word or two.
    pub subject: String,
    /// What was found.
    pub text: String,
    /// What to run there, or to do.
    pub remedy: Option<String>,
}

/// What is found at one place.
struct Findings {
    place: String,
    all: Vec<Finding>,
}

impl Findings {
    fn at(place: &str) -> Self {
        Self { place: place.to_owned(), all: Vec::new() }
    }

    fn add(&mut self, level: Level, subject: &str, text: impl Into<String>, remedy: Option<String>) {
        let text = text.into();
        // Errors name their place themselves.
        let text = text.strip_prefix(&format!("{}: ", self.place)).map(str::to_owned).unwrap_or(text);
        let (place, subject) = (self.place.clone(), subject.to_owned());
        self.all.push(Finding { level, place, subject, text, remedy });
    }

    fn ok(&mut self, subject: &str, text: impl Into<String>) {
        self.add(Level::Ok, subject, text, None);
    }

    fn warning(&mut self, subject: &str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Warning, subject, text, Some(remedy.into()));
    }

    fn error(&mut self, subject: &str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Error, subject, text, Some(remedy.into()));
    }
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether nothing is an error.
    pub fits: bool,
    /// By place.
    pub findings: Vec<Finding>,
}

/// Looks at everything. The problems that only the configuration can mend are returned beside the report
/// that holds them.
pub async fn check(config: &Config) -> (Report, Option<Problems>) {
    let (primary, wanted) = primary::check(config).await;
    let replicas = join_all(config.replicas.iter().map(|replica| replica::check(replica, &wanted)));
    let (replicas, broker) = join(replicas, broker::check(config)).await;
    let mut here = Findings::at("configuration");
    for warning in &config.warnings {
        here.add(Level::Warning, "file", warning, None);
    }
    let problems = match problems(config).await {
        Ok(problems) => problems,
        Err(error) => {
            here.add(Level::Error, "tables", error.chain(), None);
            Vec::new()
        }
    };
    for problem in &problems {
        here.add(Level::Error, "file", problem.to_string(), None);
    }
    let places = [here, primary].into_iter().chain(broker).chain(replicas);
    let findings: Vec<Finding> = places.flat_map(|findings| findings.all).collect();
    let fits = findings.iter().all(|finding| finding.level < Level::Error);
    (Report { fits, findings }, (!problems.is_empty()).then_some(Problems(problems)))
}

impl Report {
    /// One JSON object in one line.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// A line for each finding, and one for its remedy, the worst at the end, and one that sums up.
    #[must_use]
    pub fn text(&self) -> String {
        let mut sorted: Vec<&Finding> = self.findings.iter().collect();
        sorted.sort_by_key(|finding| finding.level);
        let mut out = String::new();
        for Finding { level, place, subject, text, remedy } in sorted {
            let word = match level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            let _ = writeln!(out, "{word:<8} {place}: {subject}: {text}");
            if let Some(remedy) = remedy {
                let _ = writeln!(out, "         remedy: {remedy}");
            }
        }
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        out += &match (count(Level::Error), count(Level::Warning)) {
            (0, 0) => "all is well".to_owned(),
            (0, warnings) => format!("it will work; warnings: {warnings}"),
            (errors, warnings) => format!("errors: {errors}, warnings: {warnings}"),
        };
        out
    }
}
