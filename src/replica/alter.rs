//! Tables that follow, and were altered on the primary.

use tokio_postgres::types::ToSql;

use super::{
    create::{create_missing, execute, find_same},
    definition::TableDefinition,
    difference::Difference,
    empty::empty,
    filled::{hold_still, is_lost, note_filled},
    followed::Followed,
    join::{definition, holds_rows, replace_rows},
    made::{alter_empty, note_made},
    names::free_names,
    state::{ANEW, Replica},
};
use crate::{
    config::ExistingRows,
    error::{Error, Result},
    postgres::{quote_identifier, quote_names},
    primary::source::{Captured, Source},
};

/// Compares a table that was altered, and notes its name and its columns if the replica's fit. Says whether it is to be
/// copied anew; that is noted, too.
///
/// # Errors
/// When the table does not fit, or a database fails.
pub(super) async fn compare(
    replica: &Replica,
    source: &Source,
    (followed, table): (&Followed, &Captured),
    existing: ExistingRows,
) -> Result<bool> {
    let definition = definition(source, table).await?;
    let renamed = is_renamed(followed, table);
    replica.begin().await?;
    hold_still(&replica.session, table).await?;
    // It may have taken the table's place since that was looked at.
    let lost = is_lost(&replica.session, table.id).await?;
    if renamed || followed.definition == ANEW {
        free_names(&replica.session, &definition).await?;
    }
    let gets_key = followed.created && !followed.gone && !renamed && gets_first_key(followed, table);
    if gets_key {
        empty(&replica.session, &[(table.id, &table.schema, &table.table)]).await?;
    }
    let mut statements = 0;
    let other_names = match followed.gone || renamed {
        true => Vec::new(),
        false => other_names_of_keys(replica, followed, table, &definition).await?,
    };
    if !other_names.is_empty() {
        // First of all: other columns can't take the place of what says which partition a row is in.
        if !followed.created || holds_rows(&replica.session, table).await? {
            let sentences: Vec<String> = other_names.iter().map(Difference::to_string).collect();
            return Err(Error::Unfit(format!("{}: {}", replica.session.database(), sentences.join(". "))));
        }
        for Difference { remedy, .. } in &other_names {
            execute(&replica.session, &definition, remedy).await?;
        }
        statements += other_names.len();
    }
    // A migration's statements may come one by one.
    if followed.created && !followed.gone && !renamed {
        statements += alter_empty(&replica.session, table, &definition).await?;
    }
    if statements > 0 {
        let (replica, table) = (&replica.name, &definition.table);
        let told = "the table has no rows, and was altered as the primary's was";
        tracing::info!(event = "table_altered", replica, table, statements, "{told}");
    }
    let made = create_missing(&replica.session, &definition).await?;
    let created = made.contains(&definition.table);
    if renamed && !created && !followed.gone {
        replace_rows(replica, table, existing).await?;
    }
    let anew = renamed
        || created
        || gets_key
        // With columns go indexes, which are built behind a copy.
        || statements > 0
        || followed.definition == ANEW
        // Its own position may have passed that already, with changes of other tables.
        || table.rewritten_definition.is_some_and(|since| since > followed.definition)
        || lost
        || differs_in_new_columns(replica, source, (followed, table)).await?;
    let update = include_str!("../../sql/replica/alter_table.sql");
    let noted = if anew { ANEW } else { table.definition };
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&table.id, &table.schema, &table.table, &table.columns, &table.key, &noted, &created];
    replica.session.execute("noting a table's definition", update, &parameters).await?;
    note_filled(&replica.session, table).await?;
    note_made(&replica.session, table, &made).await?;
    replica.session.commit().await?;
    Ok(anew)
}

/// Whether it has another name on the primary than here.
pub(super) fn is_renamed(followed: &Followed, table: &Captured) -> bool {
    (&followed.shape.schema, &followed.shape.table) != (&table.schema, &table.table)
}

/// The columns that name rows, or may, and are here under the names that they had on the primary before: each has the same
/// place among the columns that are replicated, and the same type. A table whose key is altered is copied anew, whatever
/// was done to it.
async fn other_names_of_keys(
    replica: &Replica,
    followed: &Followed,
    table: &Captured,
    definition: &TableDefinition,
) -> Result<Vec<Difference>> {
    let former: Vec<&String> = followed.shape.columns.iter().map(|column| &column.name).collect();
    let names_rows = |name: &String| table.key.is_empty() || table.key.contains(name);
    let pairs = former
        .iter()
        .zip(&table.columns)
        .filter(|(former, name)| *former != name && names_rows(name) && !table.columns.contains(former));
    let pairs: Vec<(&String, &String)> = pairs.map(|(former, name)| (*former, name)).collect();
    if former.len() != table.columns.len() || pairs.is_empty() {
        return Ok(Vec::new());
    }
    let Some(here) = find_same(&replica.session, definition).await? else { return Ok(Vec::new()) };
    let type_of = |of: &TableDefinition, name: &str| {
        of.columns.iter().find(|column| column.name == name).map(|column| column.type_name.clone())
    };
    let differences = pairs.into_iter().filter(|(former, name)| {
        let here_as = type_of(&here, former);
        here_as.is_some() && here_as == type_of(definition, name) && type_of(&here, name).is_none()
    });
    let difference = |(former, name): (&String, &String)| {
        let (former, name) = (quote_identifier(former), quote_identifier(name));
        let remedy = format!("ALTER TABLE {} RENAME COLUMN {former} TO {name}", definition.table);
        let subject = format!("column {name}");
        let found = format!("it as {former}");
        Difference {
            table: definition.table.clone(),
            subject,
            found,
            expected: "it by this name".to_owned(),
            remedy,
        }
    };
    Ok(differences.map(difference).collect())
}

/// Whether it had no key, and has one now: its rows are all copied anew.
fn gets_first_key(followed: &Followed, table: &Captured) -> bool {
    // Of a table that does not fit what was noted of it, neither columns nor key are known.
    followed.shape.is_keyless() && !followed.shape.columns.is_empty() && !table.key.is_empty()
}

/// Whether a column that is new on the primary holds something else here than it began with there. Rows that were
/// written since come with the changes.
async fn differs_in_new_columns(
    replica: &Replica,
    source: &Source,
    (followed, table): (&Followed, &Captured),
) -> Result<bool> {
    let known = |name: &&String| followed.shape.columns.iter().any(|column| column.name == **name);
    let new: Vec<&String> = table.columns.iter().filter(|name| !known(name)).collect();
    // Of a table that does not fit what was noted of it, the columns that were are not known.
    if new.is_empty() || followed.shape.columns.is_empty() {
        return Ok(false);
    }
    let reading = "reading what new columns began with";
    let statement = include_str!("../../sql/primary/first_values.sql");
    let rows = source.control.query(reading, statement, &[&table.relation, &new]).await?;
    let first = rows.iter().map(|row| row.try_get("value")).collect::<Result<Vec<Option<String>>, _>>();
    // PostgreSQL 14 and older print some of the type "char" as bytes that are no text.
    let Ok(first) = first else { return Ok(true) };
    let differs = |(n, name): (usize, &&String)| {
        let column = quote_identifier(name);
        let text = format!("CASE WHEN num_nonnulls({column}) = 1 THEN format('%s', {column}) END");
        format!("{text} IS DISTINCT FROM ($1::text[])[{}]", n + 1)
    };
    let differs: Vec<String> = new.iter().enumerate().map(differs).collect();
    let statement = format!(
        "SELECT EXISTS (SELECT FROM {} WHERE {})",
        quote_names(&table.schema, &table.table),
        differs.join(" OR ")
    );
    let row = replica.session.query_one("looking into new columns", &statement, &[&first]).await?;
    Ok(row.get(0))
}

impl Replica {
    /// That a table is not there.
    pub(super) fn is_gone(&self, id: i32, (schema, table): (&str, &str)) -> Error {
        Error::Unfit(format!(
            "{}: table {schema}.{table} is gone; to have it copied anew, run there: \
             DELETE FROM pgfanout.replicated_table WHERE id = {id}",
            self.session.database()
        ))
    }
}
