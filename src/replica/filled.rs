//! Which tables of a replica hold nothing but what pgfanout wrote, so that they may be emptied: those that are
//! replicated, and those that left since the primary dropped or renamed them. One that was taken out of the
//! configuration is not among them: who did that may write to it.

use std::collections::BTreeSet;

use tokio_postgres::types::ToSql;

use super::state::{REPLICATED_TABLES, Replica, execute};
use crate::{
    error::Result,
    postgres::{Session, quote_names},
    primary::source::{Captured, Source},
};

/// Forgets tables that left and are not there any more, as their oids may come again; and all, where a dump took it to
/// another database.
///
/// # Errors
/// When the replica fails.
pub(super) async fn forget_gone(replica: &Session) -> Result<()> {
    let forget = include_str!("../../sql/replica/forget_gone.sql");
    execute(replica, "forgetting tables that are gone", forget, &[]).await.map(drop)
}

/// Keeps a table, if it is there, from being altered while it is compared, in the open transaction.
///
/// # Errors
/// When the replica fails.
pub(super) async fn hold_still(replica: &Session, table: &Captured) -> Result<()> {
    let name = quote_names(&table.schema, &table.table);
    let statement =
        "SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass($1) AND relkind IN ('r', 'p'))";
    if !replica.query_one("looking for a table", statement, &[&name]).await?.get::<_, bool>(0) {
        return Ok(());
    }
    let lock = format!("LOCK TABLE {name} IN ACCESS SHARE MODE");
    replica.run(&format!("locking {name} against being altered"), &lock).await
}

/// Notes, in the open transaction, that a table that is replicated has nothing but the primary's rows, and how it is.
///
/// # Errors
/// When the replica fails.
pub(super) async fn note_filled(replica: &Session, table: &Captured) -> Result<()> {
    let statement = include_str!("../../sql/replica/note_filled.sql");
    let parameters: [&(dyn ToSql + Sync); 2] = [&table.id, &table.relation];
    replica.execute("noting whose rows a table has", statement, &parameters).await.map(drop)
}

/// Whether a table that was compared before is another by now, or lost a column or partition since.
///
/// # Errors
/// When the replica fails.
pub(super) async fn is_lost(replica: &Session, id: i32) -> Result<bool> {
    let statement = format!("SELECT t.lost FROM ({REPLICATED_TABLES}) t WHERE t.id = $1");
    let rows = replica.query("looking whether a table is another", &statement, &[&id]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Has a table that does not fit copied anew, once it does, where a column has another type than when it was compared.
/// What is open is given up.
///
/// # Errors
/// When the replica fails.
pub(super) async fn doubt(replica: &Session, id: i32) -> Result<()> {
    replica.roll_back().await?;
    let statement = include_str!("../../sql/replica/copy_retyped_anew.sql");
    execute(replica, "having a table copied anew", statement, &[&id]).await.map(drop)
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
