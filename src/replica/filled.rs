//! Which tables of a replica hold nothing but what pgfanout wrote, so that they may be emptied: those that are
//! replicated, and those that left since the primary dropped or renamed them. One that was taken out of the
//! configuration is not among them: who did that may write to it.

use std::collections::BTreeSet;

use tokio_postgres::types::ToSql;

use super::state::{Replica, execute};
use crate::{
    error::Result,
    postgres::Session,
    primary::source::{Captured, Source},
};

/// Forgets tables that are not there any more: their oids may come again.
///
/// # Errors
/// When the replica fails.
pub(super) async fn forget_gone(replica: &Session) -> Result<()> {
    let forget =
        "DELETE FROM pgfanout.filled_table f WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = f.here)";
    execute(replica, "forgetting tables that are gone", forget, &[]).await.map(drop)
}

/// Notes, in the open transaction, that the rows of the primary's table are all that is in the one here.
///
/// # Errors
/// When the replica fails.
pub(super) async fn note_filled(replica: &Session, table: &Captured) -> Result<()> {
    let statement = include_str!("../../sql/replica/note_filled.sql");
    let parameters: [&(dyn ToSql + Sync); 3] = [&table.schema, &table.table, &table.relation];
    replica.execute("noting whose rows a table has", statement, &parameters).await.map(drop)
}

/// The schemas and names of those tables, with the oids that they had on the primary.
///
/// # Errors
/// When the replica fails.
pub async fn filled(replica: &Session) -> Result<Vec<((String, String), u32)>> {
    let statement = include_str!("../../sql/replica/filled_tables.sql");
    let rows = replica.query("reading whose rows tables have", statement, &[]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}

/// Of tables that leave, those that are still there on the primary were taken out: what is in them here is whoever's
/// who writes to them.
///
/// # Errors
/// When a database fails.
pub(super) async fn give_up(replica: &Replica, source: &Source, gone: &[(String, String)]) -> Result<()> {
    let gone: BTreeSet<_> = gone.iter().collect();
    let (names, there): (Vec<_>, Vec<u32>) =
        filled(&replica.session).await?.into_iter().filter(|(name, _)| gone.contains(name)).unzip();
    let (schemas, tables): (Vec<String>, Vec<String>) = names.into_iter().unzip();
    let statement = include_str!("../../sql/primary/same_names.sql");
    let kept =
        source.control.query("looking for tables that left", statement, &[&there, &schemas, &tables]).await?;
    let (schemas, tables): (Vec<String>, Vec<String>) =
        kept.iter().map(|row| (row.get(0), row.get(1))).unzip();
    let forget = "DELETE FROM pgfanout.filled_table f USING unnest($1::text[], $2::text[]) t (schema_name, table_name) \
        WHERE (f.schema_name, f.table_name) = (t.schema_name, t.table_name)";
    execute(&replica.session, "leaving tables to others", forget, &[&schemas, &tables]).await.map(drop)
}
