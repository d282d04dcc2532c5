//! Putting the schema `pgfanout` on the primary, keeping it current, and taking it away.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tokio_postgres::Row;

use super::capture::{self, bounded, was_locked};
use crate::{
    error::{Error, Result},
    postgres::Session,
};

/// Applied in order, and never edited once released. The number of the last one is the version.
const MIGRATIONS: &[&str] = &[
    include_str!("../../sql/primary/0001_schema.sql"),
    include_str!("../../sql/primary/0002_recent.sql"),
    include_str!("../../sql/primary/0003_autovacuum.sql"),
    include_str!("../../sql/primary/0004_keys.sql"),
];

/// Created anew when any of it changed. The view of candidates is a query of its own, for looking at tables before
/// anything is installed; what depends on it follows. Those for who watches are what `status` asks, without what
/// names moments of our history; columns may be added to them at the end.
const FUNCTIONS: &str = concat!(
    "DROP VIEW IF EXISTS pgfanout.candidate CASCADE;\nCREATE VIEW pgfanout.candidate AS\n",
    include_str!("../../sql/primary/candidate.sql"),
    ";\n",
    include_str!("../../sql/primary/expressions.sql"),
    include_str!("../../sql/row_bytes.sql"),
    include_str!("../../sql/chars.sql"),
    include_str!("../../sql/primary/triggers.sql"),
    include_str!("../../sql/primary/capture.sql"),
    include_str!("../../sql/primary/ddl.sql"),
    include_str!("../../sql/primary/behind.sql"),
    "CREATE SCHEMA IF NOT EXISTS pgfanout_status;\n\
     CREATE OR REPLACE VIEW pgfanout_status.primary AS SELECT s.publisher, s.changelog_entries, s.changelog_bytes, \
     s.last_batch, s.last_batch_published, s.last_batch_cut_at, s.last_batch_seconds_ago, s.last_batch_for_all, \
     s.last_batch_for_all_published, s.last_batch_for_all_cut_at, s.last_batch_for_all_seconds_ago, \
     s.changelog_logged, s.changelog_logged_per_second FROM (\n",
    include_str!("../../sql/primary/status.sql"),
    ") s;\nCREATE OR REPLACE VIEW pgfanout_status.captured_tables AS\n",
    include_str!("../../sql/primary/status_tables.sql"),
    ";\nCREATE OR REPLACE VIEW pgfanout_status.replicas AS SELECT s.name, s.state, s.error, s.reported_at, \
     s.seconds_ago, s.\"position\", b.changes, b.at_least, b.bytes, b.seconds, b.trimmed FROM (\n",
    include_str!("../../sql/primary/status_replicas.sql"),
    ") s CROSS JOIN LATERAL pgfanout.behind(s.\"position\", s.number, s.token) b;\n\
     CREATE OR REPLACE VIEW pgfanout_status.recent AS\n",
    include_str!("../../sql/primary/status_recent.sql"),
    ";\n",
    include_str!("../../sql/primary/privileges.sql"),
);

/// Serialises installing and uninstalling in one database; "pgfanout" in ASCII.
const LOCK: i64 = 0x7067_6661_6e6f_7575;

/// The oldest server that has `xid8`.
const OLDEST_SERVER: i32 = 130_000;

/// How long others may have to wait behind us for a lock, each time that we try to get it.
const LOCK_LIMIT: Duration = Duration::from_millis(300);

/// How long we try to get locks before we give up for now.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long we leave others alone between two tries.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is installed on a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Names this installation: positions of another mean nothing here.
    pub epoch: String,
    /// Whether capture wakes the publisher; where it does not, the publisher polls.
    pub notify: bool,
}

/// Installs what is missing and upgrades what is older, all of it or nothing. Does no harm where all is current, nor
/// when many do it at once.
///
/// # Errors
/// When the server is too old or a standby, the role is no superuser, what is installed is newer than this program,
/// or somebody holds for long what an upgrade has to lock: the text has the remedy.
pub async fn install(primary: &Session) -> Result<Installation> {
    let server = server(primary).await?;
    check_server(&server)?;
    locked(primary, async {
        let elsewhere = installed_elsewhere(primary).await?;
        if let Some(installation) = &elsewhere {
            tracing::error!(
                event = "primary_moved",
                installation,
                "primary: the schema pgfanout there came from another database, with a dump, and means nothing \
                 in this one; it is installed anew, and every replica halts until it is told to copy all anew"
            );
        }
        patiently(primary.database(), async || {
            bounded(primary, LOCK_LIMIT, async {
                if elsewhere.is_some() {
                    drop_moved(primary).await?;
                }
                migrate(primary).await?;
                renew_functions(primary).await?;
                note_notify(primary, server.get("notify")).await
            })
            .await
        })
        .await
    })
    .await
}

/// Removes triggers, functions and schema, without a trace. Returns whether there was anything.
///
/// # Errors
/// As [`install`]; also when a table stays locked by others for long. What is left then goes the next
/// time.
pub async fn uninstall(primary: &Session) -> Result<bool> {
    let server = server(primary).await?;
    if !server.get::<_, bool>("is_installed") {
        return Ok(false);
    }
    check_server(&server)?;
    locked(primary, async {
        if version(primary).await?.is_none() {
            return Ok(false);
        }
        release_all(primary).await?;
        drop_schemas(primary).await?;
        Ok(true)
    })
    .await
}

/// Removes our schemas from a database: from a primary, once nothing there depends on them, or from a replica. Keeps
/// nobody waiting for longer than a moment. May be repeated.
///
/// # Errors
/// When somebody holds for long what is in them.
pub async fn drop_schemas(session: &Session) -> Result<()> {
    patiently(session.database(), async || {
        bounded(session, LOCK_LIMIT, async {
            session.run("removing pgfanout's schemas", include_str!("../../sql/uninstall.sql")).await
        })
        .await
    })
    .await
}

/// Removes what a replica reported, so that nothing is kept for it. Returns whether there was anything.
///
/// # Errors
/// When the link breaks.
pub async fn forget_replica(primary: &Session, replica: &str) -> Result<bool> {
    if version(primary).await?.is_none() {
        return Ok(false);
    }
    let statement = "DELETE FROM pgfanout.replica WHERE name = $1";
    Ok(primary.execute("forgetting a replica", statement, &[&replica]).await? > 0)
}

/// Why [`install`] could not be done; changes nothing.
///
/// # Errors
/// When the link breaks.
pub async fn obstacle(primary: &Session) -> Result<Option<Obstacle>> {
    Ok(find_obstacle(&server(primary).await?))
}

/// What keeps a server from being a primary, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What is in the way.
    pub what: String,
    /// The statement that removes it, or what else does.
    pub remedy: String,
}

async fn server(primary: &Session) -> Result<Row> {
    primary.query_one("looking at the server", include_str!("../../sql/primary/server.sql"), &[]).await
}

fn check_server(server: &Row) -> Result<()> {
    match find_obstacle(server) {
        None => Ok(()),
        Some(Obstacle { what, remedy }) => Err(Error::Unfit(format!("primary: {what}; remedy: {remedy}"))),
    }
}

fn find_obstacle(server: &Row) -> Option<Obstacle> {
    let obstacle =
        |what: &str, remedy: &str| Some(Obstacle { what: what.to_owned(), remedy: remedy.to_owned() });
    if server.get::<_, i32>("server_version") < OLDEST_SERVER {
        return obstacle("the server is older than PostgreSQL 13", "upgrade it");
    }
    if server.get("is_standby") {
        return obstacle(
            "the server is a standby, and nothing can be captured there",
            "name its primary in primary.url",
        );
    }
    if !server.get::<_, bool>("is_superuser") {
        let role: &str = server.get("role");
        return obstacle(
            &format!("role {role} is no superuser, which event triggers and capture for all roles need"),
            &format!("ALTER ROLE {role} SUPERUSER, or connect as one"),
        );
    }
    if server.get::<_, bool>("has_schema") && !server.get::<_, bool>("is_installed") {
        return match server.get("was_replica") {
            true => obstacle(
                "this database was a replica of pgfanout until now, and is to be the primary",
                "DROP SCHEMA pgfanout CASCADE",
            ),
            false => obstacle(
                "there is a schema \"pgfanout\" that is not ours",
                "ALTER SCHEMA pgfanout RENAME TO something_else",
            ),
        };
    }
    None
}

/// Runs `work` while nobody else installs or uninstalls here. The lock ends with the session if we do
/// not get to end it.
async fn locked<T>(primary: &Session, work: impl Future<Output = Result<T>>) -> Result<T> {
    let doing = "waiting for others who install";
    primary.query_one(doing, "SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let result = work.await;
    primary.query_one("having installed", "SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    result
}

/// Tries again while others hold the locks that it needs, for as long as that may take.
async fn patiently<T>(database: &str, mut work: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match work().await {
            Err(error) if was_locked(&error) && started.elapsed() < PATIENCE => {}
            Err(error) if was_locked(&error) => {
                let (limit, why) = (PATIENCE.as_secs(), error.chain());
                return Err(Error::Unfit(format!(
                    "{database}: transactions there held for {limit} s what pgfanout has to lock for a moment ({why}); \
                     end those that pg_stat_activity shows to be old"
                )));
            }
            result => return result,
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What is installed; `None`: nothing.
async fn version(primary: &Session) -> Result<Option<usize>> {
    if !server(primary).await?.get::<_, bool>("is_installed") {
        return Ok(None);
    }
    let statement = "SELECT version FROM pgfanout.installation";
    let row = primary.query_one("reading the installed version", statement, &[]).await?;
    Ok(Some(usize::try_from(row.get::<_, i32>(0)).unwrap_or(usize::MAX)))
}

/// The installation, if it was made in another database than this one.
async fn installed_elsewhere(primary: &Session) -> Result<Option<String>> {
    if !server(primary).await?.get::<_, bool>("is_installed") {
        return Ok(None);
    }
    let statement = include_str!("../../sql/primary/installation.sql");
    let rows = primary.query("reading the installation", statement, &[]).await?;
    let moved = rows.iter().find(|row| !row.get::<_, bool>("in_place"));
    Ok(moved.map(|row| row.get("epoch")))
}

/// Removes what a dump brought along. Its registry has the oids of another database: the triggers go with
/// their functions.
async fn drop_moved(primary: &Session) -> Result<()> {
    let statements = concat!(
        "DROP EVENT TRIGGER IF EXISTS pgfanout_follow_ddl;\n",
        "DROP EVENT TRIGGER IF EXISTS pgfanout_note_rewrite;\n",
        include_str!("../../sql/uninstall.sql")
    );
    primary.run("removing what a dump brought along", statements).await
}

async fn migrate(primary: &Session) -> Result<()> {
    let installed = version(primary).await?.unwrap_or(0);
    if installed > MIGRATIONS.len() {
        return Err(Error::Unfit(format!(
            "primary: version {installed} of pgfanout's schema is installed there, and this program knows \
             only up to {}: use a newer pgfanout",
            MIGRATIONS.len()
        )));
    }
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(installed) {
        let version = at + 1;
        let statements = format!(
            "{migration};\nINSERT INTO pgfanout.installation (version, notify) VALUES ({version}, false)\
             ON CONFLICT (only_row) DO UPDATE SET version = {version}"
        );
        primary.run(&format!("installing version {version}"), &statements).await?;
    }
    Ok(())
}

async fn renew_functions(primary: &Session) -> Result<()> {
    // Whoever disabled or dropped an event trigger keeps DDL from being followed: they are made anew, too.
    let statement = "SELECT md5($1), CASE WHEN (SELECT count(*) FROM pg_event_trigger e \
        WHERE e.evtname IN ('pgfanout_follow_ddl', 'pgfanout_note_rewrite') AND e.evtenabled = 'A') = 2 \
        THEN i.functions END FROM pgfanout.installation i";
    let row = primary.query_one("comparing the functions", statement, &[&FUNCTIONS]).await?;
    let (current, installed): (&str, Option<&str>) = (row.get(0), row.get(1));
    if installed == Some(current) {
        return Ok(());
    }
    // The digest is 32 hexadecimal digits of the server's own.
    let statements = format!(
        "{FUNCTIONS};\nSELECT pgfanout.renew();\nUPDATE pgfanout.installation SET functions = '{current}'"
    );
    primary.run("installing the functions", &statements).await
}

async fn note_notify(primary: &Session, notify: bool) -> Result<Installation> {
    let update = "UPDATE pgfanout.installation SET notify = $1 WHERE notify <> $1";
    primary.execute("noting whether capture notifies", update, &[&notify]).await?;
    let statement = "SELECT epoch::text FROM pgfanout.installation";
    let row = primary.query_one("reading the installation", statement, &[]).await?;
    Ok(Installation { epoch: row.get(0), notify })
}

/// Each table in a transaction of its own, so that we never hold the locks of two.
async fn release_all(primary: &Session) -> Result<()> {
    let statements = "DROP EVENT TRIGGER IF EXISTS pgfanout_follow_ddl; \
        DROP EVENT TRIGGER IF EXISTS pgfanout_note_rewrite";
    primary.run("no longer following DDL", statements).await?;
    let statement = "SELECT id FROM pgfanout.captured_table ORDER BY id";
    for row in primary.query("reading the captured tables", statement, &[]).await? {
        let release = async || capture::release(primary, row.get(0), LOCK_LIMIT).await;
        patiently(primary.database(), release).await?;
    }
    Ok(())
}
