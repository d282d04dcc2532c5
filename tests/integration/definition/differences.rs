//! Tables that a replica has already.

use super::pair::Pair;

#[actix::test]
async fn every_difference_names_the_statement_that_removes_it() {
    let pair = Pair::start().await;
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
    let pair = Pair::start().await;
    pair.run("a", "CREATE TABLE t (id int PRIMARY KEY)").await;
    pair.run("b", "CREATE VIEW t AS SELECT 1 AS id").await;
    let table = pair.table("t").await;
    let text = pair.refusal(&table).await;
    assert!(text.contains("the replica has view, the primary table"), "{text}");
}

#[actix::test]
async fn partitions_that_are_missing_are_added() {
    let pair = Pair::start().await;
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
    pair.replica.run("running", "INSERT INTO public.t VALUES (1, 'b'), (2, 'a')").await.unwrap();
}

#[actix::test]
async fn a_replica_may_divide_a_table_its_own_way() {
    let pair = Pair::start().await;
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
