//! What any PostgreSQL server is asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::Row;

use super::Findings;
use crate::{
    error::{Error, Result},
    postgres::{Database, Session},
    status::units::duration,
};

/// From here on, times that are told are wrong by what people notice.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// The oldest server that may be a replica, as `server_version_num` has it: the same as for a primary.
const OLDEST: i32 = 130_000;

/// How many sessions there must be room for: those of all stages at one server, some twice while one replaces
/// another.
const SESSIONS: i64 = 10;

/// What a server said of itself.
pub(super) struct Server {
    /// A session there.
    pub(super) session: Session,
    /// Its version, as `server_version_num` has it.
    pub(super) version: i32,
    /// In which its texts are.
    pub(super) encoding: String,
    /// The role, quoted.
    pub(super) role: String,
    /// The database, quoted.
    pub(super) database: String,
    /// It can prepare transactions for two-phase commit.
    pub(super) prepares: bool,
    /// ALTER SYSTEM is allowed there.
    alters_system: bool,
}

impl Server {
    /// How this becomes a setting of the server.
    pub(super) fn set(&self, setting: &str) -> String {
        match self.alters_system {
            true => format!("ALTER SYSTEM SET {setting}"),
            false => format!("{setting} in its configuration, since ALTER SYSTEM is not allowed there"),
        }
    }

    /// Whether there is a table of ours with this name that the role may read.
    pub(super) async fn may_read(&self, table: &str) -> Result<bool> {
        let statement = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = 'pgfanout' AND c.relname = $1 AND has_schema_privilege(n.oid, 'USAGE') \
                AND has_table_privilege(c.oid, 'SELECT'))";
        Ok(self.session.query_one("looking for our schema", statement, &[&table]).await?.get(0))
    }
}

/// Connects and asks; none if that fails, which is a finding then.
pub(super) async fn check(database: &Database, findings: &mut Findings) -> Option<Server> {
    match ask(database, findings).await {
        Ok(server) => Some(server),
        Err(error) if is_shared(&error) => {
            shared(findings);
            None
        }
        Err(error) => {
            let remedy =
                "see that the server runs, is reached from here, and lets this user in (pg_hba.conf)";
            findings.error("connection", error.chain(), remedy);
            None
        }
    }
}

async fn ask(database: &Database, findings: &mut Findings) -> Result<Server> {
    let session = database.connect("pgfanout check").await?;
    let other = database.connect("pgfanout check").await?;
    let statement = include_str!("../../sql/check.sql");
    let doing = "asking the server of itself";
    let before = now();
    let row = session.query_one(doing, statement, &[]).await?;
    let (after, clock) = (now(), row.get::<_, f64>("clock"));
    let others: i32 = other.query_one(doing, statement, &[]).await?.get("backend");
    let version: &str = row.get("version");
    findings.ok("connection", format!("PostgreSQL {version} answers"));
    if others == row.get::<_, i32>("backend") {
        shared(findings);
    }
    judge_version(&row, findings);
    judge_link(&row, findings);
    judge_clock(before, clock, after, findings);
    let free: i64 = row.get("connections");
    if free < SESSIONS {
        let text = format!("only {free} more connections are allowed, and pgfanout may need {SESSIONS}");
        findings.warning("settings", text, "raise max_connections, which needs a restart");
    }
    let (role, database) = (row.get("role"), row.get("database"));
    let server = Server {
        version: row.get("version_number"),
        encoding: row.get("encoding"),
        role,
        database,
        prepares: row.get("prepares"),
        alters_system: row.get("alters_system"),
        session,
    };
    let texts: (Vec<String>, Vec<&str>) = (row.get("unwise"), row.get("wise"));
    for (text, wise) in texts.0.iter().zip(texts.1) {
        findings.warning("settings", text, format!("{}; SELECT pg_reload_conf()", server.set(wise)));
    }
    Ok(server)
}

/// Statements that were prepared are not there, or those of somebody else are.
fn is_shared(error: &Error) -> bool {
    error.sqlstate().is_some_and(|state| ["26000", "42P05"].contains(&state.code()))
}

/// Two sessions at a time had the same server process.
fn shared(findings: &mut Findings) {
    findings.error(
        "pooler",
        "a pooler gives the server's sessions to others between transactions: notifications would never be heard, \
         nor locks be kept",
        "name the server itself in the url, or a database of the pooler with pool_mode = session",
    );
}

fn judge_version(row: &Row, findings: &mut Findings) {
    if row.get::<_, i32>("version_number") < OLDEST {
        findings.error("version", "it is older than PostgreSQL 13", "upgrade it");
    }
}

fn judge_link(row: &Row, findings: &mut Findings) {
    match (row.get::<_, &str>("tls"), row.get::<_, bool>("is_local")) {
        ("", true) => findings.ok("tls", "none, and the server is on this machine"),
        ("", false) => findings.warning(
            "tls",
            "passwords and rows may be read and altered on their way",
            "ssl = on at the server; here sslmode = \"verify-full\" and sslrootcert",
        ),
        (version, _) => findings.ok("tls", version),
    }
}

/// The server's clock was read between `before` and `after`; all in seconds since 1970.
fn judge_clock(before: f64, clock: f64, after: f64, findings: &mut Findings) {
    let off = (before - clock).max(clock - after);
    if off > CLOCK_TOLERANCE.as_secs_f64() {
        let way = if clock < before { "behind" } else { "ahead of" };
        let text = format!("it is {} {way} this machine's, and delays are told wrong by that", duration(off));
        findings.warning("clock", text, "have both set by NTP");
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_beyond_the_time_of_asking() {
        let judged = |before, clock, after| {
            let mut findings = Findings::at("primary");
            judge_clock(before, clock, after, &mut findings);
            findings.all.first().map(|finding| finding.text.split(',').next().unwrap_or_default().to_owned())
        };
        assert_eq!(judged(100.0, 100.1, 100.2), None);
        assert_eq!(judged(100.0, 99.1, 100.2), None);
        assert_eq!(judged(100.0, 103.0, 104.0), None);
        assert_eq!(judged(100.0, 40.0, 100.2).as_deref(), Some("it is 1 min 0 s behind this machine's"));
        assert_eq!(judged(100.0, 105.0, 100.2).as_deref(), Some("it is 4.8 s ahead of this machine's"));
    }
}
