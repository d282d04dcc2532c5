//! Random statements, all that an application may say to tables. The primary refuses some.

use super::{
    dice::Dice,
    partitions::swing,
    schema::{IDS, Table, Values},
};

/// What is said at once, and the tables that it is about.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) tables: Vec<usize>,
    pub(super) sql: String,
}

/// One that may be part of a WITH.
pub(super) fn simple(dice: &mut Dice, table: &Table) -> String {
    match dice.many(0..10) {
        0..4 => insert(dice, table),
        4..8 => update(dice, table),
        _ => delete(dice, table),
    }
}

/// What may be said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    pub(super) truncate: bool,
    /// That they leave and come back.
    pub(super) partitions: bool,
    /// From PostgreSQL 15 on.
    pub(super) merge: bool,
}

/// Something to say.
pub(super) fn step(dice: &mut Dice, all: &[Table], allowed: Allowed) -> Step {
    let place = dice.many(0..all.len());
    let table = &all[place];
    let mut tables = vec![place];
    let sql = match dice.many(0..35) {
        0..6 => insert(dice, table),
        6..11 => update(dice, table),
        11..13 => delete(dice, table),
        13..17 => change_key(dice, table),
        17..19 => upsert(dice, table),
        19 if allowed.merge => merge(dice, table),
        20 => copy(dice, table),
        21 => move_unique(dice, table),
        22 => put_back(dice, table),
        23 => format!("{}; {}", delete(dice, table), insert(dice, table)),
        24 | 25 => {
            tables.extend([dice.many(0..all.len()), dice.many(0..all.len())]);
            let [first, second] = [1, 2].map(|n| simple(dice, &all[tables[n]]));
            format!("WITH first AS ({first}), second AS ({second}) {}", simple(dice, table))
        }
        26 => {
            let (kept, lost) = (simple(dice, table), simple(dice, table));
            let end = dice.pick(&["ROLLBACK TO inside", "RELEASE inside"]);
            format!("{kept}; SAVEPOINT inside; {lost}; {}; {end}", delete(dice, table))
        }
        27 => format!(
            "DO $do$ BEGIN BEGIN {}; RAISE 'no'; EXCEPTION WHEN raise_exception THEN {}; END; END $do$",
            simple(dice, table),
            simple(dice, table)
        ),
        28 => leaf(dice, table),
        31 | 32 => view(dice, table),
        33 if allowed.partitions => swing(dice, table, place).unwrap_or_else(|| update(dice, table)),
        29 | 30 if allowed.truncate => {
            if dice.once_in(3) {
                tables.push(dice.many(0..all.len()));
            }
            self::truncate(dice, all, &tables)
        }
        _ => update(dice, table),
    };
    Step { tables, sql }
}

fn values(dice: &mut Dice, table: &Table) -> String {
    let mut values: Vec<String> = table.key.iter().map(|column| column.value(dice)).collect();
    values.push(dice.number(-20..100).to_string());
    if table.unique.is_some() {
        values.push(if dice.once_in(4) { "NULL::int".to_owned() } else { dice.number(0..60).to_string() });
    }
    if table.parent.is_some() {
        values.push(if dice.once_in(3) { "NULL::int".to_owned() } else { dice.number(0..IDS).to_string() });
    }
    values.extend(table.data.iter().map(|column| column.value(dice)));
    format!("({})", values.join(", "))
}

pub(super) fn overriding(table: &Table) -> &'static str {
    if table.identity { "OVERRIDING SYSTEM VALUE" } else { "" }
}

/// A single row, or many.
pub(super) fn insert(dice: &mut Dice, table: &Table) -> String {
    let (name, columns) = (&table.name, table.columns().join(", "));
    if table.keyless && dice.once_in(3) {
        let which = condition(dice, table);
        let again = format!("SELECT {columns} FROM {name} WHERE {which} LIMIT {}", dice.number(1..5));
        return format!("INSERT INTO {name} ({columns}) {} {again}", overriding(table));
    }
    let rows = if dice.once_in(2) { 1 } else { dice.many(2..9) };
    let rows: Vec<_> = (0..rows).map(|_| values(dice, table)).collect();
    format!("INSERT INTO {name} ({columns}) {} VALUES {}", overriding(table), rows.join(", "))
}

fn key_names(table: &Table) -> String {
    table.key_names().join(", ")
}

fn upsert(dice: &mut Dice, table: &Table) -> String {
    let insert = insert(dice, table);
    if table.deferrable || table.keyless {
        return insert; // nothing can arbitrate
    }
    let act = match dice.many(0..3) {
        0 => "NOTHING".to_owned(),
        1 => format!("UPDATE SET {} = excluded.{0}", table.number),
        _ => format!("UPDATE SET {}", assignments(dice, table)),
    };
    format!("{insert} ON CONFLICT ({}) DO {act}", key_names(table))
}

/// Which rows: one by its key, some, all, or none.
fn condition(dice: &mut Dice, table: &Table) -> String {
    let number = &table.number;
    match dice.many(0..12) {
        0 => "true".to_owned(),
        1 => "false".to_owned(),
        2 => format!("{number} % 3 = {}", dice.number(0..3)),
        3 => format!("{number} < {}", dice.number(-10..40)),
        4 => format!("{number} IS NULL"),
        5 | 6 => format!("{} <= {}", table.key[0].name, table.key[0].value(dice)),
        _ => by_key(dice, table),
    }
}

fn by_key(dice: &mut Dice, table: &Table) -> String {
    let same: Vec<_> = table.key.iter().map(|c| format!("{} = {}", c.name, c.value(dice))).collect();
    same.join(" AND ")
}

fn assignments(dice: &mut Dice, table: &Table) -> String {
    let number = &table.number;
    let mut set = vec![match dice.many(0..4) {
        0 => format!("{number} = {}", dice.number(-20..100)),
        1 => format!("{number} = NULL"),
        _ => format!("{number} = {}", dice.number(-20..100)),
    }];
    for column in &table.data {
        if dice.once_in(2) {
            set.push(format!("{} = {}", column.name, column.value(dice)));
        }
    }
    if let Some((parent, _)) = table.parent.as_ref().filter(|_| dice.once_in(4)) {
        set.push(format!("{parent} = {}", dice.number(0..IDS)));
    }
    set.join(", ")
}

fn update(dice: &mut Dice, table: &Table) -> String {
    let (name, number) = (&table.name, &table.number);
    match dice.many(0..8) {
        0 => format!("UPDATE {name} SET {number} = {number}"),
        1 | 2 => format!("UPDATE {name} SET {number} = {number} + 1 WHERE {}", condition(dice, table)),
        _ => format!("UPDATE {name} SET {} WHERE {}", assignments(dice, table), condition(dice, table)),
    }
}

fn delete(dice: &mut Dice, table: &Table) -> String {
    // All seldom, or there is nothing to change.
    let which = if dice.once_in(4) { condition(dice, table) } else { by_key(dice, table) };
    if table.keyless && table.leaves.is_empty() {
        // Of equal rows some stay.
        let places = format!("SELECT ctid FROM {} WHERE {which} LIMIT {}", table.name, dice.number(1..3));
        return format!("DELETE FROM {} WHERE ctid IN ({places})", table.name);
    }
    format!("DELETE FROM {} WHERE {which}", table.name)
}

/// To another value, in chains, all negated, swapped, spelled anew.
fn change_key(dice: &mut Dice, table: &Table) -> String {
    let name = &table.name;
    let column = dice.pick(&table.key);
    let key = &column.name;
    if table.identity && column.more.contains("ALWAYS") {
        // It can be changed to its default only.
        return format!("UPDATE {name} SET {key} = DEFAULT WHERE {}", by_key(dice, table));
    }
    let value = match &column.values {
        Values::Integers => match dice.many(0..5) {
            0 => return format!("UPDATE {name} SET {key} = -{key}"),
            1 => format!("{key} + {}", dice.number(1..3)),
            2 => {
                let (some, other) = (dice.number(0..IDS), dice.number(0..IDS));
                let which = format!("WHERE {key} IN ({some}, {other})");
                return format!("UPDATE {name} SET {key} = {} - {key} {which}", some + other);
            }
            3 => return format!("UPDATE {name} SET {key} = {IDS} - {key}"),
            _ => column.value(dice),
        },
        Values::Of(of, ..) if of == "numeric" && dice.once_in(2) => format!("{key} * 1.00"),
        Values::Of(of, ..) if of == "text" && dice.once_in(2) => format!("upper({key})"),
        Values::Of(..) => column.value(dice),
    };
    format!("UPDATE {name} SET {key} = {value} WHERE {}", condition(dice, table))
}

fn merge(dice: &mut Dice, table: &Table) -> String {
    let rows: Vec<_> = (0..dice.many(1..5)).map(|_| values(dice, table)).collect();
    let columns = table.columns();
    let same: Vec<_> = table.key_names().iter().map(|key| format!("t.{key} = s.{key}")).collect();
    let given: Vec<_> = columns.iter().map(|name| format!("s.{name}")).collect();
    let (columns, given) = (columns.join(", "), given.join(", "));
    format!(
        "MERGE INTO {} t USING (VALUES {}) s ({columns}) ON {} \
         WHEN MATCHED AND t.{number} % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET {} \
         WHEN NOT MATCHED THEN INSERT ({columns}) {} VALUES ({given})",
        table.name,
        rows.join(", "),
        same.join(" AND "),
        assignments(dice, table),
        overriding(table),
        number = table.number
    )
}

fn copy(dice: &mut Dice, table: &Table) -> String {
    if !table.is_plain() {
        return insert(dice, table);
    }
    let rows: String =
        (0..dice.number(1..5)).map(|n| format!("{}\\t{n}\\n", dice.number(-IDS..2 * IDS))).collect();
    let Table { name, number, .. } = table;
    format!("COPY {name} ({}, {number}) FROM PROGRAM 'printf \"{rows}\"'", table.key[0].name)
}

/// Two rows swap what is unique, or all do.
fn move_unique(dice: &mut Dice, table: &Table) -> String {
    let Table { name, unique: Some((unique, deferrable)), .. } = table else { return update(dice, table) };
    if *deferrable && dice.once_in(2) {
        return format!("UPDATE {name} SET {unique} = 60 - {unique}");
    }
    let (some, other) = (dice.number(0..60), dice.number(0..60));
    format!(
        "UPDATE {name} SET {unique} = -1 WHERE {unique} = {some}; UPDATE {name} SET {unique} = {some} \
         WHERE {unique} = {other}; UPDATE {name} SET {unique} = {other} WHERE {unique} = -1"
    )
}

/// Deleted and inserted by one statement.
fn put_back(dice: &mut Dice, table: &Table) -> String {
    let (name, columns) = (&table.name, table.columns().join(", "));
    format!(
        "WITH gone AS (DELETE FROM {name} WHERE {} RETURNING *) INSERT INTO {name} ({columns}) {} SELECT {columns} FROM gone",
        condition(dice, table),
        overriding(table)
    )
}

/// Past the root of a partitioned table.
fn leaf(dice: &mut Dice, table: &Table) -> String {
    if table.leaves.is_empty() {
        return insert(dice, table);
    }
    let leaf = Table { name: dice.pick(&table.leaves).clone(), leaves: Vec::new(), ..table.clone() };
    simple(dice, &leaf)
}

/// Through a view, which has no places of rows.
fn view(dice: &mut Dice, table: &Table) -> String {
    match &table.view {
        Some(view) => simple(dice, &Table { name: view.clone(), keyless: false, ..table.clone() }),
        None => insert(dice, table),
    }
}

fn truncate(dice: &mut Dice, all: &[Table], tables: &[usize]) -> String {
    let name = |dice: &mut Dice, table: &Table| match dice.once_in(2) && !table.leaves.is_empty() {
        true => dice.pick(&table.leaves).clone(),
        false if table.leaves.is_empty() && dice.once_in(3) => format!("ONLY {}", table.name),
        false => table.name.clone(),
    };
    let names: Vec<_> = tables.iter().map(|&place| name(dice, &all[place])).collect();
    let more = dice.pick(&["CASCADE", "RESTART IDENTITY CASCADE", ""]);
    let truncate = format!("TRUNCATE {} {more}", names.join(", "));
    match dice.many(0..4) {
        0 => format!("SAVEPOINT truncated; {truncate}; ROLLBACK TO truncated"),
        1 => format!("{truncate}; {}", insert(dice, &all[tables[0]])),
        2 => format!("{}; {truncate}; {}", insert(dice, &all[tables[0]]), leaf(dice, &all[tables[0]])),
        _ => truncate,
    }
}
