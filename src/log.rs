//! Log lines to standard error: JSON for machines, text for eyes, one line an event.
//!
//! Every event of ours carries a field `event`, a stable name that operators search for. Libraries
//! are silent whatever the level: lapin logs whole messages, and they hold rows.

use std::{any::Any, env, io, io::IsTerminal as _, panic};

use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, filter::filter_fn, fmt, fmt::MakeWriter, layer::SubscriberExt as _,
    reload, util::SubscriberInitExt as _,
};

pub use bars::{bar, row_bar};

use crate::config::{Format, Log};

mod bars;
mod line;
#[cfg(test)]
mod tests;

/// Changes the level while the program runs.
#[derive(Clone, Debug)]
pub struct Control(reload::Handle<EnvFilter, Registry>);

impl Control {
    /// Takes over `[log] level` of a configuration read anew; the format stays.
    ///
    /// # Errors
    /// What is wrong with the level; then the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        let filter = parse_level(level)?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Starts logging to standard error, panics too; called once, before anything is worth a line.
///
/// # Errors
/// When the level is wrong, or logging has been started already.
pub fn start(log: &Log) -> Result<Control, String> {
    let is_terminal = io::stderr().is_terminal();
    let format = log.format.unwrap_or(if is_terminal { Format::Text } else { Format::Json });
    let colours = is_terminal && env::var_os("NO_COLOR").is_none();
    let (subscriber, control) = subscriber(log, format, colours, || bars::Stderr)?;
    subscriber.try_init().map_err(|error| error.to_string())?;
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(event = "panicked", place, "a part of pgfanout panicked: {}", said(panic.payload()));
    }));
    Ok(control)
}

fn subscriber<W>(
    log: &Log,
    format: Format,
    colours: bool,
    writer: W,
) -> Result<(impl Subscriber, Control), String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse_level(&log.level)?);
    let lines = fmt::layer().event_format(line::Line { format }).with_ansi(colours).with_writer(writer);
    let lines = lines.with_filter(filter_fn(is_ours));
    Ok((tracing_subscriber::registry().with(filter).with(lines), Control(handle)))
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().split("::").next() == Some(env!("CARGO_PKG_NAME"))
}

/// What a panic said, without values: `expect` adds those of the error after a colon.
fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.and_then(|text| text.split(':').next()).unwrap_or("nothing")
}

/// Reads `[log] level`: a level, or directives such as `info,pgfanout::applier=debug`.
///
/// # Errors
/// What was found, what is expected.
pub fn parse_level(level: &str) -> Result<EnvFilter, String> {
    let remedy = "expected off, error, warn, info, debug or trace, or directives such as \"info,pgfanout::applier=debug\"";
    let directives: Vec<&str> = level.split(',').map(str::trim).collect();
    for directive in &directives {
        // A bare word that is no level would be taken for a module, and everything else be silent.
        let is_level = directive.parse::<LevelFilter>().is_ok() && directive.parse::<usize>().is_err();
        if directive.is_empty() || !(is_level || directive.contains(['=', '['])) {
            return Err(format!("found {level:?}, {remedy}"));
        }
    }
    EnvFilter::builder()
        .parse(directives.join(","))
        .map_err(|error| format!("found {level:?} ({error}), {remedy}"))
}
