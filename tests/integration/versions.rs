//! What only newer PostgreSQL has: it follows to a replica that has it too. An older one refuses it, says what, and
//! follows once an operator has made there what fits.

use serde_json::Value;

use crate::support::{Mode, PATIENCE, begin, until_same, world};

struct Case {
    what: &'static str,
    /// The PostgreSQL that brought it.
    since: u32,
    /// Makes table `t` on the primary.
    setup: &'static str,
    /// What an older replica names.
    refused: &'static str,
    /// What an operator makes there.
    remedy: &'static str,
    statements: &'static [&'static str],
}

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
};

async fn follows_or_is_refused(case: Case) {
    let world = world(Mode::Broker, 1).build().await;
    if !world.primary().cluster().knows(case.what, case.since) {
        return;
    }
    world.primary().execute(case.setup).await;
    let mut pgfanout = begin(&world);
    if world.replica(1).cluster().version() < case.since {
        let refused = |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            line["event"] == "halted" && line["replica"] == "r1" && message.contains(case.refused)
        };
        pgfanout.wait_for(0, "that r1 refuses it", PATIENCE, refused).await;
        world.replica(1).execute(case.remedy).await;
    }
    until_same(&world, &["t"]).await;
    for statement in case.statements {
        world.primary().execute(statement).await;
        until_same(&world, &["t"]).await;
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
