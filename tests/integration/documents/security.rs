//! The guide's table of threats names tests that there are.

use std::{collections::BTreeSet, fs};

use super::{sources, text};

/// The names of all tests: the functions behind an attribute that makes them one.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in ["src", "tests/integration"].into_iter().flat_map(sources) {
        let code = fs::read_to_string(file).unwrap();
        let mut is_test = false;
        for line in code.lines().map(str::trim) {
            if line.starts_with("#[") {
                is_test |= line == "#[test]" || line.ends_with("::test]");
                continue;
            }
            let function = line.trim_start_matches("async ").strip_prefix("fn ");
            if let Some((name, _)) = function.and_then(|rest| rest.split_once('(')).filter(|_| is_test) {
                found.insert(name.to_owned());
            }
            is_test = false;
        }
    }
    found
}

#[test]
fn every_threat_is_met_by_a_test_that_is_there() {
    let (tests, guide) = (tests(), text("src/guide/security.md"));
    assert!(tests.contains("every_threat_is_met_by_a_test_that_is_there"));
    let (_, table) = guide.split_once("| threat | what stops it | proved by |\n|---|---|---|\n").unwrap();
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 10, "{rows:#?}");
    for row in rows {
        let proof = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        assert!(tests.contains(proof.trim_matches('`')), "no test is called so: {row}");
    }
}
