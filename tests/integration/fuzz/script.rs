//! A case: tables, what clients say to them, and what befalls pgfanout meanwhile.

use std::{collections::BTreeSet, fmt};

use super::{
    dice::Dice,
    large,
    replica::{REFUSING, There},
    schema::{self, SURROUNDINGS, Table},
    statements::{Allowed, Step, insert, step},
};
use crate::{
    support::Mode,
    types::{OWN, Type},
};

/// How many write at the same time.
pub(super) const CLIENTS: usize = 4;

/// How a transaction ends, if it comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    Rollback,
    /// In two phases: it is committed or not after so many rounds, and at once where that is 0.
    Prepared {
        commit: bool,
        rounds: usize,
    },
}

impl End {
    pub(super) fn commits(self) -> bool {
        matches!(self, Self::Commit | Self::Prepared { commit: true, .. })
    }

    /// Whether it keeps its locks for long.
    pub(super) fn is_late(self) -> bool {
        matches!(self, Self::Prepared { rounds: 1.., .. })
    }
}

#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) client: usize,
    /// Its BEGIN, and settings of its own.
    pub(super) begin: String,
    pub(super) steps: Vec<Step>,
    /// Whether it goes on after a step that was refused.
    pub(super) forgiving: bool,
    pub(super) end: End,
}

/// What befalls pgfanout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Kill,
    Terminate,
    /// Stopped where it is, while its connections stay, for a while.
    Stop,
    /// Killed, and begun again when all of the round is written.
    Away,
    EndSessionsOfPrimary,
    EndSessionsOfReplica,
    CutPrimary,
    CutReplica,
    CutBroker,
    Purge,
    DeleteQueue,
    Unbind,
    DeleteExchange,
    /// The servers, where they are this case's own: killed and started again, or stopped where they are for a while.
    KillPrimary,
    StopPrimary,
    KillReplica,
    StopReplica,
    KillBroker,
    StopBroker,
}

/// What a case is played on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Servers {
    pub(super) mode: Mode,
    /// Whether they are this case's own, and may be harmed.
    pub(super) own: bool,
    /// Whether the primary takes transactions in two phases; one of the case's own.
    pub(super) two_phases: bool,
}

impl Servers {
    /// What the seed decides before they are there.
    pub(super) fn plan(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mode = if dice.once_in(3) { Mode::Postgres } else { Mode::Broker };
        let own = dice.once_in(3);
        Self { mode, own, two_phases: own && dice.once_in(2) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) transactions: Vec<Transaction>,
    /// After so many commits.
    pub(super) faults: Vec<(usize, Fault)>,
}

/// All of it. The first round comes before pgfanout is started, or while it starts.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) servers: Servers,
    /// Which tables the replica has before.
    pub(super) there: There,
    /// Whether it is started while the first round goes on.
    pub(super) amid: bool,
    /// Whether one client does all of it in order.
    pub(super) sequential: bool,
    pub(super) max_changes_per_message: i32,
    /// As in the configuration.
    pub(super) old_record: &'static str,
    pub(super) tables: Vec<Table>,
    /// The places of those that are made.
    pub(super) made: BTreeSet<usize>,
    pub(super) rounds: Vec<Round>,
}

impl Case {
    /// What the seed decides, with types and statements that the server knows.
    pub(super) fn generate(seed: u64, types: &[Type], merge: bool) -> Self {
        let mut dice = Dice::new(seed ^ 0x9e37_79b9_7f4a_7c15);
        let dice = &mut dice;
        let tables = schema::tables(dice, types);
        let mut case = Self {
            seed,
            servers: Servers::plan(seed),
            there: *dice.pick(&[There::Nothing, There::Nothing, There::Nothing, There::Same, There::Own]),
            amid: dice.once_in(2),
            sequential: false,
            max_changes_per_message: *dice.pick(&[1, 7, 5000]),
            old_record: *dice.pick(&["full", "full", "key"]),
            made: (0..tables.len()).collect(),
            tables,
            rounds: Vec::new(),
        };
        for number in 0..dice.many(4..9) {
            let mut transactions: Vec<_> =
                (0..dice.many(10..70)).map(|_| transaction(dice, &case, merge, number)).collect();
            if number == 0 {
                transactions.extend((0..2 * case.tables.len()).map(|n| fill(dice, &case, n / 2)));
            }
            let faults = if number > 0 { dice.many(0..4) } else { 0 };
            let most = transactions.len();
            let faults = (0..faults).map(|_| (dice.many(0..most), fault(dice, &case))).collect();
            case.rounds.push(Round { transactions, faults });
        }
        if seed.is_multiple_of(2) {
            large::add(dice, &mut case);
        }
        case
    }

    /// The statements that make what is needed on both sides where the replica has tables of its own, and on the
    /// primary in any case.
    pub(super) fn setup(&self) -> Vec<String> {
        let tables = self.made.iter().flat_map(|&place| self.tables[place].setup.iter().cloned());
        [OWN, SURROUNDINGS].into_iter().map(str::to_owned).chain(tables).collect()
    }

    /// The statements that make what the replica has beside that.
    pub(super) fn own_setup(&self) -> Vec<String> {
        let made = self.made.iter().flat_map(|&place| self.tables[place].replica_alone.iter().cloned());
        [REFUSING.to_owned()].into_iter().chain(made).collect()
    }

    /// The names of the tables that are compared.
    pub(super) fn names(&self) -> Vec<&str> {
        let names = self.made.iter().map(|&place| &*self.tables[place].name);
        names.chain(["public.witness_a", "public.witness_b"]).collect()
    }
}

/// Rows to begin with.
fn fill(dice: &mut Dice, case: &Case, place: usize) -> Transaction {
    let steps =
        (0..4).map(|_| Step { tables: vec![place], sql: insert(dice, &case.tables[place]) }).collect();
    let (client, begin) = (dice.many(0..CLIENTS), "BEGIN".to_owned());
    Transaction { client, begin, steps, forgiving: true, end: End::Commit }
}

fn transaction(dice: &mut Dice, case: &Case, merge: bool, round: usize) -> Transaction {
    let end = match dice.many(0..8) {
        0 => End::Rollback,
        1..4 if case.servers.two_phases => {
            // Tables can't come to be captured while one holds locks on them.
            let rounds = if round > 0 && dice.once_in(4) { dice.many(1..4) } else { 0 };
            End::Prepared { commit: !dice.once_in(3), rounds }
        }
        _ => End::Commit,
    };
    let level = *dice.pick(&[
        "READ COMMITTED",
        "READ COMMITTED",
        "READ COMMITTED",
        "READ COMMITTED",
        "READ COMMITTED",
        "REPEATABLE READ",
        "SERIALIZABLE",
    ]);
    // A snapshot that is older than a TRUNCATE shows the table empty, to the history's triggers too; and nobody could read
    // on until it is resolved.
    let truncate = level == "READ COMMITTED" && !end.is_late();
    let allowed = Allowed { truncate, partitions: truncate && !case.servers.two_phases, merge };
    let steps: Vec<_> = (0..dice.many(1..6)).map(|_| step(dice, &case.tables, allowed)).collect();
    let mut begin = format!("BEGIN ISOLATION LEVEL {level}");
    // In replica role PostgreSQL does not check what may be unique later, and two rows would have one key.
    let checked = |step: &Step| step.tables.iter().all(|&place| !case.tables[place].is_unique_later());
    if steps.iter().all(checked) && dice.once_in(8) {
        begin += "; SET LOCAL session_replication_role = replica";
    }
    for (many, more) in [
        (3, "SET CONSTRAINTS ALL DEFERRED"),
        (8, "SET LOCAL datestyle = 'German, DMY'; SET LOCAL timezone = 'Asia/Kathmandu'"),
        (8, "SET LOCAL intervalstyle = 'iso_8601'; SET LOCAL bytea_output = 'escape'"),
        (8, "SET LOCAL extra_float_digits = -15; SET LOCAL standard_conforming_strings = on"),
        (8, "SET LOCAL synchronous_commit = off"),
    ] {
        if dice.once_in(many) {
            begin += "; ";
            begin += more;
        }
    }
    Transaction { client: dice.many(0..CLIENTS), begin, steps, forgiving: !dice.once_in(8), end }
}

fn fault(dice: &mut Dice, case: &Case) -> Fault {
    let mut known = vec![
        Fault::Kill,
        Fault::Kill,
        Fault::Terminate,
        Fault::Stop,
        Fault::Away,
        Fault::EndSessionsOfPrimary,
        Fault::EndSessionsOfReplica,
        Fault::CutPrimary,
        Fault::CutReplica,
    ];
    let Servers { mode, own, .. } = case.servers;
    if mode == Mode::Broker {
        let lost = [Fault::Purge, Fault::Purge, Fault::DeleteQueue, Fault::Unbind, Fault::DeleteExchange];
        known.extend(lost.into_iter().chain([Fault::CutBroker]));
    }
    if own {
        let killed = [Fault::KillPrimary, Fault::KillPrimary, Fault::KillReplica, Fault::KillReplica];
        known.extend(killed.into_iter().chain([Fault::StopPrimary, Fault::StopReplica]));
    }
    if own && mode == Mode::Broker {
        known.extend([Fault::KillBroker, Fault::KillBroker, Fault::StopBroker]);
    }
    *dice.pick(&known)
}

/// As a script that may be read, and played with psql.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, servers, there, amid, max_changes_per_message, old_record, .. } = self;
        writeln!(
            f,
            "-- seed {seed}; {servers:?}, {max_changes_per_message} changes a message, old_record {old_record}; \
             tables on the replica before: {there:?}; started amid the first round: {amid}"
        )?;
        let made = || self.made.iter().map(|&place| &self.tables[place]);
        let (both, alone) =
            (made().flat_map(|table| &table.setup), made().flat_map(|table| &table.primary_alone));
        both.chain(alone).try_for_each(|statement| writeln!(f, "{statement};"))?;
        if *there == There::Own {
            writeln!(f, "-- on the replica alone")?;
            made().flat_map(|table| &table.replica_alone).try_for_each(|said| writeln!(f, "{said};"))?;
        }
        for (number, round) in self.rounds.iter().enumerate() {
            writeln!(f, "-- round {number}, faults after so many commits: {:?}", round.faults)?;
            for transaction in &round.transactions {
                let Transaction { client, begin, steps, forgiving, end } = transaction;
                let client = if self.sequential { 0 } else { *client };
                let on = if *forgiving { "on" } else { "off" };
                writeln!(f, "-- client {client}, ON_ERROR_ROLLBACK {on}\n{begin};")?;
                steps.iter().try_for_each(|step| writeln!(f, "    {};", step.sql))?;
                writeln!(f, "{end:?};")?;
            }
        }
        Ok(())
    }
}
