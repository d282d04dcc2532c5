//! A replica, and whether its tables fit the primary's.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{Findings, TABLE_BY_TABLE, primary::Wanted, server};
use crate::{
    config::{self, ExistingRows},
    error::{Error, Result},
    postgres::Session,
    replica::{
        create::{refusal_to_make, try_to_make},
        definition::TableDefinition,
        difference::differences,
        filled::filled,
        state,
    },
};

/// From here on a role can be allowed to write as a replica does without being a superuser.
const GRANTABLE: i32 = 150_000;

/// For how long tables that are missing are made to see whether they can be.
const TRYING: Duration = Duration::from_secs(10);

/// What is found at a replica that has to hold this.
pub(super) async fn check(replica: &config::Replica, wanted: &Wanted) -> Findings {
    let mut findings = Findings::at(&replica.database.name);
    let Some(server) = server::check(&replica.database, &mut findings).await else { return findings };
    if !wanted.encoding.is_empty() && ![&*wanted.encoding, "UTF8", "SQL_ASCII"].contains(&&*server.encoding) {
        let text = format!(
            "its encoding is {}, and that of the primary {}: a character that it does not have halts it",
            server.encoding, wanted.encoding
        );
        findings.warning(
            "settings",
            text,
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and that in its url",
        );
    }
    if let Err(error) = look(replica, &server, &wanted.tables, &mut findings).await {
        findings.add(super::Level::Error, "tables", error.chain(), None);
    }
    findings
}

async fn look(
    replica: &config::Replica,
    server: &server::Server,
    wanted: &[TableDefinition],
    findings: &mut Findings,
) -> Result<()> {
    let session = &server.session;
    let standby = "SELECT pg_is_in_recovery()";
    if session.query_one("asking for the server's role", standby, &[]).await?.get(0) {
        findings.error(
            "server",
            "it is a standby, where nothing can be written",
            "name a server of its own, or promote it",
        );
        return Ok(());
    }
    let before = findings.all.len();
    let writing = privileges(replica, server, findings).await?;
    tables(replica, server, writing.as_ref(), wanted, findings).await?;
    if findings.all.len() == before {
        findings
            .ok("tables", format!("role {} may write {} tables, and they fit", server.role, wanted.len()));
    }
    Ok(())
}

/// What is missing is told. Returns a session that writes as the applier's, where it may.
async fn privileges(
    replica: &config::Replica,
    server: &server::Server,
    findings: &mut Findings,
) -> Result<Option<Session>> {
    let server::Server { role, database, .. } = server;
    let connected = state::connect(&replica.database, "pgfanout check").await;
    match &connected {
        Ok(_) => {}
        Err(Error::Paused) => findings.warning(
            "pause",
            "it is paused: nothing is applied to it",
            format!("pgfanout resume --config FILE --replica {}", replica.name),
        ),
        Err(error) if error.needs_operator() => findings.error(
            "privileges",
            format!("role {role} may not set session_replication_role, so that triggers would fire twice"),
            match server.version >= GRANTABLE {
                true => format!("GRANT SET ON PARAMETER session_replication_role TO {role}"),
                false => format!("ALTER ROLE {role} SUPERUSER"),
            },
        ),
        Err(_) => return connected.map(Some),
    }
    let statement = "SELECT s.name, CASE
        WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
        ELSE pg_has_role(n.nspowner, 'USAGE') END, quote_ident(pg_get_userbyid(n.nspowner))
        FROM (VALUES ('pgfanout'), ('pgfanout_status')) s (name) LEFT JOIN pg_namespace n ON n.nspname = s.name
        ORDER BY s.name";
    let mut told = false;
    for row in server.session.query("looking for privileges", statement, &[]).await? {
        let name: &str = row.get(0);
        match (row.get(1), row.get::<_, Option<&str>>(2)) {
            (true, _) => {}
            (false, None) => {
                // Once for both.
                if !std::mem::replace(&mut told, true) {
                    findings.error(
                        "privileges",
                        format!("role {role} may not create the schema {name}"),
                        format!("GRANT CREATE ON DATABASE {database} TO {role}"),
                    );
                }
            }
            (false, Some(owner)) => findings.error(
                "privileges",
                format!("the schema {name} does not belong to role {role}"),
                format!("connect as its owner {owner}, or GRANT {owner} TO {role}"),
            ),
        }
    }
    Ok(connected.ok())
}

async fn tables(
    replica: &config::Replica,
    server: &server::Server,
    writing: Option<&Session>,
    wanted: &[TableDefinition],
    findings: &mut Findings,
) -> Result<()> {
    let server::Server { session, role, .. } = server;
    let schemas: Vec<&str> = wanted.iter().map(|table| &*table.schema).collect();
    let names: Vec<&str> = wanted.iter().map(|table| &*table.name).collect();
    let statement = include_str!("../../sql/replica/check.sql");
    let rows = session.query("looking for privileges", statement, &[&schemas, &names]).await?;
    let ours = ours(server).await?;
    for session in writing.into_iter().chain([session]) {
        session.run("setting up the session", TABLE_BY_TABLE).await?;
    }
    let mut schemas_told = BTreeSet::new();
    let absent = wanted.iter().zip(&rows).filter(|(_, row)| !row.get::<_, bool>("is_there"));
    let absent: BTreeSet<&str> = absent.map(|(table, _)| &*table.table).collect();
    let mut missing = Vec::new();
    for (table, row) in wanted.iter().zip(rows) {
        let name = &table.table;
        let subject = format!("table {name}");
        if !row.get::<_, bool>("is_there") {
            let (schema, may_create): (&str, bool) = (row.get("schema_name"), row.get("may_create"));
            if !may_create && schemas_told.insert(schema.to_owned()) {
                let remedy = match row.get("has_schema") {
                    true => format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"),
                    false => format!("GRANT CREATE ON DATABASE {} TO {role}", server.database),
                };
                findings.error("privileges", format!("role {role} may not create {name}"), remedy);
            }
            if table.needs_table(|name| absent.contains(name)) {
                // Made behind that one, which is kept then.
                continue;
            }
            if let Some(reason) = refusal_to_make(session, table).await? {
                findings.add(super::Level::Error, &subject, format!("it can't be created: {reason}"), None);
            } else if may_create {
                missing.push(table);
            }
            continue;
        }
        if !row.get::<_, bool>("may_write") {
            let remedy = format!("ALTER TABLE {name} OWNER TO {role}");
            findings.error("privileges", format!("{name} does not belong to role {role}"), remedy);
            continue;
        }
        if row.get("policies") {
            let remedy = format!("ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY");
            findings.error(&subject, "its policies would hide rows from its owner, too", remedy);
        }
        let found = TableDefinition::find(session, &table.schema, &table.name, &table.key_columns).await?;
        for difference in found.iter().flat_map(|found| differences(table, found)) {
            let text = format!(
                "{}: the replica has {}, the primary {}",
                difference.subject, difference.found, difference.expected
            );
            findings.error(&subject, text, difference.remedy);
        }
        let is_ours = ours.contains(&(table.schema.clone(), table.name.clone()));
        if !is_ours && replica.existing_rows == ExistingRows::Refuse && has_rows(session, table).await? {
            let remedy = format!("TRUNCATE {name}, or existing_rows = \"replace\" in the configuration");
            findings.error(&subject, "it holds rows that pgfanout did not write", remedy);
        }
    }
    match writing {
        Some(writing) => make(server, writing, &missing, findings).await,
        None => Ok(()),
    }
}

/// What these tables are made of may be newer than the server, or not be on its machine: only it knows what it refuses.
async fn make(
    server: &server::Server,
    writing: &Session,
    missing: &[&TableDefinition],
    findings: &mut Findings,
) -> Result<()> {
    let frees_names = server.may_read("filled_table").await?;
    let began = Instant::now();
    for (tried, table) in missing.iter().enumerate() {
        if began.elapsed() >= TRYING {
            let text =
                format!("{} of {} that are missing were made to try it, and not kept", tried, missing.len());
            findings.ok("tables", text);
            break;
        }
        let subject = format!("table {}", table.table);
        match try_to_make(writing, table, frees_names).await {
            Ok(()) => {}
            Err(error) if error.is_refusal() => {
                findings.add(super::Level::Error, &subject, error.chain(), None);
            }
            Err(error) if error.sqlstate().is_some() => {
                findings.warning(
                    &subject,
                    format!("it could not be tried: {}", error.chain()),
                    "look again later",
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The tables that are replicated already, or were until the primary dropped or renamed them, by schema and name.
async fn ours(server: &server::Server) -> Result<BTreeSet<(String, String)>> {
    let session = &server.session;
    if !server.may_read("replicated_table").await? {
        return Ok(BTreeSet::new());
    }
    let statement = "SELECT schema_name, table_name FROM pgfanout.replicated_table";
    let rows = session.query("reading the replicated tables", statement, &[]).await?;
    let mut ours: BTreeSet<_> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    if server.may_read("filled_table").await? {
        ours.extend(filled(session).await?.into_iter().map(|(name, _)| name));
    }
    Ok(ours)
}

async fn has_rows(session: &Session, table: &TableDefinition) -> Result<bool> {
    let any = format!("SELECT EXISTS (SELECT FROM {})", table.table);
    Ok(session.query_one("looking into a table", &any, &[]).await?.get(0))
}
