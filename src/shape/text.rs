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
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            array.push('\\');
        }
        array.push(c);
    }
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
