//! `[primary]` and `[[table]]`.

use std::time::Duration;

use super::{
    OldRecord, Primary, TableOptions, postgres_url,
    section::{Section, Text},
};
use crate::pattern::Pattern;

const OLD_RECORD: [(&str, OldRecord); 2] = [("full", OldRecord::Full), ("key", OldRecord::Key)];

/// A century: more is a slip of the finger.
const MAX_HOURS: u64 = 876_000;

pub(super) fn read(section: &Section<'_>) -> Option<Primary> {
    let database = postgres_url::read(section, "primary");
    let remedy = "write patterns such as [\"public.*\"], or leave it out for all tables";
    let tables = section.filled_texts("tables", remedy);
    let exclude = section.texts("exclude").unwrap_or_default();
    let old_record = section.choice("old_record", &OLD_RECORD).unwrap_or(OldRecord::Full);
    let hours = section.integer("changelog_retention_hours", 168, 1..=MAX_HOURS);
    let changelog_max_bytes = section.integer("changelog_max_bytes", 10 << 30, 1 << 20..=1 << 60);
    let safety_poll = section.integer("safety_poll_seconds", 1, 1..=3600);
    section.finish();
    let tables = match tables {
        Some(tables) => patterns(section, &tables),
        None => vec![Pattern::parse("*.*").ok()?],
    };
    let exclude = patterns(section, &exclude);
    Some(Primary {
        database: database?,
        tables,
        exclude,
        old_record,
        changelog_retention_hours: u32::try_from(hours).ok()?,
        changelog_max_bytes,
        safety_poll: Duration::from_secs(safety_poll),
    })
}

fn patterns(section: &Section<'_>, texts: &[Text]) -> Vec<Pattern> {
    texts.iter().filter_map(|text| pattern(section, text)).collect()
}

fn pattern(section: &Section<'_>, text: &Text) -> Option<Pattern> {
    let parsed = Pattern::parse(&text.value);
    parsed.map_err(|why| section.document.refuse(&text.key, format!("{:?} {why}", text.value))).ok()
}

/// All `[[table]]` sections; what they leave out is as in `[primary]`.
pub(super) fn read_tables(sections: &[Section<'_>], primary: Option<&Primary>) -> Vec<TableOptions> {
    let mut tables: Vec<TableOptions> = Vec::new();
    for section in sections {
        let Some(table) = table(section, primary) else { continue };
        if tables.iter().any(|other| other.name.is_same_as(&table.name)) {
            let text = format!("{} has a [[table]] section already, expected one; join them", table.name);
            section.document.refuse(&section.path("name"), text);
        }
        tables.push(table);
    }
    tables
}

fn table(section: &Section<'_>, primary: Option<&Primary>) -> Option<TableOptions> {
    let text = section.required_text("name", "write the table's name, such as \"public.users\"");
    let old_record = section.choice("old_record", &OLD_RECORD);
    section.finish();
    let text = text?;
    let name = pattern(section, &text)?;
    if !name.is_exact() {
        let why = format!("{:?} has a wildcard, expected the name of one table", text.value);
        section.document.refuse(&text.key, why);
    }
    let default = primary.map_or(OldRecord::Full, |primary| primary.old_record);
    Some(TableOptions { name, old_record: old_record.unwrap_or(default) })
}
