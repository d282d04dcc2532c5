//! Every name: of tables and columns, of types and their parts, of constraints, indexes, partitions and owners.

use std::fmt::Write as _;

use pgfanout_testbed::{postgres::quote, process::Finished};

use crate::{
    bank::until_joined,
    support::{MARK, Mode, program, until_marked_and_same, world},
};

/// Names of tables and columns: what SQL, our own statements, and formats might take for something else.
const NAMES: &[&str] = &[
    "select",
    "UPPER",
    "upper",
    " a.b two  words ",
    "quote\"d it's \"\" per%cent %s %I %1$s %%",
    "back\\slash \\n new\nline\r\ttab",
    "🐎 $1 $$ -- /* ); DROP TABLE x; --",
    "ü234567890123456789012345678901234567890123456789012345678901",
    "n12345678901234567890123456789012345678901234567890123456789012",
    "old",
    "new",
    "x",
    "r",
    "k",
    "t",
    "n",
    "s",
    "p",
    "c",
    "data",
    "place",
    "length",
    "start",
    "piece",
    "k1",
    "o1",
    "tg_op",
    "found",
    "new_rows",
    "old_rows",
    "excluded",
    "oid",
    "text",
    "int4",
    "NULL",
    "user",
    "schema",
    "new_record",
    "by_reference",
    "row",
    "id",
    "Upper",
];

/// How many of them are names of tables, too.
const TABLE_NAMES: usize = 8;

/// Who owns the things.
const OWNER: &str = "o'wn\"er %s \\ \n🐎; DROP ROLE x; --";

/// Tables whose types, labels, constraints, indexes and partitions have such names, as have their values; with statements
/// of their owner.
struct Things {
    setup: String,
    tables: Vec<String>,
    writes: Vec<String>,
}

impl Things {
    fn new(owner: &str) -> Self {
        let [enums, domains, rows, tables] =
            ["e", "d", "r", "t"].map(|kind| quote(&format!("{kind} '.\" %s\\ 🐎 $1")));
        let (owner, names) = (quote(owner), || NAMES.iter().map(|name| quote(name)).take(TABLE_NAMES));
        let table = format!("{tables}.things");
        let mut setup: String =
            [&enums, &domains, &rows, &tables].map(|schema| format!("CREATE SCHEMA {schema};")).concat();
        let labels = NAMES.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
        let mut columns = String::new();
        for (n, name) in names().enumerate() {
            let (label, other) = (literal(NAMES[n]), quote(NAMES[n + TABLE_NAMES]));
            let _ = write!(
                setup,
                "CREATE TYPE {enums}.{name} AS ENUM ({labels});
                CREATE DOMAIN {domains}.{name} AS text DEFAULT {label} CONSTRAINT {name} CHECK (VALUE <> {label} || 'x');
                CREATE TYPE {rows}.{name} AS ({other} {enums}.{name}, {name} {domains}.{name}[]);"
            );
            let _ = write!(
                columns,
                "e{n} {enums}.{name} DEFAULT {label}, d{n} {domains}.{name}, r{n} {rows}.{name}, a{n} {enums}.{name}[], \
                CONSTRAINT {other} CHECK (v <> {label} || 'x'), "
            );
        }
        let key = (0..TABLE_NAMES).map(|n| format!("e{n}, d{n}")).collect::<Vec<_>>().join(", ");
        let _ = write!(
            setup,
            "CREATE TABLE {table} ({columns}v text, CONSTRAINT {} PRIMARY KEY ({key}));",
            quote("pri\"mary %s")
        );
        // Names of one schema, which only case tells apart.
        for (n, name) in names().enumerate() {
            let _ = match n {
                2 => write!(setup, "ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE (v, e{n});"),
                _ => write!(
                    setup,
                    "CREATE INDEX {name} ON {table} (e{n}, (v || {})) WHERE v <> {};",
                    literal(NAMES[n]),
                    literal(NAMES[n])
                ),
            };
        }
        let (kind, parts) = (quote(NAMES[5]), quote(NAMES[4]));
        let _ = write!(
            setup,
            "CREATE TABLE {rows}.root (e {enums}.{kind}, id int, PRIMARY KEY (e, id)) PARTITION BY LIST (e);
            CREATE SCHEMA {parts}; CREATE TABLE {parts}.\"default\" PARTITION OF {rows}.root DEFAULT;"
        );
        let mut truncate = Vec::new();
        for (n, name) in names().enumerate() {
            let _ = write!(
                setup,
                "CREATE TABLE {parts}.{name} PARTITION OF {rows}.root FOR VALUES IN ({});",
                literal(NAMES[n])
            );
            truncate.push(format!(
                "BEGIN; TRUNCATE {parts}.{name}; INSERT INTO {rows}.root VALUES ({}, {n}); COMMIT;",
                literal(NAMES[n])
            ));
        }
        let insert = |from: usize, to: usize| {
            let row = |row: usize| {
                let values = (0..TABLE_NAMES).map(|n| {
                    let (value, kind) = (literal(NAMES[(row + n) % NAMES.len()]), quote(NAMES[n]));
                    format!("{value}, {value}, ROW({value}, ARRAY[{value}, NULL])::{rows}.{kind}, ARRAY[{value}, NULL]::{enums}.{kind}[]")
                });
                format!("({}, {})", values.collect::<Vec<_>>().join(", "), literal(NAMES[row % NAMES.len()]))
            };
            format!("INSERT INTO {table} VALUES {};", (from..to).map(row).collect::<Vec<_>>().join(", "))
        };
        let spread = format!(
            "INSERT INTO {rows}.root SELECT e, n FROM unnest(enum_range(NULL::{enums}.{kind})) e, generate_series(1, 3) n;"
        );
        for table in [&table, &format!("{rows}.root")] {
            let _ = write!(setup, "ALTER TABLE {table} OWNER TO {owner};");
        }
        for schema in [&enums, &domains, &rows, &tables, &parts] {
            let _ = write!(setup, "GRANT USAGE ON SCHEMA {schema} TO {owner};");
        }
        for name in names() {
            let _ = write!(setup, "ALTER TABLE {parts}.{name} OWNER TO {owner};");
        }
        setup += &(insert(0, 20) + &spread);
        let (first, second) = (literal(NAMES[4]), literal(NAMES[6]));
        let writes = [
            insert(20, NAMES.len()) + &format!(
                "UPDATE {table} SET v = v || {first} WHERE e0 < {first}; UPDATE {table} SET d0 = d0 || {second}, e1 = {first} WHERE e2 > {second};
                UPDATE {table} SET r3 = ROW({second}, ARRAY[{first}])::{rows}.{}, a4 = a4 || a4 WHERE d5 <> {first}; DELETE FROM {table} WHERE e6 = {second}",
                quote(NAMES[3])
            ),
            format!("UPDATE {rows}.root SET e = {second}, id = -id WHERE e = {first}; UPDATE {rows}.root SET e = {first} WHERE id = 3 AND e = 'x'; DELETE FROM {rows}.root WHERE e = 'Upper'"),
            truncate.concat(),
        ];
        let writes = writes.iter().map(|write| format!("SET ROLE {owner}; {write}")).collect();
        Self { setup, tables: vec![table, format!("{rows}.root")], writes }
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[tokio::test]
async fn every_name_follows() {
    let world = world(Mode::Broker, 1).build().await;
    let schema = quote("sch.ema \"x\" %s 🐎");
    let (mut setup, mut write, mut tables) =
        (format!("{MARK}; CREATE SCHEMA {schema};"), String::new(), Vec::new());
    let columns = NAMES.iter().map(|name| format!("{} text", quote(name))).collect::<Vec<_>>().join(", ");
    let values = NAMES.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
    for (n, name) in NAMES.iter().enumerate().take(TABLE_NAMES) {
        // Each name is a part of some key, and a column of all tables.
        let table = format!("{schema}.{}", quote(name));
        let at = |further| quote(NAMES[(n + further) % NAMES.len()]);
        let (first, second, third) = (at(0), at(TABLE_NAMES), at(3 * TABLE_NAMES));
        let key = if n == 0 { first.clone() } else { format!("{second}, {first}, {third}") };
        let insert = format!("INSERT INTO {table} VALUES ({values});");
        let partition = format!("{schema}.{}", quote("part \"0\" %s"));
        let _ = match n {
            1 => write!(setup, "CREATE TABLE {table} ({columns});"),
            2 => write!(
                setup,
                "CREATE TABLE {table} ({columns}, PRIMARY KEY ({key})) PARTITION BY HASH ({first});
                CREATE TABLE {partition} PARTITION OF {table} FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
            ),
            _ => write!(setup, "CREATE TABLE {table} ({columns}, PRIMARY KEY ({key}));"),
        };
        setup += &insert;
        let _ = write!(
            write,
            "UPDATE {table} SET {first} = {first} || {second}; {insert} UPDATE {table} SET {} = NULL, {} = {first};",
            at(5),
            at(10),
        );
        tables.push(table);
    }
    world.primary().execute(&format!("SET standard_conforming_strings = on; {setup}")).await;
    let owner = format!("{} {OWNER}", world.exchange());
    world.primary().execute(&format!("CREATE ROLE {}", quote(&owner))).await;
    let things = Things::new(&owner);
    world.primary().execute(&things.setup).await;
    tables.extend(things.tables.iter().cloned());
    let config = world.config().write();
    let mut pgfanout = program().run(&config);
    until_joined(&world, tables.len() + 1).await;
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    until_marked_and_same(&world, &tables).await;
    for write in [&write].into_iter().chain(&things.writes) {
        world.primary().execute(write).await;
        until_marked_and_same(&world, &tables).await;
    }
    let Finished { code, stdout, stderr } = program().once("verify", &config, &[]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let delete: String = tables.iter().map(|table| format!("DELETE FROM {table};")).collect();
    world.primary().execute(&delete).await;
    until_marked_and_same(&world, &tables).await;
    pgfanout.terminate().await;
    let role = quote(&owner);
    world.primary().execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
