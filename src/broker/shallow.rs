//! A link to the broker that breaks before a message with deeply nested headers is read.
//!
//! The library reads tables within tables by recursion, without a limit: a header of some thousand levels,
//! which anybody may send who may write to a queue, would overflow its thread's stack and end the process.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_compat::Compat;
use async_rs::{Runtime, Tokio, traits::Reactor, util::RuntimeParts};
use futures_util::{
    Stream,
    io::{AsyncRead, AsyncWrite},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio_rustls::TlsConnector;

use crate::tls::explain;

/// How deep headers may be nested; ours are flat, the broker's own have three levels.
const MAX_DEPTH: usize = 32;

/// Type, channel and size.
const FRAME_HEAD: usize = 7;

/// The type of a frame that holds the headers of a message.
const CONTENT_HEADER: u8 = 2;

/// TLS with the host that is named.
#[derive(Clone, Debug)]
pub(super) struct Secured {
    pub(super) config: Arc<ClientConfig>,
    pub(super) host: String,
}

/// The runtime of a connection whose link is watched, within TLS where that is wished.
pub(super) fn runtime(secured: Option<Secured>) -> Runtime<RuntimeParts<Tokio, Shallow>> {
    Runtime::new(RuntimeParts::new(Tokio::current(), Shallow { tokio: Tokio::current(), secured }))
}

/// Makes links that are watched.
#[derive(Clone, Debug)]
pub(super) struct Shallow {
    tokio: Tokio,
    secured: Option<Secured>,
}

/// A link as it is, or within TLS.
pub(super) trait Link: AsyncRead + AsyncWrite + Send + Unpin {}
impl<L: AsyncRead + AsyncWrite + Send + Unpin> Link for L {}

impl Reactor for Shallow {
    type TcpStream = Watched<Box<dyn Link>>;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// For sockets that were opened elsewhere, of which there are none.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Self::TcpStream, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let (connecting, secured) = (self.tokio.tcp_connect_addr(address), self.secured.clone());
        async move {
            let link = connecting.await?;
            let link: Box<dyn Link> = match secured {
                None => Box::new(link),
                Some(Secured { config, host }) => {
                    let host = ServerName::try_from(host).map_err(io::Error::other)?;
                    let secured = TlsConnector::from(config).connect(host, link.into_inner()).await;
                    Box::new(Compat::new(secured.map_err(explain)?))
                }
            };
            Ok(Watched { link, frames: Frames::default() })
        }
    }
}

/// A link, and what was read from it.
pub(super) struct Watched<L> {
    link: L,
    frames: Frames,
}

impl<L: AsyncRead + Unpin> AsyncRead for Watched<L> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.link).poll_read(context, buffer);
        if let Poll::Ready(Ok(count)) = read
            && this.frames.are_deep(buffer.get(..count).unwrap_or_default())
        {
            // The reader never sees the end of the frame.
            let why = "a message's headers are nested too deep";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        read
    }
}

impl<L: AsyncWrite + Unpin> AsyncWrite for Watched<L> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().link).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().link).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().link).poll_close(context)
    }
}

/// Where in the sequence of frames a link is.
#[derive(Debug, Default)]
struct Frames {
    /// The frame's head, and all of it where it holds headers.
    held: Vec<u8>,
    /// How many bytes of another frame are still to come.
    skip: usize,
}

impl Frames {
    /// Takes what was read; whether a frame ended with it whose headers are nested too deep.
    fn are_deep(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = self.wanted();
            let taken = (wanted - self.held.len()).min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            self.held.extend_from_slice(now);
            bytes = later;
            if self.held.len() < FRAME_HEAD || self.held.len() < self.wanted() {
                continue;
            }
            let is_headers = self.held.first() == Some(&CONTENT_HEADER);
            if !is_headers {
                self.skip = self.size() + 1;
            } else if is_deep(self.held.get(FRAME_HEAD..).unwrap_or_default()) {
                return true;
            }
            self.held.clear();
        }
        false
    }

    /// How many bytes are held before anything is done with them. A frame ends with a byte of its own.
    fn wanted(&self) -> usize {
        match self.held.first() {
            Some(&CONTENT_HEADER) if self.held.len() >= FRAME_HEAD => FRAME_HEAD + self.size() + 1,
            _ => FRAME_HEAD,
        }
    }

    fn size(&self) -> usize {
        self.held.get(3..).and_then(number).unwrap_or_default()
    }
}

/// Whether the headers in the payload of such a frame are nested too deep. It goes on in the order in which the
/// library does, and what ends that early ends the library's reading, too.
fn is_deep(payload: &[u8]) -> bool {
    depth(payload).is_some_and(|depth| depth > MAX_DEPTH)
}

/// How deep it is, at least as far as is allowed; none where it makes no sense.
fn depth(payload: &[u8]) -> Option<usize> {
    // Class, weight, the body's size; then the flags of the properties, of which two may come before.
    let flags = u16::from_be_bytes(*payload.get(12..)?.first_chunk()?);
    let mut at = 14;
    for flag in [0x8000, 0x4000] {
        if flags & flag != 0 {
            at += 1 + usize::from(*payload.get(at)?);
        }
    }
    if flags & 0x2000 == 0 {
        return Some(0);
    }
    // Where each of the open tables and arrays ends, and whether it has names.
    let mut open = vec![(at + 4 + number(payload.get(at..)?)?, true)];
    at += 4;
    let mut deepest = 1;
    while let Some(&(end, has_names)) = open.last() {
        if at >= end {
            open.pop();
            continue;
        }
        if has_names {
            at += 1 + usize::from(*payload.get(at)?);
        }
        let kind = *payload.get(at)?;
        at += 1;
        match kind {
            b't' | b'b' | b'B' => at += 1,
            b's' | b'U' | b'u' => at += 2,
            b'I' | b'i' | b'f' => at += 4,
            b'D' => at += 5,
            b'l' | b'L' | b'd' | b'T' => at += 8,
            b'V' => {}
            b'S' | b'x' => at += 4 + number(payload.get(at..)?)?,
            b'A' | b'F' => {
                open.push((at + 4 + number(payload.get(at..)?)?, kind == b'F'));
                at += 4;
                deepest = deepest.max(open.len());
                if deepest > MAX_DEPTH {
                    break;
                }
            }
            _ => return None,
        }
    }
    Some(deepest)
}

fn number(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(*bytes.first_chunk()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with so many arrays within one another.
    fn frame(depth: usize) -> Vec<u8> {
        let mut value = b"V".to_vec();
        for _ in 0..depth {
            let length = u32::try_from(value.len()).expect("short").to_be_bytes();
            value = [b"A".as_slice(), &length, &value].concat();
        }
        let table = [b"\x01bt\x01\x04name".as_slice(), &value].concat();
        let length = u32::try_from(table.len()).expect("short").to_be_bytes();
        let payload = [&[0; 12], b"\xa0\x00\x04text".as_slice(), &length, &table].concat();
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [b"\x02\x00\x01".as_slice(), &length, &payload, b"\xce"].concat()
    }

    #[test]
    fn deep_headers_are_noticed_however_they_come() {
        let other = b"\x01\x00\x01\x00\x00\x00\x03\x02\x02\x02\xce";
        for (depth, deep) in [(0, false), (3, false), (31, false), (32, true), (20_000, true)] {
            let stream = [other.as_slice(), &frame(2), other, other, &frame(depth)].concat();
            for size in [1, 2, 7, 100, stream.len()] {
                let mut frames = Frames::default();
                let found: Vec<bool> = stream.chunks(size).map(|read| frames.are_deep(read)).collect();
                assert_eq!(found.last(), Some(&deep), "{depth} levels, {size} bytes a time");
                assert!(!found.iter().rev().skip(1).any(|found| *found), "only with its last byte");
            }
        }
    }

    #[test]
    fn nothing_makes_the_watcher_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut stream = frame(random.usize(0..40));
            for _ in 0..random.usize(1..4) {
                let at = random.usize(FRAME_HEAD..stream.len());
                stream[at] = random.u8(..);
            }
            let _ = Frames::default().are_deep(&stream);
        }
    }
}
