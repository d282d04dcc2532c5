//! Progress bars on the terminal that the log goes to, below its lines.

use std::{
    io::{self, Write},
    sync::LazyLock,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// All bars; none is drawn where standard error is no terminal.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A new bar, for so many bytes.
#[must_use]
pub fn bar(title: &str, bytes: u64) -> ProgressBar {
    add(title, bytes, "{msg} {wide_bar} {percent}% {bytes_per_sec} {eta} left")
}

/// A new bar, for about so many rows.
#[must_use]
pub fn row_bar(title: &str, rows: u64) -> ProgressBar {
    add(title, rows, "{msg} {wide_bar} {human_pos} rows, {per_sec}, {eta} left")
}

fn add(title: &str, length: u64, form: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
    BARS.add(ProgressBar::new(length)).with_style(style).with_message(title.to_owned())
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
