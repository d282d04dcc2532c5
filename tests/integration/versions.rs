//! What only newer PostgreSQL has: it follows to a replica that has it too. An older one refuses what it would need to
//! know, says what, and follows once an operator has made there what fits.

use pgfanout_testbed::config::ConfigFile;
use serde_json::Value;

use crate::{
    checking::{findings, of_level},
    support::{Mode, PATIENCE, program, until_same, world},
};

mod servers;
mod values;

struct Case {
    what: &'static str,
    /// The PostgreSQL that brought it.
    since: u32,
    tables: &'static [&'static str],
    /// Makes the tables on the primary.
    setup: &'static str,
    /// What an older replica names; nothing, if it need not know.
    refused: &'static str,
    /// What an operator makes there; nothing, if the table can only be left out.
    remedy: &'static str,
    /// What is left out.
    exclude: &'static str,
    statements: &'static [&'static str],
}

const FOLLOWS: Case = Case {
    what: "",
    since: 0,
    tables: &["t"],
    setup: "",
    refused: "",
    remedy: "",
    exclude: "",
    statements: &[],
};

const VIRTUAL_COLUMN: Case = Case {
    what: "a virtual column",
    since: 18,
    setup: "CREATE TABLE t (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) VIRTUAL, w int);
        INSERT INTO t (id, v) SELECT n, n FROM generate_series(1, 100) n",
    refused: "VIRTUAL",
    remedy: "CREATE TABLE t (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED, w int)",
    statements: &[
        "UPDATE t SET v = v + 1 WHERE id % 2 = 0; DELETE FROM t WHERE twice > 180; INSERT INTO t (id, w) VALUES (0, 7)",
        "UPDATE t SET id = -id WHERE twice < 20; UPDATE t SET w = twice",
    ],
    ..FOLLOWS
};

const EQUAL_NULLS: Case = Case {
    what: "NULLS NOT DISTINCT",
    since: 15,
    setup: "CREATE TABLE t (id int PRIMARY KEY, v int, UNIQUE NULLS NOT DISTINCT (v));
        INSERT INTO t SELECT n, nullif(n, 1) FROM generate_series(1, 100) n",
    refused: "remedy: build one of that name there by hand) with: ALTER TABLE public.t ADD CONSTRAINT t_v_key",
    remedy: "ALTER TABLE t ADD CONSTRAINT t_v_key UNIQUE (v)",
    statements: &[
        "UPDATE t SET v = -1 WHERE v IS NULL; UPDATE t SET v = NULL WHERE v = 7",
        "BEGIN; DELETE FROM t WHERE v IS NULL; UPDATE t SET v = NULL WHERE id = 8; INSERT INTO t VALUES (7, 7); COMMIT",
    ],
    ..FOLLOWS
};

const EQUAL_NULLS_IN_KEY: Case = Case {
    what: "NULLS NOT DISTINCT",
    since: 15,
    setup: "CREATE TABLE t (id int NOT NULL, v int NOT NULL, w text); CREATE UNIQUE INDEX k ON t (id, v) NULLS NOT DISTINCT;
        INSERT INTO t SELECT n, n % 3, 'w' FROM generate_series(1, 100) n",
    refused: "if that can't be, create the table there by hand) with: CREATE UNIQUE INDEX IF NOT EXISTS k ON public.t",
    remedy: "CREATE TABLE t (id int NOT NULL, v int NOT NULL, w text, UNIQUE (id, v))",
    statements: &[
        "UPDATE t SET v = v + 1 WHERE id % 2 = 0; DELETE FROM t WHERE id > 90; INSERT INTO t VALUES (1, 7, NULL)",
    ],
    ..FOLLOWS
};

const NAMED_MULTIRANGE: Case = Case {
    what: "a multirange of a chosen name",
    since: 14,
    setup: "CREATE TYPE span AS RANGE (SUBTYPE = int, MULTIRANGE_TYPE_NAME = spans);
        CREATE TABLE t (id int PRIMARY KEY, s span);
        INSERT INTO t SELECT n, span(n, n + 5) FROM generate_series(1, 100) n",
    refused: "MULTIRANGE_TYPE_NAME",
    remedy: "CREATE TYPE span AS RANGE (SUBTYPE = int)",
    statements: &[
        "UPDATE t SET s = span(lower(s), NULL) WHERE id < 50",
        "UPDATE t SET s = NULL WHERE upper_inf(s)",
    ],
    ..FOLLOWS
};

const WITHOUT_OVERLAPS: Case = Case {
    what: "a temporal key",
    since: 18,
    tables: &["t", "u"],
    setup: "CREATE EXTENSION btree_gist;
        CREATE TABLE t (id int, during int4range, v int, PRIMARY KEY (id, during WITHOUT OVERLAPS));
        CREATE TABLE u (id int, during int4range NOT NULL, t int, v int GENERATED ALWAYS AS (t) STORED,
            FOREIGN KEY (t, PERIOD during) REFERENCES t, CONSTRAINT apart UNIQUE (id, during WITHOUT OVERLAPS));
        INSERT INTO t SELECT n, int4range(0, 1000), n FROM generate_series(1, 30) n;
        INSERT INTO u SELECT n, int4range(n, n + 10), n FROM generate_series(1, 20) n",
    refused: "WITHOUT OVERLAPS",
    remedy: "ALTER TABLE t ADD CONSTRAINT t_pkey EXCLUDE USING gist (id WITH =, during WITH &&);
        ALTER TABLE u ADD CONSTRAINT apart EXCLUDE USING gist (id WITH =, during WITH &&)",
    statements: &[
        "BEGIN; UPDATE t SET during = int4range(0, 500) WHERE id < 20; INSERT INTO t SELECT id, int4range(500, 1000), -v FROM t WHERE id < 20;
            UPDATE t SET v = 0 WHERE id = 25; COMMIT; UPDATE u SET during = int4range(lower(during), lower(during) + 5) WHERE id < 5",
        "BEGIN; DELETE FROM t WHERE id = 30; INSERT INTO t SELECT 30, int4range(n * 10, n * 10 + 10), n FROM generate_series(0, 50) n;
            DELETE FROM t WHERE id = 30 AND v % 2 = 0; COMMIT; UPDATE t SET id = id + 100 WHERE id > 20; DELETE FROM u WHERE id > 10",
        "TRUNCATE u; INSERT INTO u SELECT id, int4range(0, 1), id FROM t WHERE during @> 0 ORDER BY id LIMIT 5",
    ],
    ..FOLLOWS
};

/// Beside a temporal key, an index over the same columns may name the rows.
const WITHOUT_OVERLAPS_AND_UNIQUE: Case = Case {
    what: "a temporal key and a unique index",
    since: 18,
    setup: "CREATE EXTENSION btree_gist;
        CREATE TABLE t (id int, during int4multirange, v int, PRIMARY KEY (id, during WITHOUT OVERLAPS));
        CREATE UNIQUE INDEX t_rows ON t (during, id);
        INSERT INTO t SELECT n, int4multirange(int4range(0, n), int4range(500, 1000)), n FROM generate_series(1, 30) n",
    refused: "during",
    statements: &[
        "BEGIN; DELETE FROM t WHERE id < 5; INSERT INTO t SELECT 1, int4multirange(int4range(n, n + 1)), n FROM generate_series(1, 50) n; COMMIT;
            UPDATE t SET during = int4multirange(int4range(0, 3)) WHERE id > 20; UPDATE t SET v = -v",
        "BEGIN; DELETE FROM t WHERE id > 20; INSERT INTO t SELECT id, int4multirange(int4range(0, 1)), 0 FROM generate_series(21, 30) id; COMMIT",
    ],
    ..FOLLOWS
};

const UNPROVEN_NOT_NULL: Case = Case {
    what: "NOT NULL NOT VALID",
    since: 18,
    tables: &["t", "u", "w"],
    setup: "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, nullif(n % 3, 0) FROM generate_series(1, 50) n;
        ALTER TABLE t ADD CONSTRAINT proven NOT NULL v NOT VALID;
        CREATE TABLE u (id int UNIQUE, v int); INSERT INTO u SELECT nullif(n, n / 2 * 2), n FROM generate_series(1, 50) n;
        ALTER TABLE u ADD CONSTRAINT proven NOT NULL id NOT VALID;
        CREATE TABLE w (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
        CREATE TABLE w_0 PARTITION OF w FOR VALUES FROM (0) TO (25); CREATE TABLE w_1 PARTITION OF w DEFAULT;
        INSERT INTO w SELECT * FROM t; ALTER TABLE w_0 ADD CONSTRAINT proven NOT NULL v NOT VALID",
    statements: &[
        "UPDATE t SET v = 5 WHERE v = 1; DELETE FROM t WHERE id < 10; UPDATE w SET v = id; DELETE FROM w WHERE id % 5 = 0",
        "INSERT INTO u SELECT n, 7 FROM generate_series(100, 110) n; DELETE FROM u WHERE id IS NULL AND v < 20",
        "UPDATE u SET id = -v WHERE id IS NULL; ALTER TABLE u VALIDATE CONSTRAINT proven; UPDATE u SET v = 0 WHERE id < 0",
        "UPDATE t SET v = 0 WHERE v IS NULL; ALTER TABLE t VALIDATE CONSTRAINT proven; INSERT INTO t VALUES (1, 1); UPDATE u SET v = 1",
    ],
    ..FOLLOWS
};

const UNENFORCED: Case = Case {
    what: "NOT ENFORCED",
    since: 18,
    tables: &["t", "u"],
    setup: "CREATE TABLE t (id int PRIMARY KEY, v int CONSTRAINT high CHECK (v > 100) NOT ENFORCED);
        CREATE TABLE u (id int PRIMARY KEY, t int REFERENCES t NOT ENFORCED);
        INSERT INTO t SELECT n, n FROM generate_series(1, 50) n; INSERT INTO u SELECT n, n + 1000 FROM generate_series(1, 50) n",
    statements: &["UPDATE t SET v = -v; DELETE FROM t WHERE id < 5; UPDATE u SET t = -t", "ALTER TABLE t DROP CONSTRAINT high; INSERT INTO t VALUES (1, -1)"],
    ..FOLLOWS
};

const NEGATIVE_SCALE: Case = Case {
    what: "a numeric of negative scale",
    since: 15,
    setup: "CREATE TABLE t (id int PRIMARY KEY, v numeric(3, -2), w numeric(2, 4)[]);
        INSERT INTO t SELECT n, n * 1000, ARRAY[n / 10000.0] FROM generate_series(1, 50) n",
    refused: "numeric(3,-2)",
    statements: &[
        "UPDATE t SET v = v + 149, w = w || 0.0051; UPDATE t SET v = -v, w = NULL WHERE id % 2 = 0; INSERT INTO t VALUES (0, 99949, NULL)",
    ],
    ..FOLLOWS
};

const COMPRESSED: Case = Case {
    what: "lz4 compression",
    since: 14,
    setup: "SELECT set_config(name, coalesce((SELECT e FROM unnest(enumvals) e WHERE e = 'lz4'), 'pglz'), false) FROM pg_settings
            WHERE name = 'default_toast_compression';
        CREATE TABLE t (id int PRIMARY KEY, v text, w jsonb);
        INSERT INTO t SELECT n, repeat('v' || n, 5000), to_jsonb(repeat('w' || n, 900)) FROM generate_series(1, 20) n",
    statements: &[
        "UPDATE t SET id = -id WHERE id < 5; UPDATE t SET v = v || v WHERE id > 10; UPDATE t SET w = NULL WHERE id = 7",
        "ALTER TABLE t ALTER v SET COMPRESSION pglz; UPDATE t SET v = v || 'x'; DELETE FROM t WHERE id < 0",
    ],
    ..FOLLOWS
};

const NUMBERED_PARTITIONS: Case = Case {
    what: "an identity column of a partitioned table",
    since: 17,
    setup: "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int) PARTITION BY RANGE (id);
        CREATE TABLE t_0 PARTITION OF t FOR VALUES FROM (0) TO (20); CREATE TABLE t_1 PARTITION OF t DEFAULT;
        INSERT INTO t (v) SELECT n FROM generate_series(1, 50) n",
    statements: &[
        "INSERT INTO t (v) VALUES (0); UPDATE t SET v = -v; DELETE FROM t_0 WHERE id < 5; INSERT INTO t (id, v) OVERRIDING SYSTEM VALUE VALUES (-1, -1)",
        "CREATE TABLE t_2 (id int NOT NULL, v int); INSERT INTO t_2 VALUES (1000, 1000);
            ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (1000) TO (2000); UPDATE t SET v = v + 1",
    ],
    ..FOLLOWS
};

const EXCLUSION_OVER_PARTITIONS: Case = Case {
    what: "an exclusion constraint of a partitioned table",
    since: 17,
    setup: "CREATE EXTENSION btree_gist; CREATE TABLE t (id int PRIMARY KEY, v int4range, CONSTRAINT apart EXCLUDE USING gist (id WITH =, v WITH &&))
            PARTITION BY RANGE (id);
        CREATE TABLE t_0 PARTITION OF t FOR VALUES FROM (0) TO (20); CREATE TABLE t_1 PARTITION OF t DEFAULT;
        INSERT INTO t SELECT n, int4range(0, n) FROM generate_series(1, 50) n",
    refused: "EXCLUDE",
    remedy: "CREATE INDEX apart ON t (v)",
    statements: &["UPDATE t SET v = int4range(1, 5) WHERE id < 10; UPDATE t SET id = -id WHERE id > 40; DELETE FROM t WHERE id = 30"],
    ..FOLLOWS
};

const BUILTIN_COLLATION: Case = Case {
    what: "a builtin collation",
    since: 17,
    setup: "CREATE COLLATION points (PROVIDER = builtin, LOCALE = 'C.UTF-8');
        CREATE TABLE t (id text COLLATE points PRIMARY KEY, v int, w text COLLATE points);
        INSERT INTO t SELECT chr(64 + n) || 'ä' || n, n, chr(200 + n) FROM generate_series(1, 50) n",
    refused: "PROVIDER = builtin",
    remedy: "CREATE COLLATION points (LOCALE = 'C')",
    statements: &[
        "UPDATE t SET id = lower(id) WHERE v % 2 = 0; UPDATE t SET w = upper(w); DELETE FROM t WHERE id < 'F'",
    ],
    ..FOLLOWS
};

const ORDERED_UUIDS: Case = Case {
    what: "uuidv7",
    since: 18,
    setup: "CREATE TABLE t (id uuid DEFAULT uuidv7() PRIMARY KEY, v int); INSERT INTO t (v) SELECT n FROM generate_series(1, 50) n",
    refused: "uuidv7()",
    remedy: "CREATE TABLE t (id uuid PRIMARY KEY, v int)",
    statements: &[
        "INSERT INTO t (v) VALUES (1), (2); UPDATE t SET v = -v; UPDATE t SET id = uuidv7() WHERE v > -10; DELETE FROM t WHERE v < -40",
    ],
    ..FOLLOWS
};

const JSON_CONDITIONS: Case = Case {
    what: "IS JSON",
    since: 16,
    setup: "CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v IS JSON OBJECT), w json DEFAULT JSON_OBJECT('a': 1));
        INSERT INTO t (id, v) SELECT n, '{\"a\": 1}' FROM generate_series(1, 50) n",
    refused: "JSON_OBJECT",
    remedy: "CREATE TABLE t (id int PRIMARY KEY, v text, w json)",
    statements: &["INSERT INTO t (id, v) VALUES (0, '{}'); UPDATE t SET v = '{ }', w = JSON_ARRAY(id, 'x') WHERE id < 10"],
    ..FOLLOWS
};

const VIRTUAL_EVERYWHERE: Case = Case {
    what: "virtual columns of partitions and of tables without a key",
    since: 18,
    tables: &["t", "u"],
    setup: "CREATE TABLE t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * 2)) PARTITION BY RANGE (id);
        CREATE TABLE t_0 PARTITION OF t FOR VALUES FROM (0) TO (20); CREATE TABLE t_1 PARTITION OF t DEFAULT;
        INSERT INTO t SELECT n, n FROM generate_series(1, 50) n;
        CREATE TABLE u (g text GENERATED ALWAYS AS (v || '!'), v int, w int NOT NULL GENERATED ALWAYS AS (v + 1) STORED UNIQUE);
        INSERT INTO u (v) SELECT n FROM generate_series(1, 50) n",
    refused: "VIRTUAL",
    remedy: "CREATE TABLE t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * 2) STORED);
        CREATE TABLE u (g text GENERATED ALWAYS AS (textin(int4out(v)) || '!') STORED, v int, w int NOT NULL GENERATED ALWAYS AS (v + 1) STORED UNIQUE)",
    statements: &[
        "UPDATE t SET id = -id WHERE id % 10 = 9; UPDATE t SET v = g; DELETE FROM t WHERE g > 180; INSERT INTO u (v) VALUES (7) ON CONFLICT DO NOTHING",
        "UPDATE u SET v = -v WHERE v > 25; DELETE FROM u WHERE g = '7!'",
    ],
    ..FOLLOWS
};

const DETACHED_CONCURRENTLY: Case = Case {
    what: "DETACH PARTITION CONCURRENTLY",
    since: 14,
    // Once it is detached it is another table.
    exclude: "exclude = ['gone']",
    setup: "CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
        CREATE TABLE gone PARTITION OF t FOR VALUES FROM (0) TO (20); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (20) TO (100);
        INSERT INTO t SELECT n, n FROM generate_series(1, 50) n",
    statements: &["UPDATE t SET v = 0 WHERE id < 10", "ALTER TABLE t DETACH PARTITION gone CONCURRENTLY", "UPDATE t SET v = 1; INSERT INTO gone VALUES (0, 0)"],
    ..FOLLOWS
};

/// `pgfanout check` says beforehand what will be refused, and nothing where nothing will be.
async fn check(config: &ConfigFile, refused: &str) {
    let found = findings(config).await;
    let errors = of_level(&found, "error");
    let is_told =
        |(text, _): &(String, &str)| text.starts_with("replica r1: table ") && text.contains(refused);
    assert_eq!(errors.iter().any(is_told), !refused.is_empty(), "{refused}: {errors:#?}");
    assert!(!refused.is_empty() || errors.is_empty(), "{errors:#?}");
}

async fn follows_or_is_refused(case: Case) {
    let world = world(Mode::Broker, 1).build().await;
    if !world.primary().cluster().knows(case.what, case.since) {
        return;
    }
    world.primary().execute(case.setup).await;
    let config = world.config().primary(case.exclude);
    let is_refused = !case.refused.is_empty() && world.replica(1).cluster().version() < case.since;
    check(&config, if is_refused { case.refused } else { "" }).await;
    let mut pgfanout = program().run(&config.write());
    if is_refused {
        let refused = |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            line["event"] == "halted" && line["replica"] == "r1" && message.contains(case.refused)
        };
        pgfanout.wait_for(0, "that r1 refuses it", PATIENCE, refused).await;
        if case.remedy.is_empty() {
            return;
        }
        world.replica(1).execute(case.remedy).await;
    }
    until_same(&world, case.tables).await;
    check(&config, "").await;
    for statement in case.statements {
        world.primary().execute(statement).await;
        until_same(&world, case.tables).await;
    }
}

#[tokio::test]
async fn virtual_columns() {
    follows_or_is_refused(VIRTUAL_COLUMN).await;
}

#[tokio::test]
async fn indexes_that_take_nulls_for_equal() {
    follows_or_is_refused(EQUAL_NULLS).await;
}

#[tokio::test]
async fn keys_that_take_nulls_for_equal() {
    follows_or_is_refused(EQUAL_NULLS_IN_KEY).await;
}

#[tokio::test]
async fn multiranges_of_chosen_names() {
    follows_or_is_refused(NAMED_MULTIRANGE).await;
}

#[tokio::test]
async fn temporal_keys() {
    follows_or_is_refused(WITHOUT_OVERLAPS).await;
}

#[tokio::test]
async fn temporal_keys_beside_unique_indexes() {
    follows_or_is_refused(WITHOUT_OVERLAPS_AND_UNIQUE).await;
}

#[tokio::test]
async fn not_null_that_is_not_proven() {
    follows_or_is_refused(UNPROVEN_NOT_NULL).await;
}

#[tokio::test]
async fn constraints_that_are_not_enforced() {
    follows_or_is_refused(UNENFORCED).await;
}

#[tokio::test]
async fn numerics_of_negative_scale() {
    follows_or_is_refused(NEGATIVE_SCALE).await;
}

#[tokio::test]
async fn compression_by_lz4() {
    follows_or_is_refused(COMPRESSED).await;
}

#[tokio::test]
async fn identity_columns_of_partitioned_tables() {
    follows_or_is_refused(NUMBERED_PARTITIONS).await;
}

#[tokio::test]
async fn exclusion_constraints_of_partitioned_tables() {
    follows_or_is_refused(EXCLUSION_OVER_PARTITIONS).await;
}

#[tokio::test]
async fn builtin_collations() {
    follows_or_is_refused(BUILTIN_COLLATION).await;
}

#[tokio::test]
async fn ordered_uuids() {
    follows_or_is_refused(ORDERED_UUIDS).await;
}

#[tokio::test]
async fn conditions_on_json() {
    follows_or_is_refused(JSON_CONDITIONS).await;
}

#[tokio::test]
async fn virtual_columns_of_partitions_and_without_a_key() {
    follows_or_is_refused(VIRTUAL_EVERYWHERE).await;
}

#[tokio::test]
async fn partitions_that_are_detached_concurrently() {
    follows_or_is_refused(DETACHED_CONCURRENTLY).await;
}
