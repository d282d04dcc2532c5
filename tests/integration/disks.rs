//! Full disks and killed backends: it goes on by itself when there is room, or a server, again.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use pgfanout_testbed::{eventually, world::Database};
use tokio_postgres::error::SqlState;

use crate::{
    load::{self, Load, until_arrived},
    messages::until_following,
    support::{Mode, PATIENCE, begin, program, until_same, world},
};

/// A small file system in memory.
struct Disk(PathBuf);

impl Disk {
    /// A disk with so many MiB in the place of a directory that is empty; `None` where nothing can be mounted.
    fn over(path: PathBuf, owner: u32, megabytes: u32) -> Option<Self> {
        let options = format!("size={megabytes}m,uid={owner},mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        eprintln!("skipped: nothing can be mounted here");
        fs::remove_dir(&path).unwrap();
        None
    }

    /// Moves the database to a disk of its own with so many MiB; `None` where nothing can be mounted.
    async fn under(database: &Database, megabytes: u32) -> Option<Self> {
        static DISKS: AtomicU32 = AtomicU32::new(1);
        let name = format!("pgfanout-disk-{}-{}", std::process::id(), DISKS.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(&name);
        fs::create_dir(&path).unwrap();
        let data = database.cluster().log().with_file_name("data");
        let owner = fs::metadata(data).unwrap().uid();
        let disk = Self::over(path, owner, megabytes)?;
        let admin = database.cluster().client("postgres").await;
        let place = format!("CREATE TABLESPACE \"{name}\" LOCATION '{}'", disk.0.display());
        admin.batch_execute(&place).await.unwrap();
        let to = format!("ALTER DATABASE {} SET TABLESPACE \"{name}\"", database.name());
        admin.batch_execute(&to).await.unwrap();
        Some(disk)
    }

    fn enlarge(&self, megabytes: u32) {
        let options = format!("remount,size={megabytes}m");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the server still has files there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// Fills the disk to the last page.
async fn fill(database: &Database) {
    let client = database.client().await;
    client.batch_execute("CREATE TABLE junk (text text)").await.unwrap();
    for rows in [1000, 30, 1] {
        let insert = format!("INSERT INTO junk SELECT repeat('x', 1500) FROM generate_series(1, {rows})");
        while client.batch_execute(&insert).await.is_ok() {}
    }
}

/// Some rows that need room.
fn rows(first: i32) -> String {
    format!("INSERT INTO item SELECT n, repeat('x', 1500) FROM generate_series({first}, {}) n", first + 299)
}

#[tokio::test]
async fn a_full_disk_of_a_replica_or_of_the_primary_is_survived() {
    // Before the world, so that its databases are dropped while their disks are there.
    let (first, second);
    let world = world(Mode::Broker, 2).build().await;
    let (primary, replica) = (world.primary(), world.replica(1));
    (first, second) = (Disk::under(replica, 24).await, Disk::under(primary, 24).await);
    let (Some(replicas), Some(primarys)) = (&first, &second) else { return };
    primary.execute("CREATE TABLE item (id int PRIMARY KEY, text text)").await;
    let mut pgfanout = program().run(&world.config().primary("tables = [\"item\"]").write());
    // An empty table is the same before it follows.
    until_following(&world).await;
    fill(replica).await;
    let mark = pgfanout.mark();
    primary.execute(&rows(1)).await;
    pgfanout
        .wait_for(mark, "that a replica's disk is full", PATIENCE, |line| {
            line["event"] == "failed"
                && line["replica"] == "r1"
                && line["message"].to_string().contains("53100")
        })
        .await;
    let other = world.replica(2).client().await;
    eventually(PATIENCE, "the other replica follows", async || {
        let rows: i64 = other.query_one("SELECT count(*) FROM item", &[]).await.unwrap().get(0);
        if rows == 300 { Ok(()) } else { Err(rows) }
    })
    .await;
    replicas.enlarge(48);
    until_same(&world, &["item"]).await;

    // That the application's own statement fails is not ours.
    fill(primary).await;
    let refused = primary.client().await.batch_execute(&rows(301)).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::DISK_FULL), "{refused:?}");
    primarys.enlarge(48);
    primary.execute(&rows(301)).await;
    primary.execute("DELETE FROM item WHERE id % 2 = 0").await;
    until_same(&world, &["item"]).await;
}

/// The broker writes until not a byte is left, and breaks down over it: no alarm warned it. With room it is started
/// again, as its service would be.
#[tokio::test]
async fn a_full_disk_of_the_broker_is_survived() {
    let world = world(Mode::Broker, 2).own_broker().build().await;
    let broker = world.broker();
    broker.stop().await;
    let owner = fs::metadata(broker.data()).unwrap().uid();
    fs::remove_dir_all(broker.data()).and_then(|()| fs::create_dir(broker.data())).unwrap();
    let Some(disk) = Disk::over(broker.data(), owner, 128) else { return };
    broker.start_again().await;
    broker.ctl(&["set_disk_free_limit", "1"]).await;
    world.primary().execute(load::SCHEMA).await;
    let load = Load::start(world.primary(), 5);
    let mut pgfanout = begin(&world);
    until_arrived(world.primary(), world.replicas()).await;
    let (mark, junk) = (pgfanout.mark(), disk.0.join("junk"));
    let mut file = fs::File::create(&junk).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        let piece = vec![0; size];
        while file.write_all(&piece).is_ok() {}
    }
    drop(file);
    pgfanout.wait_for(mark, "that the broker fails", PATIENCE, |line| line["event"] == "failed").await;
    load.more(300).await;
    fs::remove_file(junk).unwrap();
    broker.kill9().await;
    broker.start_again().await;
    until_arrived(world.primary(), world.replicas()).await;
    load.stop().await;
    until_same(&world, load::TABLES).await;
}

/// Kills one of pgfanout's backends, as the kernel does when memory runs out: the server ends them all.
async fn kill_a_backend(database: &Database) {
    let client = database.client().await;
    let find = "SELECT min(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'pgfanout%'";
    let pid: Option<i32> = client.query_one(find, &[]).await.unwrap().get(0);
    let pid = pid.expect("pgfanout is connected").to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    eventually(
        PATIENCE,
        "the server noticed",
        async || {
            if client.is_closed() { Ok(()) } else { Err("not yet") }
        },
    )
    .await;
}

#[tokio::test]
async fn backends_that_are_killed_take_nothing_with_them() {
    let world = world(Mode::Broker, 1).own_primary(&[]).own_replicas().build().await;
    world.primary().execute(load::SCHEMA).await;
    let load = Load::start(world.primary(), 3);
    let _pgfanout = begin(&world);
    until_arrived(world.primary(), world.replicas()).await;
    for database in [world.replica(1), world.primary()] {
        kill_a_backend(database).await;
        load.more(30).await;
        until_arrived(world.primary(), world.replicas()).await;
    }
    load.stop().await;
    until_same(&world, load::TABLES).await;
}
