//! Progress bars on the terminal that the log goes to, below its lines.

use std::{
    fmt,
    io::{self, Write},
    sync::LazyLock,
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressFinish, ProgressState, ProgressStyle};

use crate::status::units::{count, duration};

/// All bars; none is drawn where standard error is no terminal.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A new bar, for so many bytes.
#[must_use]
pub fn bar(title: &str, bytes: u64) -> ProgressBar {
    add(title, bytes, style("{msg} {wide_bar} {percent}% {bytes_per_sec} {eta} left"))
}

/// A new bar, for about so many rows.
#[must_use]
pub fn row_bar(title: &str, rows: u64) -> ProgressBar {
    let style = style("{msg} {wide_bar} {human_pos} rows, {rate}/s, {rest} left");
    let style = style.with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = out.write_str(&count(rate(state).round() as i64));
    });
    let style = style.with_key("rest", |state: &ProgressState, out: &mut dyn fmt::Write| {
        let rest = state.len().unwrap_or_default().saturating_sub(state.pos());
        let _ = out.write_str(&duration(rest as f64 / rate(state).max(f64::MIN_POSITIVE)));
    });
    let bar = add(title, rows, style);
    // Who compares rests between its steps, where its pace is limited: the rate falls meanwhile.
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_secs(1));
    }
    bar
}

/// How many a second since it began.
fn rate(state: &ProgressState) -> f64 {
    state.pos() as f64 / state.elapsed().as_secs_f64().max(0.001)
}

fn style(form: &str) -> ProgressStyle {
    ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn add(title: &str, length: u64, style: ProgressStyle) -> ProgressBar {
    let bar = ProgressBar::new(length).with_finish(ProgressFinish::AndClear);
    BARS.add(bar).with_style(style).with_message(title.to_owned())
}

/// Standard error, with the bars out of the way while a line is written.
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
