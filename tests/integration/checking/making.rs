//! Tables that a replica does not have are made to try it, and not kept.

use pgfanout_testbed::world::Database;

use super::{findings, of_level};
use crate::support::{Mode, begin, program, until_same, world};

/// All that a database holds which is not PostgreSQL's own.
async fn inventory(database: &Database) -> Vec<String> {
    let all = "SELECT concat_ws(' ', 'relation', oid::regclass) FROM pg_class WHERE oid >= 16384
        UNION ALL SELECT concat_ws(' ', 'type', oid::regtype) FROM pg_type WHERE oid >= 16384
        UNION ALL SELECT concat_ws(' ', 'schema', nspname) FROM pg_namespace
        UNION ALL SELECT concat_ws(' ', 'extension', extname) FROM pg_extension ORDER BY 1";
    let rows = database.client().await.query(all, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_table_that_cannot_be_made_is_told_and_nothing_stays() {
    let world = world(Mode::Postgres, 1).build().await;
    let (primary, replica) = (world.primary(), world.replica(1));
    primary
        .execute(
            "CREATE EXTENSION hstore; CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('sad', 'ok');
             CREATE TABLE s.fits (id int PRIMARY KEY, mood s.mood, pairs hstore) PARTITION BY RANGE (id);
             CREATE TABLE s.part PARTITION OF s.fits DEFAULT;
             CREATE TABLE named (id int PRIMARY KEY, v int); CREATE INDEX taken ON named (v);
             CREATE TYPE size AS ENUM ('s', 'm'); CREATE TABLE typed (id int PRIMARY KEY, v size)",
        )
        .await;
    replica.execute("CREATE TABLE taken (a int); CREATE TYPE size AS ENUM ('s')").await;
    let before = inventory(replica).await;
    let found = findings(&world.config()).await;
    let errors = of_level(&found, "error");
    for expected in [
        "replica r1: table public.named: index taken of public.named was not built: something else has that name there",
        "replica r1: table public.typed: table public.typed, type public.size: the replica has no such label",
    ] {
        assert!(errors.iter().any(|(text, _)| text.starts_with(expected)), "{expected}: {errors:#?}");
    }
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert_eq!(inventory(replica).await, before);
    replica.execute("DROP TABLE taken; ALTER TYPE size ADD VALUE 'm'").await;
    assert_eq!(of_level(&findings(&world.config()).await, "error"), []);
    let _pgfanout = begin(&world);
    until_same(&world, &["s.fits", "named", "typed"]).await;
    assert_eq!(of_level(&findings(&world.config()).await, "error"), []);
}

/// What belongs to a table keeps its name when the table gets another one.
#[tokio::test]
async fn names_that_will_be_freed_are_in_nobodys_way() {
    let world = world(Mode::Postgres, 1).build().await;
    let (primary, replica) = (world.primary(), world.replica(1));
    primary.execute("CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE); INSERT INTO t VALUES (1, 1)").await;
    let mut pgfanout = begin(&world);
    until_same(&world, &["t"]).await;
    pgfanout.terminate().await;
    primary.execute("ALTER TABLE t RENAME TO u").await;
    let before = inventory(replica).await;
    assert_eq!(of_level(&findings(&world.config()).await, "error"), []);
    assert_eq!(inventory(replica).await, before);
    // Who may just be making it is not waited for.
    let other = replica.client().await;
    other.batch_execute("BEGIN; CREATE TABLE u (a int)").await.unwrap();
    let found = findings(&world.config()).await;
    let told = "replica r1: table public.u: it could not be tried: ";
    let warnings = of_level(&found, "warning");
    assert!(warnings.iter().any(|(text, _)| text.starts_with(told)), "{warnings:#?}");
    other.batch_execute("ROLLBACK").await.unwrap();
    let _pgfanout = program().run(&world.config().write());
    until_same(&world, &["u"]).await;
}

#[tokio::test]
async fn where_making_them_takes_long_not_all_are_tried() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await;
    let slow =
        "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(10); END';
        CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION slow();
        ALTER EVENT TRIGGER slow ENABLE ALWAYS";
    world.replica(1).execute(slow).await;
    let found = findings(&world.config()).await;
    let told = "replica r1: tables: 1 of 2 that are missing were made to try it, and not kept";
    let fine = of_level(&found, "ok");
    assert!(fine.iter().any(|(text, _)| text == told), "{fine:#?}");
}
