//! Emptying tables of a replica.

use crate::{
    error::{Error, Result},
    postgres::{Session, quote_names},
};

/// A table: its number, its schema, its name.
pub type Named<'a> = (i32, &'a str, &'a str);

/// Empties the tables, in the transaction that is open if there is one. Foreign keys that a replica has are no
/// obstacle: tables that refer to one another go at once, and rows to which those of other tables may refer
/// are deleted, as the primary's are what counts.
///
/// # Errors
/// When the replica refuses, with the table if it is clear which; or the link breaks.
pub async fn empty(replica: &Session, tables: &[Named<'_>]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = tables.iter().map(|(_, schema, table)| quote_names(schema, table)).collect();
    let statement = include_str!("../../sql/replica/references.sql");
    let row = replica.query_one("looking for foreign keys", statement, &[&names]).await?;
    let (inside, outside): (bool, bool) = (row.get("inside"), row.get("outside"));
    if inside && !outside {
        return replica.run("truncating tables", &format!("TRUNCATE {}", names.join(", "))).await;
    }
    for ((id, schema, table), name) in tables.iter().zip(names) {
        // As TRUNCATE does, a DELETE waits for writers first, such as a copy that is given up: it removes their rows, too.
        let statements = match outside {
            true => format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE; DELETE FROM {name}"),
            false => format!("TRUNCATE {name}"),
        };
        let emptied = replica.run(&format!("emptying {name}"), &statements).await;
        emptied.map_err(Error::of_table(*id, schema, table))?;
    }
    Ok(())
}
