//! Databases that people use to learn and to show, with their real schemas and data: `make samples DIR=…`.
//!
//! Each is a directory with SQL files as psql reads them; of two, `…-schema.sql` comes before `…-data.sql`. They are not
//! ours, so they are not here.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use pgfanout_testbed::{
    compare::same_tables,
    eventually,
    world::{Database, World},
};

use crate::{
    messages::until_following,
    support::{Mode, PATIENCE, program, until_same, world},
};

/// What acts on the whole cluster, or is of servers that are long gone.
const LEFT_OUT: [&str; 10] = [
    "CREATE DATABASE",
    "DROP DATABASE",
    "ALTER DATABASE",
    "alter database",
    "CREATE USER",
    "ALTER USER",
    "GRANT ",
    "REVOKE ",
    "\\c",
    "SET default_with_oids",
];

fn samples() -> PathBuf {
    std::env::var_os("PGFANOUT_SAMPLES").map(PathBuf::from).expect("PGFANOUT_SAMPLES names a directory")
}

/// Reads a file by psql, which ends at the first error.
async fn load(world: &World, file: PathBuf) {
    let text = fs::read_to_string(&file).unwrap();
    let kept = text.lines().filter(|line| !LEFT_OUT.iter().any(|word| line.starts_with(word)));
    let kept = kept.flat_map(|line| [line, "\n"]).collect::<String>();
    let filtered = world.directory().join("sample.sql");
    fs::write(&filtered, kept).unwrap();
    let mut command = Command::new(world.primary().cluster().program("psql"));
    command.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", &world.primary().url()]);
    command.arg("--file").arg(filtered).stdout(Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
    assert!(status.success(), "{}", file.display());
}

/// Changes every row of every table, takes a part away, and brings some of it back.
const CHURN: &str = "DO $$ DECLARE t regclass; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR t IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgfanout') AND n.nspname NOT LIKE 'pg_t%'
    LOOP
        EXECUTE format('CREATE TEMP TABLE taken AS SELECT * FROM %s r WHERE hashtext(r::text) %% 5 = 0', t);
        EXECUTE format('DELETE FROM %s r WHERE hashtext(r::text) %% 5 = 0', t);
        EXECUTE format('INSERT INTO %s SELECT * FROM taken r WHERE hashtext(r::text) %% 10 = 0', t);
        DROP TABLE taken;
    END LOOP; END $$";

/// Every column of every table that takes it is set to another value of the same type: that of another row.
const CHANGE: &str = "DO $$ DECLARE c record; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR c IN SELECT a.attrelid::regclass AS name, quote_ident(a.attname) AS col FROM pg_attribute a
        JOIN pg_class t ON t.oid = a.attrelid JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE t.relkind IN ('r', 'p') AND NOT t.relispartition AND a.attnum > 0 AND NOT a.attisdropped
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgfanout') AND n.nspname NOT LIKE 'pg_t%'
        AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND a.attnum = ANY (i.indkey))
        AND NOT EXISTS (SELECT FROM pg_partitioned_table p WHERE p.partrelid = t.oid AND a.attnum = ANY (p.partattrs))
    LOOP
        EXECUTE format('UPDATE %1$s SET %2$s = (SELECT %2$s FROM %1$s ORDER BY %2$s::text DESC LIMIT 1)
            WHERE hashtext(%2$s::text) %% 3 = 0', c.name, c.col);
    END LOOP; END $$";

async fn tables(database: &Database) -> Vec<String> {
    let all = "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgfanout')";
    database.client().await.query(all, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn is_replicated(sample: &str, mode: Mode) {
    let directory = samples().join(sample);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    files.reverse();
    let world = world(mode, 2).build().await;
    world.primary().execute("CREATE TABLE public.first (id int PRIMARY KEY)").await;
    // The first replica is there from the beginning, while there is nothing yet.
    let config = world.config().replicas(1).write();
    let mut pgfanout = program().run(&config);
    pgfanout.wait_for_event_after(0, "copy_ended", PATIENCE).await;
    for file in files {
        load(&world, file).await;
    }
    let tables = tables(world.primary()).await;
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    assert!(tables.len() > 2, "{tables:?}");
    // All tables are captured since they were created; their rows came after that.
    eventually(PATIENCE, "the first replica has it all", async || {
        let here = world.primary().look().await.map_err(|error| error.to_string())?;
        let there = world.replica(1).look().await.map_err(|error| error.to_string())?;
        same_tables(&here, &there, &tables).await
    })
    .await;
    pgfanout.terminate().await;
    // The second one is copied, under load.
    let pgfanout = program().run(&world.config().write());
    for _ in 0..3 {
        world.primary().execute(CHURN).await;
        world.primary().execute(CHANGE).await;
    }
    until_following(&world).await;
    until_same(&world, &tables).await;
    for _ in 0..3 {
        world.primary().execute(CHANGE).await;
        world.primary().execute(CHURN).await;
    }
    until_same(&world, &tables).await;
    let told = pgfanout.log_after(0);
    let bad: Vec<_> = told
        .iter()
        .filter(|line| ["failed", "halted", "table_refused"].iter().any(|event| line["event"] == *event))
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    let verified = program().once("verify", &world.directory().join("pgfanout.toml"), &[]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

#[tokio::test]
#[ignore = "needs the samples: make samples DIR=…"]
async fn pagila_with_a_broker() {
    is_replicated("pagila", Mode::Broker).await;
}

#[tokio::test]
#[ignore = "needs the samples: make samples DIR=…"]
async fn pagila_without_a_broker() {
    is_replicated("pagila", Mode::Postgres).await;
}

#[tokio::test]
#[ignore = "needs the samples: make samples DIR=…"]
async fn chinook_with_a_broker() {
    is_replicated("chinook", Mode::Broker).await;
}

#[tokio::test]
#[ignore = "needs the samples: make samples DIR=…"]
async fn chinook_without_a_broker() {
    is_replicated("chinook", Mode::Postgres).await;
}

#[tokio::test]
#[ignore = "needs the samples: make samples DIR=…"]
async fn pgexercises_with_a_broker() {
    is_replicated("pgexercises", Mode::Broker).await;
}

#[tokio::test]
#[ignore = "needs the samples: make samples DIR=…"]
async fn pgexercises_without_a_broker() {
    is_replicated("pgexercises", Mode::Postgres).await;
}
