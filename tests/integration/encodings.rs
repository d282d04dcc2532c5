//! Databases in different encodings hold the same characters, or the replica halts that cannot hold one.

use pgfanout_testbed::{
    eventually,
    process::Finished,
    world::{Database, World},
};
use serde_json::Value;

use crate::{
    bank::until_joined,
    support::{Mode, PATIENCE, begin, program, world},
};

const SETUP: &str = "CREATE TABLE \"Größe\" (\"é\" text PRIMARY KEY, \"ñ\" text, b bytea);
    INSERT INTO \"Größe\" VALUES ('ü', 'Straße', '\\xff00'), ('Å', E'\\\\ \"¿\"', NULL)";

/// Makes an empty database anew, in this encoding.
async fn encode(database: &Database, encoding: &str) {
    let client = database.cluster().client("postgres").await;
    client.batch_execute(&format!("DROP DATABASE {}", database.name())).await.unwrap();
    let create = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'",
        database.name()
    );
    client.batch_execute(&create).await.unwrap();
}

/// Compares what clients see: the bytes in the databases are others.
async fn until_same(world: &World) {
    let rows = async |database: &Database| {
        let client = database.look().await.map_err(|error| error.to_string())?;
        let query = "SELECT ROW(\"é\", \"ñ\", b)::text FROM \"Größe\"";
        let rows = client.query(query, &[]).await.map_err(|error| error.to_string())?;
        let mut rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        rows.sort();
        Ok::<_, String>(rows)
    };
    eventually(PATIENCE, "the same characters on all sides", async || {
        let here = rows(world.primary()).await?;
        for replica in world.replicas() {
            let there = rows(replica).await?;
            if here != there {
                return Err(format!("{here:?} here, {there:?} there"));
            }
        }
        Ok(())
    })
    .await;
}

async fn follow(world: &World) {
    for statement in [
        "INSERT INTO \"Größe\" VALUES ('æ', repeat('ø', 1000), 'x'); UPDATE \"Größe\" SET \"é\" = 'ÿ' WHERE \"é\" = 'ü'",
        "UPDATE \"Größe\" SET \"ñ\" = \"ñ\" || 'ß'; DELETE FROM \"Größe\" WHERE \"é\" = 'Å'",
    ] {
        world.primary().execute(statement).await;
        until_same(world).await;
    }
}

async fn the_same_characters(mode: Mode) {
    let world = world(mode, 2).build().await;
    encode(world.primary(), "LATIN1").await;
    encode(world.replica(2), "SQL_ASCII").await;
    world.primary().execute(SETUP).await;
    let _pgfanout = begin(&world);
    until_joined(&world, 1).await;
    until_same(&world).await;
    follow(&world).await;
    let verify = async || program().once("verify", &world.config().write(), &[]).await;
    let Finished { code, stdout, .. } = verify().await;
    assert_eq!(code, Some(0), "{stdout}");
    for replica in world.replicas() {
        replica.execute("UPDATE \"Größe\" SET \"ñ\" = 'ß' WHERE \"é\" = 'ÿ'").await;
    }
    let Finished { code, stdout, .. } = verify().await;
    assert_eq!((code, stdout.matches("    different (ÿ)\n").count()), (Some(1), 2), "{stdout}");
}

#[tokio::test]
async fn a_replica_in_another_encoding_holds_the_same_characters_with_a_broker() {
    the_same_characters(Mode::Broker).await;
}

#[tokio::test]
#[ignore = "both modes: make large"]
async fn a_replica_in_another_encoding_holds_the_same_characters_without_a_broker() {
    the_same_characters(Mode::Postgres).await;
}

#[tokio::test]
async fn a_replica_that_cannot_hold_a_character_halts_until_it_is_gone() {
    let world = world(Mode::Broker, 2).build().await;
    encode(world.primary(), "SQL_ASCII").await;
    encode(world.replica(1), "LATIN1").await;
    world.primary().execute(SETUP).await;
    let Finished { code, stdout, .. } = program().once("check", &world.config().write(), &[]).await;
    let told: Vec<&str> = stdout.lines().filter(|line| line.contains("its encoding is ")).collect();
    assert!(
        code == Some(0)
            && told.len() == 1
            && told[0].contains("replica r1: settings: its encoding is LATIN1"),
        "{stdout}"
    );
    let mut pgfanout = begin(&world);
    until_joined(&world, 1).await;
    follow(&world).await;
    let mark = pgfanout.mark();
    world.primary().execute("INSERT INTO \"Größe\" VALUES ('horse', '🐎')").await;
    let halted = |line: &Value| line["event"] == "halted" && line["replica"] == "r1";
    let line = pgfanout.wait_for(mark, "that r1 halted", PATIENCE, halted).await;
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("Größe") && message.contains("SQLSTATE 22P05"), "{message}");
    world.primary().execute("UPDATE \"Größe\" SET \"ñ\" = 'horse' WHERE \"é\" = 'horse'").await;
    until_same(&world).await;
}

#[test]
fn our_statements_are_in_ascii() {
    // They are sent to databases that may have no other characters.
    let mut waiting = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/sql"))];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            assert!(std::fs::read(&path).unwrap().is_ascii(), "{}", path.display());
        }
    }
}
