//! The guide's table of log events is what the code says.

use std::{collections::BTreeSet, fs};

use super::{sources, text};

/// Its name, level and fields, sorted.
type Event = (String, String, Vec<String>);

/// Where an argument ends, or all of them: at this depth of brackets, and in no text.
fn end_of(code: &str, is_end: impl Fn(char, usize) -> bool) -> usize {
    let (mut depth, mut in_text, mut escaped) = (0, false, false);
    for (at, c) in code.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            _ if in_text => {}
            _ if is_end(c, depth) => return at,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The arguments of a macro, whose code begins behind its bracket.
fn arguments(code: &str) -> Vec<&str> {
    let mut rest = &code[..end_of(code, |c, depth| c == ')' && depth == 0)];
    let mut found = Vec::new();
    while !rest.trim().is_empty() {
        let end = end_of(rest, |c, depth| c == ',' && depth == 0);
        found.push(rest[..end].trim());
        rest = rest[end..].trim_start_matches(',');
    }
    found
}

/// The texts that stand between `before` and the next quote.
fn quoted_after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).map(|rest| rest.split('"').next().unwrap())
}

/// What the code of a file logs. An event whose name is passed on to the macro is one of those given to `say`.
fn logged(code: &str) -> Vec<Event> {
    let mut found = Vec::new();
    for call in code.split("tracing::").skip(1) {
        let Some((level, call)) = call.split_once("!(").filter(|(word, _)| word.len() <= 5) else { continue };
        let fields: Vec<(&str, &str)> = arguments(call)
            .into_iter()
            .take_while(|argument| !argument.starts_with('"'))
            .map(|argument| argument.split_once(" = ").unwrap_or((argument, "")))
            .collect();
        let names: Vec<&str> = match fields.iter().find(|(name, _)| *name == "event") {
            Some((_, "")) => quoted_after(code, ".say(\"").collect(),
            Some((_, name)) => vec![name.trim_matches('"')],
            None => panic!("an event without a name: {call:.200}"),
        };
        let mut fields: Vec<String> =
            fields.iter().map(|(name, _)| name.to_string()).filter(|name| name != "event").collect();
        fields.sort();
        found.extend(names.into_iter().map(|name| (name.to_owned(), level.to_owned(), fields.clone())));
    }
    found
}

fn logged_by_the_code() -> BTreeSet<Event> {
    let mut found = BTreeSet::new();
    for file in sources("src").into_iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = fs::read_to_string(&file).unwrap();
        found.extend(logged(text.split("#[cfg(test)]\nmod tests {").next().unwrap()));
    }
    found
}

/// What stands in backquotes, but not what is in brackets: those are values.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    let outside =
        cell.split('(').flat_map(|piece| piece.split_once(')').map_or(Some(piece), |(_, rest)| Some(rest)));
    outside.flat_map(|piece| piece.split('`').skip(1).step_by(2))
}

/// The rows of the guide's table.
fn told_by_the_guide() -> Vec<Event> {
    let guide = text("src/guide/log_events.md");
    let rows = guide.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let name = quoted(cells[0]).next().unwrap();
        let is_linked = cells[0].starts_with(&format!("<a id=\"{name}\"></a>"));
        assert!(is_linked || name == "status", "{row}");
        let mut fields: Vec<String> = quoted(cells[2]).map(str::to_owned).collect();
        fields.sort();
        (name.to_owned(), cells[1].to_owned(), fields)
    })
    .collect()
}

#[test]
fn the_guide_tells_every_event_with_its_level_and_fields_and_no_other() {
    let (told, logged) = (told_by_the_guide(), logged_by_the_code());
    assert!(logged.len() > 40, "{logged:#?}");
    let once: BTreeSet<Event> = told.iter().cloned().collect();
    let (missing, wrong): (Vec<_>, Vec<_>) =
        (logged.difference(&once).collect(), once.difference(&logged).collect());
    assert!(missing.is_empty() && wrong.is_empty(), "not told: {missing:#?}\ntold, but not so: {wrong:#?}");
    assert_eq!(once.len(), told.len(), "a row stands there twice");
}

#[test]
fn the_readme_names_the_events_that_need_somebody() {
    let readme = text("README.md");
    let (_, section) = readme.split_once("\n## Log events\n").unwrap();
    let (_, list) = section.split_once("Of level `error` are ").unwrap();
    let named: BTreeSet<String> = quoted(list.split('.').next().unwrap()).map(str::to_owned).collect();
    let alarming = logged_by_the_code().into_iter().filter(|(_, level, _)| level == "error");
    assert_eq!(named, alarming.map(|(name, ..)| name).collect());
}
