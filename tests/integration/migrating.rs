//! Migrations whose statements come one by one, each its own transaction, behind a table that is new and copied already.

use pgfanout_testbed::{
    compare::same_shared_columns,
    eventually,
    world::{Database, World},
};

use crate::{
    messages::until_following,
    support::{Mode, PATIENCE, begin, until_same, world},
};

/// Waits until the replica has taken up all that was altered on the primary.
async fn until_taken_up(world: &World, statement: &str) {
    let (here, there) = (world.primary().client().await, world.replica(1).client().await);
    let noted = "SELECT string_agg(concat_ws(' ', id, definition), ', ' ORDER BY id) FROM pgfanout.";
    // Nothing before all that is there is captured: otherwise the next statement would come before the table is new there.
    let captured = format!(
        "{noted}captured_table HAVING count(*) = (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p')
            AND NOT relispartition AND relnamespace = 'public'::regnamespace)"
    );
    let followed = format!("{noted}replicated_table WHERE snapshot IS NULL");
    eventually(PATIENCE, &format!("the replica takes up: {statement}"), async || {
        let here = here.query_opt(&captured, &[]).await.unwrap();
        let here: Option<String> = here.and_then(|row| row.get(0));
        let there: Option<String> = there.query_one(&followed, &[]).await.unwrap().get(0);
        if here.is_some() && here == there { Ok(()) } else { Err((here, there)) }
    })
    .await;
}

async fn until_same_shared(world: &World, tables: &[&str]) {
    let (here, there) = (world.primary().client().await, world.replica(1).client().await);
    eventually(PATIENCE, "all rows come", async || same_shared_columns(&here, &there, tables).await).await;
}

async fn migrations_go_on(mode: Mode) {
    let world = world(mode, 1).build().await;
    world.primary().execute("CREATE TABLE first (id int PRIMARY KEY)").await;
    let mut pgfanout = begin(&world);
    until_following(&world).await;
    let primary = world.primary().client().await;
    let statements = [
        "CREATE TABLE made (id int, name text, gone int NOT NULL)",
        "ALTER TABLE made ADD v int NOT NULL",
        "ALTER TABLE made ALTER name TYPE varchar(20)",
        "ALTER TABLE made DROP gone",
        "ALTER TABLE made RENAME name TO title",
        "ALTER TABLE made ADD PRIMARY KEY (id)",
        "ALTER TABLE made ADD n bigint GENERATED ALWAYS AS IDENTITY UNIQUE",
        "INSERT INTO made VALUES (1, 'one', 1)",
        // As a dump is loaded, or pgbench makes its tables.
        "CREATE TABLE loaded (id int, v text)",
        "INSERT INTO loaded SELECT n, 'v' FROM generate_series(1, 1000) n",
        "ALTER TABLE loaded ADD PRIMARY KEY (id)",
        "CREATE TABLE parted (id int, v text) PARTITION BY HASH (id)",
        "CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "INSERT INTO parted SELECT n, 'v' FROM generate_series(1, 100) n",
        "ALTER TABLE parted ADD PRIMARY KEY (id)",
        "UPDATE loaded SET v = 'w' WHERE id < 10; UPDATE made SET v = 2; UPDATE parted SET v = 'w' WHERE id < 10",
    ];
    for statement in statements {
        primary.batch_execute(statement).await.unwrap();
        until_taken_up(&world, statement).await;
    }
    until_same_shared(&world, &["made", "loaded", "parted"]).await;
    assert!(pgfanout.log_after(0).iter().all(|line| line["event"] != "halted"), "{:?}", pgfanout.lines());
    let keys = "SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint WHERE contype = 'p'
        AND conrelid IN ('made'::regclass, 'loaded'::regclass, 'parted'::regclass)";
    let keys: String = world.replica(1).client().await.query_one(keys, &[]).await.unwrap().get(0);
    assert_eq!(keys, "loaded_pkey made_pkey parted_pkey");

    // Where rows are, a column may take long, or be wanted otherwise.
    let mark = pgfanout.mark();
    primary.batch_execute("ALTER TABLE loaded ADD w int").await.unwrap();
    let halted = pgfanout.wait_for_event_after(mark, "halted", PATIENCE).await;
    let told = halted["message"].as_str().unwrap();
    assert!(told.contains("remedy: ALTER TABLE public.loaded ADD COLUMN w integer"), "{told}");
    world.replica(1).execute("ALTER TABLE public.loaded ADD COLUMN w integer").await;
    until_taken_up(&world, "by hand").await;
    until_same(&world, &["loaded"]).await;
    pgfanout.terminate().await;
}

#[tokio::test]
async fn migrations_go_on_with_a_broker() {
    migrations_go_on(Mode::Broker).await;
}

#[tokio::test]
async fn migrations_go_on_without_a_broker() {
    migrations_go_on(Mode::Postgres).await;
}

/// What each of these tables loses or renames while it has no rows, the replica's loses and renames, too.
const EMPTY: &[&str] = &[
    "CREATE TABLE plain (id serial PRIMARY KEY, a int, b int NOT NULL, c text NOT NULL UNIQUE, d int CHECK (d IS NOT NULL),
        e int GENERATED ALWAYS AS (b * 2) STORED)",
    "ALTER TABLE plain DROP a",
    "ALTER TABLE plain RENAME b TO bb",
    "ALTER TABLE plain RENAME c TO cc",
    "ALTER TABLE plain DROP d",
    "ALTER TABLE plain RENAME id TO number",
    "ALTER TABLE plain DROP e",
    "INSERT INTO plain (bb, cc) VALUES (1, 'c')",
    "CREATE TABLE keyless (a int NOT NULL, b int, c text NOT NULL)",
    "ALTER TABLE keyless RENAME a TO aa",
    "ALTER TABLE keyless DROP c",
    "INSERT INTO keyless VALUES (1, 1), (1, 1)",
    "CREATE TABLE split (id int PRIMARY KEY, v text NOT NULL, w int NOT NULL DEFAULT 5, UNIQUE (id, v)) PARTITION BY HASH (id)",
    "CREATE TABLE split_0 PARTITION OF split FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    "ALTER TABLE split RENAME v TO vv",
    "ALTER TABLE split DROP w",
    "INSERT INTO split SELECT n, 'v' FROM generate_series(1, 100) n",
];

/// What somebody has put on the replica's tables stays, and so do the columns below it.
const OWN: &[(&str, &str)] = &[
    ("CREATE TABLE own (id int PRIMARY KEY, a int NOT NULL, b int, c int NOT NULL, d int, e int, f int NOT NULL)", ""),
    ("", "CREATE VIEW seen AS SELECT a FROM own; CREATE INDEX here ON own (d, id); ALTER TABLE own ADD mine int DEFAULT 7, ADD g int,
        ADD CONSTRAINT positive CHECK (e > 0); GRANT SELECT (b) ON own TO PUBLIC; COMMENT ON COLUMN own.c IS 'ours'"),
    ("ALTER TABLE own ADD g int", ""),
    ("ALTER TABLE own DROP a, DROP b, DROP c, DROP d, DROP e, DROP f, DROP g", ""),
    ("INSERT INTO own VALUES (1), (2)", ""),
];

/// The columns of a database's tables, and their indexes, but such as may have another name: of partitions, of a key.
async fn columns(database: &Database) -> Vec<String> {
    let columns = "SELECT concat_ws(' ', c.relname, a.attname)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'split_0' AND indexdef NOT LIKE '%(number)'
        ORDER BY 1";
    let rows = database.client().await.query(columns, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn what_goes_while_empty_goes(mode: Mode) {
    let world = world(mode, 1).build().await;
    world.primary().execute("CREATE TABLE first (id int PRIMARY KEY)").await;
    let mut pgfanout = begin(&world);
    until_following(&world).await;
    for statement in EMPTY {
        world.primary().execute(statement).await;
        until_taken_up(&world, statement).await;
    }
    let (here, there) = (columns(world.primary()).await, columns(world.replica(1)).await);
    assert_eq!(here, there);
    for (there, here) in OWN {
        world.primary().execute(there).await;
        until_taken_up(&world, there).await;
        world.replica(1).execute(here).await;
    }
    until_same_shared(&world, &["plain", "keyless", "split", "own"]).await;
    let mut own = columns(world.replica(1)).await;
    own.retain(|column| column.starts_with("own "));
    let kept = ["own a", "own b", "own c", "own d", "own e", "own g", "own id", "own mine"];
    assert_eq!(own, kept);
    let index = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'here'::regclass";
    assert!(world.replica(1).client().await.query_one(index, &[]).await.unwrap().get::<_, bool>(0));
    assert!(pgfanout.log_after(0).iter().all(|line| line["event"] != "halted"), "{:?}", pgfanout.lines());
    pgfanout.terminate().await;
}

#[tokio::test]
async fn what_goes_while_empty_goes_with_a_broker() {
    what_goes_while_empty_goes(Mode::Broker).await;
}

#[tokio::test]
async fn what_goes_while_empty_goes_without_a_broker() {
    what_goes_while_empty_goes(Mode::Postgres).await;
}
