//! Every kind of link breaks in every way, and replicas follow again within a minute after it healed,
//! without anybody's act.

use std::{path::PathBuf, time::Duration};

use futures_util::future::join_all;
use pgfanout_testbed::{
    eventually,
    process::Pgfanout,
    proxy::{Fault, Proxy, Way},
    world::{Plan, World},
};

use crate::{
    bank::until_joined,
    load::{self, Load, until_arrived},
    messages::until_following,
    support::{Mode, PATIENCE, program, until_same, world},
};

/// What is replicated: many replicas, and little to copy to each.
const TABLES: [&str; 1] = ["note"];

/// What may befall a link.
const FAULTS: [Befall; 8] = [
    Befall::Once(Fault::Cut),
    Befall::Once(Fault::Silence(None)),
    Befall::Once(Fault::Silence(Some(Way::ToServer))),
    Befall::Once(Fault::Silence(Some(Way::ToClient))),
    Befall::Once(Fault::Mute),
    Befall::Flapping,
    Befall::Works(Fault::Delay(Duration::from_millis(300))),
    Befall::Works(Fault::Slow(20_000)),
];

#[derive(Clone, Copy, Debug)]
enum Befall {
    /// It heals after a moment.
    Once(Fault),
    /// It is reset every now and then.
    Flapping,
    /// It never heals, and must do as it is.
    Works(Fault),
}

/// A world each of whose links has a proxy of its own.
pub(crate) struct Linked {
    pub(crate) world: World,
    config: PathBuf,
    primary: Proxy,
    publisher: Proxy,
    consumers: Vec<Proxy>,
    replicas: Vec<Proxy>,
    pub(crate) pgfanout: Pgfanout,
}

impl Linked {
    /// A world of which pgfanout takes care from now on; with these lines for `[primary]`.
    pub(crate) async fn build(plan: Plan, schema: &str, lines: &str) -> Self {
        let world = plan.build().await;
        world.primary().execute(schema).await;
        let mut config = world.config().primary(lines);
        let primary_port = world.primary().cluster().port();
        let primary = Proxy::start(primary_port);
        config.primary.url = primary.detour(&config.primary.url, primary_port);
        let mut replicas = Vec::new();
        for (replica, section) in world.replicas().iter().zip(&mut config.replicas) {
            let port = replica.cluster().port();
            let proxy = Proxy::start(port);
            section.url = proxy.detour(&section.url, port);
            replicas.push(proxy);
        }
        // In a row, each for the connections of one actor, which say whose they are.
        let publisher = Proxy::start_for("pgfanout publisher", world.broker().port());
        let mut consumers: Vec<Proxy> = Vec::new();
        for number in 1..=world.replicas().len() {
            let next = consumers.last().unwrap_or(&publisher).port();
            consumers.push(Proxy::start_for(&format!("pgfanout consumer r{number}"), next));
        }
        let first = consumers.last().unwrap_or(&publisher);
        let broker = config.broker.as_mut().unwrap();
        broker.urls = vec![first.detour(&broker.urls[0], world.broker().port())];
        let config = config.write();
        let pgfanout = program().run(&config);
        Self { world, config, primary, publisher, consumers, replicas, pgfanout }
    }

    /// Starts it once more.
    pub(crate) fn begin(&self) -> Pgfanout {
        program().run(&self.config)
    }

    /// All links: the primary's, the publisher's, and those of consumers and replicas.
    pub(crate) fn link(&self, number: usize) -> &Proxy {
        let all = [&self.primary, &self.publisher].into_iter().chain(&self.consumers).chain(&self.replicas);
        all.into_iter().nth(number).expect("a link of this number")
    }

    /// Something befalls the link; these replicas follow again.
    async fn befall(&self, load: &Load, what: Befall, proxy: &Proxy, numbers: &[usize]) {
        match what {
            Befall::Once(fault) => {
                proxy.fault(fault);
                // So that somebody is at work on the link.
                load.more(5).await;
                proxy.resume();
            }
            Befall::Flapping => {
                for _ in 0..8 {
                    load.more(2).await;
                    proxy.cut();
                    load.more(1).await;
                    proxy.resume();
                }
            }
            Befall::Works(fault) => proxy.fault(fault),
        }
        let started = std::time::Instant::now();
        for &number in numbers {
            until_arrived(self.world.primary(), &self.world.replicas()[number - 1..number]).await;
        }
        eprintln!("{what:?} on {numbers:?} took {:?}", started.elapsed());
        proxy.resume();
    }
}

/// So many replicas that follow, under load.
async fn following(replicas: usize) -> (Linked, Load) {
    let plan = world(Mode::Broker, replicas);
    let linked = Linked::build(plan, load::SCHEMA, &format!("tables = {TABLES:?}")).await;
    let load = Load::start_slow(linked.world.primary());
    until_joined(&linked.world, TABLES.len()).await;
    until_arrived(linked.world.primary(), linked.world.replicas()).await;
    (linked, load)
}

async fn ends_well(linked: &Linked, load: Load) {
    load.stop().await;
    until_same(&linked.world, &TABLES).await;
}

/// Each replica has another fault on its link.
async fn every_replica_has_its_fault(links: impl Fn(&Linked) -> &[Proxy]) {
    let (linked, load) = following(FAULTS.len()).await;
    let faults = FAULTS.into_iter().zip(links(&linked).iter().zip(1..)).map(|(fault, (proxy, number))| {
        let (linked, load) = (&linked, &load);
        async move { linked.befall(load, fault, proxy, &[number]).await }
    });
    join_all(faults).await;
    ends_well(&linked, load).await;
}

/// One fault after the other on the same link, in few worlds at the same time.
async fn one_after_the_other(link: impl Fn(&Linked) -> &Proxy) {
    let worlds = [0, 1, 2].map(|nth| {
        let link = &link;
        async move {
            let (linked, load) = following(1).await;
            for fault in FAULTS.into_iter().skip(nth).step_by(3) {
                linked.befall(&load, fault, link(&linked), &[1]).await;
            }
            ends_well(&linked, load).await;
        }
    });
    join_all(worlds).await;
}

/// All at the same time: most of it is waiting.
#[tokio::test]
async fn every_fault_of_every_link_is_survived() {
    tokio::join!(
        every_replica_has_its_fault(|linked| &linked.consumers),
        every_replica_has_its_fault(|linked| &linked.replicas),
        one_after_the_other(|linked| &linked.primary),
        one_after_the_other(|linked| &linked.publisher),
    );
}

/// Such as a balancer before a server that is gone: it takes whatever is sent. Megabytes of a change are on their
/// way then, which a slow link would need minutes for.
#[tokio::test]
async fn a_link_that_swallows_a_large_change_is_survived() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute("CREATE TABLE big (id int PRIMARY KEY, text text)").await;
    if !world.replica(1).cluster().knows("how far a copy is", 14) {
        return;
    }
    let mut config = world.config();
    let port = world.replica(1).cluster().port();
    let proxy = Proxy::start(port);
    config.replicas[0].url = proxy.detour(&config.replicas[0].url, port);
    let _pgfanout = program().run(&config.write());
    until_following(&world).await;
    // So that it is still under way when it is seen.
    proxy.fault(Fault::Slow(1_000_000));
    let rows = "INSERT INTO big SELECT n, repeat(n::text, 200) FROM generate_series(1, 40000) n";
    world.primary().execute(rows).await;
    let replica = world.replica(1).client().await;
    let copies = "SELECT EXISTS (SELECT FROM pg_stat_progress_copy
        WHERE datname = current_database() AND bytes_processed > 0)";
    eventually(PATIENCE, "the change is under way", async || {
        replica.query_one(copies, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    proxy.fault(Fault::Silence(Some(Way::ToServer)));
    proxy.resume();
    eventually(Duration::from_secs(60), "the change arrives", async || {
        let arrived = "SELECT count(*) = 40000 FROM big";
        replica.query_one(arrived, &[]).await.is_ok_and(|row| row.get::<_, bool>(0))
    })
    .await;
    until_same(&world, &["big"]).await;
}
