//! How one event becomes one line of bounded length.

use std::fmt::{self, Debug};

use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

use crate::config::Format;

/// A longer value is cut: an error of a server may quote a whole statement.
const MAX_VALUE_BYTES: usize = 4096;

/// Writes an event as JSON, flat, or as text.
pub(super) struct Line {
    pub(super) format: Format,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        match self.format {
            Format::Json => write_json(&mut out, *event.metadata().level(), &fields),
            Format::Text => write_text(&mut out, *event.metadata().level(), &fields),
        }
    }
}

fn write_json(out: &mut Writer<'_>, level: Level, fields: &Fields) -> fmt::Result {
    out.write_str("{\"timestamp\":\"")?;
    SystemTime.format_time(out)?;
    write!(out, "\",\"level\":\"{level}\"")?;
    write!(out, ",\"event\":{},\"message\":{}", json(&fields.event), json(&fields.message))?;
    for (name, value) in &fields.others {
        write!(out, ",{}:{value}", json(name))?;
    }
    out.write_str("}\n")
}

fn json(text: &str) -> Value {
    Value::from(text)
}

fn write_text(out: &mut Writer<'_>, level: Level, fields: &Fields) -> fmt::Result {
    SystemTime.format_time(out)?;
    let colour = match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        _ => "32",
    };
    if out.has_ansi_escapes() {
        write!(out, " \x1b[{colour}m{level:>5}\x1b[0m")?;
    } else {
        write!(out, " {level:>5}")?;
    }
    write!(out, " {}: ", fields.event)?;
    // A name from a database may hold a line break or an escape sequence.
    fields.message.chars().try_for_each(|c| match c {
        c if c.is_control() => write!(out, "{}", c.escape_default()),
        c => out.write_char(c),
    })?;
    for (name, value) in &fields.others {
        match value.as_str().filter(|text| is_plain(text)) {
            Some(text) => write!(out, " {name}={text}")?,
            None => write!(out, " {name}={value}")?,
        }
    }
    out.write_char('\n')
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"')
}

/// The fields of an event in the order they were given.
#[derive(Default)]
struct Fields {
    event: String,
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add_text(&mut self, field: &Field, text: &str) {
        let text = match text.char_indices().find(|(at, _)| *at >= MAX_VALUE_BYTES) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        };
        match field.name() {
            "event" => self.event = text,
            "message" => self.message = text,
            name => self.others.push((name, Value::from(text))),
        }
    }

    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.others.push((field.name(), value.into()));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add_text(field, &format!("{value:?}"));
    }
}
