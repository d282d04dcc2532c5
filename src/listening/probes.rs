//! What wakes the listener: notifications, some of which ask for a sign that changes flow.

use std::{cell::Cell, rc::Rc};

use futures_util::StreamExt as _;
use tokio_postgres::AsyncMessage;

use crate::{
    error::Result,
    pg_listener::Waker,
    postgres::{Database, Session},
    primary::look::SETTINGS,
};

/// What is sent along with a notification where a batch is wanted even if nothing changed: `sql/primary/probe.sql`.
const PROBE: &str = "probe";

/// How often that was asked for, and which of it was answered last.
#[derive(Debug, Default)]
pub(super) struct Probes {
    asked: Rc<Cell<u64>>,
    answered: u64,
}

impl Probes {
    /// The last one, if it is not answered yet. What is committed before it is seen by whatever is cut from now on.
    pub(super) fn asked(&self) -> Option<u64> {
        Some(self.asked.get()).filter(|asked| *asked != self.answered)
    }

    /// What was cut since it was asked for is on its way.
    pub(super) fn answer(&mut self, asked: Option<u64>) {
        self.answered = asked.unwrap_or(self.answered);
    }

    /// Opens the connection whose notifications wake the listener.
    pub(super) async fn listen(&self, primary: &Database, waker: Waker) -> Result<Session> {
        let (mut session, mut connection) = primary.open("pgfanout listener").await?;
        let asked = Rc::clone(&self.asked);
        actix_rt::spawn(async move {
            let mut messages = futures_util::stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(told) = message {
                    asked.set(asked.get() + u64::from(told.payload() == PROBE));
                    waker.wake();
                }
            }
            // The next statement finds the connection gone.
            waker.wake();
        });
        session.set_up().await?;
        session.run("setting up the listener", SETTINGS).await?;
        Ok(session)
    }
}
