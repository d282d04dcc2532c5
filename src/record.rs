//! The text of a row, as PostgreSQL's `record_out` prints it: `(1,"two words",,"")`.
//!
//! It runs nothing but the types' own output functions, keeps every value exact, and its inside is a
//! line of CSV but for doubled backslashes. So rows travel from database to database nearly unread.

use std::borrow::Cow;

/// The text is not a row.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the text of a row")]
pub struct ParseRecordError;

/// Turns rows that come in pieces into lines for `COPY … FROM STDIN (FORMAT csv)`: NULL is nothing, the empty
/// string is `""`.
#[derive(Debug, Default)]
pub struct CsvLines {
    /// Within a row.
    inside: bool,
    /// The second one of two backslashes is to come.
    escaped: bool,
}

impl CsvLines {
    /// Appends a piece of a row, the `last` one with the line's end.
    ///
    /// # Errors
    /// When the text is not within parentheses.
    pub fn push(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), ParseRecordError> {
        let mut rest = piece;
        if !std::mem::replace(&mut self.inside, !last) {
            rest = rest.strip_prefix(b"(").ok_or(ParseRecordError)?;
        }
        if last {
            rest = rest.strip_suffix(b")").ok_or(ParseRecordError)?;
        }
        if self.escaped && !rest.is_empty() {
            rest = rest.strip_prefix(b"\\").ok_or(ParseRecordError)?;
            self.escaped = false;
        }
        // Only quoted fields hold backslashes, each doubled there, which CSV does not do.
        while let Some(at) = memchr::memchr(b'\\', rest) {
            out.extend_from_slice(rest.get(..=at).ok_or(ParseRecordError)?);
            self.escaped = at + 1 == rest.len();
            rest = rest.get(at + 2..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
        if last {
            if std::mem::take(&mut self.escaped) {
                return Err(ParseRecordError);
            }
            out.push(b'\n');
        }
        Ok(())
    }
}

/// Appends one value to a line for `COPY … FROM STDIN (FORMAT text)`; the caller writes the tabs.
pub fn push_copy_field(value: Option<&str>, out: &mut Vec<u8>) {
    let Some(value) = value else { return out.extend_from_slice(b"\\N") };
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(br"\\"),
            b'\n' => out.extend_from_slice(br"\n"),
            b'\r' => out.extend_from_slice(br"\r"),
            b'\t' => out.extend_from_slice(br"\t"),
            other => out.push(other),
        }
    }
}

/// Appends one value to the text of a row as PostgreSQL prints it; the caller writes commas and parentheses.
pub fn push_field(value: Option<&str>, out: &mut String) {
    let Some(value) = value else { return };
    let special = |byte: u8| {
        matches!(byte, b'"' | b'\\' | b'(' | b')' | b',') || byte.is_ascii_whitespace() || byte == 0x0b
    };
    if !value.is_empty() && !value.bytes().any(special) {
        out.push_str(value);
        return;
    }
    out.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            out.push(c);
        }
        out.push(c);
    }
    out.push('"');
}

/// The values of a row, `None` for NULL.
///
/// # Errors
/// When the text is not a row.
pub fn fields(record: &str) -> Result<Vec<Option<Cow<'_, str>>>, ParseRecordError> {
    let inside = record.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let mut rest = inside.ok_or(ParseRecordError)?;
    let mut fields = Vec::new();
    loop {
        let (field, after) = field(rest)?;
        fields.push(field);
        match after.as_bytes().first() {
            None => return Ok(fields),
            Some(b',') => rest = &after[1..],
            Some(_) => return Err(ParseRecordError),
        }
    }
}

/// One field at the start of the text, and what follows it.
fn field(text: &str) -> Result<(Option<Cow<'_, str>>, &str), ParseRecordError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_at(memchr::memchr(b',', text.as_bytes()).unwrap_or(text.len()));
        return Ok(((!value.is_empty()).then_some(Cow::Borrowed(value)), after));
    };
    let (mut value, mut rest) = (Cow::Borrowed(""), quoted);
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest.as_bytes()).ok_or(ParseRecordError)?;
        let (plain, special) = rest.split_at(at);
        push(&mut value, plain);
        let next = special.as_bytes().get(1);
        if special.as_bytes().first() == next {
            push(&mut value, &special[..1]);
            rest = &special[2..];
        } else {
            let after = special.strip_prefix('"').ok_or(ParseRecordError)?;
            return Ok((Some(value), after));
        }
    }
}

/// Appends without a copy while there is only one piece.
fn push<'a>(value: &mut Cow<'a, str>, piece: &'a str) {
    if value.is_empty() {
        *value = Cow::Borrowed(piece);
    } else if !piece.is_empty() {
        value.to_mut().push_str(piece);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn print(values: &[Option<String>]) -> String {
        let field = |value: &Option<String>| {
            let mut text = String::new();
            push_field(value.as_deref(), &mut text);
            text
        };
        format!("({})", values.iter().map(field).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn a_row_is_printed_as_the_server_does() {
        let values =
            ["a", "", "b c", "\"", "\\", "(", "é🙂\u{a0}", "\u{b}"].map(|text| Some(text.to_owned()));
        let expected = "(a,\"\",\"b c\",\"\"\"\",\"\\\\\",\"(\",é🙂\u{a0},\"\u{b}\",)";
        assert_eq!(print(&[&values[..], &[None]].concat()), expected);
    }

    /// RFC 4180 with NULL as nothing.
    fn read_csv(line: &str) -> Vec<Option<String>> {
        let (mut values, mut chars) =
            (vec![None::<String>], line.strip_suffix('\n').expect("a line").chars().peekable());
        let mut quoted = false;
        while let Some(c) = chars.next() {
            let value = values.last_mut().expect("never empty");
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    value.get_or_insert_default().push(chars.next().expect("peeked"))
                }
                '"' => {
                    quoted = !quoted;
                    value.get_or_insert_default();
                }
                ',' if !quoted => values.push(None),
                c => value.get_or_insert_default().push(c),
            }
        }
        values
    }

    #[test]
    fn null_and_empty_are_told_apart() {
        let values = fields("(,\"\",a)").expect("a row");
        assert_eq!(values, [None, Some("".into()), Some("a".into())]);
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for text in ["", "(", "1,2", "(\"a)", "(\"a\"b)", "(\"a\\b\")"] {
            assert!(fields(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_value_comes_back(values in prop::collection::vec(prop::option::of("[a-z\"\\\\(), \n\r\té🙂]{0,6}"), 1..6)) {
            let record = print(&values);
            let read: Vec<Option<String>> =
                fields(&record).expect("a row").into_iter().map(|value| value.map(Cow::into_owned)).collect();
            prop_assert_eq!(&read, &values);
            for size in 1..=record.len() {
                let (mut lines, mut line) = (CsvLines::default(), Vec::new());
                let mut pieces = record.as_bytes().chunks(size).peekable();
                while let Some(piece) = pieces.next() {
                    lines.push(piece, pieces.peek().is_none(), &mut line).expect("a row");
                }
                prop_assert_eq!(&read_csv(std::str::from_utf8(&line).expect("UTF-8")), &values);
            }
        }
    }
}
