//! The statements that make a table.

use super::{
    dice::Dice,
    schema::{Column, Table},
};

/// Makes it, with these columns besides, and without one that was dropped.
pub(super) fn create(
    table: &mut Table,
    dice: &mut Dice,
    others: &[Table],
    more: &[String],
    dropped: Option<&str>,
    partitioned: bool,
) {
    let mut parts: Vec<String> = dropped.iter().map(|name| format!("{name} text DEFAULT 'gone'")).collect();
    parts.extend(table.key.iter().map(Column::definition));
    parts.push(format!("{} int", table.number));
    if let Some((name, deferrable)) = &table.unique {
        parts.push(format!("{name} int UNIQUE{}", if *deferrable { " DEFERRABLE" } else { "" }));
    }
    if let Some((name, parent)) = &table.parent {
        let parent = others.get(*parent).unwrap_or(table);
        let acts = ["CASCADE", "CASCADE", "SET NULL", "NO ACTION"];
        let when = if dice.once_in(3) { "DEFERRABLE INITIALLY DEFERRED" } else { "" };
        parts.push(format!(
            "{name} int REFERENCES {} ({}) ON UPDATE {} ON DELETE {} {when}",
            parent.name,
            parent.key[0].name,
            dice.pick(&acts),
            dice.pick(&acts)
        ));
    }
    parts.extend(table.data.iter().map(Column::definition));
    parts.extend(more.iter().cloned());
    let key = table.key_names().join(", ");
    if !table.by_index && !table.keyless {
        let when = if dice.once_in(2) { "DEFERRABLE INITIALLY DEFERRED" } else { "DEFERRABLE" };
        parts.push(format!("PRIMARY KEY ({key}) {}", if table.deferrable { when } else { "" }));
    }
    let by = match (partitioned, table.integer()) {
        (true, Some(integer)) => {
            format!("PARTITION BY {} ({integer})", dice.pick(&["LIST", "RANGE", "HASH"]))
        }
        _ => String::new(),
    };
    table.setup.push(format!("CREATE TABLE {} ({}) {by}", table.name, parts.join(", ")));
    if table.by_index {
        table.setup.push(format!("CREATE UNIQUE INDEX ON {} ({key})", table.name));
    }
    if let Some(dropped) = dropped {
        table.setup.push(format!("ALTER TABLE {} DROP COLUMN {dropped}", table.name));
    }
}
