//! The rules, and how they look.

use super::{
    Behind, Copy, Phase, Reported, State, Status,
    broker::{Broker, BrokerState, Queue, QueueState},
    judge::{Facts, decide},
    primary::{BrokenTable, Changelog, LastBatch, Primary, PrimaryState, Publisher},
    recent::{Moved, Recent},
    replica::{Isolated, Position, Replica},
    text::{Paper, print},
    units,
};

const NOTHING: Behind =
    Behind { changes: 0, at_least: false, bytes: 0, seconds: 0.0, trimmed: false, foreign: false };

fn healthy(behind: &Behind) -> Facts<'_> {
    Facts {
        paused: false,
        installed: true,
        applied_to: true,
        name: "r1",
        is_foreign: false,
        is_lost: false,
        reported: None,
        apart: 0,
        isolated: 0,
        missing: Some(0),
        behind: Some(Ok(behind)),
        overdue: false,
        held_up: None,
        has_position: true,
    }
}

fn halted(error: Option<&str>) -> Reported {
    Reported { state: "halted".to_owned(), error: error.map(str::to_owned), seconds_ago: 1.0 }
}

#[test]
fn nobody_follows_while_nothing_is_passed_on() {
    let held_up = Facts { held_up: Some("nobody is there"), ..healthy(&NOTHING) };
    assert_eq!(decide(&held_up), (State::CatchingUp, Some("nobody is there".to_owned())));
}

#[test]
fn a_replica_that_does_not_show_a_commit_does_not_follow() {
    let (state, reason) = decide(&Facts { overdue: true, ..healthy(&NOTHING) });
    assert_eq!(state, State::CatchingUp);
    assert!(reason.is_some_and(|reason| reason.contains("within 4 s")));
}

#[test]
fn a_replica_follows_while_what_it_lacks_is_fresh() {
    let fresh = Behind { changes: 5, seconds: 9.0, ..NOTHING };
    let old = Behind { seconds: 11.0, ..fresh };
    assert_eq!(decide(&healthy(&NOTHING)), (State::Following, None));
    assert_eq!(decide(&healthy(&fresh)), (State::Following, None));
    assert_eq!(decide(&healthy(&old)), (State::CatchingUp, None));
    let trimmed = Behind { trimmed: true, ..NOTHING };
    assert_eq!(decide(&healthy(&trimmed)).0, State::CatchingUp);
}

#[test]
fn nobody_is_said_to_follow_a_primary_that_cannot_tell() {
    let unknown = Facts { missing: None, behind: None, ..healthy(&NOTHING) };
    assert_eq!(decide(&unknown).0, State::CatchingUp);
    let late = Facts { behind: Some(Err("no answer".to_owned())), ..healthy(&NOTHING) };
    assert_eq!(decide(&late), (State::CatchingUp, Some("how far behind is not known: no answer".to_owned())));
}

#[test]
fn a_replica_without_any_table_does_not_follow_yet() {
    let empty = Facts { behind: None, has_position: false, ..healthy(&NOTHING) };
    assert_eq!(decide(&empty), (State::Copying, Some("no table is captured on the primary yet".to_owned())));
}

#[test]
fn a_table_that_is_not_where_the_others_are_is_being_copied() {
    assert_eq!(decide(&Facts { apart: 1, ..healthy(&NOTHING) }), (State::Copying, None));
    assert_eq!(decide(&Facts { missing: Some(2), ..healthy(&NOTHING) }).0, State::Copying);
    assert_eq!(decide(&Facts { apart: 1, isolated: 1, ..healthy(&NOTHING) }), (State::Isolating, None));
}

#[test]
fn a_replica_that_nothing_is_applied_to_is_halted_whatever_else_holds() {
    let reason = |facts: Facts<'_>| match decide(&Facts { apart: 1, ..facts }) {
        (State::Halted, Some(reason)) => reason,
        other => unreachable!("{other:?}"),
    };
    let healthy = || healthy(&NOTHING);
    assert_eq!(reason(Facts { installed: false, ..healthy() }), "pgfanout has never run for it");
    assert_eq!(reason(Facts { applied_to: false, ..healthy() }), "no process applies changes to it");
    let said = halted(Some("table t is gone"));
    assert_eq!(reason(Facts { reported: Some(&said), ..healthy() }), "table t is gone");
    assert_eq!(
        reason(Facts { reported: Some(&said), applied_to: false, ..healthy() }),
        "nothing is applied to it; reported 1.0 s ago: table t is gone"
    );
    assert!(reason(Facts { is_foreign: true, ..healthy() }).contains("another installation"));
    let lost = reason(Facts { is_lost: true, ..healthy() });
    assert!(lost.contains("pgfanout resync --config FILE --replica r1"), "{lost}");
    assert_eq!(reason(Facts { reported: Some(&halted(None)), ..healthy() }), "its log tells why");
}

#[test]
fn a_paused_replica_is_paused_and_nothing_else() {
    let said = halted(Some("table t is gone"));
    let paused = Facts { paused: true, applied_to: false, reported: Some(&said), ..healthy(&NOTHING) };
    let resume = "until pgfanout resume --config FILE --replica r1".to_owned();
    assert_eq!(decide(&paused), (State::Paused, Some(resume)));
}

fn copy(phase: Phase) -> Copy {
    Copy {
        table: "public.users".to_owned(),
        phase,
        rows: 250_000,
        rows_expected: 1_000_000,
        bytes: 10 << 20,
        bytes_expected: 80 << 20,
        percent: None,
        rows_per_second: Some(10_000.0),
        bytes_per_second: Some(524_288.0),
        seconds_left: None,
    }
}

fn estimated(mut copy: Copy) -> (Option<f64>, Option<f64>) {
    copy.estimate();
    (copy.percent, copy.seconds_left)
}

#[test]
fn progress_goes_by_rows_and_else_by_bytes() {
    assert_eq!(estimated(copy(Phase::Rows)), (Some(25.0), Some(75.0)));
    assert_eq!(estimated(Copy { rows_expected: 0, ..copy(Phase::Rows) }), (Some(12.5), Some(140.0)));
    assert_eq!(estimated(Copy { rows: 2_000_000, ..copy(Phase::Rows) }), (Some(100.0), Some(0.0)));
    assert_eq!(estimated(Copy { rows_per_second: None, ..copy(Phase::Rows) }), (Some(25.0), None));
    let empty = Copy { rows_expected: 0, bytes_expected: 0, ..copy(Phase::Rows) };
    assert_eq!(estimated(empty), (None, None));
    assert_eq!(estimated(copy(Phase::Joining)), (Some(100.0), Some(0.0)));
}

#[test]
fn numbers_are_told_in_words() {
    let counts = [0, 999, 1000, 1_234_567].map(|number: i64| units::count(number));
    assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
    let sizes = [0.0, 1000.0, 1536.0, 1_073_741_824.0, 2_199_023_255_552.0].map(units::bytes);
    assert_eq!(sizes, ["0 B", "1000 B", "1.5 KiB", "1.0 GiB", "2.0 TiB"]);
    let durations = [0.0, 0.0002, 0.04, 0.2, 12.3, 59.9, 200.0, 7500.0, 273_600.0].map(units::duration);
    assert_eq!(
        durations,
        ["0.0 s", "1 ms", "40 ms", "0.2 s", "12 s", "1 min 0 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"]
    );
}

fn replica(name: &str, state: State) -> Replica {
    let position = Position {
        epoch: String::new(),
        snapshot: "731:740:735".to_owned(),
        batch: 7,
        token: "t".to_owned(),
        applied_at: "2026-01-02T03:04:05.678Z".to_owned(),
    };
    Replica {
        name: name.to_owned(),
        state,
        reason: None,
        position: Some(position),
        delay_seconds: None,
        overdue: false,
        behind: Some(NOTHING),
        queue: Some(Queue {
            name: format!("replication.{name}"),
            state: QueueState::Present,
            messages: Some(0),
            consumers: Some(1),
        }),
        reported: None,
        recent: None,
        tables: Some(2),
        missing_tables: Some(0),
        copies: Vec::new(),
        isolated: Vec::new(),
        verified: None,
    }
}

/// Half minutes of a replica that was held up for some seconds four minutes ago, and did nothing before for long.
const RECENT: [Moved; 3] = [
    Moved { ago: 1, delay: 0.1, changes: 300 },
    Moved { ago: 8, delay: 4.0, changes: 500 },
    Moved { ago: 40, delay: 0.2, changes: 100 },
];

fn example() -> Status {
    let mut users = copy(Phase::Rows);
    users.estimate();
    let behind = Behind { changes: 12_345, bytes: 4_200_000, seconds: 95.0, ..NOTHING };
    Status {
        follows: false,
        primary: Primary {
            state: PrimaryState::Reachable,
            publisher: Some(Publisher::Blocked),
            reason: Some("it is held up".to_owned()),
            tables: Some(3),
            broken_tables: vec![BrokenTable { table: "public.t".into(), reason: "it lost\nits key".into() }],
            changelog: Some(Changelog {
                entries: 1200,
                bytes: 524_288,
                logged: 90_000,
                logged_per_second: Some(1234.5),
            }),
            last_batch: Some(LastBatch {
                number: 7,
                published: true,
                cut_at: "2026-01-02T03:04:05.678Z".to_owned(),
                seconds_ago: 1.5,
            }),
            ..Primary::default()
        },
        broker: Some(Broker { state: BrokerState::Reachable, error: None, rejected: Some(1234) }),
        replicas: vec![
            Replica {
                delay_seconds: Some(0.012),
                recent: Some(Recent::new(&RECENT, 20.0, Some(0.012))),
                ..replica("r1", State::Following)
            },
            Replica { behind: Some(behind), overdue: true, ..replica("second", State::CatchingUp) },
            Replica { copies: vec![users, copy(Phase::Waiting)], ..replica("r3", State::Copying) },
            Replica {
                isolated: vec![Isolated {
                    table: "u".into(),
                    cause: "it is\nfull".into(),
                    seconds_ago: 95.0,
                }],
                ..replica("r5", State::Isolating)
            },
            Replica {
                reason: Some("connecting: refused".to_owned()),
                position: None,
                behind: None,
                queue: None,
                ..replica("r4", State::Unreachable)
            },
        ],
    }
}

#[test]
fn the_whole_fits_on_a_screen() {
    let expected = "\
primary  reachable  publisher held up by the broker, 3 tables captured, 1,235 changes/s, changelog about 1,200 entries in 512.0 KiB, last batch 7, 1.5 s ago
broker   reachable  1,234 messages refused or dropped
  publisher: it is held up
  public.t: it lost its key

replica  state        delay  in the last 15 min  applies  behind                         queue  position
r1       following    12 ms  ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁█▁▁▁▁▁▁▂▂ up to 4.0 s  3.8/s  nothing                        0      731:740:735 (batch 7)
second   catching-up  over 4.0 s  -  -  12,345 changes, 4.0 MiB, 1 min 35 s  0      731:740:735 (batch 7)
r3       copying      -  -  -  nothing                        0      731:740:735 (batch 7)
r5       isolating    -  -  -  nothing                        0      731:740:735 (batch 7)
r4       unreachable  -  -  -  -                              -      -
  r5: table u is set aside since 1 min 35 s: it is full
  r4: connecting: refused

replica  copy of       done    rows                  bytes                 rate         left
r3       public.users  25.0 %  250,000 of 1,000,000  10.0 MiB of 80.0 MiB  512.0 KiB/s  1 min 15 s
r3       1 tables wait";
    let squeeze = |text: &str| {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let printed = print(&example(), Paper::default());
    assert_eq!(squeeze(&printed), squeeze(expected));
    let column = |n: usize| {
        printed
            .lines()
            .nth(n)
            .and_then(|line| line.split_once("731:740"))
            .map(|(before, _)| before.chars().count())
    };
    assert_eq!((column(6), column(7)), (column(7), column(8)), "aligned: {printed}");
}

#[test]
fn colours_change_nothing_else() {
    let coloured = print(&example(), Paper { colours: true, width: None });
    assert!(coloured.contains("\x1b[32mfollowing\x1b[0m") && coloured.contains("\x1b[31munreachable\x1b[0m"));
    let bare = ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"]
        .iter()
        .fold(coloured, |text, escape| text.replace(escape, ""));
    assert_eq!(bare, print(&example(), Paper::default()));
}

#[test]
fn a_narrow_terminal_goes_without_what_matters_least() {
    let heading = |width| {
        let printed = print(&example(), Paper { colours: false, width: Some(width) });
        let heading = printed.lines().find(|line| line.starts_with("replica ")).unwrap_or_default();
        let rows = printed
            .lines()
            .filter(|line| line.starts_with('r') && !line.contains("copy of") && !line.contains("public."));
        assert!(
            rows.clone().count() > 4 && rows.clone().all(|line| line.chars().count() <= width),
            "{printed}"
        );
        heading
            .split("  ")
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let all = heading(1000);
    assert_eq!(all.last().map(String::as_str), Some("position"));
    assert_eq!(heading(130), all[..all.len() - 1]);
    assert_eq!(heading(79), ["replica", "state", "delay", "behind", "queue"]);
}

/// The last minutes of one who moved in these half minutes, as bars.
fn bars(moved: &[(i64, f64)], now: Option<f64>) -> String {
    let moved: Vec<Moved> = moved.iter().map(|&(ago, delay)| Moved { ago, delay, changes: 1 }).collect();
    let recent = Recent::new(&moved, 0.0, now);
    assert_eq!(recent.delays.len(), 30);
    recent.bars().trim().to_owned()
}

#[test]
fn the_last_minutes_are_bars_as_high_as_changes_took() {
    assert_eq!(bars(&[(0, 2.0), (1, 4.0), (2, 0.0), (3, 0.1)], Some(0.0)), "▂▁█▅");
    assert_eq!(bars(&[(0, 2.0), (1, 4.0)], Some(8.0)), "▅█", "it is behind by more now");
    assert_eq!(bars(&[], Some(0.0)), "▁", "it never moved: what was before is not known");
    assert_eq!(bars(&[], None), "");
}

#[test]
fn where_a_replica_did_not_move_what_came_later_tells_how_it_was() {
    assert_eq!(bars(&[(3, 0.1)], Some(0.0)), "█▁▁▁", "it lacks nothing, and did not");
    assert_eq!(bars(&[(40, 0.1)], Some(0.0)), "▁".repeat(30), "for long");
    assert_eq!(bars(&[(3, 0.1)], None), "█", "nobody can say");
    assert_eq!(bars(&[(1, 0.0), (3, 0.0)], None), "▁▁▁");
    // What waited for minutes did so all the time before it was applied, and does so while it is not.
    assert_eq!(bars(&[(1, 90.0), (9, 0.0)], Some(0.0)), "▁▁▁▁▁▁▄▆█▁");
    assert_eq!(bars(&[], Some(90.0)), "▄▆█");
}

#[test]
fn a_rate_is_that_of_about_the_last_minute() {
    let moved = [(0, 10), (2, 50), (3, 1000)].map(|(ago, changes)| Moved { ago, delay: 0.0, changes });
    assert_eq!(Recent::new(&moved, 20.0, None).applied_per_second, 0.75);
    assert_eq!(Recent::new(&[], 0.0, None).applied_per_second, 0.0);
}
