//! What the program's commands do.

use crate::{cli::Failure, config::Config, error::Error, log};

/// Replicates until told to end.
///
/// # Errors
/// When the configuration does not fit the databases, or what cannot be retried failed.
pub async fn run(config: Config, log: log::Control) -> Result<(), Failure> {
    let _ = (config, log);
    Err(not_built_yet("run"))
}

/// Checks everything and changes nothing.
///
/// # Errors
/// When something is wrong.
pub async fn check(config: Config) -> Result<(), Failure> {
    let _ = config;
    Err(not_built_yet("check"))
}

/// Installs capture on the primary.
///
/// # Errors
/// When that fails.
pub async fn install(config: Config) -> Result<(), Failure> {
    let _ = config;
    Err(not_built_yet("install"))
}

/// Removes every trace.
///
/// # Errors
/// When that fails.
pub async fn uninstall(config: Config) -> Result<(), Failure> {
    let _ = config;
    Err(not_built_yet("uninstall"))
}

/// Prints where every replica stands; true when all follow.
///
/// # Errors
/// When that cannot be found out.
pub async fn status(config: Config, json: bool) -> Result<bool, Failure> {
    let _ = (config, json);
    Err(not_built_yet("status"))
}

fn not_built_yet(command: &str) -> Failure {
    Error::Unfit(format!("{command} is not built yet")).into()
}
