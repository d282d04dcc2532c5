//! The body of a message on its way: as it is, or compressed.
//!
//! A compressed one says so in the message's `content-encoding`, as any listener expects.

use std::borrow::Cow;

use zstd::bulk::{Compressor, decompress};

use super::NoPart;
use crate::{
    config::Compression,
    error::{Error, Result},
};

/// What a compressed body's `content-encoding` is.
pub(super) const ZSTD: &str = "zstd";

/// The fastest: JSON shrinks to a fifth, and more would cost several times as much.
const LEVEL: i32 = 1;

/// Smaller bodies gain nothing that is worth it.
const WORTH_BYTES: usize = 1 << 10;

/// Compresses the bodies that are published, where that is wanted.
pub(super) struct Encoder(Option<Compressor<'static>>);

impl Encoder {
    /// One that does as configured.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn new(compression: Compression) -> Result<Self> {
        Ok(Self(match compression {
            Compression::None => None,
            Compression::Zstd => Some(Compressor::new(LEVEL).map_err(|error| {
                Error::Disconnected(format!("broker: preparing to compress messages: {error}"))
            })?),
        }))
    }

    /// The body to send, and its encoding if it has one.
    pub(super) fn encode<'a>(&mut self, body: &'a [u8]) -> (Cow<'a, [u8]>, Option<&'static str>) {
        let compressor = self.0.as_mut().filter(|_| body.len() >= WORTH_BYTES);
        match compressor.and_then(|compressor| compressor.compress(body).ok()) {
            Some(smaller) if smaller.len() < body.len() => (Cow::Owned(smaller), Some(ZSTD)),
            // What is not made smaller is sent as it is, which is always right.
            _ => (Cow::Borrowed(body), None),
        }
    }
}

/// The body of a message of this `encoding`, if it has one, of `most` bytes: whoever may write to a queue must not fill
/// the memory with a few.
///
/// # Errors
/// When it is of no encoding that we know, not what it says, or too large.
pub(super) fn decode(body: Vec<u8>, encoding: Option<&str>, most: usize) -> Result<Vec<u8>, NoPart> {
    match encoding {
        None => Ok(body),
        Some(ZSTD) => {
            // Ours tell it; one that does not is no body of ours.
            let size = zstd::zstd_safe::get_frame_content_size(&body).ok().flatten();
            let size = size.and_then(|size| usize::try_from(size).ok()).ok_or(NoPart::Encoding)?;
            if size > most {
                return Err(NoPart::TooLarge);
            }
            decompress(&body, size).map_err(|_| NoPart::Encoding)
        }
        Some(_) => Err(NoPart::Encoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(body: &[u8]) -> (Vec<u8>, Option<&'static str>) {
        let (sent, encoding) = Encoder::new(Compression::Zstd).expect("memory").encode(body);
        (sent.into_owned(), encoding)
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let body = b"{\"schema\":\"public\"}\n".repeat(100);
        let (sent, encoding) = encoded(&body);
        assert_eq!(encoding, Some("zstd"));
        assert!(sent.len() * 10 < body.len(), "{} bytes", sent.len());
        assert_eq!(decode(sent, encoding, body.len()), Ok(body));
    }

    #[test]
    fn what_gains_nothing_is_sent_as_it_is() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(5000).collect();
        for body in [b"{}\n".as_slice(), &noise] {
            assert_eq!(encoded(body), (body.to_vec(), None));
        }
        let body = b"a".repeat(5000);
        let (sent, encoding) = Encoder::new(Compression::None).expect("memory").encode(&body);
        assert_eq!((sent.as_ref(), encoding), (body.as_slice(), None));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let decode = |body, encoding| decode(body, Some(encoding), 10_000);
        let (mut sent, _) = encoded(&b"a".repeat(5000));
        assert_eq!(decode(sent.clone(), "gzip"), Err(NoPart::Encoding));
        assert_eq!(decode(b"{}\n".to_vec(), ZSTD), Err(NoPart::Encoding));
        assert_eq!(decode(Vec::new(), ZSTD), Err(NoPart::Encoding));
        let (bomb, _) = encoded(&b"a".repeat(10_001));
        assert_eq!(decode(bomb, ZSTD), Err(NoPart::TooLarge));
        sent.truncate(sent.len() - 1);
        assert_eq!(decode(sent, ZSTD), Err(NoPart::Encoding));
    }
}
