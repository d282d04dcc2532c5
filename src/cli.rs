//! The command line, and what a command's end means to the shell.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    config::{Config, Problem, Problems, Replica},
    error::Error,
    pattern::Pattern,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well
  1  it failed, `check` found what stands in the way, `status` a replica that does not follow, or `verify` one
     that is not proved to be right
  2  wrong arguments or configuration

Every key of the configuration file is explained in config/pgfanout.toml.";

/// Replicates a PostgreSQL primary to any number of PostgreSQL replicas through RabbitMQ.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replicate until told to end (SIGTERM, SIGINT)
    ///
    /// Installs what is missing on the primary and the replicas, copies what a replica does not have
    /// yet, and then follows. May be killed at any moment: it goes on where it was.
    #[command(after_help = EXIT_CODES)]
    Run(Configured),

    /// Look at everything that replication needs, and name all that is missing with its remedy
    ///
    /// Asks every database and every node of the broker for versions, privileges, settings, limits, clocks and
    /// TLS, and compares the tables. Lasting changes are made nowhere: what is tried at the broker vanishes.
    #[command(after_help = EXIT_CODES)]
    Check {
        /// The configuration.
        #[command(flatten)]
        configured: Configured,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },

    /// Install capture on the primary, without replicating; `run` does this by itself
    ///
    /// For where the user that replicates may not create triggers. May be repeated.
    #[command(after_help = EXIT_CODES)]
    Install(Configured),

    /// Remove every trace of pgfanout from the primary, the replicas and the broker
    ///
    /// Replicated tables and their rows stay where they are. Nothing is removed while a process replicates. What
    /// cannot be reached is named, and all else removed. May be repeated.
    #[command(after_help = EXIT_CODES)]
    Uninstall {
        /// The configuration.
        #[command(flatten)]
        configured: Configured,
        /// Only what is kept of this replica, there, on the primary and at the broker
        ///
        /// First take it out of the configuration of the process that runs, and reload it. With the file as it was
        /// before, all is removed; with the new one, all but the schema on the replica itself.
        #[arg(long, value_name = "NAME")]
        replica: Option<String>,
    },

    /// Show where every replica stands, also while `run` is down
    ///
    /// Asks the databases and the broker themselves. On a terminal that is too narrow for all columns some are left out.
    #[command(after_help = EXIT_CODES)]
    Status {
        /// The configuration.
        #[command(flatten)]
        configured: Configured,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Show it again and again, every second or every so many
        ///
        /// Fills a terminal; elsewhere, and with --json, one follows the other. Ends with Ctrl-C.
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
              value_parser = clap::value_parser!(u64).range(1..=86400))]
        watch: Option<u64>,
    },

    /// Prove that replicas equal the primary, while both are written
    ///
    /// Compares every row of every table without stopping anything, and names the rows that are missing, extra
    /// or different on a replica by their keys. Rows that just change are looked at again.
    #[command(after_help = EXIT_CODES)]
    Verify {
        /// The configuration.
        #[command(flatten)]
        configured: Configured,
        /// What to compare.
        #[command(flatten)]
        options: VerifyOptions,
    },

    /// Have a replica, or some of its tables, copied anew from the primary
    ///
    /// For a primary that was put back to a backup, moved or replaced, or a table that is believed to be
    /// wrong. Says what it will do and asks before it does it. The tables are emptied and copied in place by
    /// the process that runs, or the next; other replicas are not disturbed.
    #[command(after_help = EXIT_CODES)]
    Resync {
        /// The configuration.
        #[command(flatten)]
        configured: Configured,
        /// The replica's name in the configuration
        #[arg(long, value_name = "NAME")]
        replica: String,
        /// Only this table: a name or pattern as in the configuration; may be repeated
        #[arg(long = "table", value_name = "TABLE")]
        tables: Vec<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },

    /// Have nothing applied to a replica until `resume`
    ///
    /// When it returns, nothing more is written there. That holds for every process that replicates, and across
    /// restarts, since the replica itself knows. The changelog waits for it, within its limits.
    #[command(after_help = EXIT_CODES)]
    Pause(OneReplica),

    /// End a pause: the replica catches up
    #[command(after_help = EXIT_CODES)]
    Resume(OneReplica),

    /// Have what runs with this file on this machine read it anew, as SIGHUP does, and say whether it did
    ///
    /// Tables, replicas and log levels follow what it says now. One with a problem changes nothing, and is told here and
    /// in the log. For root and the user that runs it. A process elsewhere that stands by has a file of its own.
    #[command(after_help = EXIT_CODES)]
    Reload(Configured),

    /// Print the completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },

    /// Print the manual page
    Man,
}

/// What every command needs.
#[derive(Args, Debug)]
pub struct Configured {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What a command for one replica needs.
#[derive(Args, Debug)]
pub struct OneReplica {
    /// The configuration.
    #[command(flatten)]
    pub configured: Configured,
    /// The replica's name in the configuration
    #[arg(long, value_name = "NAME")]
    pub replica: String,
}

/// What `verify` compares, and what it does about it.
#[derive(Args, Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Only this replica; may be repeated
    #[arg(long = "replica", value_name = "NAME")]
    pub replicas: Vec<String>,
    /// Only this table: a name or pattern as in the configuration; may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Have wrong rows written anew, by replication itself
    #[arg(long)]
    pub repair: bool,
    /// Show the rows that differ, not only their keys
    #[arg(long)]
    pub show_values: bool,
    /// Name at most so many differences of a table; all are counted
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub list: usize,
    /// Compare at most so many rows a second
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Begin behind this key of the table, as an interrupted command told it
    #[arg(long, value_name = "KEY")]
    pub after: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl Command {
    /// The configuration file, if the command needs one.
    #[must_use]
    pub fn config(&self) -> Option<&Path> {
        match self {
            Self::Run(configured) | Self::Install(configured) | Self::Reload(configured) => Some(configured),
            Self::Uninstall { configured, .. }
            | Self::Check { configured, .. }
            | Self::Status { configured, .. }
            | Self::Verify { configured, .. }
            | Self::Resync { configured, .. } => Some(configured),
            Self::Pause(one) | Self::Resume(one) => Some(&one.configured),
            Self::Completions { .. } | Self::Man => None,
        }
        .map(|configured| configured.config.as_path())
    }
}

/// The replica that an argument names.
///
/// # Errors
/// When there is none.
pub fn named_replica<'a>(config: &'a Config, name: &str) -> Result<&'a Replica, Failure> {
    config.replicas.iter().find(|replica| replica.name == name).ok_or_else(|| {
        let names: Vec<&str> = config.replicas.iter().map(|replica| replica.name.as_str()).collect();
        let text = format!("there is none named {name:?}; those that there are: {}", names.join(", "));
        config.problem("replica", text).into()
    })
}

/// The patterns of arguments that mean tables.
///
/// # Errors
/// When one is none.
pub fn table_patterns(config: &Config, tables: &[String]) -> Result<Vec<Pattern>, Failure> {
    let parse = |table: &String| {
        Pattern::parse(table).map_err(|why| config.problem("table", format!("{table:?} {why}")).into())
    };
    tables.iter().map(parse).collect()
}

/// Why a command did not do its work.
#[derive(Debug)]
pub enum Failure {
    /// What is asked for makes no sense: exit code 2.
    Configuration(Problems),
    /// What was tried did not succeed: exit code 1.
    Failed(Error),
}

impl Failure {
    /// What the shell is told.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Configuration(_) => 2,
        })
    }

    /// What the operator is told, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Configuration(problems) => problems.0.iter().map(ToString::to_string).collect(),
            Self::Failed(error) => vec![error.chain()],
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Configuration(problems)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Configuration(problem.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn refused(arguments: &[&str]) -> ErrorKind {
        let arguments = std::iter::once(&"pgfanout").chain(arguments);
        Arguments::try_parse_from(arguments).expect_err("the arguments are wrong").kind()
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_takes_a_file() {
        for command in ["run", "check", "install", "uninstall", "status", "verify", "reload"] {
            let parsed = Arguments::try_parse_from(["pgfanout", command, "--config", "a.toml"]);
            assert_eq!(parsed.expect(command).command.config(), Some(Path::new("a.toml")));
            assert_eq!(refused(&[command]), ErrorKind::MissingRequiredArgument);
        }
        let resync =
            ["pgfanout", "resync", "--config", "a", "--replica", "r", "--table", "t", "--table", "u"];
        let Ok(Arguments { command: Command::Resync { tables, yes: false, .. } }) =
            Arguments::try_parse_from(resync)
        else {
            unreachable!("it is parsed")
        };
        assert_eq!(tables, ["t", "u"]);
        for command in ["resync", "pause", "resume"] {
            assert_eq!(refused(&[command, "--config", "a"]), ErrorKind::MissingRequiredArgument);
        }
        let status = Arguments::try_parse_from(["pgfanout", "status", "--config", "a.toml", "--json"]);
        assert!(matches!(status.expect("status").command, Command::Status { json: true, .. }));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        assert_eq!(refused(&["fly"]), ErrorKind::InvalidSubcommand);
        assert_eq!(refused(&["run", "--config", "a", "--json"]), ErrorKind::UnknownArgument);
        assert_eq!(refused(&["--version"]), ErrorKind::DisplayVersion);
        assert_eq!(refused(&["--help"]), ErrorKind::DisplayHelp);
        assert_eq!(refused(&[]), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    }
}
