//! Rows that are looked for on both replicas: how long a commit takes to be seen there.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_postgres::{AsyncMessage, Client, NoTls, Statement};

use super::stage::{Stage, System};

/// For what should take milliseconds.
const SOON: Duration = Duration::from_secs(120);

/// Has a replica notify of each probe as it is committed there: cheaper, and closer, than looking for it.
pub(crate) async fn tell(replica: &Client) {
    let tell = "CREATE OR REPLACE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_catalog.pg_notify(''probe'', new.n::text); RETURN NULL; END';
        CREATE OR REPLACE TRIGGER tell AFTER INSERT ON public.probe FOR EACH ROW EXECUTE FUNCTION public.tell();
        ALTER TABLE public.probe ENABLE ALWAYS TRIGGER tell";
    replica.batch_execute(tell).await.expect("the table is there");
}

/// Writes probes and hears of them.
pub(crate) struct Prober {
    pub(crate) writer: Client,
    insert: Statement,
    heard: UnboundedReceiver<(i64, Instant)>,
    /// Probes that were written, and when they were seen by which of the replicas.
    seen: BTreeMap<i64, Vec<Instant>>,
    next: i64,
    replicas: usize,
    _listeners: Vec<Client>,
}

impl Prober {
    /// For a system that replicates, or else one that hears nothing.
    pub(crate) async fn new(stage: &Stage, system: System) -> Self {
        let (sender, heard) = unbounded_channel();
        let mut listeners = Vec::new();
        if system.replicates() {
            for replica in stage.present(system) {
                listeners.push(listen(&replica.url(system.database()), sender.clone()).await);
            }
        }
        let writer = stage.client(system).await;
        let next = writer.query_one("SELECT coalesce(max(n), 0) + 1 FROM probe", &[]).await.unwrap().get(0);
        let insert = writer.prepare("INSERT INTO probe VALUES ($1)").await.unwrap();
        let replicas = listeners.len();
        Self { writer, insert, heard, seen: BTreeMap::new(), next, replicas, _listeners: listeners }
    }

    /// The number of the next probe, for a statement of the caller's own.
    pub(crate) fn number(&mut self) -> i64 {
        self.next += 1;
        self.next - 1
    }

    /// Commits a probe; returns its number.
    pub(crate) async fn write(&mut self) -> i64 {
        let number = self.number();
        self.writer.execute(&self.insert, &[&number]).await.expect("the table is there");
        number
    }

    /// When both replicas showed the probe; at once where there are none.
    pub(crate) async fn seen(&mut self, number: i64) -> Instant {
        loop {
            let seen = self.seen.get(&number).filter(|seen| seen.len() >= self.replicas);
            match seen.and_then(|seen| seen.iter().max()) {
                Some(&at) => return at,
                None if self.replicas == 0 => return Instant::now(),
                None => {}
            }
            let heard = tokio::time::timeout(SOON, self.heard.recv()).await;
            let (number, at) = heard.expect("probes arrive").expect("somebody listens");
            self.seen.entry(number).or_default().push(at);
        }
    }
}

async fn listen(url: &str, sender: UnboundedSender<(i64, Instant)>) -> Client {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.expect("the replica is up");
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(told) = message {
                let _ = sender.send((told.payload().parse().expect("a number"), Instant::now()));
            }
        }
    });
    client.batch_execute("LISTEN probe").await.expect("it can listen");
    client
}
