//! Every type keeps every value, to the byte, as a column, as a part of the key, and in rows without one, whatever the databases and
//! roles set: when it is copied, through messages, and when it is caught up.

use pgfanout_testbed::{
    binaries::{Side, skipped},
    world::{Database, World},
};
use serde_json::Value;
use tokio_postgres::Client;

use crate::{
    bank::until_joined,
    support::{MARK, Mode, program, until_marked_and_same, until_same, world},
};

/// How many rows each table has; the first one holds nothing but NULL.
const ROWS: usize = 18;
/// How many types share a table.
const TYPES: usize = 30;
/// How many types share a key.
const KEYS: usize = 10;

/// Types that come with PostgreSQL, and need to be asked for.
const EXTENSIONS: &str = "CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree;
    CREATE EXTENSION isn; CREATE EXTENSION cube; CREATE EXTENSION seg;
    DO $$ BEGIN IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN CREATE EXTENSION vector; END IF; END $$";

/// Types that need to be made.
pub(crate) const OWN: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'it''s "ok", \ or {not}', '');
    CREATE DOMAIN mood_domain AS mood CHECK (VALUE <> '');
    CREATE DOMAIN short AS varchar(5);
    CREATE DOMAIN words AS text[] CHECK (pg_catalog.cardinality(VALUE) < 9);
    CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
    CREATE TYPE pair AS (a int, b text);
    CREATE TYPE nested AS (p pair, ps pair[], m mood);
    CREATE DOMAIN pair_domain AS pair CHECK ((VALUE).a > 0);
    CREATE TYPE float_range AS RANGE (SUBTYPE = float8);
    CREATE TYPE text_range AS RANGE (SUBTYPE = text, COLLATION = "C")"#;

/// What a replica has to have before: a domain whose checks are functions, and a type with functions, a binary form, a
/// modifier and an order of its own, as extensions make them.
const BASE: &str = "
    CREATE FUNCTION is_even(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 % 2 = 0';
    CREATE DOMAIN even AS int CHECK (public.is_even(VALUE));
    CREATE DOMAIN checked AS even[] CHECK (pg_catalog.cardinality(VALUE) < 9);
    CREATE TYPE chars;
    CREATE FUNCTION chars_in(cstring, oid, int) RETURNS chars LANGUAGE internal IMMUTABLE STRICT AS 'varcharin';
    CREATE FUNCTION chars_out(chars) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'varcharout';
    CREATE FUNCTION chars_recv(internal, oid, int) RETURNS chars LANGUAGE internal IMMUTABLE STRICT AS 'varcharrecv';
    CREATE FUNCTION chars_send(chars) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'varcharsend';
    CREATE FUNCTION chars_typmod_in(cstring[]) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'varchartypmodin';
    CREATE FUNCTION chars_typmod_out(int) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'varchartypmodout';
    CREATE TYPE chars (INPUT = chars_in, OUTPUT = chars_out, RECEIVE = chars_recv, SEND = chars_send,
        TYPMOD_IN = chars_typmod_in, TYPMOD_OUT = chars_typmod_out, STORAGE = extended, COLLATABLE = true);
    CREATE FUNCTION chars_lt(chars, chars) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'text_lt';
    CREATE FUNCTION chars_le(chars, chars) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'text_le';
    CREATE FUNCTION chars_eq(chars, chars) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'texteq';
    CREATE FUNCTION chars_ge(chars, chars) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'text_ge';
    CREATE FUNCTION chars_gt(chars, chars) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'text_gt';
    CREATE FUNCTION chars_cmp(chars, chars) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'bttextcmp';
    CREATE OPERATOR < (FUNCTION = chars_lt, LEFTARG = chars, RIGHTARG = chars);
    CREATE OPERATOR <= (FUNCTION = chars_le, LEFTARG = chars, RIGHTARG = chars);
    CREATE OPERATOR = (FUNCTION = chars_eq, LEFTARG = chars, RIGHTARG = chars, MERGES);
    CREATE OPERATOR >= (FUNCTION = chars_ge, LEFTARG = chars, RIGHTARG = chars);
    CREATE OPERATOR > (FUNCTION = chars_gt, LEFTARG = chars, RIGHTARG = chars);
    CREATE OPERATOR CLASS chars_ops DEFAULT FOR TYPE chars USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,
        OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 chars_cmp(chars, chars)";

/// The types of PostgreSQL's own that columns may have and that are not among these: none.
const FORGOTTEN: &str = "SELECT ARRAY(SELECT t.typname::text FROM pg_catalog.pg_type t
    WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype IN ('b', 'r', 'm')
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)
        -- Those that take no values, not even from their own text.
        AND t.typname NOT IN ('gtsvector', 'pg_node_tree', 'pg_ndistinct', 'pg_dependencies', 'pg_mcv_list',
            'pg_brin_bloom_summary', 'pg_brin_minmax_multi_summary')
        AND t.oid NOT IN (SELECT pg_catalog.to_regtype(n) FROM pg_catalog.unnest($1::text[]) n))";

/// Types whose binary form is exact, and the same on every server.
const BINARY: &[&str] = &[
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "numeric(30,10)",
    "text",
    "varchar(20)",
    "char(5)",
    "bpchar",
    "bytea",
    "date",
    "time",
    "time(0)",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "interval day to second(2)",
    "boolean",
    "uuid",
    "inet",
    "cidr",
    "json",
    "jsonb",
    "mood",
    "mood_domain",
    "short",
    "words",
    "positive",
];

/// Types that have another number on the replica.
const NUMBERS: &str =
    "SELECT ARRAY(SELECT pg_catalog.to_regtype(n)::oid FROM pg_catalog.unnest($1::text[]) n)";

/// What is set for databases, and in the sessions that write: nothing that decides how values look.
const HOSTILE: &[(&str, &str)] = &[
    ("datestyle", "German, DMY"),
    ("intervalstyle", "iso_8601"),
    ("timezone", "Asia/Kathmandu"),
    ("extra_float_digits", "-15"),
    ("bytea_output", "escape"),
    ("xmlbinary", "hex"),
    ("xmloption", "document"),
    ("lc_monetary", "de_DE.utf8"),
    ("quote_all_identifiers", "on"),
    ("standard_conforming_strings", "off"),
    ("escape_string_warning", "off"),
    ("search_path", ""),
    ("row_security", "off"),
    ("jit", "on"),
    ("plan_cache_mode", "force_custom_plan"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
    ("default_transaction_isolation", "serializable"),
    ("synchronous_commit", "off"),
    ("check_function_bodies", "off"),
    ("plpgsql.variable_conflict", "error"),
    ("plpgsql.extra_errors", "all"),
];

/// What is set for the role of pgfanout alone, wherever it connects.
const HOSTILE_TO_US: &[(&str, &str)] = &[
    ("client_encoding", "LATIN1"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_deferrable", "on"),
    ("statement_timeout", "1"),
    ("lock_timeout", "1"),
    ("idle_in_transaction_session_timeout", "1"),
    ("idle_session_timeout", "200"),
    ("transaction_timeout", "2000"),
    ("enable_indexscan", "off"),
    ("enable_nestloop", "off"),
    ("cursor_tuple_fraction", "1"),
];

pub(crate) struct Type {
    /// Whether it may be the type of a key.
    pub(crate) key: bool,
    pub(crate) name: &'static str,
    /// Whether arrays of it are followed.
    array: bool,
    /// SQL, without the type.
    pub(crate) values: Vec<&'static str>,
}

impl Type {
    /// The value of a row.
    fn value(&self, row: usize) -> String {
        format!("({})::{}", self.values[row % self.values.len()], self.name)
    }

    /// An array that holds it, for types that have arrays.
    fn array(&self, row: usize) -> String {
        format!("ARRAY[{}, NULL, {}]::{}[]", self.value(row), self.value(row + 1), self.name)
    }

    pub(crate) fn has_array(&self) -> bool {
        self.array
    }

    /// What defines the columns of it and of its array.
    fn columns(&self, n: usize) -> impl Iterator<Item = String> {
        let array = self.has_array().then(|| format!("a{n} {}[]", self.name));
        std::iter::once(format!("c{n} {}", self.name)).chain(array)
    }

    /// A value for each of these columns.
    fn both(&self, row: usize, array: usize) -> impl Iterator<Item = String> {
        std::iter::once(self.value(row)).chain(self.has_array().then(|| self.array(array)))
    }
}

/// Those that both servers know, and that were asked for.
pub(crate) async fn types(world: &World) -> Vec<Type> {
    let client = world.primary().client().await;
    let version = world.primary().cluster().version().min(world.replica(1).cluster().version());
    let mut types = Vec::new();
    for line in include_str!("types/values.sql").lines().filter(|line| !line.starts_with("--")) {
        let mut fields = line.split('¦');
        let (kind, name) = (fields.next().unwrap(), fields.next().unwrap());
        let (kind, since) = kind.split_at(kind.find(|c: char| c.is_ascii_digit()).unwrap_or(kind.len()));
        if since.parse().is_ok_and(|since: u32| since > version) {
            skipped(&format!("values of {name}: from PostgreSQL {since} on"));
            continue;
        }
        let known = "SELECT pg_catalog.to_regtype($1) IS NOT NULL";
        if client.query_one(known, &[&name]).await.unwrap().get(0) {
            let array = !name.ends_with("[]") && (name != "\"char\"" || version >= 15);
            types.push(Type { key: kind == "key", name, array, values: fields.collect() });
        }
    }
    types
}

/// The statements that make and fill the tables, with the tables.
fn tables(types: &[Type]) -> (Vec<String>, Vec<Table>) {
    let (mut statements, mut tables) = (Vec::new(), Vec::new());
    for (n, types) in types.chunks(TYPES).enumerate() {
        let table = Table { name: format!("public.typed_{n}"), columns: columns(types) };
        let typed = types.iter().enumerate().flat_map(|(n, one)| one.columns(n));
        let setup = format!("CREATE TABLE {} (id int PRIMARY KEY, {})", table.name, list(typed));
        statements.extend([setup, format!("INSERT INTO {} (id) VALUES (0)", table.name)]);
        for row in 1..ROWS {
            let values = types.iter().flat_map(|one| one.both(row - 1, row));
            statements.push(format!("INSERT INTO {} VALUES ({row}, {})", table.name, list(values)));
        }
        tables.push(table);
    }
    let keys: Vec<&Type> = types.iter().filter(|one| one.key).collect();
    for (n, types) in keys.chunks(KEYS).enumerate() {
        let names: Vec<_> = (0..types.len()).map(|n| format!("c{n}")).collect();
        let table = Table { name: format!("public.keyed_{n}"), columns: names.clone() };
        let typed = names.iter().zip(types).map(|(name, one)| format!("{name} {}", one.name));
        let (typed, names) = (list(typed), list(names.into_iter()));
        statements.push(format!("CREATE TABLE {} ({typed}, id int, PRIMARY KEY ({names}, id))", table.name));
        for row in 0..ROWS {
            let values = list(types.iter().map(|one| one.value(row)));
            statements.push(format!("INSERT INTO {} VALUES ({values}, {row})", table.name));
        }
        tables.push(table);
    }
    // Their keys are of arrays, so rows are told by all of their columns.
    for (n, types) in types.chunks(KEYS).enumerate() {
        let table = Table { name: format!("public.rows_{n}"), columns: columns(types) };
        let typed = list(types.iter().enumerate().flat_map(|(n, one)| one.columns(n)));
        let arrays = types.iter().enumerate().filter(|(_, one)| one.key && one.has_array());
        let key = list(arrays.map(|(n, _)| format!("a{n}")).chain(["id".to_owned()]));
        statements.push(format!("CREATE TABLE {} ({typed}, id int, PRIMARY KEY ({key}))", table.name));
        for row in 0..ROWS {
            let values = list(types.iter().flat_map(|one| one.both(row, row)));
            statements.push(format!("INSERT INTO {} VALUES ({values}, {row})", table.name));
        }
        tables.push(table);
    }
    (statements, tables)
}

struct Table {
    name: String,
    columns: Vec<String>,
}

fn columns(types: &[Type]) -> Vec<String> {
    let both = |(n, one): (usize, &Type)| {
        std::iter::once(format!("c{n}")).chain(one.has_array().then(|| format!("a{n}")))
    };
    types.iter().enumerate().flat_map(both).collect()
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// Each row gets the values of the next one, so that all go through NULL; in keys, every key changes.
fn rotate(Table { name, columns }: &Table) -> String {
    let columns = columns.join(", ");
    format!(
        "UPDATE {name} t SET ({columns}) = (SELECT {columns} FROM {name} s \
         WHERE s.id = (t.id + 1) % {ROWS})"
    )
}

/// Types that may be the types of keys, and that no line says may be.
async fn types_for_keys_besides<'a>(client: &Client, types: &'a [Type]) -> Vec<&'a str> {
    let mut besides = Vec::new();
    for Type { name, .. } in types {
        let table = format!("CREATE TEMP TABLE possible (k {name} PRIMARY KEY); DROP TABLE possible");
        let told = types.iter().any(|one| one.key && one.name == *name);
        if !told && client.batch_execute(&table).await.is_ok() {
            besides.push(*name);
        }
    }
    besides
}

async fn set_for(world: &World, whom: &str, settings: &[(&str, &str)]) {
    for database in world.replicas().iter().chain([world.primary()]) {
        let client = database.client().await;
        for (name, value) in settings {
            let known =
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name = $1) OR $1 LIKE 'plpgsql.%'";
            if client.query_one(known, &[name]).await.unwrap().get(0) {
                let value = if *name == "search_path" { "''" } else { &format!("'{value}'") };
                let set = format!("ALTER {} SET {name} = {value}", whom.replace('%', database.name()));
                match client.batch_execute(&set).await {
                    // Many systems have no locale but C.
                    Err(_) if *name == "lc_monetary" => skipped(&format!("money as printed in {value}")),
                    set => set.unwrap(),
                }
            }
        }
    }
}

async fn every_value_is_kept(mode: Mode) {
    let world = world(mode, 1).build().await;
    world.primary().execute(MARK).await;
    world.primary().execute(EXTENSIONS).await;
    world.primary().execute(OWN).await;
    for database in [world.primary(), world.replica(1)] {
        database.execute(BASE).await;
    }
    let types = types(&world).await;
    let client = world.primary().client().await;
    if Side::are_alike() {
        let names: Vec<_> = types.iter().map(|one| one.name).collect();
        let forgotten: Vec<String> = client.query_one(FORGOTTEN, &[&names]).await.unwrap().get(0);
        assert_eq!(forgotten, [""; 0]);
    }
    assert_eq!(types_for_keys_besides(&client, &types).await, [""; 0], "they are not tried as keys");
    let (setup, tables) = tables(&types);
    for statement in &setup {
        let run = client.batch_execute(statement).await;
        run.unwrap_or_else(|error| panic!("{}: {error:?}", statement.chars().take(200).collect::<String>()));
    }
    let role = format!("{}_hostile", world.exchange());
    world.execute_on_servers(&format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'secret'")).await;
    set_for(&world, "DATABASE %", HOSTILE).await;
    set_for(&world, &format!("ROLE {role}"), HOSTILE_TO_US).await;
    set_for(&world, &format!("ROLE {role}"), HOSTILE).await;
    // Others' transactions are nothing to wait for.
    let serializable = world.primary().client().await;
    serializable.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT FROM public.mark").await.unwrap();
    let mut config = world.config();
    let replicas = config.replicas.iter_mut().map(|replica| &mut replica.url);
    for url in replicas.chain([&mut config.primary.url]) {
        let (_, server) = url.split_once('@').unwrap();
        *url = format!("postgresql://{role}:secret@{server}");
    }
    let pgfanout = program().run(&config.write());
    until_joined(&world, tables.len() + 1).await;
    serializable.batch_execute("COMMIT").await.unwrap();
    let mark = pgfanout.mark();
    let (own, there) =
        (["public.mood", "public.pair", "public.words", "public.citext"], world.replica(1).client().await);
    let here: Vec<u32> = client.query_one(NUMBERS, &[&&own[..]]).await.unwrap().get(0);
    let there: Vec<u32> = there.query_one(NUMBERS, &[&&own[..]]).await.unwrap().get(0);
    assert!(
        here.iter().zip(&there).all(|(here, there)| here != there),
        "{here:?} and {there:?} are the same"
    );
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    until_same(&world, &names).await;

    // A session that is as hostile: the databases' settings, and one more.
    let client = world.primary().client().await;
    client.batch_execute("SET client_encoding = 'LATIN1'").await.unwrap();
    for _ in 0..2 {
        for table in &tables {
            client.batch_execute(&rotate(table)).await.unwrap();
        }
        until_marked_and_same(&world, &names).await;
    }
    for table in &tables {
        let columns = table.columns.join(", ");
        let Table { name, .. } = table;
        let delete = format!(
            "BEGIN; DELETE FROM {name} WHERE id < 9; INSERT INTO {name} (id, {columns}) \
             SELECT id - 100, {columns} FROM {name}; COMMIT"
        );
        client.batch_execute(&delete).await.unwrap();
    }
    until_marked_and_same(&world, &names).await;
    let failures = |line: &Value| line["event"] == "failed" || line["event"] == "halted";
    let failed: Vec<_> = pgfanout.log_after(mark).into_iter().filter(failures).collect();
    assert_eq!(failed, [Value::Null; 0]);
}

#[tokio::test]
async fn every_type_keeps_every_value_through_the_broker() {
    every_value_is_kept(Mode::Broker).await;
}

#[tokio::test]
#[ignore = "both modes: make large"]
async fn every_type_keeps_every_value_without_a_broker() {
    every_value_is_kept(Mode::Postgres).await;
}

/// The form of a copy: binary where all columns have one that is exact; rows that may be long are text.
#[tokio::test]
async fn a_copy_is_binary_where_that_is_exact() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(OWN).await;
    let types = types(&world).await;
    let binary: Vec<_> = types.into_iter().filter(|one| BINARY.contains(&one.name)).collect();
    for name in BINARY {
        assert!(binary.iter().any(|one| one.name == *name), "{name} has no values");
    }
    let client = world.primary().client().await;
    // The same bytes mean others where only one side knows an infinite interval.
    let knows = |database: &Database| database.cluster().version() >= 17;
    let intervals_differ = knows(world.primary()) != knows(world.replica(1));
    let (mut names, mut as_text) = (Vec::new(), Vec::new());
    // Of an empty vector PostgreSQL does not read the binary form that it writes.
    for (of, value) in [("tid", "(1,2)"), ("int2vector", "")] {
        let name = format!("as_text_{of}");
        client
            .batch_execute(&format!(
                "CREATE TABLE {name} (id int PRIMARY KEY, v {of}); INSERT INTO {name} VALUES (1, '{value}')"
            ))
            .await
            .unwrap();
        as_text.push(name.clone());
        names.push(name);
    }
    for (n, types) in binary.chunks(4).enumerate() {
        let name = format!("in_binary_{n}");
        let array = |one: &Type| one.has_array() && !OWN.contains(&format!(" {} AS", one.name));
        let columns = types.iter().enumerate().map(|(n, one)| {
            let array = if array(one) { format!(", a{n} {}[]", one.name) } else { String::new() };
            format!("c{n} {}{array}", one.name)
        });
        client
            .batch_execute(&format!("CREATE TABLE {name} (id int PRIMARY KEY, {})", list(columns)))
            .await
            .unwrap();
        for row in 1..ROWS {
            let values = types.iter().flat_map(|one| {
                std::iter::once(one.value(row - 1)).chain(array(one).then(|| one.array(row)))
            });
            client
                .batch_execute(&format!("INSERT INTO {name} VALUES ({row}, {})", list(values)))
                .await
                .unwrap();
        }
        if intervals_differ && types.iter().any(|one| one.name.starts_with("interval")) {
            as_text.push(name.clone());
        }
        names.push(name);
    }
    let replica = world.replica(1);
    replica.execute(&format!("ALTER DATABASE {} SET log_statement = 'all'", replica.name())).await;
    let _pgfanout = program().run(&world.config().write());
    until_joined(&world, names.len()).await;
    until_same(&world, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Databases in other encodings write to it, too.
    let log = std::fs::read(replica.cluster().log()).unwrap();
    let log = String::from_utf8_lossy(&log);
    for table in &names {
        let start = format!("COPY \"public\".\"{table}\" (");
        let copied = log.lines().find(|line| line.contains(&start)).expect("all statements are logged");
        let format = if as_text.contains(table) { "csv" } else { "binary" };
        assert!(copied.ends_with(&format!("(FORMAT {format})")), "{copied}");
    }
}
