//! The status again and again: a view that fills the terminal, or an object a line.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    Status,
    text::{Paper, print},
};
use crate::{
    config::Config,
    error::{Error, Result},
};

/// The terminal's other screen, as long as it lives.
struct Screen;

impl Screen {
    fn enter() -> Self {
        let _ = io::stdout().write_all(b"\x1b[?1049h\x1b[?25l");
        Self
    }

    /// What is shown from now on; what was there is overwritten, so that nothing flickers. Where it has more lines than
    /// the terminal the last one is below the first ones: going to the next line does not move the others.
    fn show(text: &str) {
        let shown = format!("\x1b[H{}\x1b[K\x1b[J", text.replace('\n', "\x1b[K\x1b[E"));
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
    let screen = (io::stdout().is_terminal() && !json).then(Screen::enter);
    let mut follows = false;
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
        if json {
            if writeln!(io::stdout(), "{}", super::object(&status)).is_err() {
                return Ok(follows);
            }
            continue;
        }
        let text = print(&status, Paper::output());
        if screen.is_some() {
            Screen::show(&text);
        } else if writeln!(io::stdout(), "{text}\n").is_err() {
            return Ok(follows);
        }
    }
}
