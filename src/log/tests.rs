use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::*;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written while `work` runs.
fn logged(format: Format, level: &str, work: impl FnOnce(&Control)) -> String {
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let log = Log { format: Some(format), level: level.to_owned() };
    let (subscriber, control) =
        subscriber(&log, format, false, move || writer.clone()).expect("the level is well-formed");
    tracing::subscriber::with_default(subscriber, || work(&control));
    let bytes = buffer.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    String::from_utf8(bytes).expect("lines are UTF-8")
}

#[test]
fn a_json_line_is_flat_and_begins_with_what_is_always_there() {
    let line = logged(Format::Json, "info", |_| {
        tracing::info!(
            event = "batch_applied",
            rows = 3_u64,
            lag_ms = 1.5,
            first = true,
            replica = %"a\"b",
            "applied\nit"
        );
    });
    let mut value: Value = serde_json::from_str(&line).expect("a line is JSON");
    let timestamp = value["timestamp"].take();
    assert!(timestamp.as_str().is_some_and(|text| text.ends_with('Z')), "{timestamp}");
    let expected = json!({"timestamp": null, "level": "INFO", "event": "batch_applied", "message": "applied\nit",
        "rows": 3, "lag_ms": 1.5, "first": true, "replica": "a\"b"});
    assert_eq!(value, expected);
    assert!(
        line.contains(r#""level":"INFO","event":"batch_applied","message":"applied\nit","rows":3,"#),
        "{line}"
    );
    assert_eq!(line.matches('\n').count(), 1);
}

#[test]
fn a_text_line_is_one_line_and_has_no_control_characters() {
    let line = logged(Format::Text, "info", |_| {
        tracing::warn!(event = "halted", table = "public.t", detail = "two words\n", "can't\n\x1b[31m");
    });
    let (_, rest) = line.split_once(' ').expect("a timestamp stands first");
    assert_eq!(rest, " WARN halted: can't\\n\\u{1b}[31m table=public.t detail=\"two words\\n\"\n");
}

#[test]
fn a_long_value_is_cut() {
    let line = logged(Format::Json, "info", |_| tracing::info!(event = "x", detail = "ä".repeat(100_000)));
    assert!(line.len() < 5000, "{} bytes", line.len());
    assert!(line.contains('…'));
}

#[test]
fn libraries_are_silent_at_any_level() {
    let lines = logged(Format::Json, "trace,lapin=trace", |_| {
        tracing::warn!(target: "lapin::returned_messages", "payload");
        tracing::warn!(target: "pgfanoutish", "foreign");
        tracing::trace!(target: "pgfanout::applier", event = "ours");
    });
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains("ours"));
}

#[test]
fn the_level_can_be_changed_while_running() {
    let lines = logged(Format::Text, "info", |control| {
        tracing::debug!(event = "first");
        control.set_level("warn,pgfanout::log=debug").expect("the level is well-formed");
        tracing::debug!(event = "second");
        assert!(control.set_level("loud").is_err());
        tracing::debug!(event = "third");
    });
    assert!(!lines.contains("first"));
    assert!(lines.contains("second"));
    assert!(lines.contains("third"));
}

#[test]
fn a_wrong_level_is_refused_with_the_right_ones() {
    for level in ["", "loud", "5", "info,", "info,pgfanout::applier", "pgfanout=loud", "info,,debug"] {
        let why = parse_level(level).expect_err(level);
        assert!(why.starts_with(&format!("found {level:?}")) && why.contains("expected off, error"), "{why}");
    }
    for level in ["info", "WARN", "off", "info,pgfanout::applier=debug", " info , pgfanout::applier=debug"] {
        assert!(parse_level(level).is_ok(), "{level}");
    }
}

#[test]
fn a_panic_is_told_without_values() {
    let payload: Box<dyn Any + Send> = Box::new("a key is there: Error(\"secret row\")".to_owned());
    assert_eq!(said(payload.as_ref()), "a key is there");
    assert_eq!(said(&"plain"), "plain");
    assert_eq!(said(&5), "nothing");
}
