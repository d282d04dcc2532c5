use proptest::prelude::*;

use super::*;

fn users() -> Writer {
    let columns = [("id", Kind::Number), ("name", Kind::Text), ("active", Kind::Boolean)];
    let columns = columns.map(|(name, kind)| Column { name: name.into(), kind });
    Writer::new("public", "users", &columns, vec![0])
}

fn written(write: impl FnOnce(&Writer, &mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&users(), &mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn the_messages_are_those_of_the_published_design() {
    let key = [Some(Cow::Borrowed("2"))];
    let insert = written(|w, out| w.push_present("(2,al,t)", None, out).expect("a row"));
    assert_eq!(
        insert,
        "{\"schema\":\"public\",\"table\":\"users\",\"operation\":\"INSERT\",\
         \"new_record\":{\"id\":2,\"name\":\"al\",\"active\":true},\"old_record\":null}\n"
    );
    let old = Before { key: &key, old: Some(r#"{"id":2,"name":"al","active":true}"#) };
    let update = written(|w, out| w.push_present("(2,alfonso,)", Some(old), out).expect("a row"));
    assert_eq!(
        update,
        "{\"schema\":\"public\",\"table\":\"users\",\"operation\":\"UPDATE\",\
         \"new_record\":{\"id\":2,\"name\":\"alfonso\",\"active\":null},\
         \"old_record\":{\"id\":2,\"name\":\"al\",\"active\":true}}\n"
    );
    assert_eq!(
        written(|w, out| w.push_absent(Before { key: &key, old: None }, out)),
        "{\"schema\":\"public\",\"table\":\"users\",\"operation\":\"DELETE\",\
         \"new_record\":null,\"old_record\":{\"id\":2}}\n"
    );
    assert_eq!(
        written(|w, out| w.push_truncate(out)),
        "{\"schema\":\"public\",\"table\":\"users\",\"operation\":\"TRUNCATE\",\
         \"new_record\":null,\"old_record\":null}\n"
    );
    assert_eq!(
        written(|w, out| w.push_reference(&key, out)),
        "{\"schema\":\"public\",\"table\":\"users\",\"operation\":\"UPDATE\",\
         \"new_record\":null,\"old_record\":{\"id\":2},\"by_reference\":true}\n"
    );
}

#[test]
fn rows_without_a_key_come_and_go_with_their_transaction() {
    let came = written(|w, out| w.push_nameless("(2,,t)", true, 7, out).expect("a row"));
    assert_eq!(
        came,
        "{\"schema\":\"public\",\"table\":\"users\",\"operation\":\"INSERT\",\
         \"new_record\":{\"id\":2,\"name\":null,\"active\":true},\"old_record\":null,\"transaction\":7}\n"
    );
    let went = written(|w, out| w.push_nameless("(2,,t)", false, 7, out).expect("a row"));
    assert_eq!(
        went,
        "{\"schema\":\"public\",\"table\":\"users\",\"operation\":\"DELETE\",\
         \"new_record\":null,\"old_record\":{\"id\":2,\"name\":null,\"active\":true},\"transaction\":7}\n"
    );
    assert_eq!(parse(&went).expect("a change").transaction, Some(7));
}

#[test]
fn numbers_keep_every_digit_and_what_json_has_not_is_a_string() {
    for (text, json) in [
        ("1.10", "1.10"),
        ("-0", "-0"),
        ("1e+30", "1e+30"),
        ("NaN", "\"NaN\""),
        ("-Infinity", "\"-Infinity\""),
    ] {
        let mut out = Vec::new();
        push_value(Kind::Number, Some(text), &mut out);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), json);
    }
}

#[test]
fn a_boolean_is_itself_in_a_row_and_in_a_key() {
    for (text, json) in [("t", "true"), ("true", "true"), ("f", "false"), ("false", "false")] {
        let mut out = Vec::new();
        push_value(Kind::Boolean, Some(text), &mut out);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), json);
    }
}

#[test]
fn what_is_no_change_is_refused() {
    for line in [
        "",
        "1",
        "{}",
        "null",
        "[]",
        "\u{0}",
        r#"{"schema":"s","table":"t","operation":"INSERT","new_record":null,"old_record":null}"#,
        r#"{"schema":"s","table":"t","operation":"DELETE","new_record":null,"old_record":null}"#,
        r#"{"schema":"s","table":"t","operation":"DROP","new_record":null,"old_record":null}"#,
        r#"{"schema":"s","table":"t","operation":"INSERT","new_record":[1],"old_record":null}"#,
        r#"{"schema":"s","table":"t","operation":"TRUNCATE","new_record":null,"old_record":null,"more":1}"#,
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    let nested =
        r#"{"schema":"s","table":"t","operation":"INSERT","new_record":{"a":[1]},"old_record":null}"#;
    let change = parse(nested).expect("well formed");
    assert!(value(change.new_record.expect("a record").0[0].1).is_err());
}

/// As `COPY … (FORMAT text)` reads a line.
fn read_copied(line: &str) -> Vec<Option<String>> {
    let read = |field: &str| {
        let (mut text, mut chars) = (String::new(), field.chars());
        while let Some(c) = chars.next() {
            let c = if c == '\\' {
                chars.next().expect("a pair")
            } else {
                text.extend([c]);
                continue;
            };
            text.push(match c {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' | 'x' | 'N' | '.' | '0'..='7' => unreachable!("{c} means something else in JSON"),
                other => other,
            });
        }
        text
    };
    line.split('\t').map(|field| (field != "\\N").then(|| read(field))).collect()
}

#[test]
fn no_string_ends_a_field_that_is_copied() {
    for text in ["a\tb", "a\u{1}b", "a\rb", r"\N", r"\.", r"\x41", r"\101"] {
        let line = |text: &str| {
            format!(
                r#"{{"schema":"s","table":"t","operation":"INSERT","new_record":{{"a":"{text}"}},"old_record":null}}"#
            )
        };
        assert!(parse(&line(text)).is_err(), "{text:?} as it is");
    }
}

proptest! {
    #[test]
    fn every_string_comes_back(name in "[a-zN.u01x\"\\\\é🙂 \u{1}\u{8}\u{c}\u{7f}\r\t\n,()]{0,12}", null in any::<bool>()) {
        let printed = if null { String::new() } else { format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\"\"")) };
        let line = written(|w, out| w.push_present(&format!("(7,{printed},f)"), None, out).expect("a row"));
        let change = parse(&line).expect("a change");
        let values: Vec<_> = change.new_record.as_ref().expect("a record").0.iter()
            .map(|(_, raw)| value(raw).expect("a value").map(Cow::into_owned)).collect();
        prop_assert_eq!(&values, &[Some("7".to_owned()), (!null).then_some(name), Some("f".to_owned())]);
        let mut copied = Vec::new();
        for (n, (_, raw)) in change.new_record.expect("a record").0.into_iter().enumerate() {
            if n > 0 { copied.push(b'\t'); }
            push_copy_field(raw, &mut copied).expect("a value");
        }
        prop_assert_eq!(read_copied(std::str::from_utf8(&copied).expect("UTF-8")), values);
    }

    #[test]
    fn nothing_makes_the_reader_panic(line in ".{0,60}") {
        let _ = parse(&line);
    }
}
