//! Plays a case on real servers.

use std::{
    cell::Cell,
    path::PathBuf,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use pgfanout_testbed::{
    compare::{same_shared_columns, same_tables},
    postgres::Cluster,
    process::Pgfanout,
    proxy::Proxy,
    world::{Database, World},
};
use serde_json::Value;

use super::{
    check::Checker,
    client::{self, Counts, Log},
    failure::{Failure, Kind},
    history,
    replica::There,
    script::{CLIENTS, Case, Fault, Round, Servers, Transaction},
};
use crate::{
    broker_faults::Vandal,
    supervision::end_sessions,
    support::{Mode, PATIENCE, program, world},
    types,
};

/// Between two looks, so that there is time for the others.
pub(super) const PAUSE: Duration = Duration::from_millis(15);

/// How long what is stopped stays so.
const STOPPED: Duration = Duration::from_millis(500);

/// What was done, for whoever wants to know that something was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) counts: Counts,
    /// Moments of the replica that were compared.
    pub(super) moments: usize,
}

/// Servers for the seed, and the case that is played there.
pub(super) async fn prepare(seed: u64) -> (World, Case) {
    let world = build(Servers::plan(seed)).await;
    // The types have to be there to be known. They are made again for the case.
    world.primary().execute(types::OWN).await;
    let types = types::types(&world).await;
    let version = "SELECT current_setting('server_version_num')::int >= 150000";
    let merge = world.primary().client().await.query_one(version, &[]).await.unwrap().get(0);
    world.primary().execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    let case = Case::generate(seed, &types, merge);
    (world, case)
}

/// Servers of this kind.
pub(super) async fn build(servers: Servers) -> World {
    let plan = world(servers.mode, 1);
    if !servers.own {
        return plan.build().await;
    }
    // What a commit does not flush nobody else flushes soon, so that a kill loses it.
    let two_phases = ("max_prepared_transactions", if servers.two_phases { "20" } else { "0" });
    let primary = [("synchronous_commit", "off"), ("wal_writer_delay", "10s"), two_phases];
    let plan = plan.own_primary(&primary).own_replicas();
    let plan = if servers.mode == Mode::Broker { plan.own_broker() } else { plan };
    plan.build().await
}

/// Plays the case in servers of its own, and does the harm to the replica from outside as soon as it follows.
pub(super) async fn replay(case: &Case, harm: Option<&str>) -> Result<Done, Failure> {
    let world = build(case.servers).await;
    let played = play(case, &world, harm).await;
    leave(world).await;
    played
}

/// Removes the world while everybody else goes on: its databases can't go while a server waits for who does not read.
pub(super) async fn leave(world: World) {
    tokio::task::spawn_blocking(|| drop(world)).await.expect("it does not panic");
}

/// Plays the case in this empty world.
pub(super) async fn play(case: &Case, world: &World, harm: Option<&str>) -> Result<Done, Failure> {
    let primary = world.primary().client().await;
    let alone = case.made.iter().flat_map(|&place| case.tables[place].primary_alone.iter().cloned());
    for statement in case.setup().into_iter().chain(history::setup(case)).chain(alone) {
        let made = primary.batch_execute(&statement).await;
        made.map_err(|error| Failure::new(Kind::Nonsense, format!("{statement}: {error:?}")))?;
    }
    if case.there != There::Nothing {
        let witnesses =
            history::setup(case).into_iter().filter(|made| made.starts_with("CREATE TABLE public"));
        for statement in case.setup().into_iter().chain(witnesses) {
            world.replica(1).execute(&statement).await;
        }
    }
    if case.there == There::Own {
        for statement in case.own_setup() {
            world.replica(1).execute(&statement).await;
        }
    }
    let log = Log::default();
    match rounds(case, world, harm, &log).await {
        Ok(moments) => Ok(Done { counts: log.counts(), moments }),
        Err(mut failure) => {
            failure.text += &log.said_in(&failure.transactions);
            failure.places = log.places(&failure.transactions);
            failure.text += &history::logged(world.primary(), &failure.transactions).await;
            Err(failure)
        }
    }
}

/// All rounds; how many moments were seen.
async fn rounds(case: &Case, world: &World, harm: Option<&str>, log: &Log) -> Result<usize, Failure> {
    let mut stage = Stage::new(case, world);
    if case.amid {
        stage.begin();
    }
    let (first, others) = case.rounds.split_first().expect("there is one");
    clients(case, world.primary(), 0, &first.transactions, log).await?;
    if !case.amid {
        stage.begin();
    }
    let mut checker = Checker::new(case, world);
    stage.settle(&mut checker).await?;
    if let Some(harm) = harm {
        world.replica(1).execute(harm).await;
    }
    for (number, round) in others.iter().enumerate() {
        stage.round(number + 1, round, &mut checker, log).await?;
        stage.settle(&mut checker).await?;
    }
    client::resolve(world.primary(), usize::MAX, log).await?;
    stage.settle(&mut checker).await?;
    Ok(checker.moments)
}

/// Everybody does what the script says; in order, or at the same time.
async fn clients(
    case: &Case,
    primary: &Database,
    round: usize,
    transactions: &[Transaction],
    log: &Log,
) -> Result<(), Failure> {
    let of = |client: usize| {
        let all = transactions.iter().enumerate();
        let own = all.filter(move |(_, one)| case.sequential || one.client == client);
        async move { client::run(primary, client, round, own.collect(), log).await }
    };
    let clients = if case.sequential { 1 } else { CLIENTS };
    join_all((0..clients).map(of)).await.into_iter().collect()
}

/// pgfanout, with a proxy on each way.
struct Stage<'a> {
    case: &'a Case,
    world: &'a World,
    config: PathBuf,
    /// To the primary, the replica and the broker.
    links: Vec<Proxy>,
    pgfanout: Option<Pgfanout>,
}

impl<'a> Stage<'a> {
    fn new(case: &'a Case, world: &'a World) -> Self {
        let per_message = format!("max_changes_per_message = {}", case.max_changes_per_message);
        let primary = format!("exclude = [\"audit.*\"]\nold_record = \"{}\"", case.old_record);
        let mut config = world.config().primary(&primary).broker(&per_message);
        let (primary_port, replica_port) =
            (world.primary().cluster().port(), world.replica(1).cluster().port());
        let mut links = vec![Proxy::start(primary_port), Proxy::start(replica_port)];
        config.primary.url = links[0].detour(&config.primary.url, primary_port);
        config.replicas[0].url = links[1].detour(&config.replicas[0].url, replica_port);
        if let Some(broker) = &mut config.broker {
            let proxy = Proxy::start(world.broker().port());
            broker.urls = vec![proxy.detour(&broker.urls[0], world.broker().port())];
            links.push(proxy);
        }
        Self { case, world, config: config.write(), links, pgfanout: None }
    }

    fn begin(&mut self) {
        self.pgfanout = Some(program().run(&self.config));
    }

    /// Clients write, things happen, and the replica is looked at all the time.
    async fn round(
        &mut self,
        number: usize,
        round: &Round,
        checker: &mut Checker<'_>,
        log: &Log,
    ) -> Result<(), Failure> {
        let (case, world) = (self.case, self.world);
        let (before, writing) = (log.counts().ended, Cell::new(true));
        let write = async {
            let written = clients(case, world.primary(), number, &round.transactions, log).await;
            writing.set(false);
            written
        };
        let observe = async {
            while writing.get() {
                checker.look().await?;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        };
        let ended = async |after: usize| {
            while writing.get() && log.counts().ended < before + after {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let happen = async {
            let mut faults = round.faults.clone();
            faults.sort_by_key(|(after, _)| *after);
            for (after, fault) in faults {
                ended(after).await;
                self.befall(fault, log, ended(round.transactions.len())).await?;
            }
            Ok(())
        };
        let resolve = async {
            ended(round.transactions.len() / 2).await;
            client::resolve(world.primary(), number, log).await
        };
        let (written, observed, happened, resolved) = tokio::join!(write, observe, happen, resolve);
        written.and(observed).and(happened).and(resolved)?;
        // What was prepared when the primary was killed.
        client::resolve(world.primary(), number, log).await
    }

    /// The fault happens while the round is `written`.
    async fn befall(
        &mut self,
        fault: Fault,
        log: &Log,
        written: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        match fault {
            Fault::Kill | Fault::Terminate | Fault::Away => {
                let mut pgfanout = self.pgfanout.take().expect("it was begun");
                if fault == Fault::Terminate {
                    pgfanout.terminate().await;
                } else {
                    pgfanout.kill9().await;
                }
                if fault == Fault::Away {
                    written.await;
                }
                self.begin();
                said(&pgfanout)?;
            }
            Fault::Stop => {
                let pgfanout = self.pgfanout.as_ref().expect("it was begun");
                pgfanout.pause();
                tokio::time::sleep(STOPPED).await;
                pgfanout.resume();
            }
            Fault::KillPrimary => {
                log.outage();
                restart(self.world.primary().cluster()).await;
            }
            Fault::KillReplica => restart(self.world.replica(1).cluster()).await,
            Fault::KillBroker => {
                self.world.broker().kill9().await;
                self.world.broker().start_again().await;
            }
            Fault::StopPrimary => stop(self.world.primary().cluster()).await,
            Fault::StopReplica => stop(self.world.replica(1).cluster()).await,
            Fault::StopBroker => {
                self.world.broker().pause();
                tokio::time::sleep(STOPPED).await;
                self.world.broker().resume();
            }
            Fault::EndSessionsOfPrimary => drop(end_sessions(self.world.primary()).await),
            Fault::EndSessionsOfReplica => drop(end_sessions(self.world.replica(1)).await),
            Fault::CutPrimary => self.cut(0).await,
            Fault::CutReplica => self.cut(1).await,
            Fault::CutBroker => self.cut(2).await,
            Fault::Purge | Fault::DeleteQueue | Fault::Unbind | Fault::DeleteExchange => {
                self.harm_broker(fault).await;
            }
        }
        Ok(())
    }

    /// What this is done to need not be there.
    async fn harm_broker(&self, fault: Fault) {
        let Vandal { channel, .. } = &Vandal::new(self.world).await;
        let (queue, exchange) = (self.world.queue(1).into(), self.world.exchange().into());
        match fault {
            Fault::Purge => drop(channel.queue_purge(queue, Default::default()).await),
            Fault::DeleteQueue => drop(channel.queue_delete(queue, Default::default()).await),
            Fault::Unbind => {
                drop(channel.queue_unbind(queue, exchange, "".into(), Default::default()).await);
            }
            _ => drop(channel.exchange_delete(exchange, Default::default()).await),
        }
    }

    /// For a moment, in which it may try again.
    async fn cut(&self, link: usize) {
        self.links[link].cut();
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.links[link].resume();
    }

    /// Waits until the replica equals the primary.
    async fn settle(&mut self, checker: &mut Checker<'_>) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let seen = checker.look().await?;
            self.said()?;
            let same = if seen { self.same().await } else { Err("no moment to be seen".to_owned()) };
            match same {
                Ok(()) => return Ok(()),
                Err(difference) if started.elapsed() > PATIENCE => {
                    return Err(Failure::new(Kind::Late, difference));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn same(&self) -> Result<(), String> {
        let here = self.world.primary().look().await.map_err(|error| error.to_string())?;
        let there = self.world.replica(1).look().await.map_err(|error| error.to_string())?;
        match self.case.there {
            There::Own => same_shared_columns(&here, &there, &self.case.names()).await,
            _ => same_tables(&here, &there, &self.case.names()).await,
        }
    }

    fn said(&mut self) -> Result<(), Failure> {
        let pgfanout = self.pgfanout.as_mut().expect("it was begun");
        said(pgfanout)?;
        if pgfanout.is_running() {
            return Ok(());
        }
        Err(Failure::new(Kind::Said, format!("pgfanout ended: {:?}", pgfanout.lines().last())))
    }
}

async fn restart(server: &Cluster) {
    server.kill9().await;
    server.start_again().await;
}

async fn stop(server: &Cluster) {
    server.pause();
    tokio::time::sleep(STOPPED).await;
    server.resume();
}

/// No line of its log may be an alarm.
fn said(pgfanout: &Pgfanout) -> Result<(), Failure> {
    let alarm = |line: &Value| line["level"] == "ERROR" || line["event"] == "copy_anew";
    match pgfanout.log().into_iter().find(alarm) {
        Some(line) => Err(Failure::new(Kind::Said, line.to_string())),
        None => Ok(()),
    }
}
