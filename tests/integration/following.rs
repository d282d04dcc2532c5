//! The main job: what is committed on the primary arrives on the replicas.

use pgfanout_testbed::world::World;
use tokio_postgres::error::SqlState;

use crate::{
    messages::until_following,
    support::{Mode, begin, until_same, world},
};

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

/// One look sees a thousand entries of the log; the tables behind them are found all the same, however many there are.
async fn tables_behind_many_changes_follow(mode: Mode) {
    let world: World = world(mode, 1).build().await;
    let names: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
    let all = |statement: &str| -> String {
        names.iter().map(|name| statement.replace("{t}", name) + ";").collect()
    };
    world.primary().execute(&all("CREATE TABLE {t} (id int PRIMARY KEY)")).await;
    let _pgfanout = begin(&world);
    crate::bank::until_joined(&world, names.len()).await;
    let many =
        "INSERT INTO t0 SELECT generate_series(1, 3000); INSERT INTO t1 SELECT generate_series(1, 3000);";
    world.primary().execute(&format!("BEGIN; {many} {} COMMIT", all("INSERT INTO {t} VALUES (-1)"))).await;
    until_same(&world, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn tables_behind_many_changes_follow_with_a_broker() {
    tables_behind_many_changes_follow(Mode::Broker).await;
}

#[tokio::test]
async fn tables_behind_many_changes_follow_without_a_broker() {
    tables_behind_many_changes_follow(Mode::Postgres).await;
}

/// New rows are written without looking for old ones; where one is in the way, somebody wrote it on the replica.
#[tokio::test]
async fn a_row_that_somebody_wrote_on_a_replica_gives_way_to_a_new_one() {
    let world: World = world(Mode::Broker, 1).build().await;
    world.primary().execute(USERS).await;
    let _pgfanout = begin(&world);
    until_same(&world, &["users"]).await;
    for (local, new) in
        [("5000", "VALUES (5000, 'one')"), ("6050", "SELECT n, 'many' FROM generate_series(6000, 6100) n")]
    {
        // The replica stands at the end of a batch then.
        world.primary().execute("UPDATE users SET name = name || '!' WHERE id = 1").await;
        until_same(&world, &["users"]).await;
        world.replica(1).execute(&format!("INSERT INTO users VALUES ({local}, 'local')")).await;
        world.primary().execute(&format!("INSERT INTO users {new}")).await;
        until_same(&world, &["users"]).await;
    }
}

/// An application without any right but one reads on a replica what it has written on the primary.
async fn writes_are_read(mode: Mode) {
    let world: World = world(mode, 1).build().await;
    world.primary().execute(USERS).await;
    let mut pgfanout = begin(&world);
    until_following(&world).await;
    let (mut primary, replica) = (world.primary().client().await, world.replica(1).client().await);
    let role = format!("{}_reader", world.exchange());
    let grants = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA pgfanout TO {role}; GRANT SELECT ON users TO {role};
         SET ROLE {role}"
    );
    replica.batch_execute(&grants).await.unwrap();
    let wait = "SELECT pgfanout.wait_for($1::text::xid8, $2::text::interval)";
    for n in 1..=20 {
        let transaction = primary.transaction().await.unwrap();
        transaction
            .execute("UPDATE users SET name = $1 WHERE id = 7", &[&format!("name {n}")])
            .await
            .unwrap();
        let id = transaction.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap();
        let id: String = id.get(0);
        transaction.commit().await.unwrap();
        assert!(replica.query_one(wait, &[&id, &"60 s"]).await.unwrap().get::<_, bool>(0), "{id}");
        let name = replica.query_one("SELECT name FROM users WHERE id = 7", &[]).await.unwrap();
        assert_eq!(name.get::<_, &str>(0), format!("name {n}"));
    }
    pgfanout.terminate().await;
    let transaction = primary.transaction().await.unwrap();
    transaction.execute("DELETE FROM users", &[]).await.unwrap();
    let id: String = transaction.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    transaction.commit().await.unwrap();
    assert!(!replica.query_one(wait, &[&id, &"10 ms"]).await.unwrap().get::<_, bool>(0), "nobody brings it");
    let endless = replica.query_one(wait, &[&id, &None::<&str>]).await.unwrap();
    assert_eq!(endless.get::<_, Option<bool>>(0), None, "nobody waits for ever");
    replica.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    let error = replica.query_one(wait, &[&id, &"60 s"]).await.expect_err("it would wait for nothing");
    assert!(error.as_db_error().unwrap().message().contains("repeatable read"), "{error:?}");
    replica.batch_execute("ROLLBACK").await.unwrap();
    let position =
        replica.query_one("SELECT * FROM pgfanout.position", &[]).await.expect_err("is not allowed");
    assert_eq!(position.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    replica.batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn writes_are_read_with_a_broker() {
    writes_are_read(Mode::Broker).await;
}

#[tokio::test]
async fn writes_are_read_without_a_broker() {
    writes_are_read(Mode::Postgres).await;
}

/// Rights and policies stay on the primary.
#[tokio::test]
async fn a_replica_gives_nobody_the_rights_that_the_primary_gave() {
    let world: World = world(Mode::Postgres, 1).build().await;
    let role = format!("{}_app", world.exchange());
    world.execute_on_servers(&format!("CREATE ROLE {role}")).await;
    let table =
        "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'a'), (2, 'b');
         ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY first ON users USING (id = 1)";
    world.primary().execute(&format!("{table}; GRANT ALL ON users TO {role}")).await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["users"]).await;
    until_following(&world).await;
    let (primary, replica) = (world.primary().client().await, world.replica(1).client().await);
    let count = "SELECT count(*) FROM users";
    let seen = async |client: &tokio_postgres::Client| {
        client.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
        let seen = client.query_one(count, &[]).await.map(|row| row.get::<_, i64>(0));
        client.batch_execute("RESET ROLE").await.unwrap();
        seen
    };
    assert_eq!(seen(&primary).await.unwrap(), 1);
    let error = seen(&replica).await.expect_err("nobody granted it there");
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    // The guide tells so: who may read, reads all.
    replica.batch_execute(&format!("GRANT SELECT ON users TO {role}")).await.unwrap();
    assert_eq!(seen(&replica).await.unwrap(), 2);
    pgfanout.terminate().await;
    for client in [&primary, &replica] {
        client.batch_execute(&format!("DROP OWNED BY {role}")).await.unwrap();
    }
    world.execute_on_servers(&format!("DROP ROLE {role}")).await;
}
