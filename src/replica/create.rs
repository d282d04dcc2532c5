//! Makes a table that a replica does not have, and checks one that it has.

use super::{
    definition::{Index, Need, Partition, TableDefinition},
    difference::{Difference, differences, missing_partitions},
    names::free_names,
    state::begin,
};
use crate::{
    error::{Error, Result},
    postgres::Session,
};

const PRESENCE: &str = include_str!("../../sql/definition/presence.sql");

/// Two tables may need the same type: only one at a time looks for it and makes it.
pub(super) const ONE_AT_A_TIME: &str =
    "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pgfanout creates tables', 0))";

impl Partition {
    /// The statement that creates it below its parent.
    #[must_use]
    pub fn create(&self) -> String {
        let overrides = match self.overrides.as_slice() {
            [] => String::new(),
            columns => format!(" ({})", columns.join(", ")),
        };
        let own_parts = partition_by(self.partition_key.as_deref());
        format!(
            "CREATE TABLE {} PARTITION OF {}{overrides} {}{own_parts}",
            self.table, self.parent, self.bound
        )
    }
}

fn partition_by(key: Option<&str>) -> String {
    key.map(|key| format!(" PARTITION BY {key}")).unwrap_or_default()
}

impl TableDefinition {
    /// The index by which rows are found: it has to be there before the first of them.
    #[must_use]
    pub fn key_index(&self) -> Option<&Index> {
        let mut key = self.key_columns.clone();
        key.sort_unstable();
        self.indexes.iter().find(|index| !key.is_empty() && index.identifies.as_ref() == Some(&key))
    }

    /// The statements that make the table, once its [`TableDefinition::needs`] are there: the table with its
    /// partitions, sequences given to their columns, checks, and the index of the key.
    #[must_use]
    pub fn create_before_copy(&self) -> Vec<String> {
        let columns: Vec<_> = self.columns.iter().map(|column| column.declaration.as_str()).collect();
        let parts = partition_by(self.partition_key.as_deref());
        let mut statements = vec![format!("CREATE TABLE {} ({}){parts}", self.table, columns.join(", "))];
        statements.extend(self.partitions.iter().map(Partition::create));
        statements.extend(self.needs.iter().filter_map(|need| need.afterwards.clone()));
        statements.extend(self.checks.iter().map(|check| check.statement.clone()));
        statements.extend(self.key_index().map(|index| index.statement.clone()));
        statements
    }

    /// The statements that complete the table: they are cheaper when the rows are there.
    #[must_use]
    pub fn create_after_copy(&self) -> Vec<String> {
        self.secondary_indexes().map(|index| index.statement.clone()).collect()
    }

    fn secondary_indexes(&self) -> impl Iterator<Item = &Index> {
        let key = self.key_index();
        self.indexes.iter().filter(move |&index| Some(index) != key)
    }

    fn has_index(&self, wanted: &Index) -> bool {
        let is_same = |index: &Index| index.name == wanted.name || index.meaning == wanted.meaning;
        self.indexes.iter().any(|index| index.table == wanted.table && is_same(index))
    }
}

/// Makes the table of the primary's `definition` on the replica, with all it needs, or makes sure that the one
/// that is there can take the primary's rows; partitions it lacks are added. Returns the tables that were made: itself, for
/// which [`finish`] is due after the copy, or partitions.
///
/// In a transaction that the caller has begun: nothing stays behind unless it commits.
///
/// # Errors
/// [`Error::Unfit`] with all that is in the way and how to remove it; or the database's own refusal.
pub async fn create_missing(replica: &Session, definition: &TableDefinition) -> Result<Vec<String>> {
    replica.run("waiting to create a table", ONE_AT_A_TIME).await?;
    let made = match find_same(replica, definition).await? {
        Some(found) => add_partitions(replica, definition, &found).await?,
        None => {
            make_needs(replica, definition).await?;
            for statement in definition.create_before_copy() {
                execute(replica, definition, &statement).await?;
            }
            vec![definition.table.clone()]
        }
    };
    // What was made is checked like what was found: a type may have been there, and be another.
    refuse_differences(replica, definition).await?;
    Ok(made)
}

/// Completes a table that [`create_missing`] made: secondary indexes and the constraints that own them, each
/// in a transaction of its own if `replica` is in none, so that one that is built stays built. Doing it again
/// is harmless. The session's time limit must leave time for building an index. Returns the names of those that it built.
///
/// # Errors
/// [`Error::Unfit`] if something else has the name of an index; or the database's own refusal.
pub async fn finish(replica: &Session, definition: &TableDefinition) -> Result<Vec<String>> {
    let Some(found) = find_same(replica, definition).await? else {
        return Err(missing_again(replica, definition));
    };
    let mut built = Vec::new();
    for Index { table, name, statement, .. } in
        definition.secondary_indexes().filter(|index| !found.has_index(index))
    {
        let doing = format!(
            "building index {name} of {table} as the primary has it (if that can't be, remedy: build one of that \
             name there by hand) with: {statement}"
        );
        replica.run(&doing, statement).await?;
        built.push(name.clone());
    }
    let Some(found) = find_same(replica, definition).await? else {
        return Err(missing_again(replica, definition));
    };
    match definition.secondary_indexes().find(|index| !found.has_index(index)) {
        None => Ok(built),
        Some(index) => Err(unfit(
            replica,
            &format!(
                "index {} of {} was not built: something else has that name there; remedy: rename or drop that",
                index.name, index.table
            ),
        )),
    }
}

/// Makes a table that is not there as it will be made, on a session that may write, and gives it up again. `installed`
/// is whether our schema is there, and with it the names that may be freed. Nobody waits behind it for longer than
/// 0.3 s.
///
/// # Errors
/// As [`create_missing`] and [`finish`].
pub async fn try_to_make(replica: &Session, definition: &TableDefinition, installed: bool) -> Result<()> {
    begin(replica).await?;
    let tried = async {
        replica.run("trying to make a table", "SET LOCAL lock_timeout = '300ms'").await?;
        if installed {
            free_names(replica, definition).await?;
        }
        create_missing(replica, definition).await?;
        finish(replica, definition).await.map(drop)
    };
    let tried = tried.await;
    let given_up = replica.roll_back().await;
    tried.and(given_up)
}

fn missing_again(replica: &Session, definition: &TableDefinition) -> Error {
    unfit(replica, &format!("table {} was dropped while it was being made", definition.table))
}

fn unfit(replica: &Session, why: &str) -> Error {
    Error::Unfit(format!("{}: {why}", replica.database()))
}

pub(super) async fn find_same(
    replica: &Session,
    primary: &TableDefinition,
) -> Result<Option<TableDefinition>> {
    TableDefinition::find(replica, &primary.schema, &primary.name, &primary.key_columns).await
}

async fn add_partitions(
    replica: &Session,
    primary: &TableDefinition,
    found: &TableDefinition,
) -> Result<Vec<String>> {
    let missing = missing_partitions(primary, found);
    if !missing.is_empty() {
        make_needs(replica, primary).await?;
    }
    for partition in &missing {
        let taken = "SELECT to_regclass($1) IS NOT NULL";
        if replica.query_one("looking for a partition", taken, &[&partition.table]).await?.get(0) {
            let Partition { table, parent, .. } = partition;
            return Err(unfit(
                replica,
                &format!(
                    "table {table} is a partition of {parent} on the primary, and not there; remedy: DROP TABLE {table}"
                ),
            ));
        }
        execute(replica, primary, &partition.create()).await?;
    }
    Ok(missing.into_iter().map(|partition| partition.table.clone()).collect())
}

async fn refuse_differences(replica: &Session, primary: &TableDefinition) -> Result<()> {
    let Some(found) = find_same(replica, primary).await? else {
        return Err(missing_again(replica, primary));
    };
    let differences = differences(primary, &found);
    if differences.is_empty() {
        return Ok(());
    }
    // What a column lacks may be its type, first of all.
    let absent = absent_needs(replica, primary).await?;
    let lacking = absent.iter().filter_map(|(need, _)| Difference::absent(&primary.table, need));
    let differences: Vec<Difference> = lacking.chain(differences).collect();
    let sentences: Vec<_> = differences.iter().map(Difference::to_string).collect();
    Err(unfit(replica, &sentences.join(". ")))
}

/// Makes what the table needs and is not there. What is not copied is refused, all of it at once.
pub(super) async fn make_needs(replica: &Session, definition: &TableDefinition) -> Result<()> {
    let absent = absent_needs(replica, definition).await?;
    if let Some(reason) = refusal(&absent) {
        return Err(unfit(replica, &format!("table {} can't be created: {reason}", definition.table)));
    }
    for statement in absent.iter().filter_map(|(need, _)| need.statement.as_deref()) {
        execute(replica, definition, statement).await?;
    }
    Ok(())
}

/// What is in the way of making a table that is not there, and how to remove it.
///
/// # Errors
/// When the link breaks.
pub async fn refusal_to_make(replica: &Session, definition: &TableDefinition) -> Result<Option<String>> {
    Ok(refusal(&absent_needs(replica, definition).await?))
}

/// What is in the way of making what is absent, and how to remove it.
fn refusal(absent: &[(&Need, Option<String>)]) -> Option<String> {
    let named = |need: &Need| format!("{} {}", need.kind, need.identity);
    let obstacles = absent.iter().filter_map(|(need, obstacle)| Some((named(need), obstacle.as_ref()?)));
    let mut reasons: Vec<_> =
        obstacles.map(|(name, obstacle)| format!("it needs {name}, but {obstacle}")).collect();
    let by_hand = absent.iter().filter(|(need, obstacle)| need.statement.is_none() && obstacle.is_none());
    let by_hand: Vec<_> = by_hand.map(|(need, _)| named(need)).collect();
    if !by_hand.is_empty() {
        reasons.push(format!(
            "it needs {}, not copied and not there; remedy: create that there, or the table without what uses it",
            by_hand.join(" and ")
        ));
    }
    (!reasons.is_empty()).then(|| reasons.join(". And "))
}

async fn absent_needs<'a>(
    replica: &Session,
    definition: &'a TableDefinition,
) -> Result<Vec<(&'a Need, Option<String>)>> {
    let needs = &definition.needs;
    let catalogs: Vec<_> = needs.iter().map(|need| need.catalog.as_str()).collect();
    let kinds: Vec<_> = needs.iter().map(|need| need.kind.as_str()).collect();
    let identities: Vec<_> = needs.iter().map(|need| need.identity.as_str()).collect();
    let places: Vec<_> = needs.iter().map(|need| need.parts.first().map(String::as_str)).collect();
    let doing = "looking for what a table needs";
    let rows = replica.query(doing, PRESENCE, &[&catalogs, &kinds, &identities, &places]).await?;
    let found = needs.iter().zip(&rows).map(|(need, row)| (need, row.get("present"), row.get("obstacle")));
    Ok(found
        .filter(|&(_, present, _): &(_, bool, _)| !present)
        .map(|(need, _, obstacle)| (need, obstacle))
        .collect())
}

pub(super) async fn execute(replica: &Session, definition: &TableDefinition, statement: &str) -> Result<()> {
    let doing = format!(
        "making table {} as the primary has it (if that can't be, create the table there by hand) with: {statement}",
        definition.table
    );
    replica.run(&doing, statement).await
}
