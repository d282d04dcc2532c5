//! What `pgfanout check` says of servers that have what only newer PostgreSQL has, or of two that differ in it.

use pgfanout_testbed::{eventually, world::World};

use crate::{
    checking::{findings, of_level},
    support::{Mode, PATIENCE, world},
};

/// The warnings that begin so, with their remedies.
async fn warnings(world: &World, beginning: &str) -> Vec<(String, String)> {
    let found = findings(&world.config()).await;
    let warnings = of_level(&found, "warning").into_iter().filter(|(text, _)| text.starts_with(beginning));
    warnings.map(|(text, remedy)| (text, remedy.to_owned())).collect()
}

/// Its primary key is there already: an index over the same columns names the rows.
#[tokio::test]
async fn a_temporal_key_names_no_rows() {
    let world = world(Mode::Postgres, 1).build().await;
    let primary = world.primary();
    if !primary.cluster().knows("a temporal key", 18) {
        return;
    }
    let setup = "CREATE EXTENSION btree_gist; CREATE TABLE t (id int, during int4range, PRIMARY KEY (id, during WITHOUT OVERLAPS))";
    primary.execute(setup).await;
    let told = warnings(&world, "primary: tables: no key names the rows of \"public\".\"t\"").await;
    let index = "CREATE UNIQUE INDEX ON … (…) over columns that are NOT NULL";
    assert!(told.len() == 1 && told[0].1.ends_with(index), "{told:#?}");
    primary.execute("CREATE UNIQUE INDEX ON t (id, during)").await;
    assert_eq!(warnings(&world, "primary: tables: ").await, []);
}

/// From PostgreSQL 16 on a role may have fewer connections than others.
#[tokio::test]
async fn connections_that_are_kept_for_others_are_not_free() {
    let probe = world(Mode::Postgres, 1).build().await;
    if !probe.replica(1).cluster().knows("reserved_connections", 16) {
        return;
    }
    let settings = [("max_connections", "40"), ("reserved_connections", "32")];
    let world = world(Mode::Postgres, 1).own_replicas_with(&settings).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let replica = world.replica(1);
    let told = "replica r1: settings: only ";
    assert_eq!(warnings(&world, told).await, [], "a superuser has them");
    let setup = format!(
        "CREATE ROLE narrow LOGIN PASSWORD 'narrow'; GRANT SET ON PARAMETER session_replication_role TO narrow;
         GRANT CREATE ON DATABASE {} TO narrow; GRANT CREATE ON SCHEMA public TO narrow",
        replica.name()
    );
    replica.execute(&setup).await;
    let narrow = || {
        let mut config = world.config();
        config.replicas[0].url = replica.cluster().url_of("narrow", "narrow", replica.name());
        config
    };
    for (grant, is_told) in [("SELECT", true), ("GRANT pg_use_reserved_connections TO narrow", false)] {
        replica.execute(grant).await;
        let found = findings(&narrow()).await;
        assert_eq!(of_level(&found, "error"), []);
        let warnings = of_level(&found, "warning");
        assert_eq!(
            warnings.iter().any(|(text, _)| text.starts_with(told)),
            is_told,
            "{grant}: {warnings:#?}"
        );
    }
}

#[tokio::test]
async fn where_alter_system_is_not_allowed_no_remedy_is_one() {
    let probe = world(Mode::Postgres, 1).build().await;
    if !probe.primary().cluster().knows("allow_alter_system", 17) {
        return;
    }
    let settings = [("allow_alter_system", "off"), ("max_prepared_transactions", "3")];
    let world = world(Mode::Postgres, 1).own_primary(&settings).build().await;
    for setting in ["fsync = on", "max_prepared_transactions = 0"] {
        let name = setting.split(' ').next().unwrap();
        let told = warnings(&world, &format!("primary: settings: {name} ")).await;
        let remedy = format!("{setting} in its configuration, since ALTER SYSTEM is not allowed there");
        assert!(told.len() == 1 && told[0].1.starts_with(&remedy), "{told:#?}");
    }
}

/// Limits that end sessions and transactions of others: ours set their own.
#[tokio::test]
async fn limits_of_a_server_are_in_nobodys_way() {
    let world = world(Mode::Postgres, 1).own_primary(&[]).own_replicas().build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let bad = async || {
        let found = findings(&world.config()).await;
        found.into_iter().filter(|finding| finding["level"] != "ok").collect::<Vec<_>>()
    };
    let before = bad().await;
    for database in [world.primary(), world.replica(1)] {
        for (setting, since) in [
            ("idle_session_timeout = '100ms'", 14),
            ("transaction_timeout = '100ms'", 17),
            ("idle_replication_slot_timeout = '1s'", 18),
        ] {
            if database.cluster().knows(setting, since) {
                database.execute(&format!("ALTER SYSTEM SET {setting}")).await;
            }
        }
        database.execute("SELECT pg_reload_conf()").await;
    }
    eventually(PATIENCE, "they hold", async || {
        for database in [world.primary(), world.replica(1)] {
            let holds = "SELECT setting <> '0' FROM pg_settings WHERE name = 'idle_session_timeout'";
            let client = database.try_client().await.map_err(|error| error.to_string())?;
            let row = client.query_opt(holds, &[]).await.map_err(|error| error.to_string())?;
            if row.is_some_and(|row| !row.get::<_, bool>(0)) {
                return Err("not yet".to_owned());
            }
        }
        Ok(())
    })
    .await;
    assert_eq!(bad().await, before);
}
