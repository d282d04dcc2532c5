//! How a link to PostgreSQL begins: metered, and with TLS where it is wished and offered.

use std::{
    convert::Infallible,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_postgres::{
    Config, Socket,
    config::{Host, SslMode, SslNegotiation},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::meter::{Meter, Metered};
use crate::tls::explain;

/// What asks a server for TLS: a length, and a number that is no version of the protocol.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// TLS as a connection string wishes for it.
#[derive(Clone)]
pub struct Tls {
    /// Whether a server that does not offer it is refused.
    pub required: bool,
    /// Whom we trust, and who we are.
    pub config: Arc<ClientConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tls").field("required", &self.required).finish_non_exhaustive()
    }
}

/// Begins a link. The driver offers one place for that, where TLS would begin.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) tls: Option<Tls>,
    pub(super) meter: Arc<Meter>,
    host: String,
}

impl Opening {
    pub(super) fn new(tls: Option<Tls>) -> Self {
        Self { tls, meter: Arc::default(), host: String::new() }
    }

    /// Has the driver hand over its socket at once, without asking the server for TLS itself. It does so only
    /// where it knows a host's name; other links, such as sockets in the file system, are neither metered
    /// nor encrypted.
    pub(super) fn apply(config: &mut Config) {
        let hosts = config.get_hosts();
        if hosts.is_empty() || hosts.iter().any(|host| !matches!(host, Host::Tcp(_))) {
            config.ssl_mode(SslMode::Disable);
        } else {
            config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        }
    }

    async fn open(self, socket: Socket) -> io::Result<Link> {
        let mut link = Metered::new(socket, self.meter);
        let Some(tls) = self.tls else { return Ok(Link::Plain(link)) };
        link.write_all(&TLS_REQUEST).await?;
        // Not a byte more: what comes before the handshake could be anybody's.
        match link.read_u8().await? {
            b'S' => {
                let mut maker = MakeRustlsConnect::new((*tls.config).clone());
                let connecting = MakeTlsConnect::<Metered<Socket>>::make_tls_connect(&mut maker, &self.host);
                let connecting = connecting.unwrap_or_else(|never| match never {});
                let secured = connecting.connect(link).await.map_err(explain)?;
                Ok(Link::Secured(Box::new(secured)))
            }
            b'N' if !tls.required => Ok(Link::Plain(link)),
            b'N' => {
                let why = "the server offers no TLS, and sslmode asks for it: set ssl = on there";
                Err(io::Error::new(io::ErrorKind::Unsupported, why))
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server did not say whether it offers TLS",
            )),
        }
    }
}

impl MakeTlsConnect<Socket> for Opening {
    type Stream = Link;
    type TlsConnect = Self;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self, Infallible> {
        Ok(Self { host: host.to_owned(), ..self.clone() })
    }
}

impl TlsConnect<Socket> for Opening {
    type Stream = Link;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(self.open(socket))
    }
}

/// A link on its way, metered beneath TLS: what counts is what moves between the machines.
pub enum Link {
    /// As it is.
    Plain(Metered<Socket>),
    /// Within TLS.
    Secured(Box<<MakeRustlsConnect as MakeTlsConnect<Metered<Socket>>>::Stream>),
}

impl TlsStream for Link {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            Self::Plain(_) => ChannelBinding::none(),
            Self::Secured(stream) => stream.channel_binding(),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secured(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secured(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secured(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secured(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
