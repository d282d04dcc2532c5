//! Every command that the documents have is run as it stands there, or is listed here with the reason why not.
//!
//! Blocks of commands are run by tests of their own; the others stand in backquotes, or indented in comments.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use clap::{Parser as _, error::ErrorKind};
use pgfanout::cli::Arguments;
use pgfanout_testbed::{eventually, world::World};

use super::{project, text};
use crate::{
    messages::until_following,
    support::{Mode, PATIENCE, program, until_same, world},
};

const DOCUMENTS: [&str; 12] = [
    "README.md",
    "SECURITY.md",
    "config/pgfanout.toml",
    "config/pgfanout.service",
    "config/demo.toml",
    "config/Containerfile",
    "sql/roles.sql",
    "src/lib.rs",
    "src/status.rs",
    "src/check.rs",
    "src/verify.rs",
    "src/verify/schedule.rs",
];

/// Blocks that hold commands or configuration, how often they are there, where that matters, and who runs them.
const BLOCKS: [(&str, &str, Option<usize>, &str); 5] = [
    ("README.md", "sql", Some(1), "the_readmes_statement_waits_on_a_replica"),
    ("README.md", "toml", Some(1), "the_readmes_configuration_is_one"),
    ("src/guide/changing.md", "console", None, "every_command_of_the_guide_does_what_it_says"),
    ("src/guide/three_machines.md", "console", None, "every_command_of_the_guide_does_what_it_says"),
    ("src/guide/watching.md", "sql", Some(2), "who_watches_sees_what_status_tells_and_nothing_else"),
];

/// What begins a command.
const PROGRAMS: [&str; 31] = [
    "pgfanout",
    "make",
    "cargo",
    "sudo",
    "systemctl",
    "rabbitmqctl",
    "rabbitmq-diagnostics",
    "journalctl",
    "psql",
    "createdb",
    "pg_dump",
    "pg_restore",
    "podman",
    "docker",
    "apt",
    "apt-get",
    "dpkg",
    "kill",
    "curl",
    "npm",
    "git",
    "SELECT",
    "GRANT",
    "REVOKE",
    "ALTER",
    "CREATE",
    "DROP",
    "INSERT",
    "UPDATE",
    "DELETE",
    "TRUNCATE",
];

const MINUTES: &str =
    "it builds and runs for minutes; what_takes_minutes_is_what_runs_here_for_less_long tells what";
const DEMO: &str =
    "its build takes minutes; the_demonstration_shows_what_is_said_of_it_and_leaves_nothing runs it";
const SYSTEMD: &str =
    "no systemd runs here; run with a stand-in by every_command_of_the_guide_does_what_it_says";
const CONTAINER: &str = "no container can be built here, as the file says";
const KIND: &str = "a kind of statement, none that could be run";
const SCRIPT: &str = "run for names of its own by the_readmes_privileges_are_enough";

/// What no test runs as it stands there, and why.
const NOT_RUN: [(&str, &str); 24] = [
    ("make demo", DEMO),
    ("make demo KEEP=1", DEMO),
    ("make test", "it is what runs this"),
    ("make test-versions", "it gets servers by npm, and takes hours"),
    ("make large", MINUTES),
    ("make samples DIR=…", "it needs files that are not here"),
    ("make bench", MINUTES),
    ("make soak SECONDS=600", MINUTES),
    ("make fuzz SECONDS=300", MINUTES),
    ("make deb", "it needs cargo-deb"),
    ("make test-deb", "it needs cargo-deb, and to be root"),
    ("cargo install --locked --path .", "it builds everything without what was built before; done by hand"),
    ("cargo doc --open", "it opens a browser; the gate runs it without"),
    ("systemctl start pgfanout", SYSTEMD),
    ("systemctl reload pgfanout", SYSTEMD),
    ("sudo systemctl reload pgfanout", SYSTEMD),
    ("podman build -f config/Containerfile -t pgfanout .", CONTAINER),
    ("podman run --rm --read-only -v /etc/pgfanout:/etc/pgfanout:ro pgfanout", CONTAINER),
    (
        "podman run --rm -v /etc/pgfanout:/etc/pgfanout:ro pgfanout status --config /etc/pgfanout/pgfanout.toml",
        CONTAINER,
    ),
    ("psql -v ON_ERROR_STOP=1 -v side=primary -v role=pgfanout -d DATABASE -f roles.sql", SCRIPT),
    ("psql -v ON_ERROR_STOP=1 -v side=replica -v role=pgfanout -d DATABASE -f roles.sql", SCRIPT),
    ("ALTER ROLE", KIND),
    ("ALTER DATABASE", KIND),
    ("DROP TABLE", KIND),
];

/// In which order they are run: what pauses goes before what resumes, and what ends all of it is the last.
const ORDER: [&str; 12] = [
    "run",
    "install",
    "check",
    "man",
    "completions",
    "status",
    "verify",
    "pause",
    "resume",
    "reload",
    "resync",
    "uninstall",
];

/// The pages with their texts; of code and configuration only what is said about it.
fn documents() -> Vec<(String, String)> {
    let guide = fs::read_dir(project("src/guide")).unwrap();
    let guide = guide.map(|page| format!("src/guide/{}", page.unwrap().file_name().to_str().unwrap()));
    let pages = DOCUMENTS.iter().map(|page| (*page).to_owned()).chain(guide);
    pages.map(|page| (said(&page), page)).map(|(text, page)| (page, text)).collect()
}

fn said(page: &str) -> String {
    let text = text(page);
    let marks: &[&str] = match page.rsplit_once('.').map(|(_, extension)| extension) {
        Some("md") => return text,
        Some("rs") => &["//! ", "/// "],
        Some("sql") => &["-- "],
        _ => &["# "],
    };
    let comment = |line: &str| marks.iter().find_map(|mark| line.strip_prefix(mark)).map(str::to_owned);
    text.lines().map(|line| comment(line).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Whether something is a command and not only a word.
fn is_command(text: &str) -> bool {
    text.split_once(' ').is_some_and(|(program, _)| PROGRAMS.contains(&program))
}

/// What stands in single backquotes, or indented for itself, outside of blocks.
fn mentioned(text: &str) -> Vec<String> {
    // Blocks have three of them, which are an odd number.
    let outside: Vec<&str> = text.split("```").step_by(2).collect();
    let plain = outside.iter().map(|text| text.replace('\n', " "));
    let quoted = plain
        .flat_map(|text| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let indented = outside.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("  "));
    quoted.chain(indented.map(|line| line.trim().to_owned())).filter(|text| is_command(text)).collect()
}

pub(super) fn all_mentioned() -> BTreeSet<String> {
    documents().iter().flat_map(|(_, text)| mentioned(text)).collect()
}

#[test]
fn every_block_is_run_by_a_test() {
    for (page, text) in documents() {
        let languages = text.split("```").skip(1).step_by(2).map(|block| block.split('\n').next().unwrap());
        let languages: Vec<&str> =
            languages.filter(|language| !["text", "json"].contains(language)).collect();
        for language in &languages {
            let block = BLOCKS.iter().find(|(there, kind, ..)| *there == page && kind == language);
            let (.., times, test) =
                block.unwrap_or_else(|| panic!("{page}: nobody runs what is `{language}`"));
            let found = languages.iter().filter(|other| *other == language).count();
            assert!(times.is_none_or(|times| times == found), "{page}: {test} runs {times:?} of {found}");
        }
    }
}

#[test]
fn what_is_not_run_is_still_mentioned() {
    let mentioned = all_mentioned();
    for (command, reason) in NOT_RUN {
        // Indented in a comment or a line of the README, as it may be by then.
        assert!(mentioned.contains(command), "nobody mentions {command}, which is not run: {reason}");
    }
}

/// The command without what is optional, and with each of that.
fn forms(command: &str) -> Vec<String> {
    let pieces: Vec<&str> = command.split(['[', ']']).map(str::trim).collect();
    let always = pieces.iter().step_by(2).copied().collect::<Vec<_>>().join(" ");
    let always = always.trim().to_owned();
    let optional = pieces.iter().skip(1).step_by(2).map(|option| format!("{always} {option}"));
    std::iter::once(always.clone()).chain(optional).collect()
}

/// Where the commands are run.
struct Place {
    world: World,
    config: PathBuf,
    role: String,
}

impl Place {
    /// The words of a command for this place.
    fn words(&self, command: &str) -> Vec<String> {
        let word = |word: &str| match word {
            "FILE" | "OLD_FILE" => self.config.to_str().unwrap().to_owned(),
            "NAME" => "r1".to_owned(),
            "T" => "users".to_owned(),
            "SHELL" => "bash".to_owned(),
            other => other.to_owned(),
        };
        let mut words: Vec<String> = command.split_whitespace().map(word).collect();
        let needs_file =
            !words.iter().any(|word| ["--config", "--help", "man", "completions"].contains(&&**word));
        if needs_file {
            words.extend(["--config".to_owned(), self.config.to_str().unwrap().to_owned()]);
        }
        // Nobody is there to be asked.
        if words[1] == "resync" && !words.contains(&"--yes".to_owned()) {
            words.push("--yes".to_owned());
        }
        words
    }

    /// Runs one form of a command of pgfanout, and sees it go well.
    async fn pgfanout(&self, form: &str) {
        let words = self.words(form);
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgfanout"));
        command.args(&words[1..]).stdin(Stdio::null());
        if form.contains("--watch") {
            let mut watching = command.stdout(Stdio::piped()).spawn().unwrap();
            let first = BufReader::new(watching.stdout.take().unwrap()).lines().next().unwrap().unwrap();
            assert!(first.starts_with("primary"), "{first}");
            watching.kill().unwrap();
            watching.wait().unwrap();
            return;
        }
        let looks = ["status", "verify", "check"].contains(&&*words[1]);
        eventually(PATIENCE, &format!("{form} goes well"), async || {
            let output = command.output().unwrap();
            let printed = [output.stdout, output.stderr].concat();
            let printed = String::from_utf8_lossy(&printed).into_owned();
            let went_well = output.status.code() == Some(0);
            assert!(went_well || looks, "{form}: {}\n{printed}", output.status);
            if went_well { Ok(()) } else { Err(printed) }
        })
        .await;
    }

    async fn run(&self, command: &str) {
        match command.split_once(' ').unwrap() {
            ("rabbitmqctl", words) => {
                self.world.broker().ctl(&words.split(' ').collect::<Vec<_>>()).await;
            }
            ("GRANT", what) => {
                let to = if what.ends_with(" TO") { "" } else { "TO" };
                self.world.replica(1).execute(&format!("{command} {to} {}", self.role)).await;
            }
            ("ALTER", what) if what.starts_with("TABLE … ") => {
                self.world.replica(1).execute(&command.replace('…', "users")).await;
            }
            _ => panic!("no test runs `{command}`, nor is it listed with the reason"),
        }
    }
}

/// As `pgfanout resync`: its name alone, without what it needs.
fn is_name(words: &[String]) -> bool {
    match Arguments::try_parse_from(words) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => false,
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => true,
        Err(error) => panic!("{words:?}: {error}"),
    }
}

#[tokio::test]
async fn every_command_that_is_mentioned_is_run() {
    let world = world(Mode::Broker, 1).build().await;
    let role = format!("{}_reader", world.exchange());
    world.replica(1).execute(&format!("CREATE ROLE {role}")).await;
    world.primary().execute("CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users VALUES (1)").await;
    let config = world.config().write();
    let mut pgfanout = Some(program().run(&config));
    until_same(&world, &["users"]).await;
    until_following(&world).await;
    let place = Place { world, config, role };
    let is_listed = |command: &String| NOT_RUN.iter().any(|(listed, _)| listed == command);
    let mentioned: Vec<String> = all_mentioned().into_iter().filter(|command| !is_listed(command)).collect();
    let (ours, others): (Vec<_>, Vec<_>) =
        mentioned.into_iter().partition(|command| command.starts_with("pgfanout "));
    for command in &others {
        place.run(command).await;
    }
    let ours = ours.iter().flat_map(|command| forms(command));
    let (names, forms): (Vec<_>, Vec<_>) = ours.partition(|form| is_name(&place.words(form)));
    let subcommand = |form: &str| form.split(' ').nth(1).unwrap().to_owned();
    let ran: BTreeSet<String> = forms.iter().map(|form| subcommand(form)).collect();
    assert!(names.iter().all(|name| ran.contains(&subcommand(name))), "{names:?} are not run at all");
    let rank = |form: &String| {
        let at = ORDER.iter().position(|name| *name == subcommand(form));
        // What is removed of one replica cannot be any more when all is.
        (
            at.unwrap_or_else(|| panic!("{form}: its place is not known")),
            !form.contains("--replica"),
            form.clone(),
        )
    };
    let forms: BTreeSet<_> = forms.iter().map(rank).collect();
    assert!(forms.len() > 25, "{forms:?}");
    for (_, _, form) in &forms {
        match &*subcommand(form) {
            // It does, all the time.
            "run" => continue,
            "uninstall" => {
                if let Some(mut pgfanout) = pgfanout.take() {
                    pgfanout.terminate().await;
                }
            }
            _ => {}
        }
        place.pgfanout(form).await;
    }
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}", role = place.role);
    place.world.replica(1).execute(&drop).await;
}
