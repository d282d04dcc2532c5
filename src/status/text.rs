//! The status for eyes.

use std::{
    env,
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use console::Term;

use super::{
    Behind, Copy, Phase, Primary, PrimaryState, Publisher, Queue, QueueState, Replica, State, Status,
    Verified, Wrong,
    broker::{Broker, BrokerState},
    probe,
    recent::Recent,
    units::{bytes, count, duration},
};
use crate::verify::schedule::to_see;

/// A longer snapshot is cut: it lists every transaction in progress.
const MAX_SNAPSHOT: usize = 40;

const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";

/// A piece of text in a row, and the terminal's number for its colour.
struct Cell(String, Option<&'static str>);

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self(text.into(), None)
    }
}

/// What the text is printed on.
#[derive(Clone, Copy, Default)]
pub(super) struct Paper {
    pub(super) colours: bool,
    /// How many characters a line may have.
    pub(super) width: Option<usize>,
}

impl Paper {
    /// Standard output, as it is now: a terminal has colours, unless they are not wanted, and a width.
    pub(super) fn output() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let colours = is_terminal && env::var_os("NO_COLOR").is_none();
        let width = is_terminal.then(|| Term::stdout().size_checked()).flatten();
        Self { colours, width: width.map(|(_, columns)| usize::from(columns)) }
    }
}

/// What a narrow terminal goes without, the first of them first.
const OPTIONAL: [&str; 3] = ["position", "in the last 15 min", "applies"];

/// Without a line end at its end.
pub(super) fn print(status: &Status, paper: Paper) -> String {
    let mut out = Out { text: String::new(), colours: paper.colours };
    out.rows(&sources(status));
    out.remarks(status.primary.reason.iter().map(|reason| ("publisher", &**reason)));
    out.remarks(status.primary.broken_tables.iter().map(|broken| (&*broken.table, &*broken.reason)));
    out.rows(&fitting(replicas(&status.replicas), paper.width));
    let reasons: Vec<(&str, String)> = status.replicas.iter().flat_map(reasons).collect();
    out.remarks(reasons.iter().map(|(name, reason)| (*name, &**reason)));
    out.rows(&copies(&status.replicas));
    out.text.truncate(out.text.trim_end().len());
    out.text
}

/// What there is to say of a replica, with its name.
fn reasons(replica: &Replica) -> impl Iterator<Item = (&str, String)> {
    let isolated = replica.isolated.iter().map(|one| {
        format!("table {} is set aside since {}: {}", one.table, duration(one.seconds_ago), one.cause)
    });
    let wrong =
        replica.verified.iter().flat_map(|verified| &verified.wrong).map(|table| wrong(replica, table));
    replica.reason.clone().into_iter().chain(isolated).chain(wrong).map(|reason| (&*replica.name, reason))
}

/// What verifying found in a table.
fn wrong(replica: &Replica, Wrong { table, differences, unproved, seconds_ago }: &Wrong) -> String {
    let found = match unproved {
        Some(why) if *differences == 0 => format!("not all rows could be compared: {why}"),
        _ => format!("{} rows differ; {}", count(*differences), to_see(&replica.name, table)),
    };
    format!("table {table} was verified {} ago: {found}", duration(*seconds_ago))
}

/// When the replica was verified, and whether that found nothing.
fn verified(Verified { right, seconds_ago, .. }: &Verified) -> Cell {
    match right {
        true => Cell(format!("right {} ago", duration(*seconds_ago)), None),
        false => Cell("wrong".to_owned(), Some(RED)),
    }
}

fn sources(status: &Status) -> Vec<Vec<Cell>> {
    let does = primary(&status.primary).into();
    let mut rows = vec![vec!["primary".into(), primary_state(&status.primary), does]];
    if let Some(Broker { state, error, rejected }) = &status.broker {
        let state = match state {
            BrokerState::Reachable => Cell("reachable".to_owned(), Some(GREEN)),
            BrokerState::Unreachable => Cell("unreachable".to_owned(), Some(RED)),
        };
        let rejected = rejected.filter(|count| *count > 0);
        let rejected = rejected.map(|messages| format!("{} messages refused or dropped", count(messages)));
        rows.push(vec!["broker".into(), state, error.clone().or(rejected).unwrap_or_default().into()]);
    }
    rows
}

fn primary_state(primary: &Primary) -> Cell {
    let (word, colour) = match primary.state {
        PrimaryState::Reachable => ("reachable", GREEN),
        PrimaryState::NotInstalled => ("not installed", RED),
        PrimaryState::Unreachable => ("unreachable", RED),
    };
    Cell(word.to_owned(), Some(colour))
}

fn primary(primary: &Primary) -> String {
    let mut said: Vec<String> = primary.error.iter().cloned().collect();
    said.extend(primary.publisher.map(|publisher| {
        let does = match publisher {
            Publisher::Publishing => "at work",
            Publisher::Waiting => "waiting for changes",
            Publisher::Blocked => "held up by the broker",
            Publisher::Disconnected => "without the broker",
            Publisher::Down => "down",
        };
        format!("publisher {does}")
    }));
    said.extend(primary.tables.map(|tables| format!("{} tables captured", count(tables as u64))));
    let rate = primary.changelog.and_then(|changelog| changelog.logged_per_second);
    said.extend(rate.map(|rate| format!("{} changes/s", decimal(rate))));
    said.extend(primary.changelog.map(|changelog| {
        let (entries, size) = (count(changelog.entries), bytes(changelog.bytes as f64));
        format!("changelog about {entries} entries in {size}")
    }));
    said.extend(primary.last_batch.as_ref().map(|batch| {
        let unconfirmed = if batch.published { "" } else { " (not known to be published)" };
        format!("last batch {}, {} ago{unconfirmed}", batch.number, duration(batch.seconds_ago))
    }));
    said.join(", ")
}

fn replicas(replicas: &[Replica]) -> Vec<Vec<Cell>> {
    let heading = ["replica", "state", "delay", "in the last 15 min", "applies", "behind", "queue"];
    let mut heading = Vec::from(heading.map(Cell::from));
    let is_verified = replicas.iter().any(|replica| replica.verified.is_some());
    if is_verified {
        heading.push("verified".into());
    }
    heading.push("position".into());
    let row = |replica: &Replica| {
        let colour = match replica.state {
            State::Following => GREEN,
            State::CatchingUp | State::Copying | State::Paused => YELLOW,
            State::Isolating | State::Halted | State::Unreachable => RED,
        };
        let mut cells = vec![
            replica.name.clone().into(),
            Cell(replica.state.word().to_owned(), Some(colour)),
            delay(replica).into(),
            known(replica.recent.as_ref().map(delays)).into(),
            known(replica.recent.as_ref().map(|recent| format!("{}/s", decimal(recent.applied_per_second))))
                .into(),
            replica.behind.map_or_else(|| "-".to_owned(), behind).into(),
            replica.queue.as_ref().map_or_else(|| "-".to_owned(), queue).into(),
        ];
        if is_verified {
            cells.push(replica.verified.as_ref().map_or_else(|| "-".into(), verified));
        }
        cells.push(position(replica).into());
        cells
    };
    std::iter::once(heading).chain(replicas.iter().map(row)).collect()
}

fn delays(recent: &Recent) -> String {
    let most = recent.most().filter(|seconds| *seconds > 0.0);
    let most = most.map(|seconds| format!(" up to {}", duration(seconds)));
    recent.bars() + &most.unwrap_or_default()
}

/// A rate: with a decimal where it is small.
fn decimal(rate: f64) -> String {
    if (0.05..10.0).contains(&rate) { format!("{rate:.1}") } else { count(rate.round() as i64) }
}

fn delay(replica: &Replica) -> String {
    match replica.overdue {
        true => format!("over {}", duration(probe::LIMIT.as_secs_f64())),
        false => known(replica.delay_seconds.map(duration)),
    }
}

fn behind(behind: Behind) -> String {
    if behind.changes == 0 {
        return "nothing".to_owned();
    }
    let least = if behind.at_least { "at least " } else { "" };
    let (changes, size) = (count(behind.changes), bytes(behind.bytes as f64));
    format!("{least}{changes} changes, {size}, {}", duration(behind.seconds))
}

fn queue(queue: &Queue) -> String {
    match (queue.state, queue.messages) {
        (QueueState::Present, Some(messages)) => count(messages),
        (QueueState::Missing, _) => "missing".to_owned(),
        _ => "unreachable".to_owned(),
    }
}

fn position(replica: &Replica) -> String {
    let Some(position) = &replica.position else { return "-".to_owned() };
    let mut text: String = position.snapshot.chars().take(MAX_SNAPSHOT).collect();
    if text.len() < position.snapshot.len() {
        text.push('…');
    }
    let _ = write!(text, " (batch {})", position.batch);
    text
}

/// One line for each copy that is under way, and one for those of a replica that wait.
fn copies(replicas: &[Replica]) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for replica in replicas {
        let is_waiting = |copy: &&Copy| copy.phase == Phase::Waiting;
        let begun = replica.copies.iter().filter(|copy| !is_waiting(copy));
        rows.extend(begun.map(|copy| copy_row(&replica.name, copy)));
        let waiting = replica.copies.iter().filter(is_waiting).count();
        if waiting > 0 {
            rows.push(vec![
                replica.name.clone().into(),
                format!("{} tables wait", count(waiting as u64)).into(),
            ]);
        }
    }
    if !rows.is_empty() {
        rows.insert(
            0,
            ["replica", "copy of", "done", "rows", "bytes", "rate", "left"].map(Cell::from).into(),
        );
    }
    rows
}

fn copy_row(replica: &str, copy: &Copy) -> Vec<Cell> {
    let done = match copy.phase {
        Phase::Completing => "completing".to_owned(),
        Phase::Joining => "joining".to_owned(),
        Phase::Waiting | Phase::Rows => known(copy.percent.map(|percent| format!("{percent:.1} %"))),
    };
    let rows_expected = (copy.rows_expected > 0).then(|| format!(" of {}", count(copy.rows_expected)));
    let rows = count(copy.rows) + &rows_expected.unwrap_or_default();
    let rate = copy.bytes_per_second.map(|rate| format!("{}/s", bytes(rate)));
    vec![
        replica.into(),
        copy.table.as_str().into(),
        done.into(),
        rows.into(),
        format!("{} of {}", bytes(copy.bytes as f64), bytes(copy.bytes_expected as f64)).into(),
        known(rate).into(),
        known(copy.seconds_left.map(duration)).into(),
    ]
}

fn known(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// How wide each column is.
fn widths(rows: &[Vec<Cell>]) -> Vec<usize> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, Cell(text, _)) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    widths
}

/// The rows below their heading, without as many of the optional columns as are too much for the width.
fn fitting(mut rows: Vec<Vec<Cell>>, width: Option<usize>) -> Vec<Vec<Cell>> {
    let is_too_wide = |rows: &[Vec<Cell>]| {
        let widths = widths(rows);
        width.is_some_and(|width| widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1) > width)
    };
    for name in OPTIONAL {
        let place = rows.first().and_then(|heading| heading.iter().position(|Cell(text, _)| text == name));
        if let Some(place) = place.filter(|_| is_too_wide(&rows)) {
            for row in &mut rows {
                row.remove(place);
            }
        }
    }
    rows
}

struct Out {
    text: String,
    colours: bool,
}

impl Out {
    /// Rows with aligned columns, and an empty line.
    fn rows(&mut self, rows: &[Vec<Cell>]) {
        let widths = widths(rows);
        for row in rows {
            let mut line = String::new();
            for (Cell(text, colour), width) in row.iter().zip(&widths) {
                let padding = width - text.chars().count();
                let text = plain(text);
                match colour.filter(|_| self.colours) {
                    Some(colour) => _ = write!(line, "\x1b[{colour}m{text}\x1b[0m"),
                    None => line.push_str(&text),
                }
                line.extend(std::iter::repeat_n(' ', padding + 2));
            }
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
        if !rows.is_empty() {
            self.text.push('\n');
        }
    }

    /// A sentence on something, a line each, right below the rows before.
    fn remarks<'a>(&mut self, remarks: impl Iterator<Item = (&'a str, &'a str)>) {
        for (n, (subject, remark)) in remarks.enumerate() {
            if n == 0 && self.text.ends_with("\n\n") {
                self.text.pop();
            }
            let _ = writeln!(self.text, "  {}: {}", plain(subject), plain(remark));
        }
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }
}

/// Names of tables and texts of servers may hold what a terminal obeys.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
