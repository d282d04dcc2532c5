//! The status again and again: a view that fills the terminal, or an object a line.

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};

use super::{Status, probe, text::print};
use crate::{
    config::Config,
    error::{Error, Result},
};

/// How many bars the history has, and how many looks each stands for: some minutes at the usual pace.
const MOST_BARS: usize = 30;
const LOOKS_PER_BAR: usize = 6;

/// Over how many looks rates are taken: the server's statistics lag by a second.
const RATE_LOOKS: usize = 10;

/// The heights of a bar, from the lowest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What was seen before.
#[derive(Debug, Default)]
pub(super) struct History {
    looks: usize,
    /// How long a commit took to the replicas, or how far behind they were where that was not tried, in seconds, by name:
    /// the most of the looks of a bar; none where it was not known.
    bars: BTreeMap<String, VecDeque<Option<f64>>>,
    /// How many changes were logged on the primary, and applied by each replica, at the last looks.
    changes: BTreeMap<Option<String>, VecDeque<(Instant, i64)>>,
}

impl History {
    /// Adds a look.
    pub(super) fn note(&mut self, status: &Status, now: Instant) {
        let logged = status.primary.changelog.map(|changelog| changelog.logged);
        self.count(None, logged, now);
        for replica in &status.replicas {
            let behind = replica.behind.map(|behind| behind.seconds);
            let look = match replica.overdue {
                true => behind.map(|seconds| seconds.max(probe::LIMIT.as_secs_f64())),
                false => replica.delay_seconds.or(behind),
            };
            let bars = self.bars.entry(replica.name.clone()).or_default();
            match bars.back_mut().filter(|_| !self.looks.is_multiple_of(LOOKS_PER_BAR)) {
                Some(bar) => *bar = bar.map_or(look, |most| Some(most.max(look.unwrap_or(most)))),
                None => bars.push_back(look),
            }
            if bars.len() > MOST_BARS {
                bars.pop_front();
            }
            let behind = replica.behind.filter(|behind| !behind.at_least && !behind.trimmed);
            let applied = logged.zip(behind).map(|(logged, behind)| logged - behind.changes);
            self.count(Some(replica.name.clone()), applied, now);
        }
        self.looks += 1;
    }

    fn count(&mut self, place: Option<String>, changes: Option<i64>, now: Instant) {
        let counts = self.changes.entry(place).or_default();
        match changes {
            Some(changes) => counts.push_back((now, changes)),
            None => counts.clear(),
        }
        if counts.len() > RATE_LOOKS {
            counts.pop_front();
        }
    }

    /// How many changes a second were logged on the primary, or applied by a replica, at the last looks.
    pub(super) fn rate(&self, replica: Option<&str>) -> Option<f64> {
        let counts = self.changes.get(&replica.map(str::to_owned))?;
        let ((from, before), (to, after)) = (counts.front()?, counts.back()?);
        let seconds = to.duration_since(*from).as_secs_f64();
        (seconds > 0.0).then(|| ((after - before) as f64 / seconds).max(0.0))
    }

    /// A bar for some looks at a replica, the highest for the most that it was behind; a gap where it was not known.
    pub(super) fn bars(&self, replica: &str) -> String {
        let Some(bars) = self.bars.get(replica) else { return String::new() };
        let most = bars.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
        let bar = |look: &Option<f64>| match look {
            // Who is behind at all is shown to be.
            Some(seconds) if *seconds > 0.0 => {
                let height = (seconds / most * (BARS.len() - 1) as f64).ceil();
                BARS.get(height as usize).copied().unwrap_or('█')
            }
            Some(_) => BARS[0],
            None => ' ',
        };
        bars.iter().map(bar).collect()
    }

    /// The most that a replica was behind.
    pub(super) fn most(&self, replica: &str) -> Option<f64> {
        self.bars.get(replica)?.iter().flatten().copied().reduce(f64::max)
    }
}

/// The terminal's other screen, as long as it lives.
struct Screen;

impl Screen {
    fn enter() -> Self {
        let _ = io::stdout().write_all(b"\x1b[?1049h\x1b[?25l");
        Self
    }

    /// What is shown from now on; what was there is overwritten, so that nothing flickers.
    fn show(text: &str) {
        let shown = format!("\x1b[H{}\x1b[K\x1b[J", text.replace('\n', "\x1b[K\n"));
        let mut out = io::stdout();
        let _ = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let _ = out.write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| out.flush());
    }
}

/// Shows it until told to end, or until nobody reads any more. Returns whether every replica followed at the last look.
///
/// # Errors
/// When signals cannot be waited for.
pub async fn watch(config: &Config, json: bool, interval: Duration) -> Result<bool> {
    let waiting = |error| Error::Unfit(format!("waiting for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(waiting)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(waiting)?;
    let is_terminal = io::stdout().is_terminal();
    let colours = is_terminal && env::var_os("NO_COLOR").is_none();
    let screen = (is_terminal && !json).then(Screen::enter);
    let (mut history, mut follows) = (History::default(), false);
    let mut pace = tokio::time::interval(interval);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let looking = async {
            pace.tick().await;
            Status::read(config).await
        };
        let status = tokio::select! {
            status = looking => status,
            _ = terminate.recv() => return Ok(follows),
            _ = interrupt.recv() => return Ok(follows),
        };
        follows = status.follows;
        history.note(&status, Instant::now());
        if json {
            if writeln!(io::stdout(), "{}", super::object(&status)).is_err() {
                return Ok(follows);
            }
            continue;
        }
        let text = print(&status, colours, Some(&history));
        if screen.is_some() {
            Screen::show(&text);
        } else if writeln!(io::stdout(), "{text}\n").is_err() {
            return Ok(follows);
        }
    }
}
