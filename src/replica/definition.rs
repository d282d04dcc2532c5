//! What a table is made of, read from the catalogs of one database so that it can be made, or compared, in
//! another.
//!
//! Everything that becomes SQL is printed and quoted by the server (`format`, `pg_get_expr`, `pg_get_indexdef`
//! and their like); here it is only put in order. Not part of a definition, and never copied: foreign keys,
//! triggers, rules, row level security, grants, owners, comments, statistics, tablespaces, storage
//! parameters, constraints and indexes that are not valid, and that a table is unlogged. They guard or serve
//! the primary's own writers; a replica's rows are written by nobody but us.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use crate::{
    error::{Error, Result},
    postgres::Session,
};

const READING: &str = "reading the definition of a table";

const TABLE: &str = include_str!("../../sql/definition/table.sql");
const FIND: &str = include_str!("../../sql/definition/find.sql");
const COLUMNS: &str = include_str!("../../sql/definition/columns.sql");
const PARTITIONS: &str = include_str!("../../sql/definition/partitions.sql");
const CHECKS: &str = include_str!("../../sql/definition/checks.sql");
const INDEXES: &str = include_str!("../../sql/definition/indexes.sql");
const NAMES: &str = include_str!("../../sql/definition/names.sql");
const NEEDS: &str = include_str!("../../sql/definition/needs.sql");
const TYPES: &str = include_str!("../../sql/definition/types.sql");
const SURROUNDINGS: &str = include_str!("../../sql/definition/surroundings.sql");

/// A table as one database has it.
///
/// Two definitions are equal if the tables are the same in all that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDefinition {
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
    /// Schema and name, quoted, as SQL takes them.
    pub table: String,
    /// `table`, partitioned or not, or whatever else has that name there: `view`, `foreign table`, …
    pub kind: String,
    /// The live columns in order, generated ones included.
    pub columns: Vec<Column>,
    /// The columns that identify a row, unquoted; empty if nothing does.
    pub key_columns: Vec<String>,
    /// What a partitioned table is partitioned by, as `PARTITION BY` takes it.
    pub partition_key: Option<String>,
    /// The partitions of all levels, those above before those below.
    pub partitions: Vec<Partition>,
    /// Validated check constraints, of the table or of one partition alone.
    pub checks: Vec<Check>,
    /// Valid indexes, of the table or of one partition alone, with the constraints that own them.
    pub indexes: Vec<Index>,
    /// The names that it takes besides its own, each with its schema, unquoted.
    pub names: BTreeSet<(String, String)>,
    /// What must be there before the table can be, in the order of creation.
    pub needs: Vec<Need>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name, unquoted.
    pub name: String,
    /// Name, quoted.
    pub quoted: String,
    /// Type with schema (but for PostgreSQL's own) and modifier, as `format_type` prints it.
    pub type_name: String,
    /// What `CREATE TABLE` takes: name, type, collation, default, identity, expression, `NOT NULL`.
    pub declaration: String,
    /// The declaration that a table with rows in it accepts: a `NOT NULL` needs a default there.
    pub addition: String,
    /// An `INSERT` that does not name it fails.
    pub required: bool,
    /// Computed from other columns: its values are never sent.
    pub generated: bool,
    /// It holds values of the type `"char"` within others, which an old server reads wrong.
    pub misreads_chars: bool,
}

/// A partition of the table or of another partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Schema and name, quoted.
    pub table: String,
    /// Schema and name of the table it is a part of, quoted.
    pub parent: String,
    /// Its bound, as `PARTITION OF` takes it.
    pub bound: String,
    /// What it is partitioned by itself.
    pub partition_key: Option<String>,
    /// Columns that differ from the parent's in default, expression or `NOT NULL`.
    pub overrides: Vec<String>,
    /// A foreign table: its rows are elsewhere.
    pub foreign: bool,
}

/// A check constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The table or partition that has it, quoted.
    pub table: String,
    /// Name, unquoted.
    pub name: String,
    /// The statement that adds it.
    pub statement: String,
}

/// An index, or the constraint (primary key, unique, exclusion) that owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The table or partition that has it, quoted.
    pub table: String,
    /// Name, unquoted.
    pub name: String,
    /// The statement that creates it.
    pub statement: String,
    /// What it is, whatever its name.
    pub meaning: String,
    /// The columns by which it identifies every row, sorted by name; `None` if it does not.
    pub identifies: Option<Vec<String>>,
}

/// An object outside the table that the table needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The catalog it is in, such as `pg_type`.
    pub catalog: String,
    /// What it is: `schema`, `extension`, `type`, `collation`, `sequence`, `function`, …
    pub kind: String,
    /// Its qualified name, quoted.
    pub identity: String,
    /// The statement that creates it; `None` if it is not copied and has to be there already.
    pub statement: Option<String>,
    /// The statement to run when the table is there: what column a sequence belongs to.
    pub afterwards: Option<String>,
    /// What can be compared: an enum's labels, a composite type's attributes, a domain's or range's base,
    /// an extension's schema.
    pub parts: Vec<String>,
    /// For each part the statement that adds it, where there is one.
    pub additions: Vec<Option<String>>,
}

impl TableDefinition {
    /// Whether rows of another table are values of its columns, for whose name, quoted where it has to be, `is_such` holds.
    pub fn needs_table(&self, is_such: impl Fn(&str) -> bool) -> bool {
        self.needs.iter().any(|need| need.catalog == "pg_class" && is_such(&need.identity))
    }

    /// Reads the definition of `relation`, whose rows are identified by `key_columns`. `None` if there is no
    /// such relation (any more).
    ///
    /// Where the table may be altered meanwhile, the caller holds a lock on it: the parts are read one after
    /// the other.
    ///
    /// # Errors
    /// When the database does not answer, or a partition is a foreign table.
    pub async fn read(session: &Session, relation: u32, key_columns: &[String]) -> Result<Option<Self>> {
        let partitions = session.query(READING, PARTITIONS, &[&relation]).await?;
        let columns = session.query(READING, COLUMNS, &[&relation]).await?;
        let checks = session.query(READING, CHECKS, &[&relation]).await?;
        let indexes = session.query(READING, INDEXES, &[&relation]).await?;
        let names = session.query(READING, NAMES, &[&relation]).await?;
        let needs = read_needs(session, relation).await?;
        // Last: if it is there now, it was there all along.
        let heads = session.query(READING, TABLE, &[&relation]).await?;
        let Some(head) = heads.first() else { return Ok(None) };
        let definition = (|| {
            Ok(Self {
                schema: head.try_get("schema")?,
                name: head.try_get("name")?,
                table: head.try_get("table")?,
                kind: head.try_get("kind")?,
                partition_key: head.try_get("partition_key")?,
                key_columns: key_columns.to_vec(),
                columns: each(&columns, column)?,
                partitions: each(&partitions, partition)?,
                checks: each(&checks, check)?,
                indexes: each(&indexes, index)?,
                names: names
                    .iter()
                    .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                    .collect::<Answer<_>>()?,
                needs,
            })
        })()
        .map_err(Error::postgres(session.database(), READING))?;
        match definition.partitions.iter().find(|partition| partition.foreign) {
            None => Ok(Some(definition)),
            Some(Partition { table: partition, .. }) => Err(Error::Unfit(format!(
                "{}: partition {partition} of {table} is a foreign table, which can't be replicated; remedy: \
                 detach it or exclude {table}",
                session.database(),
                table = definition.table,
            ))),
        }
    }

    /// Reads the definition of the relation of this name, whatever it is. As [`TableDefinition::read`].
    ///
    /// # Errors
    /// As [`TableDefinition::read`].
    pub async fn find(
        session: &Session,
        schema: &str,
        name: &str,
        key_columns: &[String],
    ) -> Result<Option<Self>> {
        let found = session.query("looking for a table", FIND, &[&schema, &name]).await?;
        match found.first() {
            Some(row) => Self::read(session, row.get(0), key_columns).await,
            None => Ok(None),
        }
    }
}

/// A value may be null where none can be, if the object is dropped while we read: hence never `get`.
type Answer<T> = std::result::Result<T, tokio_postgres::Error>;

fn each<T>(rows: &[Row], read: fn(&Row) -> Answer<T>) -> Answer<Vec<T>> {
    rows.iter().map(read).collect()
}

fn column(row: &Row) -> Answer<Column> {
    Ok(Column {
        name: row.try_get("name")?,
        quoted: row.try_get("quoted")?,
        type_name: row.try_get("type")?,
        declaration: row.try_get("declaration")?,
        addition: row.try_get("addition")?,
        required: row.try_get("required")?,
        generated: !row.try_get::<_, &str>("generated")?.is_empty(),
        misreads_chars: row.try_get("misreads_chars")?,
    })
}

fn partition(row: &Row) -> Answer<Partition> {
    Ok(Partition {
        table: row.try_get("table")?,
        parent: row.try_get("parent")?,
        bound: row.try_get("bound")?,
        partition_key: row.try_get("partition_key")?,
        overrides: row.try_get("overrides")?,
        foreign: row.try_get("foreign")?,
    })
}

fn check(row: &Row) -> Answer<Check> {
    Ok(Check {
        table: row.try_get("table")?,
        name: row.try_get("name")?,
        statement: row.try_get("statement")?,
    })
}

fn index(row: &Row) -> Answer<Index> {
    Ok(Index {
        table: row.try_get("table")?,
        name: row.try_get("name")?,
        statement: row.try_get("statement")?,
        meaning: row.try_get("meaning")?,
        identifies: row.try_get("identifies")?,
    })
}

async fn read_needs(session: &Session, relation: u32) -> Result<Vec<Need>> {
    let rows = session.query(READING, NEEDS, &[&relation]).await?;
    let failed = || Error::postgres(session.database(), READING);
    let mut needs = each(&rows, need).map_err(failed())?;
    let oids = each(&rows, |row| row.try_get::<_, u32>("oid")).map_err(failed())?;
    if needs.is_empty() {
        return Ok(needs);
    }
    let mut recipes = session.query(READING, TYPES, &[&oids]).await?;
    recipes.extend(session.query(READING, SURROUNDINGS, &[&oids, &relation]).await?);
    for row in &recipes {
        add_recipe(&mut needs, &oids, row).map_err(failed())?;
    }
    Ok(needs)
}

fn need(row: &Row) -> Answer<Need> {
    Ok(Need {
        catalog: row.try_get("catalog")?,
        kind: row.try_get("kind")?,
        identity: row.try_get("identity")?,
        statement: None,
        afterwards: None,
        parts: Vec::new(),
        additions: Vec::new(),
    })
}

/// Puts how something is made to the need it is about. An oid names an object only within its catalog.
fn add_recipe(needs: &mut [Need], oids: &[u32], row: &Row) -> Answer<()> {
    let (catalog, oid): (&str, u32) = (row.try_get("catalog")?, row.try_get("oid")?);
    let mut both = needs.iter_mut().zip(oids);
    if let Some((need, _)) = both.find(|(need, other)| **other == oid && need.catalog == catalog) {
        need.statement = row.try_get("statement")?;
        need.afterwards = row.try_get("afterwards")?;
        need.parts = row.try_get("parts")?;
        need.additions = row.try_get("additions")?;
    }
    Ok(())
}
