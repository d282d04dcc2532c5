//! A replica's tables are the primary's: made where they are missing, checked where they are not.

use std::process::Command;

use pgfanout::{
    error::{Error, Result},
    postgres::Database,
    replica::{
        create::{create_missing, finish},
        definition::TableDefinition,
        difference::{Difference, differences},
    },
};
use pgfanout_testbed::postgres::Cluster;
use tokio_postgres::Client;

const RICH: &str = include_str!("definition/rich.sql");

/// The tables that are replicated as such, and the columns of their primary keys.
const TABLES: &str = "
    SELECT c.oid, n.nspname::text, c.relname::text, ARRAY(
        SELECT a.attname::text
        FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.oid >= 16384
    ORDER BY c.oid";

struct Pair {
    cluster: Cluster,
    primary: Client,
    replica: Client,
}

impl Pair {
    async fn start() -> Self {
        let cluster = Cluster::start(&[]).await;
        let primary = connect(&cluster, "a").await;
        let replica = connect(&cluster, "b").await;
        Self { cluster, primary, replica }
    }

    /// Runs statements of an application: with its search path, not ours.
    async fn run(&self, database: &str, statements: &str) {
        self.cluster.client(database).await.batch_execute(statements).await.unwrap();
    }

    async fn tables(&self) -> Vec<TableDefinition> {
        let mut tables = Vec::new();
        for row in self.primary.query(TABLES, &[]).await.unwrap() {
            let key: Vec<String> = row.get(3);
            let definition = TableDefinition::read(&self.primary, "primary", row.get(0), &key).await.unwrap();
            tables.push(definition.unwrap());
        }
        tables
    }

    async fn table(&self, name: &str) -> TableDefinition {
        self.tables().await.into_iter().find(|definition| definition.name == name).unwrap()
    }

    async fn on_replica(&self, like: &TableDefinition) -> TableDefinition {
        let found =
            TableDefinition::find(&self.replica, "b", &like.schema, &like.name, &like.key_columns).await;
        found.unwrap().unwrap()
    }

    async fn create(&mut self, definition: &TableDefinition) -> Result<bool> {
        let transaction = self.replica.transaction().await.unwrap();
        let created = create_missing(&transaction, "replica b", definition).await?;
        transaction.commit().await.unwrap();
        Ok(created)
    }

    async fn refusal(&mut self, definition: &TableDefinition) -> String {
        match self.create(definition).await {
            Err(Error::Unfit(text)) => text,
            other => panic!("not refused: {other:?}"),
        }
    }

    async fn differences(&self, primary: &TableDefinition) -> Vec<Difference> {
        differences(primary, &self.on_replica(primary).await)
    }

    fn dump(&self, database: &str) -> String {
        let output = Command::new(self.cluster.program("pg_dump"))
            .args(["--schema-only", "--no-owner", "--no-comments", "--dbname", &self.cluster.url(database)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Newer ones begin and end with a random word.
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
    }
}

async fn connect(cluster: &Cluster, name: &str) -> Client {
    cluster.create_database(name).await;
    let config = cluster.url(name).parse().unwrap();
    Database { name: name.to_owned(), config }.connect("test").await.unwrap()
}

#[actix::test]
async fn what_is_created_is_what_the_primary_has() {
    let mut pair = Pair::start().await;
    pair.run("a", RICH).await;
    let tables = pair.tables().await;
    assert_eq!(tables.len(), 8);
    for table in &tables {
        assert!(pair.create(table).await.unwrap(), "{}", table.table);
        finish(&pair.replica, "replica b", table).await.unwrap();
    }
    for table in &tables {
        assert_eq!(&pair.on_replica(table).await, table);
        assert_eq!(pair.differences(table).await, []);
    }
    let (expected, found) = (pair.dump("a"), pair.dump("b"));
    for (expected, found) in expected.lines().zip(found.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found, expected);
}

#[actix::test]
async fn creating_again_is_harmless_at_every_point() {
    let mut pair = Pair::start().await;
    pair.run("a", RICH).await;
    let tables = pair.tables().await;
    for table in &tables {
        assert!(pair.create(table).await.unwrap());
        assert!(!pair.create(table).await.unwrap());
        // A crash leaves some of the indexes built.
        if let Some(statement) = table.create_after_copy().first() {
            pair.replica.batch_execute(statement).await.unwrap();
        }
        finish(&pair.replica, "replica b", table).await.unwrap();
        finish(&pair.replica, "replica b", table).await.unwrap();
        assert!(!pair.create(table).await.unwrap());
        assert_eq!(&pair.on_replica(table).await, table);
    }
}

#[actix::test]
async fn the_key_is_there_before_the_rows_and_the_rest_is_not() {
    let mut pair = Pair::start().await;
    pair.run(
        "a",
        "CREATE TABLE t (a int, b text NOT NULL, c int NOT NULL, PRIMARY KEY (a) DEFERRABLE);
         CREATE UNIQUE INDEX partial ON t (c, b) WHERE a > 0;
         CREATE UNIQUE INDEX chosen ON t (c, b); CREATE INDEX other ON t (c)",
    )
    .await;
    let oid = pair.primary.query_one("SELECT 'public.t'::regclass::oid", &[]).await.unwrap().get(0);
    let key = ["b".to_owned(), "c".to_owned()];
    let table = TableDefinition::read(&pair.primary, "primary", oid, &key).await.unwrap().unwrap();
    assert!(pair.create(&table).await.unwrap());
    let found = pair.on_replica(&table).await;
    let names: Vec<_> = found.indexes.iter().map(|index| index.name.as_str()).collect();
    assert_eq!(names, ["chosen"]);
    finish(&pair.replica, "replica b", &table).await.unwrap();
    assert_eq!(pair.on_replica(&table).await, table);
}

#[actix::test]
async fn what_guards_the_primary_alone_stays_there() {
    let mut pair = Pair::start().await;
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
    let broken = pair.primary.batch_execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON public.t (c)").await;
    assert!(broken.is_err());
    let table = pair.table("t").await;
    assert!(pair.create(&table).await.unwrap());
    finish(&pair.replica, "replica b", &table).await.unwrap();
    let dump = pair.dump("b");
    for absent in ["FUNCTION", "TRIGGER", "REFERENCES", "RULE", "POLICY", "unproven", "broken", "UNLOGGED"] {
        assert!(!dump.contains(absent), "{absent}: {dump}");
    }
}

#[actix::test]
async fn what_is_not_copied_but_needed_is_refused_by_name_and_leaves_nothing_behind() {
    let mut pair = Pair::start().await;
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
    pair.run("b", functions).await;
    pair.run("b", "CREATE TABLE other (x int)").await;
    assert!(pair.create(&table).await.unwrap());
    finish(&pair.replica, "replica b", &table).await.unwrap();
    assert_eq!(pair.on_replica(&table).await, table);
}

#[actix::test]
async fn an_extension_elsewhere_is_refused_with_the_remedy() {
    let mut pair = Pair::start().await;
    pair.run("a", "CREATE EXTENSION citext; CREATE TABLE t (id citext PRIMARY KEY)").await;
    pair.run("b", "CREATE SCHEMA e; CREATE EXTENSION citext SCHEMA e").await;
    let table = pair.table("t").await;
    let text = pair.refusal(&table).await;
    let remedy = text.split_once("remedy: ").unwrap().1;
    pair.run("b", remedy).await;
    assert!(pair.create(&table).await.unwrap());
}

#[actix::test]
async fn every_difference_names_the_statement_that_removes_it() {
    let mut pair = Pair::start().await;
    pair.run(
        "a",
        "CREATE TYPE mood AS ENUM ('zero', 'one', 'two', 'three'); CREATE TYPE pair AS (a int, b text);
         CREATE TABLE t (\"k 1\" int, k2 mood, p pair, missing text COLLATE \"C\" NOT NULL, \"Type\" numeric(5, 2),
             plain int, computed int GENERATED ALWAYS AS (\"k 1\" + 1) STORED, PRIMARY KEY (\"k 1\", k2))",
    )
    .await;
    pair.run(
        "b",
        "CREATE TYPE mood AS ENUM ('one', 'extra', 'three'); CREATE TYPE pair AS (a int);
         CREATE TABLE t (fine int DEFAULT 1, fine2 text, computed int, p pair, \"Type\" int, k2 mood, \"k 1\" int,
             plain int GENERATED ALWAYS AS (7) STORED, \"too much\" text NOT NULL, UNIQUE (\"k 1\"));
         CREATE UNIQUE INDEX ON t (\"k 1\", k2) WHERE k2 <> 'extra'; INSERT INTO t (\"k 1\", \"too much\") VALUES (1, '')",
    )
    .await;
    let table = pair.table("t").await;
    let found = pair.differences(&table).await;
    let subjects: Vec<_> = found.iter().map(|difference| difference.subject.as_str()).collect();
    assert_eq!(
        subjects,
        [
            "column missing",
            "column \"Type\"",
            "column plain",
            "column computed",
            "column \"too much\"",
            "type public.mood",
            "type public.mood",
            "type public.pair",
            "key",
        ]
    );
    assert_eq!(
        found[1].to_string(),
        "table public.t, column \"Type\": the replica has integer, the primary numeric(5,2); remedy: \
         ALTER TABLE public.t ALTER COLUMN \"Type\" TYPE numeric(5,2) USING \"Type\"::numeric(5,2)"
    );
    assert_eq!(found[5].remedy, "ALTER TYPE public.mood ADD VALUE 'zero' BEFORE 'one'");
    let text = pair.refusal(&table).await;
    assert!(found.iter().all(|difference| text.contains(&difference.to_string())), "{text}");
    for difference in &found {
        pair.run("b", &difference.remedy).await;
    }
    assert_eq!(pair.differences(&table).await, []);
    assert!(!pair.create(&table).await.unwrap());
}

#[actix::test]
async fn a_view_in_the_place_of_a_table_is_refused() {
    let mut pair = Pair::start().await;
    pair.run("a", "CREATE TABLE t (id int PRIMARY KEY)").await;
    pair.run("b", "CREATE VIEW t AS SELECT 1 AS id").await;
    let table = pair.table("t").await;
    let text = pair.refusal(&table).await;
    assert!(text.contains("the replica has view, the primary table"), "{text}");
}

#[actix::test]
async fn partitions_that_are_missing_are_added() {
    let mut pair = Pair::start().await;
    let head = "CREATE TABLE t (id int, k text DEFAULT 'x', PRIMARY KEY (id, k)) PARTITION BY LIST (k);
        CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a')";
    pair.run("b", head).await;
    pair.run("a", head).await;
    pair.run(
        "a",
        "CREATE SCHEMA deep; CREATE TABLE deep.t_b PARTITION OF t FOR VALUES IN ('b') PARTITION BY HASH (id);
         CREATE TABLE deep.t_b0 PARTITION OF deep.t_b FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    )
    .await;
    let table = pair.table("t").await;
    let subjects: Vec<_> = pair.differences(&table).await.into_iter().map(|found| found.subject).collect();
    assert_eq!(subjects, ["partition deep.t_b", "partition deep.t_b0"]);
    assert!(!pair.create(&table).await.unwrap());
    assert_eq!(pair.on_replica(&table).await.partitions, table.partitions);
    pair.replica.batch_execute("INSERT INTO public.t VALUES (1, 'b'), (2, 'a')").await.unwrap();
}

#[actix::test]
async fn a_replica_may_divide_a_table_its_own_way() {
    let mut pair = Pair::start().await;
    pair.run(
        "a",
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (1) TO (100);
         CREATE TABLE u (id int PRIMARY KEY);
         CREATE TABLE v (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE v_1 PARTITION OF v FOR VALUES FROM (1) TO (100)",
    )
    .await;
    pair.run(
        "b",
        "CREATE TABLE t (id int PRIMARY KEY);
         CREATE TABLE u (id int PRIMARY KEY) PARTITION BY HASH (id);
         CREATE TABLE v (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE everything PARTITION OF v DEFAULT",
    )
    .await;
    for table in pair.tables().await {
        assert_eq!(pair.differences(&table).await, []);
        assert!(!pair.create(&table).await.unwrap());
    }
}

#[actix::test]
async fn tables_that_share_a_type_are_created_at_once() {
    let mut pair = Pair::start().await;
    pair.run(
        "a",
        "CREATE TYPE s AS ENUM ('a'); CREATE SEQUENCE n;
         CREATE TABLE t (id int PRIMARY KEY DEFAULT nextval('n'), s s); CREATE TABLE u (LIKE t INCLUDING ALL)",
    )
    .await;
    let (t, u) = (pair.table("t").await, pair.table("u").await);
    let config = pair.cluster.url("b").parse().unwrap();
    let mut other = Database { name: "b".to_owned(), config }.connect("test").await.unwrap();
    let second = async {
        let transaction = other.transaction().await.unwrap();
        let created = create_missing(&transaction, "replica b", &u).await;
        transaction.commit().await.unwrap();
        created
    };
    let (first, second) = tokio::join!(pair.create(&t), second);
    assert!(first.unwrap() && second.unwrap());
}

#[actix::test]
async fn a_name_that_is_taken_by_something_else_is_refused() {
    let mut pair = Pair::start().await;
    pair.run("a", "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE INDEX i ON t (a)").await;
    pair.run("b", "CREATE TABLE u (id int); CREATE INDEX i ON u (id)").await;
    let table = pair.table("t").await;
    assert!(pair.create(&table).await.unwrap());
    let refused = finish(&pair.replica, "replica b", &table).await.unwrap_err();
    assert!(refused.to_string().contains("index i of public.t was not built"), "{refused}");
    pair.run("b", "ALTER INDEX i RENAME TO j").await;
    finish(&pair.replica, "replica b", &table).await.unwrap();
}
