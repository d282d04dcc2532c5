//! Comparing the configuration with the databases before anything starts.

use crate::{
    config::{Config, OldRecord, Problem},
    error::Result,
    postgres::{Session, quote_identifier},
    primary::tables::{Resolved, resolve},
};

/// A table that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its oid on the primary.
    pub relation: u32,
    /// Its name in SQL.
    pub name: String,
    /// The columns of its key; empty if nothing names its rows.
    pub key: Vec<String>,
    /// What is logged of old rows.
    pub old_record: OldRecord,
}

/// The tables that the configuration names and that can be replicated; and what is wrong with the rest.
///
/// # Errors
/// When the link breaks.
pub async fn wanted_tables(primary: &Session, config: &Config) -> Result<(Vec<Wanted>, Vec<Problem>)> {
    let resolved = resolve(primary, &config.primary.tables, &config.primary.exclude).await?;
    let problems = table_problems(config, &resolved);
    let replicable = resolved.candidates.into_iter().filter(|table| table.refusal.is_none());
    let wanted = replicable.map(|table| Wanted {
        relation: table.relation,
        name: format!("{}.{}", quote_identifier(&table.schema), quote_identifier(&table.table)),
        old_record: config.old_record(&table.schema, &table.table),
        key: table.key,
    });
    Ok((wanted.collect(), problems))
}

fn table_problems(config: &Config, resolved: &Resolved) -> Vec<Problem> {
    let key = |n: usize| format!("primary.tables[{n}]");
    let unmatched = resolved.unmatched.iter().map(|&n| {
        let pattern = config.primary.tables.get(n).map(ToString::to_string).unwrap_or_default();
        config.problem(
            &key(n),
            format!("{pattern} matches no table on the primary; create the table, or leave the pattern out"),
        )
    });
    let excluded = resolved.unmatched_exclusions.iter().map(|&n| {
        let pattern = config.primary.exclude.get(n).map(ToString::to_string).unwrap_or_default();
        config.problem(&format!("primary.exclude[{n}]"), format!("{pattern} excludes nothing; leave it out"))
    });
    let refused = resolved.candidates.iter().filter_map(|table| {
        let reason = table.refusal.as_ref()?;
        Some(config.problem(&key(table.pattern), reason.clone()))
    });
    unmatched.chain(excluded).chain(refused).collect()
}

/// What of the configuration does not fit the databases that can be reached; those that cannot are left
/// for later: they are waited for.
///
/// # Errors
/// When a database that was reached fails.
pub async fn problems(config: &Config) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let Ok(primary) = config.primary.database.connect("pgfanout check").await else {
        return Ok(problems);
    };
    let looking = async { Ok((wanted_tables(&primary, config).await?.1, identity(&primary).await?)) };
    let Some((unfit, itself)) = unless_lost(looking.await)? else { return Ok(problems) };
    problems.extend(unfit);
    let mut known = vec![("the primary".to_owned(), itself)];
    for (n, replica) in config.replicas.iter().enumerate() {
        let Ok(session) = replica.database.connect("pgfanout check").await else { continue };
        let Some(identity) = unless_lost(identity(&session).await)? else { continue };
        if let Some((other, _)) = known.iter().find(|(_, known)| *known == identity) {
            let text = format!("leads to the same database as {other}; give each its own");
            problems.push(config.problem(&format!("replica[{n}].url"), text));
        }
        known.push((format!("replica {}", replica.name), identity));
    }
    Ok(problems)
}

/// What was found, unless the database went away meanwhile: then it is waited for like one that was away.
fn unless_lost<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(error) if !error.needs_operator() => Ok(None),
        found => found.map(Some),
    }
}

/// Which database of which cluster a session is in, and which of the copies of that cluster.
async fn identity(session: &Session) -> Result<(String, u32)> {
    let statement = include_str!("../sql/identity.sql");
    let row = session.query_one("reading the database's identity", statement, &[]).await?;
    Ok((row.get("cluster"), row.get("database")))
}
