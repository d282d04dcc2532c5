//! TLS to PostgreSQL and to the broker.

use std::fs;

use pgfanout_testbed::{
    certificates::{Authority, ServerFiles},
    config::ConfigFile,
    eventually,
    world::{Database, World},
};
use serde_json::Value;

use crate::{
    messages::until_following,
    support::{Mode, PATIENCE, program, until_same, world},
};

/// Servers that know clients of `authority`, with certificates for `host`.
async fn secured(mode: Mode, authority: &Authority, host: &str) -> World {
    world(mode, 1).secured(ServerFiles::new(authority, host)).build().await
}

/// The files that the keys of TLS name, with a certificate for the user of the tests.
fn write_files(world: &World, trusted: &Authority, known: &Authority) {
    let client = known.certify("postgres", "client");
    let files = [
        ("root.crt", trusted.certificate()),
        ("client.crt", &client.certificate),
        ("client.key", &client.key),
    ];
    for (name, text) in files {
        fs::write(world.directory().join(name), text).unwrap();
    }
}

const FILES: &str = "sslrootcert = \"root.crt\"\nsslcert = \"client.crt\"\nsslkey = \"client.key\"\n";

/// Goes to every server by TLS.
fn by_tls(world: &World, sslmode: &str) -> ConfigFile {
    let lines = format!("sslmode = {sslmode:?}\n{FILES}");
    let mut config = world.config().primary(&lines).broker(FILES);
    config.replicas[0].more += &lines;
    if let Some(broker) = &mut config.broker {
        broker.urls = vec![world.broker().secured_url()];
    }
    config
}

/// Every session of pgfanout in a database is within TLS, and there are some.
async fn is_secured(database: &Database) {
    let statement =
        "SELECT count(*) > 0 AND coalesce(bool_and(s.ssl AND s.client_dn = '/CN=postgres'), false)
        FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)
        WHERE a.datname = current_database() AND a.application_name LIKE 'pgfanout%'";
    let secured: bool = database.client().await.query_one(statement, &[]).await.unwrap().get(0);
    assert!(secured, "{database}");
}

async fn all_goes_by_tls(mode: Mode) {
    let authority = Authority::new();
    let world = secured(mode, &authority, "127.0.0.1").await;
    write_files(&world, &authority, &authority);
    world.primary().execute("CREATE TABLE item (id int PRIMARY KEY, text text)").await;
    let config = by_tls(&world, "verify-full").write();
    let pgfanout = program().run(&config);
    until_following(&world).await;
    // More than the buffers on the way hold.
    let rows = "INSERT INTO item SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n";
    world.primary().execute(rows).await;
    until_same(&world, &["item"]).await;
    is_secured(world.primary()).await;
    is_secured(world.replica(1)).await;
    let status = program().once("status", &config, &["--json"]).await;
    assert_eq!(status.code, Some(0), "{}{}", status.stdout, status.stderr);
    let told = pgfanout.log_after(0);
    let is_refusal = |line: &&Value| {
        line["event"] == "failed" && line["message"].as_str().is_some_and(|text| text.contains("connecting"))
    };
    let refusals: Vec<_> = told.iter().filter(is_refusal).collect();
    assert!(refusals.is_empty(), "{refusals:?}");
}

#[tokio::test]
async fn all_goes_by_tls_with_a_broker() {
    all_goes_by_tls(Mode::Broker).await;
}

#[tokio::test]
async fn all_goes_by_tls_without_a_broker() {
    all_goes_by_tls(Mode::Postgres).await;
}

/// Runs until a stage fails with this in its message.
async fn fails_with(config: &ConfigFile, stage: &str, words: &[&str]) {
    let mut pgfanout = program().run(&config.write());
    let is_it = |line: &Value| {
        let message = line["message"].as_str().unwrap_or_default();
        line["stage"] == stage && words.iter().all(|word| message.contains(word))
    };
    pgfanout.wait_for(0, &format!("{stage} fails with {words:?}"), PATIENCE, is_it).await;
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_refused_with_the_remedy() {
    let (authority, other) = (Authority::new(), Authority::new());
    let world = secured(Mode::Broker, &authority, "other.example.com").await;
    world.primary().execute("CREATE TABLE item (id int PRIMARY KEY)").await;
    // Of another authority.
    write_files(&world, &other, &authority);
    let config = by_tls(&world, "verify-ca");
    fails_with(&config, "pg_listener", &["connecting", "UnknownIssuer", "sslrootcert"]).await;
    fails_with(&config, "publisher", &["connecting", "UnknownIssuer", "sslrootcert"]).await;
    // Of another name.
    write_files(&world, &authority, &authority);
    let config = by_tls(&world, "verify-full");
    fails_with(&config, "pg_listener", &["connecting", "other.example.com", "subjectAltName"]).await;
    fails_with(&config, "publisher", &["connecting", "other.example.com", "subjectAltName"]).await;
    // Who only asks for the authority does not mind; the broker's name always counts.
    let mut config = by_tls(&world, "verify-ca");
    config.broker = None;
    let running = program().run(&config.write());
    until_following(&world).await;
    is_secured(world.primary()).await;
    drop(running);
    // Without anything to prove.
    let mut config = by_tls(&world, "require");
    config.broker = None;
    config.primary.more = config.primary.more.replace("sslrootcert = \"root.crt\"", "");
    config.replicas[0].more = config.replicas[0].more.replace("sslrootcert = \"root.crt\"", "");
    let _running = program().run(&config.write());
    world.primary().execute("INSERT INTO item VALUES (1)").await;
    until_same(&world, &["item"]).await;
    is_secured(world.replica(1)).await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_it_is_asked_for() {
    let world = world(Mode::Postgres, 1).build().await;
    fails_with(
        &world.config().primary("sslmode = \"require\""),
        "pg_listener",
        &["offers no TLS", "ssl = on"],
    )
    .await;
}

/// A server's own certificate may be the only one there is.
#[tokio::test]
async fn a_certificate_that_vouches_for_itself_is_trusted_by_its_file() {
    let authority = Authority::new();
    let files = ServerFiles::new(&authority, "127.0.0.1").self_made("127.0.0.1");
    let world = world(Mode::Postgres, 1).secured(files.clone()).build().await;
    write_files(&world, &authority, &authority);
    fs::write(world.directory().join("root.crt"), files.certificate()).unwrap();
    world.primary().execute("CREATE TABLE item (id int PRIMARY KEY)").await;
    // The replica has it, too.
    let _running = program().run(&by_tls(&world, "verify-full").write());
    eventually(PATIENCE, "the table is there", async || {
        let client = world.replica(1).look().await.map_err(|error| error.to_string())?;
        client.query("SELECT FROM item", &[]).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    is_secured(world.primary()).await;
}
