//! What pgfanout made of a replica's tables. As long as such a table has no rows, it is altered as the primary's is.

use std::collections::HashSet;

use tokio_postgres::types::ToSql;

use super::{
    create::{ONE_AT_A_TIME, execute, find_same, make_needs},
    definition::TableDefinition,
    difference::{Difference, differences},
    join::holds_rows,
    state,
};
use crate::{
    error::Result,
    postgres::{Session, quote_names},
    primary::source::Captured,
};

/// Alters a table that pgfanout made, if it is there and has no rows, to take the primary's: nothing can be lost, nor take
/// long. What else differs is left for [`create_missing`](super::create::create_missing) to tell. Returns how many
/// statements that took.
///
/// In a transaction that the caller has begun.
///
/// # Errors
/// When the replica refuses one of the statements.
pub(super) async fn alter_empty(
    replica: &Session,
    table: &Captured,
    definition: &TableDefinition,
) -> Result<usize> {
    if holds_rows(replica, table).await? {
        return Ok(0);
    }
    let none = drops(replica, table, definition).await?.is_none();
    if none && additions(replica, definition).await?.is_empty() {
        return Ok(0);
    }
    replica.run("waiting to alter a table", ONE_AT_A_TIME).await?;
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", definition.table);
    replica.run(&format!("locking {} to alter it", definition.table), &lock).await?;
    // Nobody writes to it from now on, nor hangs anything on it.
    if holds_rows(replica, table).await? {
        return Ok(0);
    }
    let before: HashSet<String> =
        attached(replica, &definition.table, None, &[]).await?.into_iter().collect();
    let dropping = drops(replica, table, definition).await?;
    if let Some(statement) = &dropping {
        execute(replica, definition, statement).await?;
    }
    // A sequence went with its column.
    make_needs(replica, definition).await?;
    let adding = additions(replica, definition).await?;
    let belonging = definition.needs.iter().filter_map(|need| need.afterwards.as_ref());
    for statement in adding.iter().chain(belonging) {
        execute(replica, definition, statement).await?;
    }
    let mut made = attached(replica, &definition.table, None, &[]).await?;
    made.retain(|thing| !before.contains(thing));
    note(replica, table, &made).await?;
    Ok(dropping.iter().chain(&adding).count())
}

/// The statement that drops what the primary does not have any more, and is there by pgfanout alone.
async fn drops(replica: &Session, table: &Captured, definition: &TableDefinition) -> Result<Option<String>> {
    let statement = include_str!("../../sql/replica/superfluous_columns.sql");
    let columns: Vec<&str> = definition.columns.iter().map(|column| column.name.as_str()).collect();
    let rows = replica.query("looking for columns that are gone", statement, &[&table.id, &columns]).await?;
    let drops: Vec<String> =
        rows.iter().map(|row| format!("DROP COLUMN {}", row.get::<_, &str>(0))).collect();
    Ok((!drops.is_empty()).then(|| format!("ALTER TABLE {} {}", definition.table, drops.join(", "))))
}

/// The statements that give it the primary's columns and key.
async fn additions(replica: &Session, definition: &TableDefinition) -> Result<Vec<String>> {
    let Some(found) = find_same(replica, definition).await? else { return Ok(Vec::new()) };
    // The index that the primary has, where none can have its name.
    let key = definition.key_index().filter(|_| found.indexes.is_empty());
    let addition = |difference: &Difference| match key {
        Some(key) if difference.is_of_key() => Some(key.statement.clone()),
        _ => difference.is_of_columns().then(|| difference.remedy.clone()),
    };
    Ok(differences(definition, &found).iter().filter_map(addition).collect())
}

/// Notes, in the open transaction, that pgfanout made these tables in it: one that is replicated, or partitions of it.
///
/// # Errors
/// When the replica fails.
pub(super) async fn note_made(replica: &Session, table: &Captured, made: &[String]) -> Result<()> {
    for one in made {
        let things = attached(replica, one, None, &[]).await?;
        note(replica, table, &things).await?;
    }
    Ok(())
}

/// Notes that pgfanout built indexes of a table.
///
/// # Errors
/// When the replica fails.
pub(super) async fn note_built(replica: &Session, table: &Captured, indexes: &[String]) -> Result<()> {
    let name = quote_names(&table.schema, &table.table);
    let things = attached(replica, &name, Some(&[]), indexes).await?;
    note(replica, table, &things).await
}

async fn attached(
    replica: &Session,
    table: &str,
    columns: Option<&[String]>,
    indexes: &[String],
) -> Result<Vec<String>> {
    let statement = "SELECT coalesce(pgfanout.attached(to_regclass($1), $2, $3), '{}')";
    let parameters: [&(dyn ToSql + Sync); 3] = [&table, &columns, &indexes];
    Ok(replica.query_one("looking for what a table has", statement, &parameters).await?.get(0))
}

async fn note(replica: &Session, table: &Captured, things: &[String]) -> Result<()> {
    let statement =
        "UPDATE pgfanout.filled_table SET made = made || $3 WHERE (schema_name, table_name) = ($1, $2)";
    let parameters: [&(dyn ToSql + Sync); 3] = [&table.schema, &table.table, &things];
    state::execute(replica, "noting what was made of a table", statement, &parameters).await.map(drop)
}
