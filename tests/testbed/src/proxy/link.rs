//! One connection through the proxy.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, watch},
    time::Instant,
};

use super::{Condition, Fault, Shared, Way};

/// Ends when the proxy is dropped; the runtime then drops, and so resets, what is open.
pub(super) async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    mut condition: watch::Receiver<Condition>,
    shared: Arc<Shared>,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    let number = shared.next.fetch_add(1, Ordering::SeqCst);
                    let meant = Arc::new(AtomicBool::new(shared.mark.is_none()));
                    let link = Link { number, condition: condition.clone(), shared: Arc::clone(&shared), meant, broken: Arc::default() };
                    tokio::spawn(link.run(client, target));
                }
            }
            changed = condition.changed() => if changed.is_err() { return },
        }
    }
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due.filter(|due| *due > Instant::now()) {
        tokio::time::sleep_until(due).await;
    }
}

#[derive(Clone)]
struct Link {
    number: u64,
    condition: watch::Receiver<Condition>,
    shared: Arc<Shared>,
    /// Whether faults mean this link.
    meant: Arc<AtomicBool>,
    /// Told when the link is to be reset.
    broken: Arc<Notify>,
}

impl Link {
    async fn run(mut self, client: TcpStream, target: SocketAddr) {
        // Without lingering, dropping a socket resets the connection instead of closing it in order.
        let _ = client.set_zero_linger();
        if self.wait_while(|link, condition| link.stalls(condition)).await.is_none() {
            return;
        }
        let Ok(server) = TcpStream::connect(target).await else { return };
        let _ = server.set_zero_linger();
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let (up, down, broken) = (self.clone(), self.clone(), Arc::clone(&self.broken));
        tokio::select! {
            _ = async { tokio::join!(
                up.pump(Way::ToServer, from_client, to_server),
                down.pump(Way::ToClient, from_server, to_client),
            ) } => {}
            _ = self.wait_while(|link, condition| !link.is_cut(condition)) => {}
            () = broken.notified() => {}
        }
    }

    fn is_meant(&self) -> bool {
        self.meant.load(Ordering::SeqCst)
    }

    fn is_cut(&self, condition: &Condition) -> bool {
        self.is_meant() && (condition.fault == Some(Fault::Cut) || self.number < condition.cut_before)
    }

    fn stalls(&self, condition: &Condition) -> bool {
        self.is_meant() && condition.fault == Some(Fault::Stall)
    }

    /// Whether what is said on this way is lost.
    fn is_dead(&self, way: Way) -> bool {
        let condition = *self.condition.borrow();
        let silent = match condition.fault {
            Some(Fault::Silence(which)) => which.is_none_or(|which| which == way),
            Some(Fault::Mute) => true,
            _ => false,
        };
        self.is_meant() && (silent || self.number < condition.dead_before[way as usize])
    }

    /// `None` when the proxy is gone.
    async fn wait_while(&mut self, held: impl Fn(&Self, &Condition) -> bool) -> Option<()> {
        loop {
            let condition = *self.condition.borrow_and_update();
            if !held(self, &condition) {
                return Some(());
            }
            self.condition.changed().await.ok()?;
        }
    }

    /// Carries one way of the link. An end is something that is said, too.
    async fn pump(mut self, way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 * 1024];
        let mut delayed = VecDeque::<(Instant, Vec<u8>)>::new();
        let mut last = Vec::new();
        let mut ended = false;
        loop {
            let Condition { fault, .. } = *self.condition.borrow();
            let most = match fault {
                Some(Fault::Slow(rate)) if self.is_meant() => rate as usize / 20,
                _ => buffer.len(),
            };
            let due = delayed.front().map(|(due, _)| *due);
            tokio::select! {
                read = from.read(&mut buffer[..most]), if !ended && delayed.len() < 1000 => {
                    let bytes = match read {
                        Ok(length @ 1..) => &buffer[..length],
                        _ if self.is_dead(way) => std::future::pending().await,
                        _ => {
                            ended = true;
                            &[]
                        }
                    };
                    self.recognize(way, bytes);
                    if self.loses(way, &mut last, bytes) {
                        self.broken.notify_one();
                        return;
                    }
                    let delay = match fault {
                        Some(Fault::Delay(delay)) if self.is_meant() => delay,
                        _ => Duration::ZERO,
                    };
                    if most < buffer.len() {
                        tokio::time::sleep(Duration::from_secs_f64(bytes.len() as f64 / (most * 20) as f64)).await;
                    }
                    delayed.push_back((Instant::now() + delay, bytes.to_vec()));
                }
                () = until(due), if due.is_some() => {
                    if self.wait_while(|link, condition| link.stalls(condition)).await.is_none() {
                        return;
                    }
                    let Some((_, bytes)) = delayed.pop_front() else { return };
                    if self.is_dead(way) {
                        continue;
                    }
                    if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
                        // Who wrote to nobody would hear of it on the other way.
                        let other = if way == Way::ToServer { Way::ToClient } else { Way::ToServer };
                        if !bytes.is_empty() && self.is_dead(other) {
                            std::future::pending::<()>().await;
                        }
                        return;
                    }
                }
            }
        }
    }

    /// Whether this is a link that faults mean shows at its beginning.
    fn recognize(&self, way: Way, bytes: &[u8]) {
        if let Some(mark) = &self.shared.mark
            && way == Way::ToServer
            && !self.is_meant()
            && bytes.windows(mark.len()).any(|window| window == mark)
        {
            self.meant.store(true, Ordering::SeqCst);
        }
    }

    /// Whether the bytes complete what is to be lost.
    fn loses(&self, way: Way, last: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let loss = self.shared.loss.lock().unwrap().clone();
        let Some(loss) = loss.filter(|loss| loss.way == way && self.is_meant()) else { return false };
        last.extend_from_slice(bytes);
        let found = last.windows(loss.needle.len()).any(|window| window == loss.needle);
        last.drain(..last.len().saturating_sub(loss.needle.len() - 1));
        found && !loss.happened.swap(true, Ordering::SeqCst)
    }
}
