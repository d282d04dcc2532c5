//! The test bed's own servers: they come up, survive what tests do to them, and leave nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use lapin::{BasicProperties, options::*, types::FieldTable};
use pgfanout_testbed::{
    account::Account,
    eventually,
    postgres::{self, Cluster, Shutdown},
    premises::{Farewell, Premises, working_in},
    rabbitmq::Broker,
};

const SOON: Duration = Duration::from_secs(120);

/// The values of the table that the cluster test fills.
async fn values(cluster: &Cluster) -> Vec<i32> {
    let client = cluster.client("kept").await;
    let rows = client.query("select value from kept order by value", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_cluster_keeps_its_data_through_kills_and_stops() {
    let cluster = Cluster::start(&[("max_prepared_transactions", "3")]).await;
    cluster.create_database("kept").await;
    let client = cluster.client("kept").await;
    let prepared: String = client.query_one("show max_prepared_transactions", &[]).await.unwrap().get(0);
    assert_eq!(prepared, "3");
    client.batch_execute("create table kept(value int); insert into kept values (1)").await.unwrap();

    cluster.kill9().await;
    assert!(client.batch_execute("select 1").await.is_err());
    cluster.start_again().await;
    assert_eq!(values(&cluster).await, [1]);

    for how in [Shutdown::Fast, Shutdown::Immediate] {
        cluster.client("kept").await.batch_execute("insert into kept values (2)").await.unwrap();
        cluster.stop(how).await;
        assert!(postgres::connect(&cluster.url("kept")).await.is_err());
        cluster.start_again().await;
    }
    assert_eq!(values(&cluster).await, [1, 2, 2]);
}

#[tokio::test]
async fn a_paused_cluster_is_silent_until_it_resumes() {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client("postgres").await;
    cluster.pause();
    let answer = client.query_one("select 1", &[]);
    tokio::pin!(answer);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut answer).await.is_err());
    cluster.resume();
    let row = tokio::time::timeout(SOON, answer).await.unwrap().unwrap();
    assert_eq!(row.get::<_, i32>(0), 1);
    // Dropping a paused cluster must not hang either.
    cluster.pause();
}

#[tokio::test]
async fn a_broker_keeps_durable_messages_through_kills_and_stops() {
    let broker = Broker::start().await;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let channel = broker.connect().await.create_channel().await.unwrap();
    channel.queue_declare("kept".into(), durable, FieldTable::default()).await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let sent = channel
        .basic_publish("".into(), "kept".into(), BasicPublishOptions::default(), b"body", persistent)
        .await
        .unwrap();
    assert!(sent.await.unwrap().is_ack());
    // The message is on the disk, its queue's declaration perhaps still in the broker's memory.
    broker.ctl(&["eval", "mnesia:sync_log()."]).await;

    broker.kill9().await;
    broker.start_again().await;
    keeps(&broker, b"body").await;
    broker.stop().await;
    broker.start_again().await;
    keeps(&broker, b"body").await;
}

/// Takes the message, and leaves it. A queue may not be found, or found empty, until it has read what it kept.
async fn keeps(broker: &Broker, body: &[u8]) {
    let found = eventually(SOON, "the queue has its message", async || {
        // The driver lays the end of a channel to the next one of the same connection.
        let connection = broker.connect().await;
        let channel = connection.create_channel().await.map_err(|_| "no channel")?;
        let got = channel.basic_get("kept".into(), BasicGetOptions::default()).await;
        let got = got.map_err(|_| "no queue")?;
        got.map(|message| message.delivery.data).ok_or("none")
    });
    assert_eq!(found.await, body);
}

/// Starts this test program as a process of its own that runs one of the ignored tests below.
fn start_alone(program: &Path, test: &str, account: Option<Account>) -> Child {
    let mut command = Command::new(program);
    command.args(["--ignored", "--exact", test, "--nocapture"]).current_dir("/").stdout(Stdio::piped());
    if let Some(account) = account {
        account.run(&mut command);
    }
    command.spawn().unwrap()
}

#[tokio::test]
#[ignore = "only to be killed by the next test"]
async fn servers_whose_owner_is_killed() {
    let (cluster, broker) = tokio::join!(Cluster::start(&[]), Broker::start());
    println!("directory {}", cluster.log().parent().unwrap().display());
    println!("directory {}", broker.log().parent().unwrap().display());
    println!("directory end");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_is_left_when_the_owner_is_killed() {
    let mut owner = start_alone(&env::current_exe().unwrap(), "servers_whose_owner_is_killed", None);
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let directories: Vec<PathBuf> = lines
        .filter_map(|line| line.split_once("directory ").map(|(_, directory)| directory.to_owned()))
        .take_while(|directory| directory != "end")
        .map(PathBuf::from)
        .collect();
    assert_eq!(directories.len(), 2);
    assert!(directories.iter().all(|directory| !working_in(directory).is_empty()));

    owner.kill().unwrap();
    owner.wait().unwrap();
    for directory in directories {
        eventually(SOON, "the directory is gone", async || !directory.exists()).await;
        assert_eq!(working_in(&directory), [0; 0]);
    }
}

#[tokio::test]
#[ignore = "run by the next test, as another user"]
async fn servers_of_an_ordinary_user() {
    let (cluster, broker) = tokio::join!(Cluster::start(&[]), Broker::start());
    cluster.kill9().await;
    cluster.start_again().await;
    cluster.client("postgres").await.batch_execute("select 1").await.unwrap();
    broker.kill9().await;
    broker.start_again().await;
    broker.ctl(&["list_queues"]).await;
}

/// Where we are root; elsewhere every other test of this file says it.
#[tokio::test]
async fn an_ordinary_user_can_run_the_servers() {
    let Some(account) = Account::for_servers() else { return };
    // That user may have no way into the build directory.
    let premises = Premises::new(Some(account), Farewell::Kill);
    let program = premises.path().join("servers");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    account.own(&program);
    let done =
        start_alone(&program, "servers_of_an_ordinary_user", Some(account)).wait_with_output().unwrap();
    let output = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && output.contains("1 passed"), "{output}");
}
