//! Values on their way into a statement, as parameters in text form.

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

use super::Key;

/// Keys as one array for each key column, in PostgreSQL's text form, to be read by the type's own input.
#[must_use]
pub fn key_arrays<'a>(width: usize, keys: impl Iterator<Item = &'a Key>) -> Vec<Text> {
    let mut arrays = vec![String::from("{"); width];
    for key in keys {
        for (array, value) in arrays.iter_mut().zip(key) {
            if array.len() > 1 {
                array.push(',');
            }
            match value {
                None => array.push_str("NULL"),
                Some(text) => push_element(text, array),
            }
        }
    }
    arrays.into_iter().map(|array| Text(array + "}")).collect()
}

fn push_element(text: &str, array: &mut String) {
    array.push('"');
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest.as_bytes()) {
        let (plain, special) = rest.split_at(at);
        array.push_str(plain);
        array.push('\\');
        array.push_str(&special[..1]);
        rest = &special[1..];
    }
    array.push_str(rest);
    array.push('"');
}

/// A parameter of any type in the text form of that type.
#[derive(Debug)]
pub struct Text(pub String);

impl ToSql for Text {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}
