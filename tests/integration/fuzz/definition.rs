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

/// Its partitions; the columns of one that is attached lie in another order, and one was dropped.
pub(super) fn partition(table: &mut Table, dice: &mut Dice, place: usize, attached: bool) {
    let list = ["IN (0, 1, 2)", "IN (3, 4, -1, -2)", "DEFAULT"];
    let range = ["FROM (0) TO (6)", "FROM (6) TO (MAXVALUE)", "DEFAULT"];
    let hash =
        ["WITH (MODULUS 2, REMAINDER 0)", "WITH (MODULUS 4, REMAINDER 1)", "WITH (MODULUS 4, REMAINDER 3)"];
    let bounds = match &table.setup[0] {
        create if create.contains("PARTITION BY LIST") => list,
        create if create.contains("PARTITION BY RANGE") => range,
        _ => hash,
    };
    for (n, bound) in bounds.into_iter().enumerate() {
        let leaf = format!("public.\"leaf {place}.{n}\"");
        let values = if bound == "DEFAULT" { bound.to_owned() } else { format!("FOR VALUES {bound}") };
        if attached && n == 1 {
            let mut columns = vec!["\"gone from here\" int".to_owned(), format!("{} int", table.number)];
            columns.extend(table.parent.iter().map(|(name, _)| format!("{name} int")));
            columns.extend(table.data.iter().rev().map(Column::definition));
            columns.extend(table.key.iter().rev().map(Column::definition));
            table.setup.extend([
                format!("CREATE TABLE {leaf} ({})", columns.join(", ")),
                format!("ALTER TABLE {leaf} DROP COLUMN \"gone from here\""),
                format!("ALTER TABLE {} ATTACH PARTITION {leaf} {values}", table.name),
            ]);
        } else if n == 0 && dice.once_in(3) {
            let column = table.integer().unwrap_or_default().to_owned();
            table.setup.extend([
                format!("CREATE TABLE {leaf} PARTITION OF {} {values} PARTITION BY HASH ({column})", table.name),
                format!("CREATE TABLE public.\"leaf {place}.{n}a\" PARTITION OF {leaf} FOR VALUES WITH (MODULUS 2, REMAINDER 0)"),
                format!("CREATE TABLE public.\"leaf {place}.{n}b\" PARTITION OF {leaf} FOR VALUES WITH (MODULUS 2, REMAINDER 1)"),
            ]);
            table.leaves.extend(["a", "b"].map(|part| format!("public.\"leaf {place}.{n}{part}\"")));
            continue;
        } else {
            table.setup.push(format!("CREATE TABLE {leaf} PARTITION OF {} {values}", table.name));
        }
        table.leaves.push(leaf);
    }
}
