//! Counts what moves on a connection: a link that is slow differs from one that is dead in nothing else.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready as ready_or_return},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Config,
    config::{Host, SslMode, SslNegotiation},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};

/// What moved on one connection.
#[derive(Debug, Default)]
pub(super) struct Meter {
    moved: AtomicU64,
    unanswered: AtomicU64,
}

impl Meter {
    /// All bytes in both directions.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    /// The bytes that were sent since the last one came.
    pub(super) fn unanswered(&self) -> u64 {
        self.unanswered.load(Relaxed)
    }
}

/// Puts a meter into a connection. The driver offers one place for that, where TLS would begin.
#[derive(Clone, Debug, Default)]
pub(super) struct Metering(pub(super) Arc<Meter>);

impl Metering {
    /// Has the driver hand over its socket at once, without asking the server for TLS. It does so only
    /// where it knows a host's name; other links, such as sockets in the file system, are not metered.
    pub(super) fn apply(config: &mut Config) {
        let hosts = config.get_hosts();
        if hosts.is_empty() || hosts.iter().any(|host| !matches!(host, Host::Tcp(_))) {
            config.ssl_mode(SslMode::Disable);
        } else {
            config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> MakeTlsConnect<S> for Metering {
    type Stream = Metered<S>;
    type TlsConnect = Self;
    type Error = Infallible;

    fn make_tls_connect(&mut self, _: &str) -> Result<Self, Infallible> {
        Ok(self.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsConnect<S> for Metering {
    type Stream = Metered<S>;
    type Error = Infallible;
    type Future = Ready<Result<Metered<S>, Infallible>>;

    fn connect(self, stream: S) -> Self::Future {
        ready(Ok(Metered { stream, meter: self.0 }))
    }
}

/// A stream with a meter.
#[derive(Debug)]
pub struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
}

impl<S: AsyncRead + AsyncWrite> TlsStream for Metered<S>
where
    Self: AsyncRead + AsyncWrite,
{
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready_or_return!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.meter.moved.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        self.meter.unanswered.store(0, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready_or_return!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.meter.moved.fetch_add(written as u64, Relaxed);
        self.meter.unanswered.fetch_add(written as u64, Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
