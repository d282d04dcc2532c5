//! The main job: what is committed on the primary arrives on the replicas.

use pgfanout_testbed::world::World;

use crate::support::{Mode, begin, until_same, world};

const USERS: &str = "CREATE TABLE users (id int PRIMARY KEY, name text); \
    INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 1000) n";

async fn changes_arrive(mode: Mode) {
    let world: World = world(mode, 2).build().await;
    world.primary().execute(USERS).await;
    let _pgfanout = begin(&world);
    until_same(&world, &["users"]).await;
    world
        .primary()
        .execute("INSERT INTO users VALUES (2000, 'al'), (2001, NULL), (2002, 'O''Brien \"q\" \\ ,')")
        .await;
    world
        .primary()
        .execute("UPDATE users SET name = 'alfonso' WHERE id = 2000; DELETE FROM users WHERE id <= 10")
        .await;
    until_same(&world, &["users"]).await;
    world
        .primary()
        .execute("UPDATE users SET id = -id; TRUNCATE users; INSERT INTO users VALUES (1, 'one')")
        .await;
    until_same(&world, &["users"]).await;
}

#[tokio::test]
async fn changes_arrive_through_the_broker() {
    changes_arrive(Mode::Broker).await;
}

#[tokio::test]
async fn changes_arrive_without_a_broker() {
    changes_arrive(Mode::Postgres).await;
}
