//! Faults at random, of every kind, one after the other and several at a time, under load. `make soak` runs
//! it for as long as asked; the seed that it prints repeats its choices.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::join;
use lapin::options::QueueDeclareOptions;
use pgfanout_testbed::{
    eventually,
    postgres::{Cluster, Shutdown, connect},
    proxy::{Fault, Way},
    world::{Database, World},
};
use tokio::task::JoinHandle;

use crate::{
    bank,
    broker_faults::{Vandal, alarm},
    links::Linked,
    load::{self, Load, until_arrived},
    lost_answers::{ANSWERS, Answer, Link as LinkOf},
    messages::meddled::meddle,
    supervision::end_sessions,
    support::{Mode, PATIENCE, until_same, world},
};

const REPLICAS: usize = 2;

/// From so many seconds on it is the long form.
const LONG: u64 = 300;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// The bank's clients and observers, who come back after every outage.
struct Observed {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
    observers: Vec<JoinHandle<()>>,
}

impl Observed {
    fn start(linked: &Linked, random: &mut fastrand::Rng) -> Self {
        let (stop, looks) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |_| {
            let (url, seed, stop) = (linked.world.primary().url(), random.u64(..), Arc::clone(&stop));
            tokio::spawn(transfer(url, seed, stop))
        };
        let clients = (0..3).map(client).collect();
        let observer = |replica: &Database| {
            tokio::spawn(observe(replica.to_string(), replica.url(), Arc::clone(&looks), Arc::clone(&stop)))
        };
        let observers = linked.world.replicas().iter().map(observer).collect();
        Self { stop, looks, clients, observers }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Relaxed);
        for task in self.clients.into_iter().chain(self.observers) {
            task.await.unwrap();
        }
        self.looks.load(Relaxed)
    }
}

async fn transfer(url: String, seed: u64, stop: Arc<AtomicBool>) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !stop.load(Relaxed) {
        if let Ok(client) = connect(&url).await
            && client.batch_execute("SET deadlock_timeout = '50ms'").await.is_ok()
        {
            while !stop.load(Relaxed) {
                // Whatever the reason, the transaction is not there, or it is whole.
                let failed = bank::transfer(&client, &mut random).await.is_err();
                if failed && client.batch_execute("ROLLBACK").await.is_err() {
                    break;
                }
                pause(random.u64(0..40)).await;
            }
        }
        pause(50).await;
    }
}

async fn observe(name: String, url: String, looks: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    while !stop.load(Relaxed) {
        if let Ok(client) = connect(&url).await {
            while let Ok(row) = client.query_one(bank::OBSERVE, &[]).await {
                // While tables are copied they show no moment together.
                if row.get::<_, bool>("joined") {
                    let (money, unexplained): (i64, i64) = (row.get("money"), row.get("unexplained"));
                    assert_eq!((money, unexplained), (bank::MONEY, 0), "{name}");
                    looks.fetch_add(1, Relaxed);
                }
                if stop.load(Relaxed) {
                    return;
                }
                pause(20).await;
            }
        }
        pause(50).await;
    }
}

async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    KillPgfanout,
    TerminatePgfanout,
    KillBroker,
    KillReplica(usize),
    StopReplica(usize, Shutdown),
    KillPrimary,
    StopPrimary(Shutdown),
    PutBackReplica(usize),
    Link(usize, Fault),
    Lose(usize, Answer),
    EndSessions(usize),
    Purge(usize),
    DeleteQueue(usize),
    Unbind(usize),
    DeleteExchange,
    WipeBroker,
    Alarm,
    Foreign(usize),
    Meddle(usize),
}

fn choose(random: &mut fastrand::Rng) -> Event {
    let replica = random.usize(1..=REPLICAS);
    let shutdown = if random.bool() { Shutdown::Fast } else { Shutdown::Immediate };
    match random.u8(0..30) {
        0..3 => Event::KillPgfanout,
        3 => Event::TerminatePgfanout,
        4 => Event::KillBroker,
        5 => Event::KillReplica(replica),
        6 => Event::StopReplica(replica, shutdown),
        7 => Event::KillPrimary,
        8 => Event::StopPrimary(shutdown),
        9..15 => Event::Link(random.usize(0..2 + 2 * REPLICAS), fault(random)),
        15..17 => Event::EndSessions(random.usize(0..=REPLICAS)),
        17..19 => Event::Purge(replica),
        19 => Event::DeleteQueue(replica),
        20 => Event::Unbind(replica),
        21 => Event::DeleteExchange,
        22 => Event::WipeBroker,
        23 => Event::Alarm,
        24 => Event::Foreign(replica),
        25 => Event::Meddle(replica),
        26 => Event::PutBackReplica(replica),
        _ => Event::Lose(replica, *random.choice(&ANSWERS).expect("there are some")),
    }
}

fn fault(random: &mut fastrand::Rng) -> Fault {
    match random.u8(0..8) {
        0 => Fault::Cut,
        1 => Fault::Silence(None),
        2 => Fault::Silence(Some(Way::ToServer)),
        3 => Fault::Silence(Some(Way::ToClient)),
        4 => Fault::Mute,
        5 => Fault::Stall,
        6 => Fault::Delay(Duration::from_millis(300)),
        _ => Fault::Slow(20_000),
    }
}

/// Lets it happen, for so long where it is no matter of a moment.
async fn happen(linked: &mut Linked, event: Event, milliseconds: u64) {
    let restart = async |cluster: &Cluster| {
        pause(milliseconds).await;
        cluster.start_again().await;
    };
    let world = &linked.world;
    match event {
        Event::KillPgfanout => {
            linked.pgfanout.kill9().await;
            linked.pgfanout = linked.begin();
        }
        Event::TerminatePgfanout => {
            linked.pgfanout.terminate().await;
            linked.pgfanout = linked.begin();
        }
        Event::KillBroker => {
            world.broker().kill9().await;
            world.broker().start_again().await;
        }
        Event::KillReplica(n) => {
            world.replica(n).cluster().kill9().await;
            restart(world.replica(n).cluster()).await;
        }
        Event::StopReplica(n, how) => {
            world.replica(n).cluster().stop(how).await;
            restart(world.replica(n).cluster()).await;
        }
        Event::KillPrimary => {
            world.primary().cluster().kill9().await;
            restart(world.primary().cluster()).await;
        }
        Event::StopPrimary(how) => {
            world.primary().cluster().stop(how).await;
            restart(world.primary().cluster()).await;
        }
        Event::Link(link, fault) => {
            let proxy = linked.link(link);
            proxy.fault(fault);
            pause(milliseconds).await;
            proxy.resume();
        }
        Event::PutBackReplica(n) => {
            let cluster = world.replica(n).cluster();
            cluster.stop(Shutdown::Fast).await;
            cluster.put_back();
            cluster.start_again().await;
        }
        Event::Lose(n, Answer { link, way, needle, .. }) => {
            let link = linked.link(match link {
                LinkOf::Primary => 0,
                LinkOf::Publisher => 1,
                LinkOf::Consumer => 1 + n,
                LinkOf::Replica => 1 + REPLICAS + n,
            });
            link.lose(way, needle);
            // Some are rare under load.
            let lost = async {
                while !link.has_lost() {
                    pause(10).await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(5), lost).await;
        }
        Event::EndSessions(0) => drop(end_sessions(world.primary()).await),
        Event::EndSessions(n) => drop(end_sessions(world.replica(n)).await),
        Event::WipeBroker => {
            world.broker().kill9().await;
            world.broker().wipe();
            world.broker().start_again().await;
        }
        Event::Alarm => {
            alarm(world, true).await;
            pause(milliseconds).await;
            alarm(world, false).await;
        }
        Event::Purge(_)
        | Event::DeleteQueue(_)
        | Event::Unbind(_)
        | Event::DeleteExchange
        | Event::Foreign(_)
        | Event::Meddle(_) => at_the_broker(world, event, milliseconds).await,
    }
}

/// What somebody does who has all rights there. What it is done to may be gone at this moment.
async fn at_the_broker(world: &World, event: Event, milliseconds: u64) {
    let Vandal { channel, .. } = &Vandal::new(world).await;
    match event {
        Event::Purge(n) => _ = channel.queue_purge(world.queue(n).into(), Default::default()).await,
        Event::DeleteQueue(n) => _ = channel.queue_delete(world.queue(n).into(), Default::default()).await,
        Event::Unbind(n) => {
            let (queue, exchange) = (world.queue(n).into(), world.exchange().into());
            let _ = channel.queue_unbind(queue, exchange, "".into(), Default::default()).await;
        }
        Event::DeleteExchange => {
            _ = channel.exchange_delete(world.exchange().into(), Default::default()).await;
        }
        Event::Foreign(n) => {
            for number in 0..200 {
                let body = format!("{{\"schema\":\"public\",\"table\":\"account\",\"number\":{number}}}");
                let (queue, properties) = (world.queue(n).into(), Default::default());
                let sent =
                    channel.basic_publish("".into(), queue, Default::default(), body.as_bytes(), properties);
                let _ = sent.await;
            }
        }
        Event::Meddle(n) => {
            eventually(PATIENCE, "the queue is there", async || {
                let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let Vandal { channel, .. } = &Vandal::new(world).await;
                channel.queue_declare(world.queue(n).into(), passive, Default::default()).await.is_ok()
            })
            .await;
            let stop = Arc::<AtomicBool>::default();
            let ending = async {
                pause(milliseconds).await;
                stop.store(true, Relaxed);
            };
            join(meddle(channel, &world.queue(n), Arc::clone(&stop)), ending).await;
        }
        _ => {}
    }
}

/// Kills it a hundred times, at any moment of its life.
async fn a_hundred_kills(linked: &mut Linked, random: &mut fastrand::Rng) {
    for _ in 0..100 {
        pause(random.u64(0..1500)).await;
        linked.pgfanout.kill9().await;
        linked.pgfanout = linked.begin();
    }
}

async fn round(linked: &mut Linked, seed: u64, until: Instant, kills: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let load = Load::start(linked.world.primary(), 2);
    let observed = Observed::start(linked, &mut random);
    if kills {
        a_hundred_kills(linked, &mut random).await;
    }
    for _ in 0..random.u8(1..6) {
        pause(random.u64(0..2000)).await;
        let (event, milliseconds) = (choose(&mut random), random.u64(0..6000));
        eprintln!("  {event:?} for {milliseconds} ms");
        happen(linked, event, milliseconds).await;
        if Instant::now() > until {
            break;
        }
    }
    let started = Instant::now();
    until_arrived(linked.world.primary(), linked.world.replicas()).await;
    eprintln!("  well again after {:?}", started.elapsed());
    let ((), looks) = join(load.stop(), observed.end()).await;
    until_same(&linked.world, &[load::TABLES, &bank::TABLES].concat()).await;
    eprintln!("  equal after {:?}, {looks} looks", started.elapsed());
}

#[tokio::test]
async fn soak() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = number("PGFANOUT_SOAK_SEED").unwrap_or(now);
    let seconds = number("PGFANOUT_SOAK_SECONDS").unwrap_or(15);
    eprintln!("soaking for {seconds} s; to repeat its choices: make soak SECONDS={seconds} SEED={seed}");
    let forgetful = [("synchronous_commit", "off"), ("wal_writer_delay", "10s")];
    let plan = world(Mode::Broker, REPLICAS).own_primary(&forgetful).own_replicas().own_broker();
    let mut linked = Linked::build(plan, &format!("{}; {}", load::SCHEMA, bank::SETUP), "").await;
    bank::until_joined(&linked.world, load::TABLES.len() + bank::TABLES.len()).await;
    for replica in linked.world.replicas() {
        replica.cluster().stop(Shutdown::Fast).await;
        replica.cluster().back_up();
        replica.cluster().start_again().await;
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 1.. {
        let seed = random.u64(..);
        eprintln!("round {number}");
        round(&mut linked, seed, until, number == 1 && seconds >= LONG).await;
        if Instant::now() > until {
            break;
        }
    }
}
