//! The fuzzer bites: harm that is done to a replica from outside is found, named by its kind, and told with the seed and
//! the least that it takes.

use std::collections::BTreeSet;

use super::{
    bench::build,
    examine,
    failure::Kind,
    replica::There,
    schema::Table,
    script::{CLIENTS, Case, End, Fault, Round, Servers, Transaction},
    statements::Step,
};
use crate::support::Mode;

const SEED: u64 = 4711;

/// What a trigger does on the replica with the rows that pgfanout writes.
struct Harm {
    kind: Kind,
    table: &'static str,
    body: &'static str,
}

/// What some transactions of a round say, `{n}` being the number of each.
const INSERT: &str = "INSERT INTO one (id, number) VALUES ({n}, {n})";

/// Transactions of all clients, who say something about another table, too, in sessions with settings of their own, and
/// pgfanout is killed meanwhile.
fn round(number: usize, said: &str) -> Round {
    let transaction = |n: usize| {
        let other = format!("INSERT INTO two VALUES ({}, {n})", 10 * number + n);
        let steps = [(0, said.replace("{n}", &n.to_string())), (1, other)];
        Transaction {
            client: n % CLIENTS,
            begin: "BEGIN; SET LOCAL datestyle = 'German'".to_owned(),
            steps: steps.map(|(place, sql)| Step { tables: vec![place], sql }).into(),
            forgiving: true,
            end: End::Commit,
        }
    };
    let transactions = if said.is_empty() { Vec::new() } else { (1..5).map(transaction).collect() };
    Round { transactions, faults: if number > 0 { vec![(1, Fault::Kill)] } else { Vec::new() } }
}

/// A case in which these rounds are said.
fn case(key: &str, rounds: &[&str]) -> Case {
    let one = format!("CREATE TABLE public.one (id int {key}, number int, amount numeric)");
    let mut one = Table::of_integers("public.one", "id", "number", vec![one]);
    one.generated.push("amount".to_owned());
    one.keyless = key.is_empty();
    let two = "CREATE TABLE public.two (id int PRIMARY KEY, number int)".to_owned();
    Case {
        seed: SEED,
        servers: Servers { mode: Mode::Postgres, own: false, two_phases: false },
        there: There::Nothing,
        amid: false,
        sequential: false,
        max_changes_per_message: 5000,
        old_record: "full",
        tables: vec![one, Table::of_integers("public.two", "id", "number", vec![two])],
        made: BTreeSet::from([0, 1]),
        rounds: rounds.iter().enumerate().map(|(number, said)| round(number, said)).collect(),
    }
}

/// Of all that is said, these statements are left.
async fn is_shrunk(Harm { kind, table, body }: Harm, case: Case, left: &[&str]) {
    let harm = format!(
        "CREATE FUNCTION public.harm() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN new; END $$;
        CREATE TRIGGER harm BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION public.harm();
        ALTER TABLE {table} ENABLE ALWAYS TRIGGER harm"
    );
    let world = build(case.servers).await;
    let told = examine(&case, world, Some(&harm)).await.unwrap_err();
    eprintln!("{told}");
    assert!(told.starts_with(&format!("make fuzz SECONDS=1 SEED={SEED}\n{kind:?}: ")), "{told}");
    let (_, script) = told.split_once(&format!("\n-- seed {SEED}; ")).expect("the script comes last");
    let said: Vec<_> = script.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert_eq!(said, left.iter().map(|said| format!("{said};")).collect::<Vec<_>>(), "{told}");
    for noise in ["public.two", "Kill", "SET LOCAL", "client 1", "client 2", "client 3"] {
        assert!(!script.contains(noise), "{noise}: {told}");
    }
}

#[tokio::test]
async fn what_is_lost_is_found_and_shrunk() {
    let body = "IF new.number = 3 THEN RETURN NULL; END IF;";
    let harm = Harm { kind: Kind::Lost, table: "public.one", body };
    is_shrunk(harm, case("PRIMARY KEY", &["", INSERT]), &["INSERT INTO one (id, number) VALUES (3, 3)"])
        .await;
}

/// As if an insert had been applied a second time, without a key to prevent it.
#[tokio::test]
async fn what_is_doubled_is_found_and_shrunk() {
    let body = "IF new.id = 3 AND pg_catalog.pg_trigger_depth() = 1 THEN
        INSERT INTO public.one VALUES (new.id, new.number, new.amount); END IF;";
    let harm = Harm { kind: Kind::Doubled, table: "public.one", body };
    is_shrunk(harm, case("", &["", INSERT]), &["INSERT INTO one (id, number) VALUES (3, 3)"]).await;
}

#[tokio::test]
async fn what_is_stale_is_found_and_shrunk() {
    let body = "IF new.number = 13 THEN new.number := 3; END IF;";
    let harm = Harm { kind: Kind::Stale, table: "public.one", body };
    let update = "UPDATE one SET number = number + 10 WHERE id = {n}";
    let left =
        ["INSERT INTO one (id, number) VALUES (3, 3)", "UPDATE one SET number = number + 10 WHERE id = 3"];
    is_shrunk(harm, case("PRIMARY KEY", &[INSERT, update]), &left).await;
}

/// As if the changes of two batches had come in the other order.
#[tokio::test]
async fn what_is_reordered_is_found_and_shrunk() {
    let body = "IF new.number = 9 THEN new.number := 3; END IF;";
    let harm = Harm { kind: Kind::Backwards, table: "public.one", body };
    let updates = [
        "UPDATE one SET number = number + 10 WHERE id = {n}",
        "UPDATE one SET number = 3 * id WHERE id = {n}",
    ];
    let left = [
        "INSERT INTO one (id, number) VALUES (3, 3)",
        "UPDATE one SET number = number + 10 WHERE id = 3",
        "UPDATE one SET number = 3 * id WHERE id = 3",
    ];
    is_shrunk(harm, case("PRIMARY KEY", &[INSERT, updates[0], updates[1]]), &left).await;
}

/// What a transaction wrote last comes later than the rest. It does not matter which transaction.
#[tokio::test]
async fn half_a_transaction_is_found_and_shrunk() {
    let harm = Harm { kind: Kind::Half, table: "public.witness_b", body: "new.number := new.number - 1;" };
    is_shrunk(harm, case("PRIMARY KEY", &["", INSERT]), &["INSERT INTO one (id, number) VALUES (1, 1)"])
        .await;
}

#[tokio::test]
async fn a_value_of_another_text_is_found_and_shrunk() {
    let body = "IF new.id = 3 THEN new.amount := pg_catalog.trim_scale(new.amount); END IF;";
    let harm = Harm { kind: Kind::Wrong, table: "public.one", body };
    let insert = "INSERT INTO one VALUES ({n}, {n}, {n}.50)";
    is_shrunk(harm, case("PRIMARY KEY", &["", insert]), &["INSERT INTO one VALUES (3, 3, 3.50)"]).await;
}
