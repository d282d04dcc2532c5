//! Keys of which one may be spelled in two ways, of every type that has such: alone, as half of a key, and in rows that
//! have none.

use super::Family;

/// A type, two spellings of one value of it, and another value.
const TYPES: &[[&str; 4]] = &[
    ["numeric", "1.0", "1.00", "2.5"],
    ["positive", "1.0", "1.00", "2.5"],
    ["float8", "'0'", "'-0'", "1.5"],
    ["interval", "'1 day'", "'24:00:00'", "'1 mon'"],
    ["jsonb", "'{\"a\": [1, 2.0]}'", "'{\"a\": [1.0, 2]}'", "'{\"a\": [1, 2.5]}'"],
    ["bpchar", "'a'", "'a  '", "' a'"],
    ["numrange", "'[1.0,2]'", "'[1.00,2.0]'", "'(1.0,2]'"],
    ["float_range", "'[-0,1]'", "'[0,1]'", "'[0,2]'"],
    ["citext_domain", "'Abc'", "'aBC'", "'abd'"],
    ["text COLLATE folding", "'Äe\u{301}'", "'äÉ'", "'äe'"],
    // Of an array no key is made: these are rows without one.
    ["numeric[]", "'{1.0}'", "'{1.00}'", "'{1.0,2}'"],
    // Only as a part of a key.
    ["citext", "'Abc'", "'aBC'", "'abd'"],
    ["varchar COLLATE folding", "'Abc'", "'aBC'", "'abd'"],
    ["float4", "'0'", "'-0'", "1.5"],
    ["interval", "'30 days -1 mon'", "'0'", "'00:00:01'"],
    ["jsonb", "'1.0'", "'1.00'", "'\"1.0\"'"],
    ["bpchar", "''", "'   '", "'b'"],
    ["int4range", "'[1,2]'", "'[1,3)'", "'[1,4)'"],
    ["cube", "'(-0, 1)'", "'(0, 1)'", "'(0)'"],
    // Only in rows without a key.
    ["spelled", "'(1.0,a)'", "'(1.00,a)'", "'(1.0,b)'"],
];

/// So many have a table of their own.
const ALONE: usize = 11;

const SETUP: &str = "
    CREATE EXTENSION citext; CREATE EXTENSION cube;
    CREATE COLLATION folding (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false);
    CREATE DOMAIN positive AS numeric CHECK (VALUE > 0); CREATE DOMAIN citext_domain AS citext;
    CREATE TYPE float_range AS RANGE (SUBTYPE = float8); CREATE TYPE spelled AS (n numeric, t text);";

/// What is done to the table of each type. `{table}` has values of it in its key `k`, of which `{one}` and `{two}` are
/// the same; and `{other}`.
const GROUPS: &[&str] = &[
    "UPDATE {table} SET k = {two} WHERE k = {one}",
    "UPDATE {table} SET k = {one}, v = v + 1 WHERE k = {two}; UPDATE {table} SET v = -v",
    "BEGIN; DELETE FROM {table} WHERE k = {one}; INSERT INTO {table} VALUES ({two}, 7); COMMIT;
     INSERT INTO {table} VALUES ({one}, 8) ON CONFLICT (k) DO UPDATE SET k = excluded.k, v = {table}.v + excluded.v",
    // There and back; undone; in the place of another, and of one another.
    "BEGIN; UPDATE {table} SET k = {two} WHERE k = {one}; UPDATE {table} SET k = {one} WHERE k = {two}; COMMIT;
     BEGIN; SAVEPOINT a; UPDATE {table} SET k = {two} WHERE k = {one}; ROLLBACK TO a; UPDATE {table} SET v = 9 WHERE k = {two}; COMMIT",
    "BEGIN; DELETE FROM {table} WHERE k = {other}; UPDATE {table} SET k = {other}, v = 1 WHERE k = {one}; INSERT INTO {table} VALUES ({two}, 2); COMMIT",
    "BEGIN; DELETE FROM {table}; INSERT INTO {table} VALUES ({one}, 1), ({other}, 2); UPDATE {table} SET k = {two} WHERE v = 1; COMMIT;
     WITH gone AS (DELETE FROM {table} WHERE k = {one} RETURNING v) UPDATE {table} SET v = gone.v FROM gone; INSERT INTO {table} VALUES ({one}, 5)",
    "UPDATE {table} SET k = {two} WHERE k = {one}; DELETE FROM {table} WHERE k = {one}",
];

/// As many columns as there are types, `c0` and so on.
fn columns(expression: impl Fn(usize, &[&str; 4]) -> String) -> String {
    let columns = TYPES.iter().enumerate().map(|(n, one)| expression(n, one));
    columns.collect::<Vec<_>>().join(", ")
}

/// Its name without what only columns have.
fn value([name, ..]: &[&str; 4], value: &str) -> String {
    format!("({value})::{}", name.split(' ').next().unwrap())
}

/// The table `halves` has a key of all types of which one is made, and is swapped; `nameless` has no key.
pub(super) fn respelled() -> Family {
    let mut tables: Vec<_> = (0..ALONE).map(|n| format!("spelled_{n}")).collect();
    let (mut setup, mut rows) = (SETUP.to_owned(), String::new());
    for (table, one) in tables.iter().zip(TYPES) {
        setup += &format!("CREATE TABLE {table} (k {} PRIMARY KEY, v int);", one[0]);
        rows +=
            &format!("INSERT INTO {table} VALUES ({}, 1), ({}, 2);", value(one, one[1]), value(one, one[3]));
    }
    let mut groups: Vec<String> = GROUPS.iter().map(|group| of_all(&tables, group)).collect();

    let typed = columns(|n, [name, ..]| format!("c{n} {name}"));
    let parts = TYPES.iter().enumerate().filter(|(_, [name, ..])| !["numeric[]", "spelled"].contains(name));
    let key: Vec<_> = parts.map(|(n, _)| format!("c{n}")).collect();
    setup += &format!(
        "CREATE TABLE halves (id int, {typed}, v int, PRIMARY KEY ({}, id) DEFERRABLE INITIALLY DEFERRED);
        CREATE TABLE nameless ({typed})",
        key.join(", ")
    );
    let spelled = |at: usize| columns(|_, one| value(one, one[at]));
    for (id, at) in [(1, 1), (2, 1), (3, 3), (4, 3)] {
        let values = spelled(at);
        rows += &format!(
            "INSERT INTO halves VALUES ({id}, {values}, {id}); INSERT INTO nameless VALUES ({values});"
        );
    }
    let set = |at: usize, which: fn(usize) -> bool| {
        columns(|n, one| format!("c{n} = {}", if which(n) { value(one, one[at]) } else { format!("c{n}") }))
    };
    let (even, odd, all) = (set(2, |n| n % 2 == 0), set(2, |n| n % 2 == 1), |at| set(at, |_| true));
    let (one, two, other) = (all(1), all(2), all(3));
    let respelled = spelled(2);
    groups.extend([
        format!("UPDATE halves SET {even} WHERE id < 3; UPDATE nameless SET {even}; UPDATE halves SET {odd}, v = -v WHERE id = 2"),
        // Swapped and moved in a circle, and respelled by the way.
        format!("BEGIN; UPDATE halves SET id = 3 - id, {one} WHERE id < 3; UPDATE halves SET id = id % 4 + 1; UPDATE nameless SET {odd}; COMMIT"),
        format!("BEGIN; UPDATE halves SET id = 5 - id; UPDATE halves SET {other} WHERE id < 3; UPDATE halves SET {two} WHERE id > 2; COMMIT"),
        format!("BEGIN; DELETE FROM halves WHERE id = 1; INSERT INTO halves VALUES (1, {respelled}, 1); DELETE FROM halves WHERE id = 4; COMMIT;
            DELETE FROM nameless WHERE ctid = (SELECT max(ctid) FROM nameless)"),
    ]);
    tables.extend(["halves".to_owned(), "nameless".to_owned()]);
    Family { tables, setup, rows, groups }
}

/// The group as it is for each of the tables.
fn of_all(tables: &[String], group: &str) -> String {
    let of_one = |(table, one): (&String, &[&str; 4])| {
        let group = group.replace("{table}", table).replace("{one}", &value(one, one[1]));
        group.replace("{two}", &value(one, one[2])).replace("{other}", &value(one, one[3]))
    };
    tables.iter().zip(TYPES).map(of_one).collect::<Vec<_>>().join(";\n")
}
