//! Statements of so many rows that their keys are read in other ways than few are.

use super::{
    dice::Dice,
    schema::{Column, Table, Values},
    script::{CLIENTS, Case, End, Fault, Transaction},
    statements::{Allowed, Step, overriding, step},
};

/// More than are fetched at once, also where some are left out by a rule or a trigger.
const ROWS: i32 = 5000;

/// From where on their keys are, or as far below zero: apart from those of all other statements.
const FROM: i32 = 1000;

/// Has one client write very many rows of a table, in two rounds and among all else, if there is a table that takes
/// them. In the end they are gone.
pub(super) fn add(dice: &mut Dice, case: &mut Case) {
    let fit: Vec<usize> = (0..case.tables.len()).filter(|&n| takes_many(case, n)).collect();
    if fit.is_empty() {
        return;
    }
    let (place, client) = (*dice.pick(&fit), dice.many(0..CLIENTS));
    let table = &case.tables[place];
    let mut said = vec![insert(dice, table)];
    said.extend((0..dice.many(1..5)).map(|_| change(dice, table)));
    said.push(delete(table));
    let (first, later) = (dice.many(0..case.rounds.len() - 1), dice.many(1..said.len()));
    let mut at = 0;
    for (n, sql) in said.into_iter().enumerate() {
        let mut steps = vec![Step { tables: vec![place], sql }];
        if dice.once_in(2) {
            let allowed = Allowed { truncate: true, partitions: false, merge: false };
            steps.insert(dice.many(0..2), step(dice, &case.tables, allowed));
        }
        let end = if dice.once_in(8) { End::Rollback } else { End::Commit };
        let transactions = &mut case.rounds[first + usize::from(n >= later)].transactions;
        at = dice.many(if n == later { 0 } else { at }..transactions.len() + 1);
        let begin = "BEGIN".to_owned();
        transactions.insert(at, Transaction { client, begin, steps, forgiving: true, end });
        at += 1;
    }
    // Tens of thousands of messages take minutes.
    case.max_changes_per_message = case.max_changes_per_message.max(7);
    let faults = &mut case.rounds[first + 1].faults;
    if dice.once_in(2) {
        faults.push((dice.many(0..10), Fault::Away));
    }
}

fn is_long(value: &str) -> bool {
    value.contains("repeat(") || value.contains("string_agg(")
}

/// Whether the table has a column of integers, and what else is done with each of its rows is little.
fn takes_many(case: &Case, place: usize) -> bool {
    let table = &case.tables[place];
    let short = |values: &Values| match values {
        Values::Integers => true,
        Values::Of(_, values, _) => !values.iter().any(|value| is_long(value)),
    };
    let by_row = |name: &str| {
        table.primary_alone.iter().any(|made| made.contains(name) && made.contains("FOR EACH ROW"))
    };
    table.integer().is_some()
        && table.data.iter().all(|column| short(&column.values))
        && table.parent.as_ref().is_none_or(|(_, parent)| *parent != place)
        && !by_row("write_others_")
        && !(table.keyless && by_row("count_up_"))
}

/// Which rows they are.
fn many(table: &Table) -> String {
    format!("abs({}) >= {FROM}", table.integer().unwrap_or_default())
}

/// Something to do with all of them, or with all and with one.
fn change(dice: &mut Dice, table: &Table) -> String {
    let Table { name, number, .. } = table;
    let (key, many, columns) = (table.integer().unwrap_or_default(), many(table), table.columns().join(", "));
    let update = format!("UPDATE {name} SET {number} = {number} + 1 WHERE");
    let can_move = !table.key.iter().any(|column| column.more.contains("ALWAYS"));
    match dice.many(0..12) {
        0 => format!("{update} {many}; {update} {key} = (SELECT max({key}) FROM {name})"),
        1 => format!("{update} {many}; {update} {many}"),
        2 | 3 => format!("{}; {}", delete(table), insert(dice, table)),
        4 | 5 => format!(
            "WITH gone AS (DELETE FROM {name} WHERE {many} RETURNING *) INSERT INTO {name} ({columns}) {} SELECT {columns} FROM gone",
            overriding(table)
        ),
        6 if !table.deferrable && !table.keyless => format!(
            "{} ON CONFLICT ({}) DO UPDATE SET {number} = excluded.{number} + 1",
            insert(dice, table),
            table.key_names().join(", ")
        ),
        7 if can_move => format!("UPDATE {name} SET {key} = -{key} WHERE {many}"),
        8 if can_move => format!("UPDATE {name} SET {key} = {key} + {ROWS} WHERE {many}"),
        9 | 10 => respell(table).unwrap_or_else(|| delete(table)),
        _ => format!("{update} {many}"),
    }
}

/// To a key that is equal, or nearly.
fn respell(table: &Table) -> Option<String> {
    let column = table.key.iter().find(|column| ["numeric", "text"].contains(&column.of()))?;
    let key = &column.name;
    let value = if column.of() == "numeric" { format!("{key} * 1.00") } else { format!("upper({key})") };
    Some(format!("UPDATE {} SET {key} = {value} WHERE {}", table.name, many(table)))
}

fn insert(dice: &mut Dice, table: &Table) -> String {
    let mut columns = table.key_names();
    columns.push(table.number.clone());
    columns.extend(table.unique.iter().map(|(name, _)| name.clone()));
    let value = |column: &Column| match &column.values {
        Values::Integers => "n".to_owned(),
        Values::Of(of, values, _) => {
            let short: Vec<_> = values.iter().filter(|value| !is_long(value)).collect();
            format!("({})::{of}", dice.pick(&short))
        }
    };
    let mut values: Vec<String> = table.key.iter().map(value).collect();
    values.push("n % 50".to_owned());
    values.extend(table.unique.iter().map(|_| "n".to_owned()));
    format!(
        "INSERT INTO {} ({}) {} SELECT {} FROM generate_series({FROM}, {}) n",
        table.name,
        columns.join(", "),
        overriding(table),
        values.join(", "),
        FROM + ROWS - 1
    )
}

fn delete(table: &Table) -> String {
    format!("DELETE FROM {} WHERE {}", table.name, many(table))
}
