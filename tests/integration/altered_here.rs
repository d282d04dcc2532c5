//! Tables that are altered on a replica alone while they are followed: what was true of them when they were compared is
//! looked at with each commit.

use pgfanout_testbed::eventually;

use crate::{
    altered::until_mended,
    support::{Mode, PATIENCE, begin, until_same, world},
};

const SETUP: &str = "
    CREATE TABLE retyped (id int PRIMARY KEY, v numeric); CREATE TABLE narrowed (id int PRIMARY KEY, v varchar(9));
    CREATE TABLE replaced (id int PRIMARY KEY, v numeric); CREATE TABLE swapped (id int PRIMARY KEY, v numeric);
    CREATE TABLE emptied (id int PRIMARY KEY, v numeric); CREATE TABLE renamed (id int PRIMARY KEY, v numeric);
    CREATE TABLE dropped (id int PRIMARY KEY, v numeric); CREATE TABLE unkeyed (id int PRIMARY KEY, v numeric);
    CREATE TABLE owned (id int PRIMARY KEY, v numeric);
    CREATE TABLE parted (id int PRIMARY KEY, v numeric) PARTITION BY RANGE (id);
    CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE TABLE high PARTITION OF parted FOR VALUES FROM (10) TO (100)";

/// Each table, and what happens to it on the replica.
const ALTERED: &[(&str, &str)] = &[
    ("retyped", "ALTER TABLE retyped ALTER v TYPE int"),
    ("narrowed", "ALTER TABLE narrowed ALTER v TYPE varchar(2) USING left(v, 2)"),
    ("replaced", "BEGIN; DROP TABLE replaced; CREATE TABLE replaced (id int PRIMARY KEY, v numeric); COMMIT"),
    (
        "swapped",
        "BEGIN; CREATE TABLE other (id int PRIMARY KEY, v numeric); INSERT INTO other VALUES (99);
         ALTER TABLE swapped RENAME TO former; ALTER TABLE other RENAME TO swapped; COMMIT",
    ),
    ("emptied", "ALTER TABLE emptied DROP v, ADD v numeric"),
    ("renamed", "ALTER TABLE renamed RENAME v TO w"),
    ("dropped", "ALTER TABLE dropped DROP v"),
    ("unkeyed", "ALTER TABLE unkeyed DROP CONSTRAINT unkeyed_pkey"),
    ("owned", "ALTER TABLE owned ADD mine int DEFAULT 1; ALTER TABLE owned ALTER v SET NOT NULL"),
    ("parted", "ALTER TABLE parted DETACH PARTITION low"),
];

async fn what_a_replica_alters_harms_nothing(mode: Mode) {
    let world = world(mode, 1).build().await;
    world.primary().execute(SETUP).await;
    let tables: Vec<&str> = ALTERED.iter().map(|(table, _)| *table).collect();
    for table in &tables {
        world
            .primary()
            .execute(&format!("INSERT INTO {table} SELECT n, n + 0.5 FROM generate_series(1, 5) n"))
            .await;
    }
    let mut pgfanout = begin(&world);
    until_same(&world, &tables).await;
    for (table, statements) in ALTERED {
        world.replica(1).execute(statements).await;
        world
            .primary()
            .execute(&format!("UPDATE {table} SET v = 7.5 WHERE id = 3; INSERT INTO {table} VALUES (8, 8.5)"))
            .await;
        until_mended(&world, &mut pgfanout, &[table]).await;
    }
}

#[tokio::test]
async fn what_a_replica_alters_harms_nothing_with_a_broker() {
    what_a_replica_alters_harms_nothing(Mode::Broker).await;
}

#[tokio::test]
async fn what_a_replica_alters_harms_nothing_without_a_broker() {
    what_a_replica_alters_harms_nothing(Mode::Postgres).await;
}

/// One that does not fit is compared: what takes its place meanwhile, and fits, is not taken for it.
#[tokio::test]
async fn a_table_that_is_replaced_while_it_is_compared_is_copied_anew() {
    let world = world(Mode::Postgres, 1).build().await;
    let table = "CREATE TABLE t (id int PRIMARY KEY, v numeric)";
    world
        .primary()
        .execute(&format!("{table}; INSERT INTO t SELECT n, n FROM generate_series(1, 5) n"))
        .await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["t"]).await;
    pgfanout.kill9().await;
    let replica = world.replica(1);
    replica.execute("ALTER TABLE t DROP CONSTRAINT t_pkey").await;
    let client = replica.client().await;
    client.batch_execute(&format!("BEGIN; DROP TABLE t; {table}")).await.unwrap();
    let _pgfanout = begin(&world);
    let looking = replica.client().await;
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND cardinality(pg_blocking_pids(pid)) > 0
        AND datname = current_database())";
    eventually(PATIENCE, "somebody waits for the table", async || {
        if looking.query_one(waits, &[]).await.unwrap().get(0) { Ok(()) } else { Err("nobody does") }
    })
    .await;
    client.batch_execute("COMMIT").await.unwrap();
    until_same(&world, &["t"]).await;
}
