//! From a file to a configuration, or to everything that is wrong with it.

use std::{env, fs, path::Path, time::Duration};

use super::{
    Config, Copy, Format, Log, Problems, Verify, broker,
    document::Document,
    environment::Environment,
    primary,
    problem::{Place, Problem},
    replica,
    section::Section,
};
use crate::log;

const FORMAT: [(&str, Format); 2] = [("json", Format::Json), ("text", Format::Text)];

pub(super) fn load(file: &Path) -> Result<Config, Problems> {
    let text = fs::read_to_string(file).map_err(|error| {
        let place = Place { file: file.to_owned(), line_column: None, key: String::new() };
        Problem::new(place, format!("cannot be read: {error}"))
    })?;
    read(file, &text, &|name| env::var(name).ok())
}

pub(super) fn read(file: &Path, text: &str, environment: Environment<'_>) -> Result<Config, Problems> {
    let document = Document::new(file, text, environment);
    read_document(&document).ok_or_else(|| {
        let mut problems = document.problems.take();
        problems.sort_by_key(Problem::order);
        Problems(problems)
    })
}

/// None when there are problems.
pub(super) fn read_document(document: &Document<'_>) -> Option<Config> {
    let parsed = document.parse()?;
    let root = Section::root(document, parsed.get_ref());
    let primary = primary::read(&root.section("primary"));
    let broker = root.optional_section("broker").map(|section| broker::read(&section));
    let replicas = root.sections("replica");
    if broker.is_none() && replicas.as_ref().is_some_and(Vec::is_empty) {
        document.refuse("replica", "is missing; add a section [[replica]] with its url, or a [broker]");
    }
    let replicas = replica::read(&replicas.unwrap_or_default(), primary.as_ref());
    let tables = root.sections("table").unwrap_or_default();
    let tables = primary::read_tables(&tables, primary.as_ref());
    let copy = copy(&root.section("copy"));
    let verify = verify(&root.section("verify"));
    let shutdown_grace = shutdown_grace(&root.section("process"));
    let log = log(&root.section("log"));
    root.finish();
    if !document.problems.borrow().is_empty() {
        return None;
    }
    Some(Config {
        primary: primary?,
        broker: broker.flatten(),
        replicas,
        tables,
        copy: copy?,
        verify,
        shutdown_grace,
        log,
        warnings: document.warnings.take(),
        file: document.file.to_owned(),
        places: document.places.take(),
    })
}

fn copy(section: &Section<'_>) -> Option<Copy> {
    let workers = section.integer("workers", 2, 1..=64);
    let chunk_bytes = section.integer("chunk_bytes", 8 << 20, 64 << 10..=1 << 30);
    section.finish();
    Some(Copy { workers: usize::try_from(workers).ok()?, chunk_bytes })
}

fn verify(section: &Section<'_>) -> Option<Verify> {
    let hours = section.integer("every_hours", 0, 0..=8760);
    let rate = section.integer("rows_per_second", 10_000, 1..=1_000_000_000);
    section.finish();
    (hours > 0).then(|| Verify { every: Duration::from_secs(hours * 3600), rate })
}

fn shutdown_grace(section: &Section<'_>) -> Duration {
    let seconds = section.integer("shutdown_grace_seconds", 20, 0..=86_400);
    section.finish();
    Duration::from_secs(seconds)
}

fn log(section: &Section<'_>) -> Log {
    let format = section.choice("format", &FORMAT);
    let level = section.text("level");
    section.finish();
    if let Some(level) = &level
        && let Err(why) = log::parse_level(&level.value)
    {
        section.document.refuse(&level.key, why);
    }
    Log { format, level: level.map_or_else(|| "info".to_owned(), |text| text.value) }
}
