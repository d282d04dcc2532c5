//! What the tests share.

use std::time::Duration;

use pgfanout_testbed::{
    compare::same_tables,
    eventually,
    process::{Pgfanout, Program},
    world::{Plan, World},
};

/// How long anything may take to come right, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Through the broker, or with PostgreSQL alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Broker,
    Postgres,
}

/// A world of so many replicas, still to be changed.
pub(crate) fn world(mode: Mode, replicas: usize) -> Plan {
    let plan = World::plan(replicas);
    match mode {
        Mode::Broker => plan,
        Mode::Postgres => plan.without_broker(),
    }
}

/// The program that is tested.
pub(crate) fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_pgfanout"))
}

/// Starts pgfanout with the world's configuration.
pub(crate) fn begin(world: &World) -> Pgfanout {
    program().run(&world.config().write())
}

/// Waits until every replica equals the primary, byte for byte.
pub(crate) async fn until_same(world: &World, tables: &[&str]) {
    eventually(PATIENCE, "replicas equal to the primary", async || {
        let here = world.primary().look().await.map_err(|error| error.to_string())?;
        for replica in world.replicas() {
            let there = replica.look().await.map_err(|error| error.to_string())?;
            same_tables(&here, &there, tables).await?;
        }
        Ok::<_, String>(())
    })
    .await;
}

/// A table of marks, for [`until_marked_and_same`].
pub(crate) const MARK: &str = "CREATE TABLE public.mark (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)";

/// As [`until_same`], but looks at the tables only when a mark has arrived that was made after all else: cheaper
/// where there is much to compare.
pub(crate) async fn until_marked_and_same(world: &World, tables: &[&str]) {
    let here = world.primary().client().await;
    let mark = "INSERT INTO public.mark DEFAULT VALUES RETURNING id";
    let mark: i32 = here.query_one(mark, &[]).await.unwrap().get(0);
    for replica in world.replicas() {
        let there = replica.client().await;
        let arrived = "SELECT EXISTS (SELECT FROM public.mark WHERE id = $1)";
        eventually(PATIENCE, "the mark arrives", async || {
            there.query_one(arrived, &[&mark]).await.is_ok_and(|row| row.get(0))
        })
        .await;
    }
    until_same(world, tables).await;
}
