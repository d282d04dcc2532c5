//! How a part of a batch travels in a message: its body as it is, all else in headers.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    encoding::decode,
    seal::{self, is_genuine, seal},
};
use crate::{
    batch::{Batch, Part},
    secret::Secret,
    snapshot::Snapshot,
};

/// The version of the message's form.
const FORMAT: i64 = 1;

/// A message on the queue that is no part of a batch.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPart {
    /// A header is missing or makes no sense.
    #[error("a message with missing or malformed header {0}")]
    Header(&'static str),
    /// An older version of the program made it: whatever it tells is caught up.
    #[error("a message of an older format than the {FORMAT} that this program reads")]
    Older,
    /// A newer version of the program made it.
    #[error("a message of a newer format than the {FORMAT} that this program reads")]
    Newer,
    /// The body is not what its content-encoding says, or of one that this program does not know.
    #[error("a message whose body is not of the content-encoding that it names, or of one that is not zstd")]
    Encoding,
    /// The body is larger than any that we publish.
    #[error(
        "a message whose body is too large once it is decompressed; give the publisher and the replica the same \
         max_message_bytes"
    )]
    TooLarge,
    /// There are keys, and none of them made this message.
    #[error("a message whose HMAC is of no key that we have")]
    Forged,
}

/// The properties of the part's message with the body that is sent, sealed where there is a key.
pub(super) fn properties(
    part: &Part,
    (body, encoding): (&[u8], Option<&str>),
    timestamp: u64,
    key: Option<&Secret>,
) -> BasicProperties {
    let batch = &part.batch;
    let id = format!("{}.{}.{}", batch.epoch, batch.number, part.number);
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut headers = FieldTable::default();
    headers.insert("pgfanout-format".into(), AMQPValue::LongLongInt(FORMAT));
    headers.insert("pgfanout-epoch".into(), text(&batch.epoch));
    headers.insert("pgfanout-batch".into(), AMQPValue::LongLongInt(batch.number));
    headers.insert("pgfanout-token".into(), text(&batch.token));
    headers.insert("pgfanout-term".into(), text(&batch.term));
    headers.insert("pgfanout-from".into(), text(&batch.from.to_string()));
    headers.insert("pgfanout-to".into(), text(&batch.to.to_string()));
    headers.insert("pgfanout-part".into(), AMQPValue::LongLongInt(part.number.into()));
    headers.insert("pgfanout-last".into(), AMQPValue::Boolean(part.last));
    headers.insert("pgfanout-tables".into(), text(&print_tables(&part.tables)));
    if let Some(seal) = key.and_then(|key| seal(key, &headers, body)) {
        headers.insert(seal::HEADER.into(), text(&seal));
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/x-ndjson".into())
        .with_message_id(id.as_str().into())
        .with_timestamp(timestamp)
        .with_headers(headers);
    match encoding {
        Some(encoding) => properties.with_content_encoding(encoding.into()),
        None => properties,
    }
}

/// The part that a message is, of a body of at most so many bytes once it is decompressed. Where there are keys, one of
/// them must have made it.
///
/// # Errors
/// When it is none.
pub fn part(
    properties: &BasicProperties,
    body: Vec<u8>,
    keys: &[Secret],
    largest: usize,
) -> Result<Part, NoPart> {
    let empty = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&empty);
    // Before all else, which may have another meaning there.
    match number(headers, "pgfanout-format")? {
        FORMAT => {}
        // Not the number itself: whoever forges messages would have as many kinds of them told as he likes.
        ..FORMAT => return Err(NoPart::Older),
        _ => return Err(NoPart::Newer),
    }
    if !keys.is_empty() && !is_genuine(keys, text(headers, seal::HEADER)?.as_bytes(), headers, &body) {
        return Err(NoPart::Forged);
    }
    let batch = Batch {
        epoch: text(headers, "pgfanout-epoch")?.to_owned(),
        number: number(headers, "pgfanout-batch")?,
        token: text(headers, "pgfanout-token")?.to_owned(),
        term: text(headers, "pgfanout-term")?.to_owned(),
        from: snapshot(headers, "pgfanout-from")?,
        to: snapshot(headers, "pgfanout-to")?,
    };
    if !batch.from.is_subset_of(&batch.to) {
        return Err(NoPart::Header("pgfanout-from"));
    }
    let place = number(headers, "pgfanout-part")?;
    let number = u32::try_from(place).map_err(|_| NoPart::Header("pgfanout-part"))?;
    let Some(AMQPValue::Boolean(last)) = headers.inner().get("pgfanout-last") else {
        return Err(NoPart::Header("pgfanout-last"));
    };
    let tables = read_tables(text(headers, "pgfanout-tables")?).ok_or(NoPart::Header("pgfanout-tables"))?;
    let encoding = properties.content_encoding().as_ref().map(ShortString::as_str);
    let body = decode(body, encoding, largest)?;
    Ok(Part { batch, number, last: *last, tables, body })
}

/// `12:3 15:1`: table 12 as of its definition 3, and so on.
fn print_tables(tables: &[(i32, i64)]) -> String {
    tables.iter().map(|(id, definition)| format!("{id}:{definition}")).collect::<Vec<_>>().join(" ")
}

fn read_tables(text: &str) -> Option<Vec<(i32, i64)>> {
    let table = |pair: &str| {
        let (id, definition) = pair.split_once(':')?;
        Some((id.parse().ok()?, definition.parse().ok()?))
    };
    text.split_ascii_whitespace().map(table).collect()
}

fn number(headers: &FieldTable, name: &'static str) -> Result<i64, NoPart> {
    match headers.inner().get(name) {
        Some(AMQPValue::LongLongInt(number)) => Ok(*number),
        _ => Err(NoPart::Header(name)),
    }
}

fn text<'a>(headers: &'a FieldTable, name: &'static str) -> Result<&'a str, NoPart> {
    match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => {
            std::str::from_utf8(text.as_bytes()).map_err(|_| NoPart::Header(name))
        }
        _ => Err(NoPart::Header(name)),
    }
}

fn snapshot(headers: &FieldTable, name: &'static str) -> Result<Snapshot, NoPart> {
    text(headers, name)?.parse().map_err(|_| NoPart::Header(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::PART_TABLES, broker::FRAME_BYTES};

    fn example() -> Part {
        let batch = Batch {
            epoch: "e".into(),
            number: 7,
            token: "t".into(),
            term: "r".into(),
            from: "10:12:11".parse().expect("a snapshot"),
            to: "20:20:".parse().expect("a snapshot"),
        };
        Part { batch, number: 3, last: true, tables: vec![(12, 3), (15, 1)], body: b"{}\n".to_vec() }
    }

    #[test]
    fn a_part_comes_back_from_its_message() {
        let example = example();
        let properties = properties(&example, (b"{}\n", None), 0, None);
        assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
        assert_eq!(part(&properties, b"{}\n".to_vec(), &[], 3), Ok(example));
    }

    #[test]
    fn the_headers_of_a_part_of_many_tables_fit_into_a_frame() {
        let mut part = example();
        part.tables = vec![(i32::MAX, i64::MAX); PART_TABLES];
        let in_progress =
            (0..500).map(|n: i64| (9_000_000_000 + n).to_string()).collect::<Vec<_>>().join(",");
        part.batch.to = format!("9000000000:9000001000:{in_progress}").parse().expect("a snapshot");
        part.batch.from = part.batch.to.clone();
        let headers = properties(&part, (b"{}\n", None), 0, None).headers().clone().expect("headers");
        let length = |value: &AMQPValue| match value {
            AMQPValue::LongString(text) => text.as_bytes().len(),
            _ => 8,
        };
        let bytes: usize =
            headers.inner().iter().map(|(name, value)| name.as_str().len() + length(value) + 16).sum();
        assert!(bytes < FRAME_BYTES as usize * 9 / 10, "{bytes} bytes");
    }

    #[test]
    fn a_message_without_its_headers_is_refused_by_name() {
        assert_eq!(
            part(&BasicProperties::default(), Vec::new(), &[], 0),
            Err(NoPart::Header("pgfanout-format"))
        );
        let whole = properties(&example(), (b"{}\n", None), 0, None);
        let headers = whole.headers().clone().expect("headers");
        for name in headers.inner().keys() {
            let mut fewer = headers.inner().clone();
            fewer.remove(name.as_str());
            let properties = BasicProperties::default().with_headers(fewer.into());
            let error = part(&properties, Vec::new(), &[], 0).expect_err("refused");
            assert_eq!(error.to_string(), format!("a message with missing or malformed header {name}"));
        }
    }
}
