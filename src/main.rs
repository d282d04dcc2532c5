//! The `pgfanout` program: arguments, configuration, log, command, exit code.

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use pgfanout::{
    cli::{Arguments, Command, Failure},
    commands,
    config::Config,
    log, manual,
    reload::reload,
    verify::verify,
};

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let Some(file) = command.config() else { return print(&command) };
    if matches!(command, Command::Reload(_)) {
        // What the file means may depend on the environment of whoever reads it.
        return actix_rt::System::new().block_on(reload(file));
    }
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(problems) => return told(&problems.into()),
    };
    let log = match log::start(&config.log) {
        Ok(log) => log,
        Err(why) => return told(&config.problem("log.level", why).into()),
    };
    config.warn();
    let is_run = matches!(command, Command::Run(_));
    match actix_rt::System::new().block_on(execute(command, config, log)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) if is_run => logged(&failure),
        Err(failure) => told(&failure),
    }
}

/// False is an answer that was not hoped for.
async fn execute(command: Command, config: Config, log: log::Control) -> Result<bool, Failure> {
    match command {
        Command::Run(_) => commands::run(config, log).await.map(|()| true),
        Command::Check { json, .. } => commands::check(config, json).await,
        Command::Install(_) => commands::install(config).await.map(|()| true),
        Command::Uninstall { replica, .. } => {
            commands::uninstall(config, replica.as_deref()).await.map(|()| true)
        }
        Command::Resync { replica, tables, yes, .. } => {
            commands::resync(config, &replica, &tables, yes).await.map(|()| true)
        }
        Command::Pause(one) => commands::pause(config, &one.replica).await.map(|()| true),
        Command::Resume(one) => commands::resume(config, &one.replica).await.map(|()| true),
        Command::Verify { options, .. } => verify(config, &options).await,
        Command::Completions { .. } | Command::Man | Command::Reload(_) => Ok(true),
        Command::Status { json, watch, .. } => {
            commands::status(config, json, watch.map(Duration::from_secs)).await
        }
    }
}

/// What the program says of itself. Whoever reads it may have seen enough.
fn print(command: &Command) -> ExitCode {
    let printed = match command {
        Command::Completions { shell } => manual::print_completions(*shell),
        _ => manual::print_page(),
    };
    if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Told to whoever typed the command.
fn told(failure: &Failure) -> ExitCode {
    for line in failure.lines() {
        eprintln!("{line}");
    }
    failure.exit_code()
}

/// Told in the log, whose readers expect nothing but log lines.
fn logged(failure: &Failure) -> ExitCode {
    for line in failure.lines() {
        tracing::error!(event = "ended", "pgfanout cannot go on: {line}");
    }
    failure.exit_code()
}
