//! B8: what holds much back on the primary and is to cost nothing: a transaction that stays open, and a changelog that
//! cannot be trimmed.

use super::{
    Scope,
    load::{Loaded, load},
    results::Results,
    stage::{Stage, System},
};

/// At the usual scale ten million entries.
const ENTRIES_PER_SCALE: u32 = 1_000_000;

const SYSTEM: System = System::Pgfanout;

/// Entries that all have, and that stay, as a replica that is away is believed to need them.
const FILL: &str = "INSERT INTO pgfanout.replica (name, \"position\") VALUES ('away', '3:3:');
    INSERT INTO pgfanout.changelog (xid, table_id, operation, key)
    SELECT '3', t.id, 'U', n::text FROM pgfanout.captured_table t, generate_series(1, {entries}) n
    WHERE t.table_name = 'probe'; ANALYZE pgfanout.changelog; CHECKPOINT";

pub(crate) async fn held_back(stage: &mut Stage, scope: &Scope, results: &mut Results) {
    stage.begin(SYSTEM).await;
    let free = loaded(stage, scope).await;
    let mut against_free = |what: &str, held: &Loaded| {
        results.add("B8", &format!("{what}: tps, of those without"), SYSTEM, held.tps() / free.tps());
        let delay = held.median_delay() / free.median_delay();
        results.add("B8", &format!("{what}: median delay, of that without"), SYSTEM, delay);
        let cost = held.primary() / free.primary();
        results.add("B8", &format!("{what}: CPU of the primary a change, of that without"), SYSTEM, cost);
    };

    let open = stage.client(SYSTEM).await;
    open.batch_execute("BEGIN; INSERT INTO probe VALUES (0)").await.expect("it is not there");
    against_free("a transaction is open", &loaded(stage, scope).await);
    open.batch_execute("ROLLBACK").await.expect("it is open");

    let primary = stage.client(SYSTEM).await;
    let fill = FILL.replace("{entries}", &(scope.scale * ENTRIES_PER_SCALE).to_string());
    primary.batch_execute(&fill).await.expect("a superuser's");
    against_free("a changelog of millions", &loaded(stage, scope).await);
    let away = "DELETE FROM pgfanout.replica WHERE name = 'away'";
    primary.batch_execute(away).await.expect("a superuser's");
    stage.end(SYSTEM).await;
}

async fn loaded(stage: &Stage, scope: &Scope) -> Loaded {
    load(stage, SYSTEM, ("simple-update", 2.0), (4, scope.seconds, None)).await
}
