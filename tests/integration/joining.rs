//! Replicas and tables join while all others work.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use pgfanout_testbed::{
    eventually,
    process::Pgfanout,
    world::{Database, World},
};

use crate::{
    bank::until_joined,
    bounds::number,
    copying::hold_copies,
    load::{self, Load, until_arrived},
    messages::until_following,
    supervision::end_sessions,
    support::{Mode, PATIENCE, begin, program, until_same, world},
};

/// A table that takes hundreds of chunks of the smallest size.
const BIG: &str = "CREATE TABLE big (id int PRIMARY KEY, text text);
    INSERT INTO big SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n";
/// The same on a replica, where the tenth and the twentieth chunk wait for a lock.
const HELD_UP: &str = "CREATE TABLE big (id int PRIMARY KEY, text text); CREATE SEQUENCE chunk;
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock_shared(n) FROM nextval(''public.chunk'') n WHERE n IN (10, 20); RETURN NULL; END';
    CREATE TRIGGER wait AFTER INSERT ON big EXECUTE FUNCTION wait(); ALTER TABLE big ENABLE ALWAYS TRIGGER wait";
const SMALL_CHUNKS: &str = "[copy]\nchunk_bytes = 65536\nworkers = 1";

/// An old transaction: it has written, and does nothing for the whole time.
async fn old_transaction(world: &World) -> tokio_postgres::Client {
    let client = world.primary().client().await;
    client.batch_execute("BEGIN; INSERT INTO other VALUES (1)").await.unwrap();
    client
}

/// Ends the old transaction, and everything is the same.
async fn ends_well(world: &World, load: Load, old: &tokio_postgres::Client) {
    until_arrived(world.primary(), world.replicas()).await;
    old.batch_execute("COMMIT").await.unwrap();
    load.stop().await;
    until_same(world, &["account", "entry", "note", "other"]).await;
}

async fn a_replica_joins(mode: Mode, tell: impl AsyncFn(Pgfanout, PathBuf) -> Pgfanout) {
    let world = world(mode, 2).build().await;
    world.primary().execute(load::SCHEMA).await;
    world.primary().execute("CREATE TABLE other (id int PRIMARY KEY)").await;
    let load = Load::start(world.primary(), 3);
    let pgfanout = program().run(&world.config().replicas(1).write());
    until_arrived(world.primary(), &world.replicas()[..1]).await;
    let old = old_transaction(&world).await;
    load.more(20).await;
    let _pgfanout = tell(pgfanout, world.config().write()).await;
    ends_well(&world, load, &old).await;
}

async fn by_reload(mut pgfanout: Pgfanout, _: PathBuf) -> Pgfanout {
    let mark = pgfanout.mark();
    pgfanout.reload();
    pgfanout.wait_for_event_after(mark, "reloaded", PATIENCE).await;
    pgfanout
}

async fn by_restart(mut pgfanout: Pgfanout, config: PathBuf) -> Pgfanout {
    let (status, _) = pgfanout.terminate().await;
    assert!(status.success(), "{status}");
    program().run(&config)
}

#[tokio::test]
async fn a_replica_joins_by_reload_with_a_broker() {
    a_replica_joins(Mode::Broker, by_reload).await;
}

#[tokio::test]
async fn a_replica_joins_by_restart_with_a_broker() {
    a_replica_joins(Mode::Broker, by_restart).await;
}

#[tokio::test]
async fn a_replica_joins_by_reload_without_a_broker() {
    a_replica_joins(Mode::Postgres, by_reload).await;
}

async fn tables_join(mode: Mode) {
    let world = world(mode, 2).build().await;
    world.primary().execute(load::SCHEMA).await;
    world.primary().execute("CREATE TABLE other (id int PRIMARY KEY)").await;
    let load = Load::start(world.primary(), 3);
    let tables = |tables: &str| world.config().primary(&format!("tables = [{tables}]")).write();
    let mut pgfanout = program().run(&tables("'note', 'other'"));
    until_arrived(world.primary(), world.replicas()).await;
    let old = old_transaction(&world).await;
    let config = tables("'note', 'other', 'account', 'entry'");
    pgfanout = by_reload(pgfanout, config).await;
    ends_well(&world, load, &old).await;
    drop(pgfanout);
}

#[tokio::test]
async fn tables_join_with_a_broker() {
    tables_join(Mode::Broker).await;
}

#[tokio::test]
async fn tables_join_without_a_broker() {
    tables_join(Mode::Postgres).await;
}

/// Sooner than tables are looked for in any case, which is every 20 seconds.
const SOON: Duration = Duration::from_secs(15);

/// Waits until the replica stands behind all that is logged.
pub(crate) async fn until_past_the_log(
    primary: &tokio_postgres::Client,
    replica: &tokio_postgres::Client,
    limit: Duration,
) {
    let last = "SELECT max(xid::text::int8)::text FROM pgfanout.changelog";
    let last: String = primary.query_one(last, &[]).await.unwrap().get(0);
    let has = "SELECT pg_visible_in_snapshot($1::text::xid8, snapshot) FROM pgfanout.position";
    eventually(limit, "the replica stands behind all that is logged", async || {
        replica.query_one(has, &[&last]).await.unwrap().get::<_, bool>(0)
    })
    .await;
}

/// However a table is made, or gets a name that is wanted, and whether others are written meanwhile or not.
async fn new_tables_follow_at_once(mode: Mode) {
    let world = world(mode, 1).build().await;
    let setup = "CREATE TABLE first (id int PRIMARY KEY); CREATE SCHEMA own; CREATE TABLE own.one (n int)";
    world.primary().execute(setup).await;
    let _pgfanout = program().run(&world.config().primary("exclude = [\"own.*\"]").write());
    until_joined(&world, 1).await;
    let (primary, replica) = (world.primary().client().await, world.replica(1).client().await);
    let made = [
        "CREATE TABLE one (id int PRIMARY KEY)",
        "CREATE TEMPORARY TABLE aside (n int); CREATE TABLE two AS SELECT 2 AS n",
        "SELECT 3 AS n INTO three",
        "CREATE TABLE four (n int) PARTITION BY LIST (n); CREATE TABLE four_0 PARTITION OF four DEFAULT",
        "ALTER TABLE own.one RENAME TO five; ALTER TABLE own.five SET SCHEMA public",
    ];
    for (n, statements) in made.iter().enumerate() {
        if n % 2 == 1 {
            primary.execute("INSERT INTO first SELECT count(*) FROM first", &[]).await.unwrap();
        }
        primary.batch_execute(statements).await.unwrap();
        let followed = "SELECT count(*) FROM pgfanout.replicated_table WHERE snapshot IS NULL";
        eventually(SOON, &format!("the table follows: {statements}"), async || {
            usize::try_from(replica.query_one(followed, &[]).await.unwrap().get::<_, i64>(0)) == Ok(n + 2)
        })
        .await;
    }
    let logged = "SELECT count(*) FROM pgfanout.changelog WHERE table_id = 0";
    let logged: i64 = primary.query_one(logged, &[]).await.unwrap().get(0);
    assert_eq!(logged, 6, "neither temporary tables nor partitions are new tables");
    until_same(&world, &["first", "one", "two", "three", "four", "five"]).await;

    // Nor does what was logged for a table that nobody wants wait for replicas until it is old, and they are copied anew.
    primary.batch_execute("CREATE TABLE own.two (n int)").await.unwrap();
    until_past_the_log(&primary, &replica, SOON).await;
}

#[tokio::test]
async fn new_tables_follow_at_once_with_a_broker() {
    new_tables_follow_at_once(Mode::Broker).await;
}

#[tokio::test]
async fn new_tables_follow_at_once_without_a_broker() {
    new_tables_follow_at_once(Mode::Postgres).await;
}

/// PostgreSQL has an autovacuum give way only to who waits for longer than writers may be kept waiting.
#[tokio::test]
async fn a_table_is_captured_while_it_is_vacuumed() {
    let world = world(Mode::Postgres, 1).own_primary(&[("autovacuum_naptime", "1s")]).build().await;
    // Some minutes of work.
    let slow = "CREATE TABLE t (id int PRIMARY KEY, text text) WITH (autovacuum_vacuum_cost_delay = 100,
        autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);
        INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n; DELETE FROM t WHERE id % 2 = 0";
    world.primary().execute(slow).await;
    let primary = world.primary().client().await;
    let vacuums = "SELECT EXISTS (SELECT FROM pg_stat_progress_vacuum WHERE relid = 't'::regclass)";
    eventually(PATIENCE, "it is vacuumed", async || {
        primary.query_one(vacuums, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    let _pgfanout = begin(&world);
    until_same(&world, &["t"]).await;
}

/// Keeps the copy of `big` from getting further than its middle.
async fn hold_the_copy(replica: &Database) -> tokio_postgres::Client {
    let client = replica.client().await;
    client.batch_execute("BEGIN; INSERT INTO big VALUES (10000, 'in the way')").await.unwrap();
    client
}

async fn until_held(replica: &Database) {
    until_waits(replica, "transactionid").await;
}

/// The copy's session waits there, for a lock of this kind.
async fn until_waits(database: &Database, lock: &str) {
    let client = database.client().await;
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'pgfanout copy%' AND wait_event_type = 'Lock' AND wait_event = $1)";
    eventually(PATIENCE, &format!("the copy waits for a lock: {lock}"), async || {
        client.query_one(waiting, &[&lock]).await.map(|row| row.get::<_, bool>(0)).unwrap_or(false)
    })
    .await;
}

/// Which transaction wrote each row.
async fn writers(replica: &Database) -> BTreeMap<i32, String> {
    let client = replica.client().await;
    let rows = client.query("SELECT id, xmin::text FROM big", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What was copied before stays as it is, and the rest follows.
async fn goes_on(world: &World, pgfanout: &mut Pgfanout, mark: usize, before: &BTreeMap<i32, String>) {
    assert!(before.len() > 5000 && before.len() < 15000, "not in the middle: {}", before.len());
    let resumed = |fields: &serde_json::Value| {
        fields["event"] == "copy_started" && fields["rows_before"].as_u64() == Some(before.len() as u64)
    };
    pgfanout.wait_for(mark, "that it goes on with the rows it has", PATIENCE, resumed).await;
    until_same(world, &["big"]).await;
    let after = writers(world.replica(1)).await;
    for (id, writer) in before {
        assert_eq!(after.get(id), Some(writer), "row {id} was copied again");
    }
}

#[tokio::test]
async fn a_copy_goes_on_in_the_middle_of_a_table_after_a_kill_of_pgfanout() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(BIG).await;
    world.replica(1).execute("CREATE TABLE big (id int PRIMARY KEY, text text)").await;
    let config = world.config().more(SMALL_CHUNKS).write();
    let obstacle = hold_the_copy(world.replica(1)).await;
    let mut pgfanout = program().run(&config);
    until_held(world.replica(1)).await;
    pgfanout.kill9().await;
    let before = writers(world.replica(1)).await;
    obstacle.batch_execute("ROLLBACK").await.unwrap();
    let mut pgfanout = program().run(&config);
    goes_on(&world, &mut pgfanout, 0, &before).await;
}

#[tokio::test]
async fn a_copy_goes_on_in_the_middle_of_a_table_after_a_kill_of_the_replica() {
    let world = world(Mode::Postgres, 1).own_replicas().build().await;
    world.primary().execute(BIG).await;
    world.replica(1).execute("CREATE TABLE big (id int PRIMARY KEY, text text)").await;
    let _obstacle = hold_the_copy(world.replica(1)).await;
    let mut pgfanout = program().run(&world.config().more(SMALL_CHUNKS).write());
    until_held(world.replica(1)).await;
    let before = writers(world.replica(1)).await;
    let mark = pgfanout.mark();
    world.replica(1).cluster().kill9().await;
    world.replica(1).cluster().start_again().await;
    goes_on(&world, &mut pgfanout, mark, &before).await;
}

#[tokio::test]
async fn a_copy_holds_no_transaction_open_on_the_primary() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(load::SCHEMA).await;
    world.primary().execute(BIG).await;
    world.replica(1).execute(HELD_UP).await;
    let (here, there) = (world.primary().client().await, world.replica(1).client().await);
    there.batch_execute("SELECT pg_advisory_lock(10), pg_advisory_lock(20)").await.unwrap();
    let load = Load::start(world.primary(), 2);
    let _pgfanout = program().run(&world.config().more(SMALL_CHUNKS).write());
    let open = "SELECT pid, xact_start::text FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'pgfanout%' AND xact_start IS NOT NULL";
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND objid = $1::int8::oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    let mut seen = Vec::new();
    for chunk in [10_i64, 20] {
        eventually(PATIENCE, "the chunk waits", async || {
            there.query_one(waits, &[&chunk]).await.is_ok_and(|row| row.get(0))
        })
        .await;
        let rows = here.query(open, &[]).await.unwrap();
        seen.push(rows.iter().map(|row| (row.get(0), row.get(1))).collect::<BTreeSet<(i32, String)>>());
        there.execute("SELECT pg_advisory_unlock($1)", &[&chunk]).await.unwrap();
    }
    assert!(seen[0].is_disjoint(&seen[1]), "a transaction was open while ten chunks were copied: {seen:?}");
    load.stop().await;
    until_same(&world, &["big", "account", "entry", "note"]).await;
}

#[tokio::test]
async fn a_table_that_is_there_is_used_if_it_is_equal_and_empty() {
    let world = world(Mode::Postgres, 1).build().await;
    world.primary().execute(BIG).await;
    world.replica(1).execute("CREATE TABLE big (id int PRIMARY KEY, own int DEFAULT 7, text text)").await;
    let _pgfanout = begin(&world);
    let replica = world.replica(1).client().await;
    let own = "SELECT count(*) FROM big WHERE own = 7";
    eventually(PATIENCE, "the table fills, and keeps its own column", async || {
        replica.query_one(own, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 20000)
    })
    .await;
}

/// What only the replica demands keeps no row away silently.
#[tokio::test]
async fn a_row_that_the_replica_alone_refuses_halts_the_copy() {
    let world = world(Mode::Postgres, 1).build().await;
    let rows = "CREATE TABLE t (id int PRIMARY KEY, name text, UNIQUE (id, name)); INSERT INTO t VALUES (1, 'x'), (2, 'x')";
    world.primary().execute(rows).await;
    let stricter =
        "CREATE TABLE t (id int PRIMARY KEY, name text, UNIQUE (id, name), CONSTRAINT own UNIQUE (name))";
    world.replica(1).execute(stricter).await;
    let mut pgfanout = begin(&world);
    let halted = pgfanout.wait_for_event("halted", PATIENCE).await;
    let message = halted["message"].as_str().unwrap();
    assert!(message.contains("constraint own") || message.contains("\"own\""), "{message}");
    world.replica(1).execute("ALTER TABLE t DROP CONSTRAINT own").await;
    until_same(&world, &["t"]).await;
}

#[tokio::test]
async fn rows_that_are_there_are_replaced_only_if_that_is_asked_for() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute(BIG).await;
    let rows = "CREATE TABLE big (id int PRIMARY KEY, text text); INSERT INTO big VALUES (-1, 'somebody''s')";
    world.replica(1).execute(rows).await;
    let mut pgfanout = begin(&world);
    let halted = pgfanout.wait_for_event("halted", PATIENCE).await;
    let message = halted["message"].as_str().unwrap();
    assert!(
        message.contains(r#"table "public"."big""#) && message.contains("existing_rows = \"replace\""),
        "{message}"
    );
    let untouched = world.replica(1).client().await.query_one("SELECT id FROM big", &[]).await.unwrap();
    assert_eq!(untouched.get::<_, i32>(0), -1);
    let mut config = world.config();
    config.replicas[0].more = "existing_rows = \"replace\"".to_owned();
    let _pgfanout = by_reload(pgfanout, config.write()).await;
    until_same(&world, &["big"]).await;
}

#[tokio::test]
async fn a_column_of_another_type_halts_until_it_is_altered() {
    let world = world(Mode::Broker, 2).build().await;
    world.primary().execute(load::SCHEMA).await;
    world
        .replica(1)
        .execute("CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL DEFAULT 0)")
        .await;
    let load = Load::start(world.primary(), 1);
    let mut pgfanout = begin(&world);
    let halted = pgfanout.wait_for_event("halted", PATIENCE).await;
    let message = halted["message"].as_str().unwrap();
    assert!(
        message.contains("account") && message.contains("balance") && message.contains("ALTER"),
        "{message}"
    );
    // The other replica does not care.
    until_arrived(world.primary(), &world.replicas()[1..]).await;
    world.replica(1).execute("ALTER TABLE account ALTER balance TYPE bigint").await;
    until_arrived(world.primary(), world.replicas()).await;
    load.stop().await;
    until_same(&world, load::TABLES).await;
}

#[tokio::test]
async fn a_table_that_was_dropped_everywhere_is_not_waited_for() {
    let world = world(Mode::Broker, 1).build().await;
    world
        .primary()
        .execute("CREATE TABLE kept (id int PRIMARY KEY); CREATE TABLE gone (id int PRIMARY KEY)")
        .await;
    let mut pgfanout = begin(&world);
    until_following(&world).await;
    // The replica meets it when it is made to connect anew.
    let mark = pgfanout.mark();
    world.replica(1).execute("DROP TABLE gone").await;
    end_sessions(world.replica(1)).await;
    let halted = pgfanout.wait_for_event_after(mark, "halted", PATIENCE).await;
    assert!(halted["message"].to_string().contains("gone"), "{halted}");
    let mark = pgfanout.mark();
    world.primary().execute("DROP TABLE gone; INSERT INTO kept VALUES (1)").await;
    let left = pgfanout.wait_for_event_after(mark, "table_left", PATIENCE).await;
    assert_eq!(left["table"], "\"public\".\"gone\"");
    until_same(&world, &["kept"]).await;
}

/// Holds a copy of `big` once the end of its next chunk is known, and before that is read, until the connection that
/// it returns lets go.
async fn hold_the_next_chunk(
    replica: &Database,
    obstacle: &tokio_postgres::Client,
) -> tokio_postgres::Client {
    let holder = hold_copies(replica).await;
    obstacle.batch_execute("ROLLBACK").await.unwrap();
    until_waits(replica, "advisory").await;
    holder
}

/// A table whose copy waits in its middle.
async fn held_copy(world: &World) -> (PathBuf, Pgfanout, tokio_postgres::Client) {
    world.primary().execute(BIG).await;
    world.replica(1).execute("CREATE TABLE big (id int PRIMARY KEY, text text)").await;
    held(world).await
}

/// The copy of `big` waits in its middle.
async fn held(world: &World) -> (PathBuf, Pgfanout, tokio_postgres::Client) {
    let config = world.config().more(SMALL_CHUNKS).write();
    let obstacle = hold_the_copy(world.replica(1)).await;
    let pgfanout = program().run(&config);
    until_held(world.replica(1)).await;
    let holder = hold_the_next_chunk(world.replica(1), &obstacle).await;
    (config, pgfanout, holder)
}

/// A rewrite makes rows that older snapshots do not see: a chunk must not take its own before it has the table.
#[tokio::test]
async fn a_table_that_is_rewritten_while_it_is_copied_arrives_whole() {
    let world = world(Mode::Postgres, 1).build().await;
    let (_, _pgfanout, holder) = held_copy(&world).await;
    let writer = world.primary().client().await;
    writer.batch_execute("BEGIN; ALTER TABLE big ALTER text TYPE text USING text || ''").await.unwrap();
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    until_waits(world.primary(), "relation").await;
    writer.batch_execute("COMMIT").await.unwrap();
    until_same(&world, &["big"]).await;
}

/// Two rows meet in a unique index, as they were read at different moments, where a rule that does not fire is in the way
/// of skipping one. Names that have to be quoted more than once, or are our own variable's.
#[tokio::test]
async fn rows_that_meet_while_they_are_copied_are_left_out_of_a_table_with_rules() {
    let world = world(Mode::Postgres, 1).build().await;
    let column = "ALTER TABLE big ADD \"o'n$$\\e\" int UNIQUE, ADD place int";
    world.primary().execute(BIG).await;
    world.primary().execute(&format!("{column}; UPDATE big SET \"o'n$$\\e\" = id")).await;
    world.replica(1).execute("CREATE TABLE big (id int PRIMARY KEY, text text)").await;
    world.replica(1).execute("CREATE RULE never AS ON UPDATE TO big DO INSTEAD NOTHING").await;
    world.replica(1).execute(column).await;
    let (_, _pgfanout, holder) = held(&world).await;
    let first_is_there = "SELECT count(*) FROM big WHERE id = 1";
    assert_eq!(number(world.replica(1), first_is_there).await, 1, "it was copied");
    let moves = "UPDATE big SET \"o'n$$\\e\" = -id WHERE id = 1;
        UPDATE big SET \"o'n$$\\e\" = 1 WHERE id = (SELECT max(id) FROM big)";
    world.primary().execute(moves).await;
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    until_following(&world).await;
    until_same(&world, &["big"]).await;
}

/// Whoever still copies for the one before must not write into the table that was emptied for the next.
#[tokio::test]
async fn a_copy_that_is_begun_anew_meets_nothing_of_the_one_before() {
    let world = world(Mode::Postgres, 1).build().await;
    let (config, _pgfanout, holder) = held_copy(&world).await;
    let replica = world.replica(1).client().await;
    let which = "SELECT copy::text FROM pgfanout.replicated_table";
    let before: String = replica.query_one(which, &[]).await.unwrap().get(0);
    let arguments = ["--replica", "r1", "--table", "public.big", "--yes"];
    assert_eq!(program().once("resync", &config, &arguments).await.code, Some(0));
    eventually(PATIENCE, "the copy is begun anew", async || {
        let now: String = replica.query_one(which, &[]).await.unwrap().get(0);
        if now == before { Err(now) } else { Ok(()) }
    })
    .await;
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    until_following(&world).await;
    until_same(&world, &["big"]).await;
}

/// Keys of a type, by number.
const KEYS: [(&str, &str); 17] = [
    ("\"char\"", "(n % 127 + 1)::\"char\""),
    ("name", "'x' || n"),
    ("varbit", "n::bit(12)"),
    ("bytea", "decode(md5(n::text), 'hex')"),
    ("char(7)", "n::text"),
    ("numeric", "CASE n WHEN 1 THEN 'NaN' ELSE n / 7.0 END"),
    ("float8", "CASE n WHEN 1 THEN 'NaN' WHEN 2 THEN '-Infinity' ELSE n / 7.0::float8 END"),
    ("timestamptz", "CASE n WHEN 1 THEN 'infinity' ELSE now() + n * interval '1 s' END"),
    ("interval", "n * interval '1 day 1 s'"),
    ("inet", "'10.0.0.0'::inet + n"),
    ("uuid", "md5(n::text)::uuid"),
    ("oid", "n::oid"),
    ("regclass", "n::oid::regclass"),
    ("int8range", "int8range(n, 2 * n)"),
    ("money", "n::money"),
    ("tsvector", "to_tsvector('simple', 'x' || n)"),
    ("nonempty", "'{' || chr(33 + n % 90) || n"),
];

/// In many pieces, whatever the key, and with long rows among short ones: those that are stored apart, compressed or
/// not, and such as are long only when they are printed.
#[tokio::test]
async fn rows_of_any_length_and_key_are_copied_in_pieces() {
    let world = world(Mode::Postgres, 1).build().await;
    let primary = world.primary();
    primary.execute("CREATE DOMAIN nonempty AS text CHECK (VALUE <> '')").await;
    let mut tables = vec!["mixed".to_owned()];
    for (n, (type_name, key)) in KEYS.iter().enumerate() {
        let table = format!("k{n}");
        primary.execute(&format!("CREATE TABLE {table} (id {type_name} PRIMARY KEY, number int)")).await;
        let fill = format!(
            "INSERT INTO {table} SELECT {key}, n FROM generate_series(1, 300) n ON CONFLICT DO NOTHING"
        );
        primary.execute(&fill).await;
        tables.push(table);
    }
    primary
        .execute(
            r#"CREATE TABLE mixed (a text, b numeric, t text, d bytea, j jsonb, PRIMARY KEY (a, b));
            INSERT INTO mixed SELECT
                (ARRAY['', ' ', '"', '\', '{', ',', 'NULL', 'ä€', E'line\nfeed', chr(39), '\.'])[1 + n % 11], n / 11.0,
                CASE n % 40 WHEN 0 THEN repeat('x', 300000) WHEN 1 THEN NULL WHEN 2 THEN '' ELSE 'short' END,
                CASE n % 30 WHEN 7 THEN (
                    SELECT string_agg(decode(md5((n * i)::text), 'hex'), '') FROM generate_series(1, 6000) i
                ) END,
                CASE n % 20 WHEN 5 THEN '[1e20000, 1e20000]' WHEN 6 THEN to_jsonb(repeat('y', 1000)) END
            FROM generate_series(1, 2000) n"#,
        )
        .await;
    let pgfanout = program().run(&world.config().more(SMALL_CHUNKS).write());
    until_following(&world).await;
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    until_same(&world, &tables).await;
    assert!(pgfanout.events("copy_failed").is_empty(), "each piece was copied at the first try");
}
