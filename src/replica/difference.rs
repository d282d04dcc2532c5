//! What keeps a table of a replica from taking the rows of the primary's table.

use std::fmt;

use super::definition::{Column, Need, Partition, TableDefinition};

/// The subjects of differences that lie with the table alone: its key; and before a column's name.
const KEY: &str = "key";
const COLUMN: &str = "column ";

/// One reason why rows of the primary don't fit, with the statement that removes it. Prints as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table, quoted.
    pub table: String,
    /// What of it: a column, the key, a type, a partition.
    pub subject: String,
    /// What the replica has.
    pub found: String,
    /// What the primary has.
    pub expected: String,
    /// What to run on the replica, or to do.
    pub remedy: String,
}

impl Difference {
    /// That something is not there which the table needs, if a statement makes it.
    pub(super) fn absent(table: &str, need: &Need) -> Option<Self> {
        Some(Self {
            table: table.to_owned(),
            subject: format!("{} {}", need.kind, need.identity),
            found: "none".to_owned(),
            expected: "it".to_owned(),
            remedy: need.statement.clone()?,
        })
    }
}

impl Difference {
    /// Whether it is the key, and no index is over it.
    pub(super) fn is_of_key(&self) -> bool {
        self.subject == KEY
    }

    /// Whether altering the table's columns, or adding an index to it, removes it.
    pub(super) fn is_of_columns(&self) -> bool {
        self.is_of_key() || self.subject.starts_with(COLUMN)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, subject, found, expected, remedy } = self;
        write!(
            out,
            "table {table}, {subject}: the replica has {found}, the primary {expected}; remedy: {remedy}"
        )
    }
}

/// Compares by name and type, not by order. Columns, defaults, checks and indexes that only the replica has
/// are its own affair, as long as rows can come in; so are the expressions of its generated columns.
#[must_use]
pub fn differences(primary: &TableDefinition, replica: &TableDefinition) -> Vec<Difference> {
    let about = |subject: &str, found: &str, expected: &str, remedy: String| Difference {
        table: primary.table.clone(),
        subject: subject.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
        remedy,
    };
    if replica.kind != primary.kind {
        let remedy = format!("rename or drop the {} there", replica.kind);
        return vec![about("kind of relation", &replica.kind, &primary.kind, remedy)];
    }
    let mut all = Vec::new();
    for column in &primary.columns {
        let found = replica.columns.iter().find(|other| other.name == column.name);
        all.extend(column_difference(&primary.table, column, found).map(|(found, expected, remedy)| {
            about(&format!("{COLUMN}{}", column.quoted), &found, &expected, remedy)
        }));
    }
    let misread = |column: &&Column| {
        replica.columns.iter().any(|other| other.name == column.name && other.misreads_chars)
    };
    for column in primary.columns.iter().filter(misread) {
        let found = "a PostgreSQL that reads a \"char\" beyond ASCII as another one within other types";
        let remedy = "exclude the table, give the column another type, or use PostgreSQL 15 or newer there";
        all.push(about(
            &format!("type of column {}", column.quoted),
            found,
            &column.type_name,
            remedy.to_owned(),
        ));
    }
    for column in replica.columns.iter().filter(|column| column.required) {
        if !primary.columns.iter().any(|other| other.name == column.name) {
            let remedy =
                format!("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL", primary.table, column.quoted);
            let subject = format!("{COLUMN}{}", column.quoted);
            all.push(about(&subject, "it NOT NULL without a default", "no such column", remedy));
        }
    }
    for need in &primary.needs {
        let found = replica
            .needs
            .iter()
            .find(|other| other.catalog == need.catalog && other.identity == need.identity);
        all.extend(found.into_iter().flat_map(|found| type_differences(need, found)).map(
            |(found, expected, remedy)| {
                about(&format!("{} {}", need.kind, need.identity), &found, &expected, remedy)
            },
        ));
    }
    if !primary.key_columns.is_empty() && replica.key_index().is_none() {
        let key = quoted_key(primary);
        let remedy = format!("CREATE UNIQUE INDEX ON {} ({key})", primary.table);
        all.push(about(KEY, "no immediate unique index over it", &format!("({key})"), remedy));
    }
    for partition in missing_partitions(primary, replica) {
        let subject = format!("partition {}", partition.table);
        all.push(about(&subject, "none", &partition.bound, partition.create()));
    }
    all
}

/// What is found and expected, and the remedy.
type Finding = (String, String, String);

fn column_difference(table: &str, column: &Column, found: Option<&Column>) -> Option<Finding> {
    let Column { quoted, type_name, addition, .. } = column;
    let Some(found) = found else {
        let remedy = format!("ALTER TABLE {table} ADD COLUMN {addition}");
        return Some(("no such column".to_owned(), type_name.clone(), remedy));
    };
    let how = |generated| {
        if generated { "a generated column" } else { "a column that is not generated" }.to_owned()
    };
    if found.generated != column.generated {
        let remedy = match column.generated {
            true => format!("ALTER TABLE {table} DROP COLUMN {quoted}, ADD COLUMN {addition}"),
            false => format!("ALTER TABLE {table} ALTER COLUMN {quoted} DROP EXPRESSION"),
        };
        return Some((how(found.generated), how(column.generated), remedy));
    }
    (found.type_name != *type_name).then(|| {
        let change = match column.generated {
            true => format!("DROP COLUMN {quoted}, ADD COLUMN {addition}"),
            false => format!("ALTER COLUMN {quoted} TYPE {type_name} USING {quoted}::{type_name}"),
        };
        (found.type_name.clone(), type_name.clone(), format!("ALTER TABLE {table} {change}"))
    })
}

/// A string as SQL takes it, whatever the session's settings.
pub(super) fn quote_literal(text: &str) -> String {
    let escapes = if text.contains('\\') { "E" } else { "" };
    format!("{escapes}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Types of one name may still differ. An enum may have more labels than the primary's; a composite type's
/// text form goes by the place of its attributes.
fn type_differences(need: &Need, found: &Need) -> Vec<Finding> {
    if need.catalog != "pg_type" || need.parts == found.parts {
        return Vec::new();
    }
    let is_enum = |need: &Need| need.statement.as_deref().is_some_and(|text| text.contains(" AS ENUM ("));
    let lacking = need.parts.iter().zip(&need.additions).filter(|(part, _)| !found.parts.contains(part));
    let added = || lacking.clone().filter_map(|(_, addition)| addition.clone()).collect::<Vec<_>>();
    if is_enum(need) && is_enum(found) {
        // One in its place that the primary does not have was renamed on one side: its rows go along.
        let renamed = |label: &String| {
            let place = need.parts.iter().position(|part| part == label)?;
            let other = found.parts.get(place).filter(|other| !need.parts.contains(other))?;
            let same_size = need.parts.len() == found.parts.len();
            same_size.then(|| {
                let (from, to) = (quote_literal(other), quote_literal(label));
                format!("ALTER TYPE {} RENAME VALUE {from} TO {to}", need.identity)
            })
        };
        return lacking
            .clone()
            .map(|(label, addition)| {
                let remedy = renamed(label).or_else(|| addition.clone()).unwrap_or_default();
                ("no such label".to_owned(), format!("{label:?}"), remedy)
            })
            .collect();
    }
    let remedy = match need.parts.starts_with(&found.parts) && !added().is_empty() {
        true => added().join("; "),
        false => format!("make it there as {}", need.statement.as_deref().unwrap_or("on the primary")),
    };
    vec![(format!("({})", found.parts.join(", ")), format!("({})", need.parts.join(", ")), remedy)]
}

fn quoted_key(definition: &TableDefinition) -> String {
    let quoted = definition.key_columns.iter().map(|name| {
        let column = definition.columns.iter().find(|column| column.name == *name);
        column.map_or_else(|| crate::postgres::quote_identifier(name), |column| column.quoted.clone())
    });
    quoted.collect::<Vec<_>>().join(", ")
}

/// The partitions without which a row of the primary may have no place on the replica. A replica that is
/// partitioned otherwise, or not at all, or has a default partition there, takes rows its own way.
pub(super) fn missing_partitions<'a>(
    primary: &'a TableDefinition,
    replica: &TableDefinition,
) -> Vec<&'a Partition> {
    if replica.partition_key.is_none() || replica.partition_key != primary.partition_key {
        return Vec::new();
    }
    let takes = |parent: &str, bound: &str| {
        replica.partitions.iter().any(|other| other.parent == parent && other.bound == bound)
    };
    let divided_alike = |parent: &str| {
        let key = |definition: &TableDefinition| {
            let part = definition.partitions.iter().find(|part| part.table == parent);
            part.map(|part| part.partition_key.clone())
        };
        // One that is not there yet will be made like the primary's.
        parent == primary.table || key(replica).is_none_or(|found| Some(found) == key(primary))
    };
    let lacking = primary.partitions.iter().filter(|part| divided_alike(&part.parent));
    lacking
        .filter(|part| !takes(&part.parent, &part.bound) && !takes(&part.parent, "DEFAULT"))
        .filter(|part| !replica.partitions.iter().any(|other| other.table == part.table))
        .collect()
}
