//! The fuzzer bites: harm that is done to a replica from outside is found, and named by its kind.

use std::collections::BTreeSet;

use pgfanout_testbed::{compare::same_tables, eventually, world::World};

use super::{
    bench::replay,
    check::Checker,
    failure::Kind,
    history,
    replica::There,
    schema::Table,
    script::{CLIENTS, Case, End, Fault, Round, Servers, Transaction},
    shrink::shrink,
    statements::Step,
};
use crate::support::{Mode, PATIENCE, program, world};

/// What is done to the replica, by itself or by a trigger that fires with what pgfanout writes.
struct Harm {
    kind: Kind,
    /// Written on the primary before, and seen.
    before: &'static str,
    plant: &'static str,
    /// Written on the primary afterwards.
    after: &'static str,
    /// Takes the harm away.
    undo: &'static str,
}

const TRIGGER: &str = "DROP TRIGGER IF EXISTS harm ON public.one;
    CREATE TRIGGER harm BEFORE INSERT ON public.one FOR EACH ROW EXECUTE FUNCTION public.harm();
    ALTER TABLE public.one ENABLE ALWAYS TRIGGER harm";

const UNDO: &str = "DROP TRIGGER harm ON public.one";

const HARMS: &[Harm] = &[
    Harm {
        kind: Kind::Lost,
        before: "",
        plant: "IF new.id = 1 THEN RETURN NULL; END IF; RETURN new;",
        after: "INSERT INTO one VALUES (1, 1, 1), (2, 2, 2)",
        undo: UNDO,
    },
    Harm {
        kind: Kind::Stale,
        before: "UPDATE one SET number = 5",
        plant: "IF new.id = 1 THEN new.number := 5; END IF; RETURN new;",
        after: "UPDATE one SET number = 6",
        undo: UNDO,
    },
    Harm {
        kind: Kind::Wrong,
        before: "",
        plant: "new.amount := pg_catalog.trim_scale(new.amount); RETURN new;",
        after: "UPDATE one SET amount = 7.00 WHERE id = 1",
        undo: UNDO,
    },
    // As if an insert had been applied a second time, without a key to prevent it.
    Harm {
        kind: Kind::Doubled,
        before: "",
        plant: "IF pg_catalog.pg_trigger_depth() = 1 THEN INSERT INTO public.one VALUES (new.id, new.number, new.amount); END IF; RETURN new;",
        after: "UPDATE one SET number = 8 WHERE id = 2",
        undo: "DROP TRIGGER harm ON public.one; DELETE FROM one WHERE id = 2; ALTER TABLE one ADD PRIMARY KEY (id)",
    },
    // As if the changes of two batches had come in the other order.
    Harm {
        kind: Kind::Backwards,
        before: "UPDATE one SET number = 9; UPDATE one SET number = 10",
        plant: "UPDATE public.one SET number = 9 WHERE id = 1",
        after: "",
        undo: "",
    },
    Harm {
        kind: Kind::Half,
        before: "BEGIN; UPDATE witness_a SET number = number + 1; UPDATE witness_b SET number = number + 1; COMMIT",
        plant: "UPDATE public.witness_b SET number = number - 1 WHERE client = 2",
        after: "",
        undo: "UPDATE public.witness_b SET number = number + 1 WHERE client = 2",
    },
];

/// One table, and nothing that is said by itself.
fn case() -> Case {
    let setup = "CREATE TABLE public.one (id int PRIMARY KEY, number int, amount numeric)".to_owned();
    let mut table = Table::of_integers("public.one", "id", "number", vec![setup]);
    table.generated.push("amount".to_owned());
    Case {
        seed: 0,
        servers: Servers { mode: Mode::Postgres, own: false, two_phases: false },
        there: There::Nothing,
        amid: false,
        sequential: false,
        max_changes_per_message: 5000,
        old_record: "full",
        tables: vec![table],
        made: BTreeSet::from([0]),
        rounds: Vec::new(),
    }
}

async fn until_right(checker: &mut Checker<'_>, case: &Case, world: &World) {
    eventually(PATIENCE, "the replica is right", async || {
        // First: the look after it, which later ones are compared with, shows what was written last.
        let (here, there) = (world.primary().look().await.unwrap(), world.replica(1).look().await.unwrap());
        same_tables(&here, &there, &case.names()).await?;
        let seen = checker.look().await.map_err(|failure| failure.to_string())?;
        if seen { Ok(()) } else { Err("nothing to see".to_owned()) }
    })
    .await;
}

#[tokio::test]
async fn every_kind_of_harm_is_found() {
    let (case, world) = (case(), world(Mode::Postgres, 1).build().await);
    for statement in case.setup().into_iter().chain(history::setup(&case)) {
        world.primary().execute(&statement).await;
    }
    let _pgfanout = program().run(&world.config().primary("exclude = [\"audit.*\"]").write());
    let mut checker = Checker::new(&case, &world);
    until_right(&mut checker, &case, &world).await;
    for Harm { kind, before, plant, after, undo } in HARMS {
        world.primary().execute(before).await;
        until_right(&mut checker, &case, &world).await;
        let replica = world.replica(1);
        if *kind == Kind::Doubled {
            replica.execute("ALTER TABLE public.one DROP CONSTRAINT one_pkey").await;
        }
        if after.is_empty() {
            replica.execute(plant).await;
        } else {
            let function = "CREATE OR REPLACE FUNCTION public.harm() RETURNS trigger LANGUAGE plpgsql";
            replica.execute(&format!("{function} AS $$ BEGIN {plant} END $$; {TRIGGER}")).await;
        }
        world.primary().execute(after).await;
        let found = eventually(PATIENCE, &format!("{kind:?} is found"), async || {
            checker.look().await.err().ok_or("nothing is found")
        })
        .await;
        eprintln!("{found}");
        assert_eq!(found.kind, *kind, "{found}");
        replica.execute(undo).await;
        world.primary().execute("UPDATE one SET number = number").await;
        until_right(&mut checker, &case, &world).await;
    }
}

/// Rows with a 3 never come.
fn loses_some(_: &Case) -> String {
    let function = "CREATE OR REPLACE FUNCTION public.harm() RETURNS trigger LANGUAGE plpgsql";
    format!(
        "{function} AS $$ BEGIN IF new.number = 3 THEN RETURN NULL; END IF; RETURN new; END $$; {TRIGGER}"
    )
}

#[tokio::test]
async fn a_failure_is_shrunk_to_what_it_takes() {
    let mut case = case();
    let other = "CREATE TABLE public.two (id int PRIMARY KEY, number int)".to_owned();
    case.tables.push(Table::of_integers("public.two", "id", "number", vec![other]));
    case.made.insert(1);
    let insert = |place: usize, n: usize| {
        let table = if place == 0 { "one" } else { "two" };
        Step { tables: vec![place], sql: format!("INSERT INTO {table} (id, number) VALUES ({n}, {n})") }
    };
    let transaction = |n: usize| Transaction {
        client: n % CLIENTS,
        begin: "BEGIN".to_owned(),
        steps: vec![insert(0, n), insert(1, n)],
        forgiving: true,
        end: End::Commit,
    };
    let quiet = Round { transactions: Vec::new(), faults: Vec::new() };
    let round = Round { transactions: (1..5).map(transaction).collect(), faults: vec![(1, Fault::Kill)] };
    case.rounds = vec![quiet, round];
    let found = replay(&case, Some(loses_some)).await.unwrap_err();
    assert_eq!(found.kind, Kind::Lost, "{found}");
    let smallest = shrink(&case, found.kind, Some(loses_some), PATIENCE).await;
    let script = smallest.to_string();
    eprintln!("{found}\n{script}");
    let said: Vec<_> = script.lines().filter(|line| line.contains("INSERT")).map(str::trim).collect();
    assert_eq!(said, ["INSERT INTO one (id, number) VALUES (3, 3);"], "{script}");
    assert!(!script.contains("public.two") && !script.contains("Kill"), "{script}");
}
