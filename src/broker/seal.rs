//! The seal on a message where a key is configured: who may write to the queues but does not know the key
//! can neither make up a part nor alter one.
//!
//! It is HMAC-SHA256, in hexadecimal in the header [`HEADER`], over the number of the other `pgfanout-`
//! headers, then each of them in the order of their names (name, kind, value), then the body. Texts and
//! bytes follow their length, so that nothing can be moved from one to the next.

use hmac::{Hmac, KeyInit as _, Mac as _};
use lapin::types::{AMQPValue, FieldTable};
use sha2::Sha256;

use crate::secret::Secret;

/// Where it stands.
pub(super) const HEADER: &str = "pgfanout-hmac";

/// What the names of all headers of ours begin with.
const OURS: &str = "pgfanout-";

/// The seal of a message with these headers and this body; none if a header is of a kind that we never
/// write.
pub(super) fn seal(key: &Secret, headers: &FieldTable, body: &[u8]) -> Option<String> {
    let code = code(key, headers, body)?.finalize().into_bytes();
    Some(code.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether one of the keys made the seal. How long it takes tells nothing about the right one.
pub(super) fn is_genuine(keys: &[Secret], seal: &[u8], headers: &FieldTable, body: &[u8]) -> bool {
    let Some(seal) = bytes(seal) else { return false };
    keys.iter().any(|key| code(key, headers, body).is_some_and(|code| code.verify_slice(&seal).is_ok()))
}

fn code(key: &Secret, headers: &FieldTable, body: &[u8]) -> Option<Hmac<Sha256>> {
    // A key may have any length.
    let mut code = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).ok()?;
    let ours =
        headers.inner().iter().filter(|(name, _)| name.as_str().starts_with(OURS) && name.as_str() != HEADER);
    code.update(&(ours.clone().count() as u64).to_be_bytes());
    for (name, value) in ours {
        push(&mut code, name.as_str().as_bytes());
        match value {
            AMQPValue::LongString(text) => {
                code.update(b"S");
                push(&mut code, text.as_bytes());
            }
            AMQPValue::LongLongInt(number) => {
                code.update(b"l");
                code.update(&number.to_be_bytes());
            }
            AMQPValue::Boolean(value) => code.update(&[b't', u8::from(*value)]),
            _ => return None,
        }
    }
    push(&mut code, body);
    Some(code)
}

fn push(code: &mut Hmac<Sha256>, bytes: &[u8]) {
    code.update(&(bytes.len() as u64).to_be_bytes());
    code.update(bytes);
}

fn bytes(hexadecimal: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = hexadecimal.as_chunks::<2>();
    let bytes = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(number: i64) -> FieldTable {
        let mut headers = FieldTable::default();
        headers.insert("pgfanout-batch".into(), AMQPValue::LongLongInt(number));
        headers.insert("pgfanout-last".into(), AMQPValue::Boolean(true));
        headers.insert("pgfanout-token".into(), AMQPValue::LongString("t".into()));
        headers.insert("x-other".into(), AMQPValue::Void);
        headers
    }

    #[test]
    fn the_seal_is_the_one_that_is_documented() {
        // Computed with Python's hmac module.
        let seal = seal(&Secret::new("a key of some length"), &headers(7), b"{}\n");
        assert_eq!(seal.as_deref(), Some("cecda4c3e3f261ab070645ddd48f8623b9840aecb7762ef4869797e284e30d1a"));
    }

    #[test]
    fn every_key_of_the_list_opens_and_no_other_does() {
        let (old, new, other) = (Secret::new("old"), Secret::new("new"), Secret::new("other"));
        let mut headers = headers(7);
        let seal = seal(&old, &headers, b"body").expect("kinds of ours");
        assert!(is_genuine(&[new.clone(), old.clone()], seal.as_bytes(), &headers, b"body"));
        assert!(!is_genuine(&[new, other], seal.as_bytes(), &headers, b"body"));
        for wrong in ["", "0", &seal[..62], &format!("{seal}00"), &seal.to_uppercase(), "é"] {
            assert!(!is_genuine(std::slice::from_ref(&old), wrong.as_bytes(), &headers, b"body"), "{wrong}");
        }
        headers.insert("x-death".into(), AMQPValue::Void);
        assert!(is_genuine(std::slice::from_ref(&old), seal.as_bytes(), &headers, b"body"), "not ours");
        headers.insert("pgfanout-more".into(), AMQPValue::Boolean(true));
        assert!(!is_genuine(&[old], seal.as_bytes(), &headers, b"body"));
    }
}
