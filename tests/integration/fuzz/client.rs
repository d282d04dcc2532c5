//! A client that says what the script has for it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use pgfanout_testbed::{eventually, world::Database};
use tokio_postgres::{Client, Error, error::SqlState};

use super::{
    failure::{Failure, Kind},
    script::{CLIENTS, End, Transaction},
};
use crate::support::PATIENCE;

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) committed: usize,
    /// Committed, rolled back or failed.
    pub(super) ended: usize,
    /// Statements that the primary took, and those that it refused.
    pub(super) taken: usize,
    pub(super) refused: usize,
}

/// A transaction of the script: its round, and its number there.
pub(super) type Place = (usize, usize);

/// What all clients did.
#[derive(Debug, Default)]
pub(super) struct Log {
    counts: Cell<Counts>,
    /// What was said in each transaction, by its id on the primary, and where it is in the script.
    said: RefCell<BTreeMap<u64, (Place, String)>>,
    /// What is prepared and waits: from which round on, and what to say then.
    prepared: RefCell<Vec<(usize, String)>>,
    /// How many were prepared to wait.
    waited: Cell<usize>,
    /// Whether the primary was ever killed, so that connections to it may break.
    outage: Cell<bool>,
}

impl Log {
    pub(super) fn counts(&self) -> Counts {
        self.counts.get()
    }

    /// What was said in these transactions, as far as clients said it.
    pub(super) fn said_in(&self, transactions: &[u64]) -> String {
        let said = self.said.borrow();
        let told =
            transactions.iter().filter_map(|id| Some(format!("\ntransaction {id}:{}", said.get(id)?.1)));
        told.collect()
    }

    /// Where these transactions are in the script.
    pub(super) fn places(&self, transactions: &[u64]) -> BTreeSet<Place> {
        let said = self.said.borrow();
        transactions.iter().filter_map(|id| Some(said.get(id)?.0)).collect()
    }

    /// Notes that the primary is to be killed.
    pub(super) fn outage(&self) {
        self.outage.set(true);
    }

    /// Whether a connection broke as it was to be expected.
    fn is_outage(&self, client: &Client, error: &Error) -> bool {
        let ending = error.code().is_some_and(|code| code.code().starts_with("57P"));
        self.outage.get() && (client.is_closed() || ending)
    }

    fn say(&self, transaction: u64, (number, place): (usize, Place), what: &str) {
        let mut said = self.said.borrow_mut();
        let (_, said) = said.entry(transaction).or_insert_with(|| (place, format!(" client {number}")));
        *said += "\n    ";
        *said += what;
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }
}

/// A connection, as soon as the primary takes one.
async fn connect(primary: &Database) -> Client {
    eventually(PATIENCE, "the primary takes connections", async || {
        let client = primary.try_client().await?;
        // What is prepared keeps its locks, and is no part of a deadlock.
        client.batch_execute("SET deadlock_timeout = '50ms'; SET lock_timeout = '150ms'").await?;
        Ok::<_, Error>(client)
    })
    .await
}

/// Ends what is prepared and waits for this round.
pub(super) async fn resolve(primary: &Database, round: usize, log: &Log) -> Result<(), Failure> {
    let (mut due, later): (Vec<_>, _) =
        log.prepared.take().into_iter().partition(|(after, _)| *after <= round);
    log.prepared.replace(later);
    let mut client = connect(primary).await;
    while let Some((_, end)) = due.last() {
        match client.batch_execute(end).await {
            Err(error) if log.is_outage(&client, &error) => client = connect(primary).await,
            // The primary was killed before it was prepared, or while it was told how to end it.
            Err(error) if log.outage.get() && error.code() == Some(&SqlState::UNDEFINED_OBJECT) => {
                due.pop();
            }
            ended => {
                ended.map_err(Failure::bench)?;
                due.pop();
            }
        }
    }
    Ok(())
}

/// Runs these transactions of a round, each with its number there, one after the other.
pub(super) async fn run(
    primary: &Database,
    number: usize,
    round: usize,
    transactions: Vec<(usize, &Transaction)>,
    log: &Log,
) -> Result<(), Failure> {
    let mut client = connect(primary).await;
    for (n, transaction) in transactions {
        let name = format!("{number}_{}", log.counts().ended);
        if client.is_closed() {
            client = connect(primary).await;
        }
        let committed = perform(&client, number, &name, (round, n), transaction, log).await?;
        log.count(|counts| {
            counts.committed += usize::from(committed);
            counts.ended += 1;
        });
    }
    Ok(())
}

/// One transaction, between the two witnesses; whether it was committed.
async fn perform(
    client: &Client,
    number: usize,
    name: &str,
    place: Place,
    transaction: &Transaction,
    log: &Log,
) -> Result<bool, Failure> {
    let Transaction { begin, steps, forgiving, end, .. } = transaction;
    let (round, waited) = (place.0, log.waited.get());
    if end.is_late() {
        log.waited.set(waited + 1);
    }
    let witness = |which: &str| match end.is_late() {
        // The client's own row would be locked until the end.
        true => format!("INSERT INTO public.witness_{which} VALUES ({}, 1)", CLIENTS + waited),
        false => format!("UPDATE public.witness_{which} SET number = number + 1 WHERE client = {number}"),
    };
    let said = async {
        // Triggers that write tables which write others could double their rows without an end.
        let bounded = "SET LOCAL statement_timeout = '2s'";
        client.batch_execute(&format!("{begin}; {bounded}; {}", witness("a"))).await?;
        let id = client.query_one("SELECT pg_current_xact_id()::text", &[]).await?;
        let id: u64 = id.get::<_, &str>(0).parse().expect("a transaction's id");
        let say = |what: &str| log.say(id, (number, place), what);
        say(begin);
        for step in steps {
            let said = match forgiving {
                true => format!("SAVEPOINT here; {}; RELEASE here", step.sql),
                false => step.sql.clone(),
            };
            let taken = client.batch_execute(&said).await;
            log.count(|counts| match taken {
                Ok(()) => counts.taken += 1,
                Err(_) => counts.refused += 1,
            });
            say(&format!("{}{}", if taken.is_ok() { "" } else { "(refused) " }, step.sql));
            match taken {
                Err(error) if !forgiving || is_nonsense(&error) || client.is_closed() => return Err(error),
                Err(_) => client.batch_execute("ROLLBACK TO here").await?,
                Ok(()) => {}
            }
        }
        client.batch_execute(&witness("b")).await?;
        say(&format!("{end:?}"));
        match end {
            End::Commit => client.batch_execute("COMMIT").await?,
            End::Rollback => client.batch_execute("ROLLBACK").await?,
            End::Prepared { commit, rounds } => {
                client.batch_execute(&format!("PREPARE TRANSACTION '{name}'")).await?;
                let resolved = resolved(*commit, name);
                match rounds {
                    0 => client.batch_execute(&resolved).await?,
                    _ => log.prepared.borrow_mut().push((round + rounds, resolved)),
                }
            }
        }
        Ok::<_, Error>(end.commits())
    };
    match said.await {
        Ok(committed) => Ok(committed),
        Err(error) if log.is_outage(client, &error) => {
            // It may be prepared.
            if let End::Prepared { commit, rounds } = end {
                log.prepared.borrow_mut().push((round + rounds, resolved(*commit, name)));
            }
            Ok(false)
        }
        Err(error) if is_nonsense(&error) => {
            let said: Vec<_> = steps.iter().map(|step| &*step.sql).collect();
            Err(Failure::new(Kind::Nonsense, format!("{error:?}\nin {}", said.join(";\n"))))
        }
        Err(_) => match client.batch_execute("ROLLBACK").await {
            Err(error) if log.is_outage(client, &error) => Ok(false),
            ended => ended.map(|()| false).map_err(Failure::bench),
        },
    }
}

fn resolved(commit: bool, name: &str) -> String {
    format!("{} PREPARED '{name}'", if commit { "COMMIT" } else { "ROLLBACK" })
}

/// What no server takes, whatever is in its tables; or the connection is gone.
fn is_nonsense(error: &Error) -> bool {
    error.code().is_none_or(|code| ["42", "XX"].iter().any(|class| code.code().starts_with(class)))
}
