//! What the program's commands do.

mod pause;
mod resync;
mod uninstall;

use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use actix::{Actor as _, Addr};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::{
    check,
    cli::Failure,
    config::{Config, Problems},
    error::{Error, Result},
    log,
    postgres::Session,
    prepare::{problems, wanted_tables},
    primary::{capture::capture, install},
    reload::{Request, listen},
    replicator::{Drain, Replicator},
    service, status,
};

pub use pause::{pause, resume};
pub use resync::resync;
pub use uninstall::uninstall;

/// How long writers of a table may have to wait while `install` creates its triggers.
const CAPTURE_LOCK_LIMIT: Duration = Duration::from_secs(5);

/// What a signal or a command asks for.
enum Told {
    End,
    Reload(Option<Request>),
}

/// Replicates until told to end by SIGTERM or SIGINT; SIGHUP has the configuration read anew, and so has
/// [`reload`](crate::reload::reload).
///
/// # Errors
/// When the configuration does not fit the databases.
pub async fn run(mut config: Config, log: log::Control) -> Result<(), Failure> {
    let mut orders = Orders::new(config.file())
        .map_err(|error| Error::Unfit(format!("waiting for signals and commands: {error}")))?;
    // Before anything that may wait for a server.
    service::live();
    refuse_problems(&config).await?;
    loop {
        tracing::info!(
            event = "started",
            version = env!("CARGO_PKG_VERSION"),
            replicas = config.replicas.len(),
            broker = config.broker.is_some(),
            "pgfanout replicates"
        );
        let (grace, file) = (config.shutdown_grace, config.file().to_owned());
        let replicator = Replicator::new(config.clone()).start();
        service::ready(config.replicas.len());
        loop {
            let Told::Reload(request) = orders.next().await else {
                service::stopping();
                drain(replicator, grace).await;
                tracing::info!(event = "stopped", "pgfanout ended");
                return Ok(());
            };
            service::reloading();
            let result = reload(&file, &log).await;
            if let Some(request) = request {
                request.answer(result.as_ref().err());
            }
            match result {
                Ok(new) => {
                    config = new;
                    break;
                }
                Err(failure) => {
                    for line in failure.lines() {
                        tracing::error!(event = "reload_failed", "the configuration stays as it was: {line}");
                    }
                    service::ready(config.replicas.len());
                }
            }
        }
        drain(replicator, grace).await;
    }
}

/// What is obeyed; heard from the start, so that nothing is missed.
struct Orders {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    requests: mpsc::Receiver<Request>,
}

impl Orders {
    fn new(file: &Path) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            requests: listen(file)?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hang_up.recv() => Told::Reload(None),
            Some(request) = self.requests.recv() => Told::Reload(Some(request)),
        }
    }
}

async fn reload(file: &Path, log: &log::Control) -> Result<Config, Failure> {
    let config = Config::load(file)?;
    refuse_problems(&config).await?;
    log.set_level(&config.log.level).map_err(|why| config.problem("log.level", why))?;
    config.warn();
    tracing::info!(event = "reloaded", "the configuration was read anew");
    Ok(config)
}

/// Lets the stages finish what they hold, within the grace period; a kill is as correct, only slower.
async fn drain(replicator: Addr<Replicator>, grace: Duration) {
    if tokio::time::timeout(grace, replicator.send(Drain)).await.is_err() {
        tracing::warn!(
            event = "drain_timeout",
            "stages did not finish in time; what is left is done at the next start"
        );
    }
}

async fn refuse_problems(config: &Config) -> Result<(), Failure> {
    let problems = problems(config).await?;
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems).into()) }
}

/// Looks at everything that replication needs, and prints what it found; true if nothing stands in its way.
///
/// # Errors
/// What only the configuration can mend.
pub async fn check(config: Config, json: bool) -> Result<bool, Failure> {
    let (report, problems) = check::check(&config).await;
    let printed = if json { report.json() } else { report.text() };
    // Whoever reads it may have seen enough.
    let _ = writeln!(io::stdout(), "{printed}");
    match problems {
        Some(problems) => Err(problems.into()),
        None => Ok(report.fits),
    }
}

/// Installs or upgrades capture on the primary; `run` does so, too.
///
/// # Errors
/// When that fails, or a table's writers do not end.
pub async fn install(config: Config) -> Result<(), Failure> {
    refuse_problems(&config).await?;
    let primary = connect(&config).await?;
    install::install(&primary).await?;
    for table in wanted_tables(&primary, &config).await?.0 {
        capture(&primary, table.relation, table.old_record, CAPTURE_LOCK_LIMIT).await?;
        println!("captured {}", table.name);
    }
    Ok(())
}

/// Prints where every replica stands, once or at this pace; true when all follow.
///
/// # Errors
/// When signals cannot be waited for. Who does not answer is told to be unreachable.
pub async fn status(config: Config, json: bool, pace: Option<Duration>) -> Result<bool, Failure> {
    if let Some(pace) = pace {
        return Ok(status::watch(&config, json, pace).await?);
    }
    let (printed, follows) = status::status(&config, json).await;
    // Whoever reads it may have seen enough.
    let _ = writeln!(io::stdout(), "{printed}");
    Ok(follows)
}

async fn connect(config: &Config) -> Result<Session> {
    config.primary.database.connect("pgfanout").await
}
