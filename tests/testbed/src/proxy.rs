//! A TCP proxy that cuts and stalls links.

use std::{net::SocketAddr, sync::mpsc, thread};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the proxy does with links at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Accepts and keeps everything open, and forwards nothing.
    Stall,
    /// Resets what is open and what comes.
    Cut,
}

/// Forwards connections from a port of its own on 127.0.0.1 to another one.
///
/// It has a thread of its own, so that it goes on while a test is busy. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// A proxy in front of `127.0.0.1:target_port`.
    #[must_use]
    pub fn start(target_port: u16) -> Self {
        let (mode, watched) = watch::channel(Mode::Pass);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let port = listener.local_addr().expect("it is bound").port();
                tell.send(port).expect("the starter waits");
                serve(listener, ([127, 0, 0, 1], target_port).into(), watched).await;
            });
        });
        Self { port: told.recv().expect("the proxy's thread says its port"), mode }
    }

    /// The proxy's port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same URL, with the way through this proxy instead of straight to `127.0.0.1:port`.
    #[must_use]
    pub fn detour(&self, url: &str, port: u16) -> String {
        url.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", self.port))
    }

    /// Resets every link (RST), and every new one too until [`resume`](Self::resume).
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Goes silent: links stay open, new ones are accepted, and not a byte passes until
    /// [`resume`](Self::resume).
    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }

    /// Forwards again; what was held back by a stall arrives.
    pub fn resume(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

/// Ends when the proxy is dropped; the runtime then drops, and so resets, what is open.
async fn serve(listener: TcpListener, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(link(client, target, mode.clone()));
                }
            }
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

async fn link(client: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    // Without lingering, dropping a socket resets the connection instead of closing it in order.
    let _ = client.set_zero_linger();
    let waited = mode.wait_for(|mode| *mode != Mode::Stall).await.map(|mode| *mode);
    if !matches!(waited, Ok(Mode::Pass)) {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = server.set_zero_linger();
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut cut = mode.clone();
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        _ = async { tokio::join!(pump(from_client, to_server, mode.clone()), pump(from_server, to_client, mode)) } => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let passing = mode.wait_for(|mode| *mode == Mode::Pass).await.is_ok();
        if !passing || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
