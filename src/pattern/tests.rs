use proptest::prelude::*;

use super::*;
use crate::postgres::quote_identifier;

fn pattern(source: &str) -> Pattern {
    Pattern::parse(source).unwrap_or_else(|error| unreachable!("{source}: {error}"))
}

#[test]
fn names_without_a_schema_are_in_public() {
    assert!(pattern("users").matches("public", "users"));
    assert!(!pattern("users").matches("sales", "users"));
    assert!(pattern("*").matches("public", "anything"));
    assert!(!pattern("*").matches("sales", "anything"));
}

#[test]
fn wildcards_stand_for_any_characters() {
    assert!(pattern("*.*").matches("Any Schema", "any.table"));
    assert!(pattern("sales.order*").matches("sales", "orders"));
    assert!(pattern("sales.order*").matches("sales", "order"));
    assert!(pattern("sales.*_20??").matches("sales", "log_x_2024"));
    assert!(!pattern("sales.*_20??").matches("sales", "log_x_202"));
    assert!(pattern("s*.a*b*c").matches("sales", "a1bb2bc"));
    assert!(!pattern("s*.a*b*c").matches("sales", "a1bb2bcd"));
}

#[test]
fn letters_are_folded_only_outside_quotes() {
    assert!(pattern("Public.USERS").matches("public", "users"));
    assert!(pattern(r#""Weird Name""#).matches("public", "Weird Name"));
    assert!(!pattern(r#""Weird Name""#).matches("public", "weird name"));
    assert!(pattern(r#""a.b"."c""d""#).matches("a.b", "c\"d"));
    assert!(pattern(r#"x."*""#).matches("x", "*"));
    assert!(!pattern(r#"x."*""#).matches("x", "y"));
    assert!(pattern(r#""Log ".T?"#).matches("Log ", "t1"));
    assert!(pattern(r#""Log "*"#).matches("public", "Log 2024"));
    assert!(pattern("Größe").matches("public", "größe"));
}

#[test]
fn only_names_are_exact() {
    assert!(pattern("public.users").is_exact());
    assert!(pattern(r#"public."a*?""#).is_exact());
    assert!(!pattern("public.user?").is_exact());
    assert!(!pattern("*.users").is_exact());
}

#[test]
fn what_is_no_pattern_says_why() {
    let refused = |source: &str| Pattern::parse(source).expect_err("is no pattern").to_string();
    assert!(refused("").contains("empty name"));
    assert!(refused("public.").contains("empty name"));
    assert!(refused(r#"public."""#).contains("empty name"));
    assert!(refused("a.b.c").contains("more than two parts"));
    assert!(refused("public.\"users").contains("open quote"));
    assert!(refused("public.weird name").contains("' ' outside quotes"));
    assert!(refused("public.a-b").contains("'-' outside quotes"));
}

/// The plain definition of a wildcard match, without a thought for time.
fn matches_by_definition(pattern: &[Piece], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((Piece::AnyMany, rest)), _) => {
            (0..=name.len()).any(|taken| matches_by_definition(rest, &name[taken..]))
        }
        (Some((Piece::AnyOne, rest)), Some((_, name))) => matches_by_definition(rest, name),
        (Some((Piece::Character(c), rest)), Some((first, name))) => {
            c == first && matches_by_definition(rest, name)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn any_quoted_name_means_exactly_itself(schema in "\\PC{1,8}", table in "\\PC{1,8}", other in "\\PC{1,8}") {
        let source = format!("{}.{}", quote_identifier(&schema), quote_identifier(&table));
        let pattern = Pattern::parse(&source).expect("quoted names are patterns");
        prop_assert!(pattern.is_exact());
        prop_assert!(pattern.matches(&schema, &table));
        prop_assert_eq!(pattern.matches(&schema, &other), table == other);
        prop_assert_eq!(pattern.to_string(), source);
    }

    #[test]
    fn matching_follows_the_definition(source in "[ab*?]{1,7}", name in "[ab]{0,9}") {
        let glob = parts(&source).expect("only letters and wildcards").remove(0);
        let characters: Vec<char> = name.chars().collect();
        prop_assert_eq!(glob.matches(&name), matches_by_definition(&glob.0, &characters));
    }

    #[test]
    fn no_text_makes_the_parser_panic(source in "\\PC{0,20}") {
        if let Ok(pattern) = Pattern::parse(&source) {
            prop_assert_eq!(pattern.to_string(), source.trim());
            let _ = pattern.matches(&source, &source);
        }
    }
}
