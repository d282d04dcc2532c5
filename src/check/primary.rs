//! The primary, and the tables there.

use super::{Findings, TABLE_BY_TABLE, server};
use crate::{
    config::Config,
    error::Result,
    prepare::wanted_tables,
    primary::{install, source::captured},
    replica::definition::TableDefinition,
};

/// A key WITHOUT OVERLAPS is a primary key already, and no index that names rows.
const KEY: &str =
    "ALTER TABLE … ADD PRIMARY KEY (…), or CREATE UNIQUE INDEX ON … (…) over columns that are NOT NULL";

/// What replicas have to hold.
#[derive(Default)]
pub(super) struct Wanted {
    /// The tables.
    pub(super) tables: Vec<TableDefinition>,
    /// The encoding of their texts; empty if it could not be asked for.
    pub(super) encoding: String,
}

/// What is found at the primary, and what replicas have to hold.
pub(super) async fn check(config: &Config) -> (Findings, Wanted) {
    let mut findings = Findings::at("primary");
    let Some(server) = server::check(&config.primary.database, &mut findings).await else {
        return (findings, Wanted::default());
    };
    if server.prepares {
        findings.warning(
            "settings",
            "max_prepared_transactions is above 0, where NOTIFY would make PREPARE TRANSACTION fail: changes are \
             looked for instead, and the first after a pause waits for up to a second",
            format!(
                "{}, if nobody prepares transactions; needs a restart",
                server.set("max_prepared_transactions = 0")
            ),
        );
    }
    let mut wanted = Wanted { tables: Vec::new(), encoding: server.encoding.clone() };
    let looked = look(config, &server, &mut wanted.tables, &mut findings).await;
    if let Err(error) = looked {
        findings.add(super::Level::Error, "tables", error.chain(), None);
    }
    (findings, wanted)
}

async fn look(
    config: &Config,
    server: &server::Server,
    definitions: &mut Vec<TableDefinition>,
    findings: &mut Findings,
) -> Result<()> {
    let primary = &server.session;
    match install::obstacle(primary).await? {
        Some(obstacle) => findings.error("privileges", obstacle.what, obstacle.remedy),
        None => findings.ok("privileges", format!("role {} may install capture", server.role)),
    }
    let off = include_str!("../../sql/primary/check.sql");
    for row in primary.query("looking whether DDL is followed", off, &[]).await? {
        let (what, remedy): (&str, &str) = (row.get("what"), row.get("remedy"));
        let text =
            format!("{what}: tables that are altered are not followed, and replicas may differ unseen");
        findings.error("settings", text, remedy);
    }
    if server.may_read("captured_table").await? {
        for table in captured(primary).await? {
            if let Some(reason) = table.broken {
                findings.error("capture", reason, "pgfanout captures it anew once that is done");
            }
        }
    }
    let wanted = wanted_tables(primary, config).await?.0;
    primary.run("setting up the session", TABLE_BY_TABLE).await?;
    for table in &wanted {
        definitions.extend(TableDefinition::read(primary, table.relation, &table.key).await?);
    }
    let keyless: Vec<&str> =
        wanted.iter().filter(|table| table.key.is_empty()).map(|table| &*table.name).collect();
    if !keyless.is_empty() {
        let text =
            format!("no key names the rows of {}; each change reads all of a table", keyless.join(", "));
        findings.warning("tables", text, KEY);
    }
    findings.ok("tables", format!("{} can be captured", wanted.len()));
    Ok(())
}
