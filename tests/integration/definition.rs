//! A replica's tables are the primary's: made where they are missing, checked where they are not.

mod differences;
mod pair;

use pair::Pair;
use pgfanout::{
    postgres::Database,
    replica::{
        create::{create_missing, finish},
        definition::TableDefinition,
    },
};

/// Tables with all that a definition can hold, of what both servers know.
fn rich(pair: &Pair) -> String {
    let rich = include_str!("definition/rich.sql");
    if pair.both_know("the multirange of an own range", 14) {
        return rich.to_owned();
    }
    let lines: Vec<&str> = rich.lines().filter(|line| !line.contains("float_multirange")).collect();
    lines.join("\n")
}

#[actix::test]
async fn what_is_created_is_what_the_primary_has() {
    let pair = Pair::start().await;
    pair.run("a", &rich(&pair)).await;
    let tables = pair.tables().await;
    assert_eq!(tables.len(), 8);
    for table in &tables {
        assert!(pair.create(table).await.unwrap(), "{}", table.table);
        finish(&pair.replica, table).await.unwrap();
    }
    for table in &tables {
        assert_eq!(&pair.on_replica(table).await, table);
        assert_eq!(pair.differences(table).await, []);
    }
    if let Some((expected, found)) = pair.dumps() {
        for (expected, found) in expected.lines().zip(found.lines()) {
            assert_eq!(found, expected);
        }
        assert_eq!(found, expected);
    }
}

#[actix::test]
async fn creating_again_is_harmless_at_every_point() {
    let pair = Pair::start().await;
    pair.run("a", &rich(&pair)).await;
    let tables = pair.tables().await;
    for table in &tables {
        assert!(pair.create(table).await.unwrap());
        assert!(!pair.create(table).await.unwrap());
        // A crash leaves some of the indexes built.
        if let Some(statement) = table.create_after_copy().first() {
            pair.replica.run("running", statement).await.unwrap();
        }
        finish(&pair.replica, table).await.unwrap();
        finish(&pair.replica, table).await.unwrap();
        assert!(!pair.create(table).await.unwrap());
        assert_eq!(&pair.on_replica(table).await, table);
    }
}

#[actix::test]
async fn the_key_is_there_before_the_rows_and_the_rest_is_not() {
    let pair = Pair::start().await;
    pair.run(
        "a",
        "CREATE TABLE t (a int, b text NOT NULL, c int NOT NULL, PRIMARY KEY (a) DEFERRABLE);
         CREATE UNIQUE INDEX partial ON t (c, b) WHERE a > 0;
         CREATE UNIQUE INDEX chosen ON t (c, b); CREATE INDEX other ON t (c)",
    )
    .await;
    let oid =
        pair.primary.query_one("looking", "SELECT 'public.t'::regclass::oid", &[]).await.unwrap().get(0);
    let key = ["b".to_owned(), "c".to_owned()];
    pair.run("b", "DROP SCHEMA public").await;
    let table = TableDefinition::read(&pair.primary, oid, &key).await.unwrap().unwrap();
    assert!(pair.create(&table).await.unwrap());
    let found = pair.on_replica(&table).await;
    let names: Vec<_> = found.indexes.iter().map(|index| index.name.as_str()).collect();
    assert_eq!(names, ["chosen"]);
    finish(&pair.replica, &table).await.unwrap();
    assert_eq!(pair.on_replica(&table).await, table);
}

#[actix::test]
async fn what_guards_the_primary_alone_stays_there() {
    let pair = Pair::start().await;
    pair.run(
        "a",
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'begin return null; end';
         CREATE FUNCTION g(int) RETURNS bool LANGUAGE sql AS 'select true';
         CREATE UNLOGGED TABLE t (id int PRIMARY KEY, p int REFERENCES parent, c int);
         INSERT INTO t VALUES (1, NULL, 5), (2, NULL, 5);
         ALTER TABLE t ADD CONSTRAINT unproven CHECK (c > 10) NOT VALID;
         CREATE TRIGGER t AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
         CREATE RULE r AS ON DELETE TO t DO ALSO NOTIFY x;
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (g(c))",
    )
    .await;
    let broken = pair.primary.run("running", "CREATE UNIQUE INDEX CONCURRENTLY broken ON public.t (c)").await;
    assert!(broken.is_err());
    let table = pair.table("t").await;
    assert!(pair.create(&table).await.unwrap());
    finish(&pair.replica, &table).await.unwrap();
    if let Some(dump) = pair.dump("b") {
        for absent in
            ["FUNCTION", "TRIGGER", "REFERENCES", "RULE", "POLICY", "unproven", "broken", "UNLOGGED"]
        {
            assert!(!dump.contains(absent), "{absent}: {dump}");
        }
    }
}

#[actix::test]
async fn what_is_not_copied_but_needed_is_refused_by_name_and_leaves_nothing_behind() {
    let pair = Pair::start().await;
    let functions = "
        CREATE FUNCTION public.\"Next One\"(a int, b text[]) RETURNS int LANGUAGE sql IMMUTABLE AS 'select 1';
        CREATE FUNCTION public.fits(x int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'select true';
        CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
        CREATE TEXT SEARCH CONFIGURATION public.words (COPY = pg_catalog.simple)";
    pair.run("a", functions).await;
    pair.run(
        "a",
        "CREATE TYPE kind AS ENUM ('a'); CREATE DOMAIN fitting AS int CHECK (fits(VALUE));
         CREATE TABLE other (x int);
         CREATE TABLE t (id int PRIMARY KEY, k kind, f fitting DEFAULT \"Next One\"(1, '{}'), o other,
             g int GENERATED ALWAYS AS (\"Next One\"(id, NULL)) STORED, CHECK (id === 1), w text);
         CREATE INDEX ON t (to_tsvector('words', w))",
    )
    .await;
    let table = pair.table("t").await;
    let text = pair.refusal(&table).await;
    for name in [
        "function public.\"Next One\"(integer,pg_catalog.text[])",
        "function public.fits(integer)",
        "operator public.===(integer,integer)",
        "table public.other",
        "text search configuration public.words",
        "remedy",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(pair.dump("b").is_none_or(|dump| !dump.contains("CREATE")));
    pair.run("b", functions).await;
    pair.run("b", "CREATE TABLE other (x int)").await;
    assert!(pair.create(&table).await.unwrap());
    finish(&pair.replica, &table).await.unwrap();
    assert_eq!(pair.on_replica(&table).await, table);
}

#[actix::test]
async fn an_extension_elsewhere_is_refused_with_the_remedy() {
    let pair = Pair::start().await;
    pair.run("a", "CREATE EXTENSION citext; CREATE TABLE t (id citext PRIMARY KEY)").await;
    pair.run("b", "CREATE SCHEMA e; CREATE EXTENSION citext SCHEMA e").await;
    let table = pair.table("t").await;
    let text = pair.refusal(&table).await;
    let remedy = text.split_once("remedy: ").unwrap().1;
    pair.run("b", remedy).await;
    assert!(pair.create(&table).await.unwrap());
}

#[actix::test]
async fn tables_that_share_a_type_are_created_at_once() {
    let pair = Pair::start().await;
    pair.run(
        "a",
        "CREATE TYPE s AS ENUM ('a'); CREATE SEQUENCE n;
         CREATE TABLE t (id int PRIMARY KEY DEFAULT nextval('n'), s s); CREATE TABLE u (LIKE t INCLUDING ALL)",
    )
    .await;
    let (t, u) = (pair.table("t").await, pair.table("u").await);
    let config = pair.cluster("b").url("b").parse().unwrap();
    let other = Database::new("b", config).connect("test").await.unwrap();
    let second = async {
        other.run("beginning", "BEGIN").await.unwrap();
        let created = create_missing(&other, &u).await;
        other.run("committing", "COMMIT").await.unwrap();
        created
    };
    let (first, second) = tokio::join!(pair.create(&t), second);
    assert!(first.unwrap() && second.unwrap() == [u.table]);
}

#[actix::test]
async fn a_name_that_is_taken_by_something_else_is_refused() {
    let pair = Pair::start().await;
    pair.run("a", "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE INDEX i ON t (a)").await;
    pair.run("b", "CREATE TABLE u (id int); CREATE INDEX i ON u (id)").await;
    let table = pair.table("t").await;
    assert!(pair.create(&table).await.unwrap());
    let refused = finish(&pair.replica, &table).await.unwrap_err();
    assert!(refused.to_string().contains("index i of public.t was not built"), "{refused}");
    pair.run("b", "ALTER INDEX i RENAME TO j").await;
    finish(&pair.replica, &table).await.unwrap();
}

#[actix::test]
async fn a_foreign_partition_is_refused() {
    let pair = Pair::start().await;
    pair.run(
        "a",
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
         CREATE TABLE t (id int) PARTITION BY RANGE (id);
         CREATE FOREIGN TABLE away PARTITION OF t FOR VALUES FROM (1) TO (2) SERVER s",
    )
    .await;
    let refused = TableDefinition::find(&pair.primary, "public", "t", &[]).await.unwrap_err();
    assert!(refused.needs_operator() && refused.to_string().contains("public.away"), "{refused}");
    let gone = TableDefinition::find(&pair.primary, "public", "gone", &[]).await.unwrap();
    assert_eq!(gone, None);
}

#[actix::test]
async fn a_statement_that_the_replica_refuses_is_named() {
    let pair = Pair::start().await;
    pair.run("a", "CREATE TABLE t (id int PRIMARY KEY)").await;
    pair.run("b", "CREATE TYPE t AS ENUM ()").await;
    let table = pair.table("t").await;
    let refused = pair.create(&table).await.unwrap_err();
    let text = refused.chain();
    assert!(
        refused.needs_operator() && text.contains("CREATE TABLE public.t (id integer NOT NULL)"),
        "{text}"
    );
}
