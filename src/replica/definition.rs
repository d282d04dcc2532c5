//! What a table is made of, read from the catalogs of one database so that it can be made, or compared, in
//! another.
//!
//! Everything that becomes SQL is printed and quoted by the server (`format`, `pg_get_expr`, `pg_get_indexdef`
//! and their like); here it is only put in order. Not part of a definition, and never copied: foreign keys,
//! triggers, rules, row level security, grants, owners, comments, statistics, tablespaces, storage
//! parameters, constraints and indexes that are not valid, and that a table is unlogged. They guard or serve
//! the primary's own writers; a replica's rows are written by nobody but us.

use tokio_postgres::{GenericClient, Row};

use crate::error::{Error, Result};

const TABLE: &str = include_str!("../../sql/definition/table.sql");
const FIND: &str = include_str!("../../sql/definition/find.sql");
const COLUMNS: &str = include_str!("../../sql/definition/columns.sql");
const PARTITIONS: &str = include_str!("../../sql/definition/partitions.sql");
const CHECKS: &str = include_str!("../../sql/definition/checks.sql");
const INDEXES: &str = include_str!("../../sql/definition/indexes.sql");
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
    /// Reads the definition of `relation`, whose rows are identified by `key_columns`. `database` is how
    /// errors name the database. `None` if there is no such relation (any more).
    ///
    /// The session must have the pinned settings of [`crate::postgres::Database::connect`]. Where the table
    /// may be altered meanwhile, the caller holds a lock on it: the parts are read one after the other.
    ///
    /// # Errors
    /// When the database does not answer, or a partition is a foreign table.
    pub async fn read(
        client: &impl GenericClient,
        database: &str,
        relation: u32,
        key_columns: &[String],
    ) -> Result<Option<Self>> {
        read_table(client, relation, key_columns)
            .await
            .map_err(Error::postgres(database, "reading the definition of a table"))?
            .map(|(definition, foreign)| match foreign {
                None => Ok(definition),
                Some(partition) => Err(Error::Unfit(format!(
                    "{database}: partition {partition} of {} is a foreign table, which can't be replicated; \
                     remedy: detach it or exclude {}",
                    definition.table, definition.table
                ))),
            })
            .transpose()
    }

    /// Reads the definition of the relation of this name, whatever it is. As [`TableDefinition::read`].
    ///
    /// # Errors
    /// As [`TableDefinition::read`].
    pub async fn find(
        client: &impl GenericClient,
        database: &str,
        schema: &str,
        name: &str,
        key_columns: &[String],
    ) -> Result<Option<Self>> {
        let row = client
            .query_opt(FIND, &[&schema, &name])
            .await
            .map_err(Error::postgres(database, "looking for a table"))?;
        match row {
            Some(row) => Self::read(client, database, row.get(0), key_columns).await,
            None => Ok(None),
        }
    }
}

/// A value may be null where none can be, if the object is dropped while we read: hence never `get`.
type Answer<T> = std::result::Result<T, tokio_postgres::Error>;

/// The definition, and the first foreign partition if there is one.
async fn read_table(
    client: &impl GenericClient,
    relation: u32,
    key_columns: &[String],
) -> Answer<Option<(TableDefinition, Option<String>)>> {
    let Some(head) = client.query_opt(TABLE, &[&relation]).await? else { return Ok(None) };
    let partitions = client.query(PARTITIONS, &[&relation]).await?;
    let foreign = partitions.iter().find(|row| row.try_get("foreign").unwrap_or(false));
    let foreign = foreign.map(|row| row.try_get("table")).transpose()?;
    let definition = TableDefinition {
        schema: head.try_get("schema")?,
        name: head.try_get("name")?,
        table: head.try_get("table")?,
        kind: head.try_get("kind")?,
        partition_key: head.try_get("partition_key")?,
        key_columns: key_columns.to_vec(),
        columns: each(&client.query(COLUMNS, &[&relation]).await?, column)?,
        partitions: each(&partitions, partition)?,
        checks: each(&client.query(CHECKS, &[&relation]).await?, check)?,
        indexes: each(&client.query(INDEXES, &[&relation]).await?, index)?,
        needs: read_needs(client, relation).await?,
    };
    Ok(Some((definition, foreign)))
}

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
    })
}

fn partition(row: &Row) -> Answer<Partition> {
    Ok(Partition {
        table: row.try_get("table")?,
        parent: row.try_get("parent")?,
        bound: row.try_get("bound")?,
        partition_key: row.try_get("partition_key")?,
        overrides: row.try_get("overrides")?,
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
        identifies: row.try_get("identifies")?,
    })
}

async fn read_needs(client: &impl GenericClient, relation: u32) -> Answer<Vec<Need>> {
    let rows = client.query(NEEDS, &[&relation]).await?;
    let mut needs = Vec::with_capacity(rows.len());
    let mut oids = Vec::with_capacity(rows.len());
    for row in &rows {
        oids.push(row.try_get::<_, u32>("oid")?);
        needs.push(Need {
            catalog: row.try_get("catalog")?,
            kind: row.try_get("kind")?,
            identity: row.try_get("identity")?,
            statement: None,
            afterwards: None,
            parts: Vec::new(),
            additions: Vec::new(),
        });
    }
    if needs.is_empty() {
        return Ok(needs);
    }
    // An oid names an object only within its catalog.
    let place = |catalog: &str, oid: u32| {
        needs.iter().zip(&oids).position(|(need, &other)| other == oid && need.catalog == catalog)
    };
    let mut made = Vec::new();
    for row in client.query(TYPES, &[&oids]).await? {
        let place = place("pg_type", row.try_get("oid")?);
        made.push((place, row.try_get("statement")?, None, row.try_get("parts")?, row.try_get("additions")?));
    }
    for row in client.query(SURROUNDINGS, &[&oids, &relation]).await? {
        let place = place(row.try_get("catalog")?, row.try_get("oid")?);
        made.push((
            place,
            row.try_get("statement")?,
            row.try_get("afterwards")?,
            row.try_get("parts")?,
            Vec::new(),
        ));
    }
    for (place, statement, afterwards, parts, additions) in made {
        if let Some(need) = place.and_then(|place| needs.get_mut(place)) {
            (need.statement, need.afterwards, need.parts, need.additions) =
                (statement, afterwards, parts, additions);
        }
    }
    Ok(needs)
}
