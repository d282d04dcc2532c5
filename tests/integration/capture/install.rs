//! Installing, upgrading, uninstalling.

use std::time::Duration;

use pgfanout::{
    error::Error,
    primary::install::{install, uninstall},
};

use pgfanout_testbed::eventually;

use super::{Primary, connect};
use crate::support::PATIENCE;

const CATALOGS: &str = "
    SELECT string_agg(name, E'\\n' ORDER BY name) FROM (
        SELECT format('class %s.%s', relnamespace::regnamespace, relname) AS name FROM pg_class WHERE relkind <> 't' AND relname !~ '^pg_toast'
        UNION ALL SELECT format('function %s', oid::regprocedure) FROM pg_proc
        UNION ALL SELECT format('trigger %s %s', tgrelid::regclass, tgname) FROM pg_trigger WHERE NOT tgisinternal OR tgparentid <> 0
        UNION ALL SELECT format('event trigger %s', evtname) FROM pg_event_trigger
        UNION ALL SELECT format('type %s', oid::regtype) FROM pg_type WHERE typname !~ '^pg_toast'
        UNION ALL SELECT format('schema %s', nspname) FROM pg_namespace WHERE nspname !~ '^pg_'
        UNION ALL SELECT format('depend %s', count(*)) FROM pg_depend
    ) names";

#[actix::test]
async fn installing_twenty_at_once_is_installing_once() {
    let primary = Primary::bare().await;
    let sessions = futures_util::future::join_all((0..20).map(|_| connect(&primary.database))).await;
    let installed = futures_util::future::join_all(sessions.iter().map(install)).await;
    let first = installed[0].as_ref().unwrap();
    for other in &installed {
        assert_eq!(other.as_ref().unwrap(), first);
    }
}

#[actix::test]
async fn uninstalling_leaves_no_trace_and_twice_is_harmless() {
    let primary = Primary::bare().await;
    primary
        .run(
            "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id);
            CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)",
        )
        .await;
    let before = primary.value(CATALOGS).await.unwrap();
    install(&primary.session).await.unwrap();
    primary.capture("t").await;
    primary.capture("p").await;
    primary.run("INSERT INTO t VALUES (1); INSERT INTO p VALUES (1)").await;
    assert!(uninstall(&primary.session).await.unwrap());
    assert_eq!(primary.value(CATALOGS).await.unwrap(), before);
    assert!(!uninstall(&primary.session).await.unwrap());
    primary.run("INSERT INTO t VALUES (2); INSERT INTO p VALUES (1) ON CONFLICT DO NOTHING; ALTER TABLE t ADD x int").await;
    install(&primary.session).await.unwrap();
    primary.capture("t").await;
}

#[actix::test]
async fn an_upgrade_of_the_functions_keeps_every_capture() {
    let primary = Primary::start().await;
    primary.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    let id = primary.capture("t").await;
    // Version 3 had fewer columns, and a function with fewer parameters.
    let older = "UPDATE pgfanout.installation SET version = 3, functions = 'older'; DROP FUNCTION pgfanout.wake();
        ALTER TABLE pgfanout.changelog DROP COLUMN keys; DROP FUNCTION pgfanout.log_in_segment;
        CREATE FUNCTION pgfanout.log_in_segment(columns text, given text) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'";
    primary.session.run("pretending", older).await.unwrap();
    let before = install(&connect(&primary.database).await).await.unwrap();
    assert_eq!(install(&primary.session).await.unwrap(), before);
    primary.run("INSERT INTO t VALUES (1)").await;
    assert_eq!(primary.entries(id).await, [super::entry("I", "1")]);
    assert_eq!(primary.capture("t").await, id);
}

/// Somebody holds what an upgrade locks last: nothing of it is there meanwhile, and nobody waits behind it for long.
#[actix::test]
async fn an_upgrade_is_whole_and_in_nobodys_way() {
    let primary = Primary::start().await;
    let older = "UPDATE pgfanout.installation SET functions = 'older'; DROP FUNCTION pgfanout.wake()";
    primary.session.run("pretending", older).await.unwrap();
    let begin = "BEGIN; UPDATE pgfanout.installation SET notify = notify";
    primary.run(begin).await;
    let reader = connect(&primary.database).await;
    let looking = async {
        // The upgrade drops that view first.
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        for _ in 0..2 {
            eventually(PATIENCE, "the upgrade waits", async || {
                let waiting: i64 = reader.query_one("looking", waits, &[]).await.unwrap().get(0);
                waiting == 1
            })
            .await;
            let looked = "SELECT to_regproc('pgfanout.wake') IS NULL FROM pgfanout.candidate RIGHT JOIN (SELECT) o ON true LIMIT 1";
            let is_older: bool = reader.query_one("looking at tables", looked, &[]).await.unwrap().get(0);
            assert!(is_older);
        }
        primary.run("COMMIT").await;
    };
    let (installed, ()) = futures_util::future::join(install(&primary.session), looking).await;
    installed.unwrap();
    assert_eq!(primary.value("SELECT to_regproc('pgfanout.wake')::text").await.unwrap(), "pgfanout.wake");
}

#[actix::test]
async fn an_installation_that_fails_leaves_nothing() {
    let primary = Primary::bare().await;
    // It fails late.
    primary.run("CREATE SCHEMA pgfanout_status CREATE TABLE pgfanout_status.replicas (id int)").await;
    let before = primary.value(CATALOGS).await.unwrap();
    let error = install(&primary.session).await.unwrap_err();
    assert!(error.chain().contains("replicas"), "{}", error.chain());
    assert_eq!(primary.value(CATALOGS).await.unwrap(), before);
    primary.run("DROP SCHEMA pgfanout_status CASCADE").await;
    install(&primary.session).await.unwrap();
}

#[actix::test]
async fn what_does_not_fit_is_refused_with_the_remedy() {
    let primary = Primary::start().await;
    primary
        .session
        .run("pretending", "UPDATE pgfanout.installation SET version = version + 1000")
        .await
        .unwrap();
    assert!(refusal(&primary).await.contains("use a newer pgfanout"));
    primary
        .session
        .run("pretending", "UPDATE pgfanout.installation SET version = version - 1000")
        .await
        .unwrap();
    let role = format!("{}_plain", primary.value("SELECT current_database()").await.unwrap());
    primary.run(&format!("CREATE ROLE {role}")).await;
    primary.session.run("pretending", &format!("SET ROLE {role}")).await.unwrap();
    assert!(refusal(&primary).await.contains("no superuser"));
    primary.session.run("pretending", &format!("RESET ROLE; DROP ROLE {role}")).await.unwrap();
    install(&primary.session).await.unwrap();
}

#[actix::test]
async fn a_schema_of_somebody_else_is_left_alone() {
    let primary = Primary::bare().await;
    primary.run("CREATE SCHEMA pgfanout CREATE TABLE precious (id int)").await;
    assert!(refusal(&primary).await.contains("not ours"));
    assert!(!uninstall(&primary.session).await.unwrap());
    primary.run("SELECT * FROM pgfanout.precious").await;
}

#[actix::test]
async fn a_table_in_use_is_captured_once_its_writers_are_done() {
    let primary = Primary::start().await;
    primary.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    primary.run("BEGIN; INSERT INTO t VALUES (1)").await;
    let oid = primary.oid("t").await;
    let tried = pgfanout::primary::capture::capture(
        &primary.session,
        oid,
        pgfanout::config::OldRecord::Full,
        Duration::from_millis(50),
    )
    .await;
    assert!(pgfanout::primary::capture::was_locked(&tried.unwrap_err()));
    primary.run("COMMIT").await;
    let id = primary.capture("t").await;
    primary.run("BEGIN; INSERT INTO t VALUES (2)").await;
    assert_eq!(primary.capture("t").await, id, "nothing to do takes no lock");
    primary.run("COMMIT").await;
}

async fn refusal(primary: &Primary) -> String {
    match install(&primary.session).await {
        Err(Error::Unfit(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}
