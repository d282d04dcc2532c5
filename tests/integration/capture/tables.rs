//! Which tables can be captured, and what is said of the others.

use pgfanout::{pattern::Pattern, primary::tables::resolve};

use super::Primary;

const TABLES: &str = r#"
    CREATE TABLE good (id int PRIMARY KEY);
    CREATE TABLE "Weird "" Name" (id int PRIMARY KEY DEFERRABLE);
    CREATE TABLE by_index (a int NOT NULL, b int NOT NULL, c int UNIQUE);
    CREATE UNIQUE INDEX ON by_index (b, a); CREATE UNIQUE INDEX ON by_index (a) WHERE a > 0;
    CREATE TABLE keyless (id int); CREATE TABLE nothing ();
    CREATE TABLE deferred (id int NOT NULL UNIQUE DEFERRABLE);
    CREATE UNLOGGED TABLE passing (id int PRIMARY KEY);
    CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE inheriting (PRIMARY KEY (id)) INHERITS (parent);
    CREATE TABLE listed (id int[] PRIMARY KEY);
    CREATE TABLE made (a int, id int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY);
    CREATE TABLE root (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE leaf PARTITION OF root DEFAULT;
    CREATE VIEW seen AS SELECT 1; CREATE MATERIALIZED VIEW kept AS SELECT 1;
    CREATE TEMP TABLE mine (id int PRIMARY KEY);"#;

const REFUSED: &[(&str, &str)] = &[
    ("inheriting", "inherits from another"),
    ("nothing", "has no columns"),
    ("parent", "have inherit"),
    ("passing", "SET LOGGED"),
];

#[actix::test]
async fn every_refusal_names_the_table_the_reason_and_the_remedy() {
    let primary = Primary::start().await;
    primary.run(TABLES).await;
    for (table, words) in REFUSED.iter().chain(&[
        ("leaf", "name its root public.root instead"),
        ("seen", "is a view"),
        ("kept", "is a materialized view"),
        ("mine", "is a temporary table"),
        ("pg_class", "one of the system's"),
        ("pgfanout.batch", "pgfanout's own"),
    ]) {
        let refusal = primary.refusal(table).await;
        let words = words.replace("have inherit", "that inherit from it");
        assert!(refusal.contains(&words) && refusal.contains(table), "{table}: {refusal}");
    }
    for table in ["good", "\"Weird \"\" Name\"", "by_index", "root", "keyless", "deferred", "listed", "made"]
    {
        primary.capture(table).await;
    }
    let keyless = "SELECT string_agg(table_name, ' ' ORDER BY table_name) FROM pgfanout.captured_table
        WHERE key_columns = '{}'";
    assert_eq!(primary.value(keyless).await.as_deref(), Some("deferred keyless listed made"));
    let key = "SELECT key_columns FROM pgfanout.captured_table WHERE table_name = 'by_index'";
    assert_eq!(primary.value(key).await.as_deref(), Some("{b,a}"));
}

#[actix::test]
async fn patterns_find_tables_without_an_installation() {
    let primary = Primary::bare().await;
    primary.run(TABLES).await;
    let patterns = |sources: &[&str]| sources.iter().map(|p| Pattern::parse(p).unwrap()).collect::<Vec<_>>();
    let tables = patterns(&["*.*", "seen", "nothing.*", "\"Weird \"\" Name\""]);
    let resolved = resolve(&primary.session, &tables, &patterns(&["good", "no.*"])).await.unwrap();
    assert_eq!((resolved.unmatched, resolved.unmatched_exclusions), (vec![2], vec![1]));
    let fine: Vec<_> = resolved.candidates.iter().filter(|found| found.refusal.is_none()).collect();
    let names: Vec<_> = fine.iter().map(|found| (found.table.as_str(), found.pattern)).collect();
    let keyless = ["deferred", "keyless", "listed", "made"].map(|name| (name, 0));
    assert_eq!(names, [&[("Weird \" Name", 3), ("by_index", 0)], &keyless[..], &[("root", 0)]].concat());
    let refused = resolved.candidates.iter().filter(|found| found.refusal.is_some());
    let names: Vec<_> = refused.map(|found| found.table.as_str()).collect();
    let expected: Vec<_> = REFUSED.iter().map(|(table, _)| *table).chain(["seen"]).collect();
    assert_eq!(names, expected);
}
