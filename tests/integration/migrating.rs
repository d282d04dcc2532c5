//! Migrations whose statements come one by one, each its own transaction, behind a table that is new and copied already.

use pgfanout_testbed::{compare::same_shared_columns, eventually, world::World};

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
    // What was dropped or renamed while it was empty stays as the replica's own.
    let (here, there) = (world.primary().client().await, world.replica(1).client().await);
    let tables = ["made", "loaded", "parted"];
    eventually(PATIENCE, "all rows come", async || same_shared_columns(&here, &there, &tables).await).await;
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
