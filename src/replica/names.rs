//! The names that a table takes besides its own. What belongs to a table keeps its name on the primary when the table
//! gets another one; here it belongs to what is left under the old name.

use super::definition::TableDefinition;
use crate::{
    error::{Error, Result},
    postgres::Session,
};

/// Frees, in the open transaction, the names that a table takes which is to be made, or completed, where tables have them
/// that pgfanout filled.
///
/// # Errors
/// [`Error::Unfit`] with the statement that frees a name which is somebody's; or the database's own refusal.
pub(super) async fn free_names(replica: &Session, definition: &TableDefinition) -> Result<()> {
    let TableDefinition { schema, name, table, names, .. } = definition;
    let (schemas, taken): (Vec<&str>, Vec<&str>) =
        names.iter().map(|(schema, name)| (schema.as_str(), name.as_str())).unzip();
    let statement = include_str!("../../sql/replica/names_in_the_way.sql");
    let rows = replica.query("looking for names", statement, &[schema, name, &schemas, &taken]).await?;
    for row in &rows {
        let (name, owner, free): (&str, &str, &str) =
            (row.get("name"), row.get("owner"), row.get("statement"));
        match (row.get("ours"), row.get("may_stay")) {
            (true, _) => replica.run(&format!("freeing the name of {name}, of {owner}"), free).await?,
            (false, true) => {}
            (false, false) => {
                return Err(Error::Unfit(format!(
                    "{}: {name} belongs to {owner} there, and to table {table} on the primary; remedy: {free}",
                    replica.database()
                )));
            }
        }
    }
    Ok(())
}
