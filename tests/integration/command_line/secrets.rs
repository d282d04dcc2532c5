//! Passwords and rows are never shown.

use crate::support::{Mode, PATIENCE, program, until_same, world};
use pgfanout_testbed::{
    config::ConfigFile,
    process::{Finished, Pgfanout},
};

const TRACE: &str = "[log]\nformat = \"json\"\nlevel = \"trace\"";

/// Wrong passwords for everything.
fn locked_out(mut config: ConfigFile, password: &str) -> ConfigFile {
    let replaced = |url: &str| {
        let (before, host) = url.rsplit_once('@').unwrap();
        let (user, _) = before.rsplit_once(':').unwrap();
        format!("{user}:{password}@{host}")
    };
    config.primary.url = replaced(&config.primary.url);
    for replica in &mut config.replicas {
        replica.url = replaced(&replica.url);
    }
    if let Some(broker) = &mut config.broker {
        broker.urls = broker.urls.iter().map(|url| replaced(url)).collect();
    }
    config
}

#[tokio::test]
async fn a_password_is_never_shown() {
    let world = world(Mode::Broker, 1).build().await;
    let password = "Hush-4711";
    let config = locked_out(world.config(), password).more(TRACE);
    let file = config.write();
    for command in ["check", "install", "uninstall", "status"] {
        let Finished { code, stdout, stderr } = program().once(command, &file, &[]).await;
        assert_eq!(code, Some(1), "{command}: {stdout}{stderr}");
        assert!(!stdout.contains(password) && !stderr.contains(password), "{command}: {stdout}{stderr}");
    }
    // From the environment, too, and where the text is no URL at all.
    let mut config = config;
    config.primary.url =
        format!("postgresql://postgres:${{HUSH}}@127.0.0.1:{}/x", world.primary().cluster().port());
    let mut pgfanout = program().env("HUSH", password).run(&config.write());
    for stage in ["pg_listener", "publisher", "applier"] {
        until_failed(&mut pgfanout, stage).await;
    }
    pgfanout.terminate().await;
    assert!(pgfanout.lines().iter().all(|line| !line.contains(password)), "{:?}", pgfanout.lines());
    // A consumer tries the broker only when its replica is within reach.
    world.primary().execute("CREATE TABLE t (k int PRIMARY KEY)").await;
    let mut broker_only = world.config().more(TRACE);
    broker_only.broker.clone_from(&config.broker);
    let mut pgfanout = program().run(&broker_only.write());
    until_failed(&mut pgfanout, "consumer").await;
    pgfanout.terminate().await;
    assert!(pgfanout.lines().iter().all(|line| !line.contains(password)), "{:?}", pgfanout.lines());
    config.primary.url = format!("postgresql://postgres:{password}@@:/x@y");
    let Finished { code, stdout, stderr } = program().once("check", &config.write(), &[]).await;
    assert_eq!(code, Some(2));
    assert!(!stdout.contains(password) && !stderr.contains(password), "{stdout}{stderr}");
}

async fn until_failed(pgfanout: &mut Pgfanout, stage: &str) {
    pgfanout
        .wait_for(0, &format!("a failure of {stage}"), PATIENCE, |line| {
            (line["event"] == "failed" || line["event"] == "halted") && line["stage"] == stage
        })
        .await;
}

/// Rows arrive, or are refused by something that only the replica has: in the broker's batches, and when
/// catching up.
#[tokio::test]
async fn a_row_is_never_shown() {
    let world = world(Mode::Broker, 1).build().await;
    let canary = "Tweety-0815";
    let tables = "CREATE TABLE t (k text PRIMARY KEY, a text, n int)";
    world.primary().execute(tables).await;
    let file = world.config().more(TRACE).broker("max_message_bytes = 1024").write();
    let mut pgfanout = program().run(&file);
    let mut lines = Vec::new();
    world
        .primary()
        .execute(&format!("INSERT INTO t SELECT '{canary}' || n, '{canary}', n FROM generate_series(1, 9) n"))
        .await;
    until_same(&world, &["t"]).await;
    let write = format!(
        "UPDATE t SET a = repeat(a, 500) WHERE n < 3; UPDATE t SET k = k || 'x' WHERE n = 4; \
         DELETE FROM t WHERE n = 5; INSERT INTO t VALUES ('{canary}', '{canary}', 100)"
    );
    world.primary().execute(&write).await;
    until_same(&world, &["t"]).await;
    let raising = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'not %', new; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse();
        ALTER TABLE t ENABLE ALWAYS TRIGGER refuse";
    // What only the replica has, how the log names it, and how it goes away again.
    for (n, (refusing, named, mended)) in [
        (
            "ALTER TABLE t ADD CONSTRAINT only_here CHECK (a <> 'no')",
            "only_here",
            "ALTER TABLE t DROP CONSTRAINT only_here",
        ),
        (
            "CREATE UNIQUE INDEX one_only ON t ((a IN ('no', 'nono'))) WHERE a IN ('no', 'nono')",
            "one_only",
            "DROP INDEX one_only",
        ),
        (raising, "P0001", "DROP TRIGGER refuse ON t"),
    ]
    .into_iter()
    .enumerate()
    {
        let refusing = refusing.replace("'no", &format!("'{canary}-no"));
        world.replica(1).execute(&refusing).await;
        let mark = pgfanout.mark();
        let rows = format!(
            "INSERT INTO t VALUES ('{canary}-{n}', '{canary}-no', 7), ('{canary}-{n}-', '{canary}-nono', 8)"
        );
        world.primary().execute(&rows).await;
        pgfanout
            .wait_for(mark, &format!("that it halted for {named}"), PATIENCE, |line| {
                line["event"] == "halted" && line["message"].as_str().unwrap().contains(named)
            })
            .await;
        world.replica(1).execute(mended).await;
        world.primary().execute(&format!("DELETE FROM t WHERE k LIKE '{canary}-{n}%'")).await;
        // It looks again now, and not in a while.
        pgfanout.terminate().await;
        lines.extend(pgfanout.lines());
        pgfanout = program().run(&file);
        until_same(&world, &["t"]).await;
    }
    pgfanout.terminate().await;
    lines.extend(pgfanout.lines());
    let shown: Vec<_> = lines.iter().filter(|line| line.contains("Tweety")).collect();
    assert!(shown.is_empty(), "{shown:?}");
}
