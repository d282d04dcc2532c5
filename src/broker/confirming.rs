//! Waiting for the broker's word on what was published, while more is.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_rt::task::JoinHandle;
use lapin::{Confirmation, ConnectionStatus, PublisherConfirm};
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use crate::{
    error::{Error, Result},
    postgres::within,
};

/// How long a message may wait for the broker's word.
pub(super) const CONFIRM_LIMIT: Duration = Duration::from_secs(60);

/// How often to look whether the broker, while it owes a word, has told that it accepts nothing.
const BLOCKED_INTERVAL: Duration = Duration::from_secs(1);

/// Hears whether the broker has all of a batch.
#[derive(Debug)]
pub struct Confirmed(oneshot::Receiver<()>);

impl Confirmed {
    /// Whether it has, as far as that is known. If not, none of the batch may be taken as published.
    pub fn known(&mut self) -> Option<bool> {
        match self.0.try_recv() {
            Ok(()) => Some(true),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(false),
        }
    }

    /// Waits until that is known.
    pub async fn wait(self) -> bool {
        self.0.await.is_ok()
    }
}

/// A message on which the broker owes a word.
struct Owed {
    confirm: PublisherConfirm,
    /// Who hears, with the last message of a batch, that it has them all.
    tell: Option<oneshot::Sender<()>>,
    _room: OwnedSemaphorePermit,
}

/// What became of them.
#[derive(Default)]
struct Fate {
    /// Why the connection is of no use any more.
    failure: RefCell<Option<Error>>,
    /// How often messages were given up.
    given_up: Cell<u64>,
    /// Whether any was confirmed.
    confirmed: Cell<bool>,
}

/// The window of messages that are published and not confirmed yet.
pub(super) struct Confirming {
    window: Arc<Semaphore>,
    owed: UnboundedSender<Owed>,
    fate: Rc<Fate>,
    /// How often messages had been given up when the batch at hand began.
    began: u64,
    task: JoinHandle<()>,
}

impl Confirming {
    /// A window of so many messages on this connection.
    pub(super) fn new(status: ConnectionStatus, window: usize) -> Self {
        let (owed, owing) = unbounded_channel();
        let (window, fate) = (Arc::new(Semaphore::new(window)), Rc::<Fate>::default());
        let (closing, told) = (Arc::clone(&window), Rc::clone(&fate));
        let task = actix_rt::spawn(async move {
            if let Err(error) = confirm(owing, &status, &told).await {
                *told.failure.borrow_mut() = Some(error);
            }
            closing.close();
        });
        Self { window, owed, fate, began: 0, task }
    }

    /// A batch begins.
    pub(super) fn begin(&mut self) {
        self.began = self.fate.given_up.get();
    }

    /// Whether anything was confirmed.
    pub(super) fn has_confirmed(&self) -> bool {
        self.fate.confirmed.get()
    }

    /// Whether no message failed.
    ///
    /// # Errors
    /// What became of the one that did.
    pub(super) fn check(&self) -> Result<()> {
        if self.window.is_closed() { Err(self.failure()) } else { Ok(()) }
    }

    /// Waits for room for a message.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) async fn room(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.window).acquire_owned().await.map_err(|_| self.failure())
    }

    /// Waits for the broker's word on a message; on the `last` one of a batch, on all of them.
    ///
    /// # Errors
    /// [`Error::Blocked`] if messages of the batch were given up.
    pub(super) fn owe(
        &self,
        room: OwnedSemaphorePermit,
        confirm: PublisherConfirm,
        last: bool,
    ) -> Result<Option<Confirmed>> {
        if self.fate.given_up.get() != self.began {
            return Err(Error::Blocked);
        }
        let (tell, hear) = if last { Some(oneshot::channel()).unzip() } else { (None, None) };
        // Where nobody waits any more, who hears is told so by that.
        let _ = self.owed.send(Owed { confirm, tell, _room: room });
        Ok(hear.map(Confirmed))
    }

    fn failure(&self) -> Error {
        let gone =
            || Error::Disconnected("broker: the publisher's connection is of no use any more".to_owned());
        self.fate.failure.take().unwrap_or_else(gone)
    }
}

impl Drop for Confirming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for the broker's word on each message in turn.
async fn confirm(mut owed: UnboundedReceiver<Owed>, status: &ConnectionStatus, fate: &Fate) -> Result<()> {
    while let Some(Owed { confirm, tell, _room }) = owed.recv().await {
        let doing = "waiting for a confirm";
        let confirming = async { confirm.await.map_err(Error::broker(doing)) };
        let confirming = within(CONFIRM_LIMIT, "broker: waiting for a confirm", confirming);
        match unless_blocked(status, confirming).await {
            // An acknowledged message that comes back reached no queue at all.
            Ok(Confirmation::Ack(Some(_))) => {
                return Err(Error::Disconnected(
                    "broker: a message reached no queue; the queues are declared again".to_owned(),
                ));
            }
            Ok(Confirmation::Ack(None)) => {
                fate.confirmed.set(true);
                if let Some(tell) = tell {
                    // Who gave the batch up does not listen.
                    let _ = tell.send(());
                }
            }
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => {
                return Err(Error::Disconnected("broker: a message was not accepted".to_owned()));
            }
            // The connection is good, and what was sent arrives later: all batches under way are given up.
            Err(Error::Blocked) => {
                fate.given_up.set(fate.given_up.get() + 1);
                while owed.try_recv().is_ok() {}
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for the broker's word, but not for that of one which says nothing until it has memory or disk again.
pub(super) async fn unless_blocked<T>(
    status: &ConnectionStatus,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let blocked = async {
        while !status.blocked() {
            tokio::time::sleep(BLOCKED_INTERVAL).await;
        }
    };
    tokio::select! {
        biased;
        result = work => result,
        () = blocked => Err(Error::Blocked),
    }
}
