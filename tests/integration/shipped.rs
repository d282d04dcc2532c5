//! What PostgreSQL ships beside itself: its benchmark, and extensions whose types, triggers and indexes tables may have.

use std::process::{Command, Stdio};

use pgfanout_testbed::world::World;

use crate::{
    bank::until_joined,
    support::{MARK, Mode, begin, until_marked_and_same, until_same, world},
};

const TABLES: [&str; 5] = ["stamped", "master", "detail", "holding", "searched"];

/// Types, indexes and what they take.
const SETUP: &str = "
    CREATE EXTENSION lo; CREATE EXTENSION earthdistance CASCADE; CREATE EXTENSION btree_gin; CREATE EXTENSION btree_gist;
    CREATE EXTENSION pg_trgm; CREATE EXTENSION intarray; CREATE EXTENSION bloom; CREATE EXTENSION hstore; CREATE EXTENSION ltree;
    CREATE TABLE stamped (id int PRIMARY KEY, at timestamp, by text, n int);
    CREATE TABLE master (id int PRIMARY KEY, v int); CREATE TABLE detail (id int PRIMARY KEY, m int);
    CREATE TABLE holding (id int PRIMARY KEY, o lo, place earth);
    CREATE TABLE searched (id int PRIMARY KEY, words text, numbers int[], path ltree, pairs hstore, during tsrange, room int,
        EXCLUDE USING gist (room WITH =, during WITH &&));
    CREATE INDEX ON searched USING gin (words gin_trgm_ops, room); CREATE INDEX ON searched USING gist (words gist_trgm_ops);
    CREATE INDEX ON searched USING gist (numbers gist__int_ops); CREATE INDEX ON searched USING bloom (room, id);
    CREATE INDEX ON searched USING gist (path); CREATE INDEX ON searched USING gin (pairs)";

/// Triggers in C: they change the row that is written, refuse it, write other tables, notify.
const TRIGGERS: &str = "
    CREATE EXTENSION autoinc; CREATE EXTENSION insert_username; CREATE EXTENSION moddatetime; CREATE EXTENSION refint;
    CREATE EXTENSION tcn; CREATE SEQUENCE counted;
    CREATE TRIGGER a BEFORE UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION moddatetime(at);
    CREATE TRIGGER b BEFORE INSERT OR UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION insert_username(by);
    CREATE TRIGGER c BEFORE INSERT OR UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION autoinc(n, counted);
    CREATE TRIGGER d AFTER INSERT OR UPDATE OR DELETE ON stamped FOR EACH ROW EXECUTE FUNCTION triggered_change_notification();
    CREATE TRIGGER a AFTER INSERT OR UPDATE ON detail FOR EACH ROW EXECUTE FUNCTION check_primary_key('m', 'master', 'id');
    CREATE TRIGGER a AFTER UPDATE OR DELETE ON master FOR EACH ROW EXECUTE FUNCTION check_foreign_key(1, 'cascade', 'id', 'detail', 'm');
    CREATE TRIGGER a BEFORE UPDATE OR DELETE ON holding FOR EACH ROW EXECUTE FUNCTION lo_manage(o)";

const STATEMENTS: &[&str] = &[
    "INSERT INTO stamped (id) SELECT generate_series(1, 10); INSERT INTO master SELECT n, n FROM generate_series(1, 10) n;
     INSERT INTO detail SELECT n, n % 5 + 1 FROM generate_series(1, 20) n;
     INSERT INTO holding SELECT n, lo_creat(-1), ll_to_earth(50 + n, 13) FROM generate_series(1, 5) n;
     INSERT INTO searched SELECT n, 'some words ' || n, ARRAY[n, n + 1], ('a.b' || n)::ltree, hstore('n', n::text),
        '[2020-01-01,2020-02-01)', n FROM generate_series(1, 10) n",
    "UPDATE stamped SET id = -id WHERE id % 2 = 0; UPDATE stamped SET n = NULL WHERE id = 3; DELETE FROM stamped WHERE id = 5",
    "DELETE FROM master WHERE id = 4; DELETE FROM master WHERE id > 8; UPDATE detail SET m = 3 WHERE m = 1; UPDATE master SET v = -v",
    "UPDATE holding SET o = lo_creat(-1) WHERE id = 1; UPDATE holding SET place = NULL, o = NULL WHERE id = 2; DELETE FROM holding WHERE id = 3",
    // Rooms are swapped, which no two may have at the same time.
    "BEGIN; UPDATE searched SET room = -1 WHERE id = 1; UPDATE searched SET room = 1 WHERE id = 2; UPDATE searched SET room = 2 WHERE id = 1; COMMIT;
     UPDATE searched SET words = words || ' more', numbers = numbers + 7, path = path || 'c', pairs = pairs || 'k=>NULL' WHERE id > 4;
     UPDATE searched SET room = room + 100",
];

#[tokio::test]
async fn tables_of_extensions_as_shipped_follow() {
    let world = world(Mode::Broker, 1).build().await;
    for statements in [MARK, SETUP, TRIGGERS] {
        world.primary().execute(statements).await;
    }
    let _pgfanout = begin(&world);
    until_joined(&world, TABLES.len() + 1).await;
    for statements in STATEMENTS {
        world.primary().execute(statements).await;
        until_marked_and_same(&world, &TABLES).await;
    }
}

async fn pgbench(world: &World, arguments: &[&str]) -> bool {
    let Some(pgbench) = world.primary().cluster().program_if_there("pgbench", "pgbench") else {
        return false;
    };
    let mut command = Command::new(pgbench);
    command.args(arguments).arg(world.primary().url()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
    assert!(status.success(), "pgbench {arguments:?}");
    true
}

/// It makes its tables while pgfanout runs, fills them, and gives them keys at the end.
#[tokio::test]
async fn what_pgbench_does_follows() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE first (id int PRIMARY KEY)").await;
    let _pgfanout = begin(&world);
    until_same(&world, &["first"]).await;
    let tables = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"];
    for how in [&["--initialize", "--quiet"][..], &["--initialize", "--init-steps=dtGvpf", "--partitions=3"]]
    {
        if !pgbench(&world, how).await {
            return;
        }
        until_same(&world, &tables).await;
        for script in ["tpcb-like", "simple-update"] {
            let script = format!("--builtin={script}");
            pgbench(&world, &["--client=4", "--transactions=50", "--no-vacuum", &script]).await;
            until_same(&world, &tables).await;
        }
    }
}
