//! The status again and again: a view that fills the terminal, or an object a line.

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{Status, probe, text::print};
use crate::{
    config::Config,
    error::{Error, Result},
};

/// How many looks the history goes back.
const LOOKS: usize = 30;

/// The heights of a bar, from the lowest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How long a commit took to the replicas at the last looks, or how far behind they were where that was not tried,
/// in seconds, by name; none where it was not known.
#[derive(Debug, Default)]
pub(super) struct History(BTreeMap<String, VecDeque<Option<f64>>>);

impl History {
    /// Adds a look.
    pub(super) fn note(&mut self, status: &Status) {
        for replica in &status.replicas {
            let looks = self.0.entry(replica.name.clone()).or_default();
            let behind = replica.behind.map(|behind| behind.seconds);
            looks.push_back(match replica.overdue {
                true => behind.map(|seconds| seconds.max(probe::LIMIT.as_secs_f64())),
                false => replica.delay_seconds.or(behind),
            });
            if looks.len() > LOOKS {
                looks.pop_front();
            }
        }
    }

    /// A bar for each look at a replica, the highest for the most that it was behind; a gap where it was not known.
    pub(super) fn bars(&self, replica: &str) -> String {
        let Some(looks) = self.0.get(replica) else { return String::new() };
        let most = looks.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
        let bar = |look: &Option<f64>| match look {
            // Who is behind at all is shown to be.
            Some(seconds) if *seconds > 0.0 => {
                let height = (seconds / most * (BARS.len() - 1) as f64).ceil();
                BARS.get(height as usize).copied().unwrap_or('█')
            }
            Some(_) => BARS[0],
            None => ' ',
        };
        looks.iter().map(bar).collect()
    }

    /// The most that a replica was behind.
    pub(super) fn most(&self, replica: &str) -> Option<f64> {
        self.0.get(replica)?.iter().flatten().copied().reduce(f64::max)
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
        history.note(&status);
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
