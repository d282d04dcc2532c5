//! Every command of the guide is run, in order, and prints what the guide says.
//!
//! A block `console` has lines `MACHINE$ COMMAND`, each followed by what it prints: these lines have to come in that
//! order, others may come between, and `…` stands for anything. The machines are private servers; what only a machine
//! of one's own has (sudo, systemd, its journal, files in /etc) is stood in for.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use pgfanout_testbed::{
    postgres::{Cluster, Shutdown},
    process::Pgfanout,
    world::World,
};

use super::{project, text};
use crate::support::{Mode, PATIENCE, program, world};

/// A command with what the guide says that it prints.
struct Step {
    machine: String,
    command: String,
    prints: Vec<String>,
}

/// The steps of a page.
fn steps(page: &str) -> Vec<Step> {
    let text = text(page);
    let mut steps: Vec<Step> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let mut lines = block.split("\n```").next().unwrap().lines();
        while let Some(line) = lines.next() {
            let Some((machine, command)) = line
                .split_once("$ ")
                .filter(|(machine, _)| ["primary", "replica", "broker"].contains(machine))
            else {
                steps.last_mut().unwrap().prints.push(line.to_owned());
                continue;
            };
            let mut command = command.to_owned();
            if command.contains("<<'END'") {
                for line in lines.by_ref() {
                    command += &format!("\n{line}");
                    if line == "END" {
                        break;
                    }
                }
            }
            steps.push(Step { machine: machine.to_owned(), command, prints: Vec::new() });
        }
    }
    steps
}

/// The machines.
struct Machines {
    world: World,
    pgfanout: Option<Pgfanout>,
}

impl Machines {
    fn new(world: World) -> Self {
        let stand_ins = world.directory().join("bin");
        fs::create_dir(&stand_ins).unwrap();
        let postgres = |name: &str| {
            let program = world.primary().cluster().program_if_there(name, "the guide's commands")?;
            Some(format!(
                "PGHOST=127.0.0.1 PGPORT=$POSTGRES_PORT PGUSER=postgres PGPASSWORD=$POSTGRES_PASSWORD exec {} \"$@\"",
                program.display()
            ))
        };
        let scripts = [
            ("sudo", Some("[ \"$1\" = -u ] && shift 2\nexec \"$@\"".to_owned())),
            ("chgrp", Some(":".to_owned())),
            ("pgfanout", Some(format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_pgfanout")))),
            ("journalctl", Some(format!("cat {}", world.directory().join("journal").display()))),
            ("psql", postgres("psql")),
            ("createdb", postgres("createdb")),
        ];
        for (name, script) in scripts {
            let file = stand_ins.join(name);
            fs::write(&file, format!("#!/bin/sh\n{}\n", script.unwrap_or_default())).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { world, pgfanout: None }
    }

    fn etc(&self) -> PathBuf {
        self.world.directory().join("etc")
    }

    fn cluster(&self, machine: &str) -> &Cluster {
        match machine {
            "primary" => self.world.primary().cluster(),
            _ => self.world.replica(1).cluster(),
        }
    }

    /// The command as it is for these machines.
    fn local(&self, command: &str) -> String {
        let address = |port: u16| format!("127.0.0.1:{port}");
        command
            .replace("primary.example.com:5432", &address(self.cluster("primary").port()))
            .replace("replica.example.com:5432", &address(self.cluster("replica").port()))
            .replace("broker.example.com:5672/", &format!("{}/%2f", address(self.world.broker().port())))
            .replace("/usr/share/pgfanout/roles.sql", project("sql/roles.sql").to_str().unwrap())
            .replace("/etc/pgfanout", self.etc().to_str().unwrap())
    }

    /// What a command prints, and whether it went well.
    async fn run(&mut self, step: &Step) -> (String, bool) {
        let command = self.local(&step.command);
        if let Some(rest) = command.strip_prefix("sudo systemctl ") {
            self.systemctl(&step.machine, rest).await;
            return (String::new(), true);
        }
        if let Some(pgfanout) = &self.pgfanout {
            fs::write(self.world.directory().join("journal"), pgfanout.lines().join("\n")).unwrap();
        }
        if command.starts_with("sudo rabbitmqctl ") {
            let words = format!("set -f; words=({command}); printf '%s\\0' \"${{words[@]}}\"");
            let mut bash = Command::new("bash");
            bash.args(["-c", &words]);
            let words = output(bash).await;
            let words = String::from_utf8(words.stdout).unwrap();
            let words: Vec<&str> = words.trim_end_matches('\0').split('\0').skip(2).collect();
            return (self.world.broker().ctl(&words).await, true);
        }
        let cluster = self.cluster(&step.machine);
        let url = cluster.url("postgres");
        let password = url.split([':', '@']).nth(2).unwrap();
        let path = format!("{}:{}", self.world.directory().join("bin").display(), env::var("PATH").unwrap());
        let mut bash = Command::new("bash");
        bash.args(["-c", &command])
            .current_dir(self.world.directory())
            .env("PATH", path)
            .env("POSTGRES_PORT", cluster.port().to_string())
            .env("POSTGRES_PASSWORD", password);
        let output = output(bash).await;
        let printed = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&printed).into_owned(), output.status.success())
    }

    async fn systemctl(&mut self, machine: &str, what: &str) {
        let words: Vec<&str> = what.split(' ').collect();
        match (words[0], *words.last().unwrap()) {
            ("start", "pgfanout") => {
                assert!(self.pgfanout.is_none(), "it runs already");
                self.pgfanout = Some(program().run(&self.etc().join("pgfanout.toml")));
            }
            ("stop", "pgfanout") => _ = self.pgfanout.take().unwrap().terminate().await,
            ("kill", "pgfanout") => self.pgfanout.take().unwrap().kill9().await,
            ("reload", "pgfanout") => {
                let pgfanout = self.pgfanout.as_mut().unwrap();
                let mark = pgfanout.mark();
                pgfanout.reload();
                pgfanout.wait_for_event_after(mark, "reloaded", PATIENCE).await;
            }
            ("stop", "postgresql") => self.cluster(machine).stop(Shutdown::Fast).await,
            ("start", "postgresql") => self.cluster(machine).start_again().await,
            ("stop", "rabbitmq-server") => self.world.broker().stop().await,
            ("start", "rabbitmq-server") => self.world.broker().start_again().await,
            _ => panic!("no machine here knows systemctl {what}"),
        }
    }

    /// Does a step. What only looks is done again until it prints what the guide says.
    async fn follow(&mut self, step: &Step) {
        let looks = ["SELECT ", "pgfanout status", "pgfanout check", "pgfanout verify", "journalctl"];
        let looks = looks.iter().any(|word| step.command.contains(word)) && !step.command.contains("INSERT");
        let tells_by_its_code = looks && step.command.starts_with("pgfanout ");
        let started = Instant::now();
        loop {
            let (printed, went_well) = self.run(step).await;
            let wanted = step.prints.iter().map(|line| self.local(line)).collect::<Vec<_>>();
            let missing = missing(&printed, &wanted);
            if missing.is_none() && (went_well || tells_by_its_code) {
                return;
            }
            let log = self.pgfanout.as_ref().map(|pgfanout| pgfanout.lines()).unwrap_or_default();
            let log = log[log.len().saturating_sub(20)..].join("\n");
            assert!(
                looks && started.elapsed() < PATIENCE,
                "{}$ {}\nprinted ({went_well}), without {missing:?}:\n{printed}\n{log}",
                step.machine,
                step.command
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// The first of the lines that does not come, after those before it.
fn missing<'a>(printed: &str, wanted: &'a [String]) -> Option<&'a str> {
    let mut lines = printed.lines();
    wanted
        .iter()
        .map(|line| line.as_str())
        .find(|wanted| !wanted.trim().is_empty() && !lines.any(|line| is_like(line, wanted)))
}

/// Whether a line is as wanted, however many blanks there are.
fn is_like(line: &str, wanted: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, wanted) = (plain(line), plain(wanted));
    let pieces: Vec<&str> = wanted.split('…').map(str::trim).collect();
    let [first, between @ .., last] = &pieces[..] else { return line == wanted };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for piece in between {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[tokio::test]
async fn every_command_of_the_guide_does_what_it_says() {
    let plan = world(Mode::Broker, 1).own_primary(&[]).own_replicas().own_broker();
    let world = plan.build().await;
    if world.primary().cluster().program_if_there("psql", "the guide's commands").is_none()
        || !world.replica(1).cluster().knows("a replica's role that is no superuser", 15)
    {
        return;
    }
    world.primary().cluster().create_database("shop").await;
    let mut machines = Machines::new(world);
    let pages = ["src/guide/three_machines.md", "src/guide/changing.md"].map(steps);
    assert!(pages.iter().all(|steps| steps.len() > 20));
    for step in pages.iter().flatten() {
        machines.follow(step).await;
    }
}

#[test]
fn what_is_printed_is_compared_line_by_line() {
    let wanted = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let printed = "replica  state\na        following  3 ms\nb  halted\n";
    assert_eq!(missing(printed, &wanted(&["a following …", "b … ted"])), None);
    assert_eq!(missing(printed, &wanted(&["b halted", "a following …"])), Some("a following …"));
    assert_eq!(missing(printed, &wanted(&["a halted …"])), Some("a halted …"));
    assert_eq!(missing(printed, &wanted(&["a following"])), Some("a following"));
}
