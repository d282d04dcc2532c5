//! Verifying by itself: what is wrong is in the log and in `status`, and nothing twice.

use pgfanout_testbed::{
    eventually,
    process::{Finished, Pgfanout},
    world::World,
};
use serde_json::{Value, json};

use super::verify;
use crate::{
    bank::until_joined,
    support::{Mode, PATIENCE, program, until_same, world},
};

const SETUP: &str = "CREATE TABLE \"T\" (id text PRIMARY KEY, v text);
    INSERT INTO \"T\" SELECT 'secret key ' || n, 'secret ' || n FROM generate_series(1, 9) n;
    CREATE TABLE u (id int PRIMARY KEY)";

async fn status(world: &World, arguments: &[&str]) -> String {
    program().once("status", &world.config().write(), arguments).await.stdout
}

/// What `status --json` tells of verifying the first replica.
async fn told(world: &World) -> Value {
    let status: Value = serde_json::from_str(&status(world, &["--json"]).await).unwrap();
    status["replicas"][0]["verified"].clone()
}

/// A line after the mark that tells that so many tables of a replica were compared.
async fn verified(pgfanout: &mut Pgfanout, mark: usize, replica: &str, tables: u64) {
    let is_it =
        |line: &Value| line["event"] == "verified" && line["replica"] == replica && line["tables"] == tables;
    pgfanout.wait_for(mark, "that tables were verified", PATIENCE, is_it).await;
}

/// As if the time had passed.
async fn make_due(world: &World, table: &str) {
    let due = format!(
        "UPDATE pgfanout.verified_table v SET verified_at = verified_at - interval '61 minutes'
            FROM pgfanout.replicated_table t WHERE t.id = v.id AND t.table_name = '{table}';
         UPDATE pgfanout.replicated_table SET copy_started_at = copy_started_at - interval '1 day'"
    );
    world.replica(1).execute(&due).await;
}

#[tokio::test]
async fn what_the_schedule_finds_is_told_until_it_is_mended() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(SETUP).await;
    let config = world.config().more("[verify]\nevery_hours = 1").write_as("scheduled.toml");
    let mut pgfanout = program().run(&config);
    // The one table may have joined before the other.
    eventually(PATIENCE, "both tables of both replicas to be verified", async || {
        let lines = pgfanout.events("verified");
        let tables = |replica: &str| -> u64 {
            let of = lines.iter().filter(|line| line["replica"] == replica);
            of.map(|line| line["tables"].as_u64().unwrap()).sum()
        };
        let found = (tables("r1"), tables("r2"));
        if found == (2, 2) { Ok(()) } else { Err(found) }
    })
    .await;
    let first = told(&world).await;
    assert_eq!((&first["right"], &first["tables"], &first["wrong"]), (&json!(true), &json!(2), &json!([])));
    let since = first["since"].as_str().unwrap();
    assert!(since.ends_with('Z') && first["seconds_ago"].as_f64() < Some(600.0), "{first}");
    assert!(status(&world, &[]).await.contains("  right "));

    let plant = "UPDATE \"T\" SET v = 'other secret' WHERE id < 'secret key 3'; DELETE FROM \"T\" WHERE id = 'secret key 9'";
    world.replica(1).execute(plant).await;
    let mark = pgfanout.mark();
    make_due(&world, "T").await;
    let line = pgfanout.wait_for_event_after(mark, "table_differs", PATIENCE).await;
    let message = line["message"].as_str().unwrap().to_owned();
    assert_eq!(
        (&line["level"], &line["replica"], &line["table"]),
        (&json!("ERROR"), &json!("r1"), &json!("public.\"T\""))
    );
    assert_eq!(
        (&line["missing"], &line["extra"], &line["different"]),
        (&json!(1), &json!(0), &json!(2)),
        "{line}"
    );
    assert!(
        message.contains("pgfanout verify --config FILE --replica r1 --table 'public.\"T\"'"),
        "{message}"
    );
    // Only the one that was due.
    verified(&mut pgfanout, mark, "r1", 1).await;
    assert_eq!(pgfanout.events("table_differs").len(), 1);
    let second = told(&world).await;
    assert_eq!((&second["right"], &second["tables"]), (&json!(false), &json!(2)), "{second}");
    let wrong = &second["wrong"][0];
    assert_eq!(
        (&wrong["table"], &wrong["differences"], &wrong["unproved"], &second["wrong"][1]),
        (&json!("public.\"T\""), &json!(3), &Value::Null, &Value::Null),
        "{second}"
    );
    let text = status(&world, &[]).await;
    assert!(
        text.contains("  wrong  ") && text.contains(": 3 rows differ; to see which: pgfanout verify"),
        "{text}"
    );
    // Others are told to be right, and it follows nevertheless.
    assert!(text.contains("  right ") && text.contains("r1       following"), "{text}");

    // The command that it names, and a repair.
    let table = ["--replica", "r1", "--table", "public.\"T\""];
    let (code, outcome) = verify(&world, &table).await;
    assert_eq!((code, super::sum(&outcome, "different")), (Some(1), 2), "{outcome}");
    assert_eq!(verify(&world, &[&table[..], &["--repair"]].concat()).await.0, Some(0));
    assert_eq!(told(&world).await["right"], true);

    // What was found before a table was copied anew says nothing of it.
    world.replica(1).execute(plant).await;
    assert_eq!(verify(&world, &table).await.0, Some(1));
    assert_eq!(told(&world).await["wrong"][0]["differences"], 3);
    let Finished { code, stderr, .. } =
        program().once("resync", &world.config().write(), &[&table[..], &["--yes"]].concat()).await;
    assert_eq!(code, Some(0), "{stderr}");
    until_same(&world, &["\"T\""]).await;
    until_joined(&world, 2).await;
    assert_eq!(told(&world).await["wrong"], json!([]));

    // A restart goes on where it was: with what is due.
    eventually(PATIENCE, "the copy to be verified", async || told(&world).await["tables"] == 2).await;
    pgfanout.kill9().await;
    make_due(&world, "u").await;
    for line in pgfanout.lines() {
        assert!(!line.contains("secret"), "{line}");
    }
    let mut pgfanout = program().run(&config);
    verified(&mut pgfanout, 0, "r1", 1).await;
    assert_eq!(pgfanout.events("table_differs").len() + pgfanout.events("verify_failed").len(), 0);
}
