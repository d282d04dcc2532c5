//! A TCP proxy that breaks links in every way that networks do.

mod link;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch};

/// A way on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What the client says.
    ToServer,
    /// What the server says.
    ToClient,
}

/// What happens to links at the moment, until [`Proxy::resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Links are reset, those that are open and those that come.
    Cut,
    /// Nothing passes on this way, or on none (`None`), and what was said is lost. Links that were there
    /// meanwhile stay so for ever, as behind a router that forgot them; only new ones are well afterwards.
    Silence(Option<Way>),
    /// What is open is reset; what comes is accepted, and never hears anything, also afterwards.
    Mute,
    /// Nothing passes, and everything arrives afterwards.
    Stall,
    /// Everything arrives that much later.
    Delay(Duration),
    /// So many bytes pass in a second, on each link and way; at most 1,300,000.
    Slow(u32),
}

/// What the proxy does at the moment.
#[derive(Clone, Copy, Debug, Default)]
struct Condition {
    fault: Option<Fault>,
    /// Links with smaller numbers are dead on the way to the server, and on that to the client.
    dead_before: [u64; 2],
    /// Links with smaller numbers are reset.
    cut_before: u64,
}

/// An answer that is to be lost.
#[derive(Debug)]
struct Loss {
    way: Way,
    needle: Vec<u8>,
    happened: AtomicBool,
}

/// What all links of a proxy share.
#[derive(Debug, Default)]
struct Shared {
    /// The number of the next link.
    next: AtomicU64,
    /// Only links on which the client says this are meant; the others pass.
    mark: Option<Vec<u8>>,
    /// What is to be lost.
    loss: Mutex<Option<Arc<Loss>>>,
}

/// Forwards connections from a port of its own on 127.0.0.1 to another one.
///
/// It has a thread of its own, so that it goes on while a test is busy. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    condition: watch::Sender<Condition>,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy in front of `127.0.0.1:target_port`.
    #[must_use]
    pub fn start(target_port: u16) -> Self {
        Self::start_shared(target_port, Shared::default())
    }

    /// A proxy whose faults mean only links on which the client says `mark` early, such as its name; a link
    /// that has not said it passes.
    #[must_use]
    pub fn start_for(mark: &str, target_port: u16) -> Self {
        Self::start_shared(target_port, Shared { mark: Some(mark.into()), ..Shared::default() })
    }

    fn start_shared(target_port: u16, shared: Shared) -> Self {
        let (condition, watched) = watch::channel(Condition::default());
        let (tell, told) = mpsc::channel();
        let shared = Arc::new(shared);
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let port = listener.local_addr().expect("it is bound").port();
                tell.send(port).expect("the starter waits");
                link::serve(listener, ([127, 0, 0, 1], target_port).into(), watched, theirs).await;
            });
        });
        Self { port: told.recv().expect("the proxy's thread says its port"), condition, shared }
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

    /// Does this to links from now on.
    pub fn fault(&self, fault: Fault) {
        self.condition.send_modify(|condition| {
            condition.fault = Some(fault);
            if fault == Fault::Mute {
                condition.cut_before = self.shared.next.load(Ordering::SeqCst);
            }
        });
    }

    /// Resets every link (RST), and every new one too until [`resume`](Self::resume).
    pub fn cut(&self) {
        self.fault(Fault::Cut);
    }

    /// Goes silent: links stay open, new ones are accepted, and not a byte passes until
    /// [`resume`](Self::resume).
    pub fn stall(&self) {
        self.fault(Fault::Stall);
    }

    /// Forwards again; what was held back by a stall arrives.
    pub fn resume(&self) {
        self.condition.send_modify(|condition| {
            let next = self.shared.next.load(Ordering::SeqCst);
            let dead = match condition.fault.take() {
                Some(Fault::Silence(way)) => way.map_or(vec![0, 1], |way| vec![way as usize]),
                Some(Fault::Mute) => vec![0, 1],
                _ => Vec::new(),
            };
            for way in dead {
                condition.dead_before[way] = next;
            }
        });
    }

    /// Once, when these bytes come on this way, they are lost and the link is reset: what was asked for is
    /// done, and the answer is lost, or what was asked for is lost.
    pub fn lose(&self, way: Way, needle: &[u8]) {
        let loss = Loss { way, needle: needle.to_owned(), happened: AtomicBool::new(false) };
        *self.shared.loss.lock().unwrap() = Some(Arc::new(loss));
    }

    /// Whether what was to be [lost](Self::lose) was.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.shared.loss.lock().unwrap().as_ref().is_some_and(|loss| loss.happened.load(Ordering::SeqCst))
    }
}
