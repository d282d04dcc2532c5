//! Removing pgfanout: from all servers, or one replica from them. What can be removed is, and the rest is named.

use std::time::{Duration, Instant};

use crate::{
    broker,
    cli::Failure,
    config::{Config, check_replica_name},
    error::{Error, Result},
    postgres::Database,
    primary::install,
    seat::Seat,
};

/// How long the seat of a process that just ended may take to come free.
const SEAT_LIMIT: Duration = Duration::from_secs(5);

/// How often it is tried.
const INTERVAL: Duration = Duration::from_millis(200);

/// Removes pgfanout from the primary, the replicas and the broker, or one replica from all of these.
///
/// # Errors
/// When a process replicates still, and then nothing was removed; or when something could not be removed, and then
/// all else was.
pub async fn uninstall(config: Config, replica: Option<&str>) -> Result<(), Failure> {
    let mut removal = Removal::default();
    match replica {
        None => everything(&config, &mut removal).await?,
        Some(name) => {
            check_replica_name(name).map_err(|why| config.problem("replica", why))?;
            one(&config, name, &mut removal).await?;
        }
    }
    if removal.left.is_empty() {
        return Ok(());
    }
    if removal.may_be_repeated {
        let which = replica.map(|name| format!(" --replica {name}")).unwrap_or_default();
        removal.left.push(format!(
            "to finish, once that is mended: pgfanout uninstall --config {}{which}; what is gone for good needs nothing",
            config.file().display()
        ));
    }
    Err(Error::Unfit(removal.left.join("\n")).into())
}

async fn everything(config: &Config, removal: &mut Removal) -> Result<()> {
    // While a process replicates it would install all again.
    let primary = seat(&config.primary.database).await;
    if let Ok(None) = primary {
        return Err(busy(&config.primary.database));
    }
    let removing = async {
        let _seat = primary?;
        install::uninstall(&config.primary.database.connect("pgfanout uninstall").await?).await
    };
    removal.report("the primary", removing.await);
    for replica in &config.replicas {
        let removing = async {
            let Some(_seat) = seat(&replica.database).await? else { return Err(busy(&replica.database)) };
            drop_schema(&replica.database).await
        };
        removal.report(&replica.database.name, removing.await);
    }
    if let Some(broker) = &config.broker {
        let names: Vec<String> = config.replicas.iter().map(|replica| replica.name.clone()).collect();
        removal.report("the broker", broker::remove(broker, &names).await.map(|()| true));
    }
    Ok(())
}

async fn one(config: &Config, name: &str, removal: &mut Removal) -> Result<()> {
    match config.replicas.iter().find(|replica| replica.name == name) {
        Some(replica) => {
            let seat = seat(&replica.database).await;
            if let Ok(None) = seat {
                return Err(busy(&replica.database));
            }
            let removing = async {
                let _seat = seat?;
                drop_schema(&replica.database).await
            };
            removal.report(&replica.database.name, removing.await);
        }
        None => removal.left.push(format!(
            "not removed from replica {name}: {} does not name it any more; to finish, say there: \
             DROP SCHEMA IF EXISTS pgfanout CASCADE; DROP SCHEMA IF EXISTS pgfanout_status CASCADE",
            config.file().display()
        )),
    }
    let primary = async {
        let session = config.primary.database.connect("pgfanout uninstall").await?;
        install::forget_replica(&session, name).await
    };
    removal.report("the primary", primary.await);
    if let Some(broker) = &config.broker {
        removal.report("the broker", broker::remove_queue(broker, name).await.map(|()| true));
    }
    Ok(())
}

/// What was done, and what was not.
#[derive(Default)]
struct Removal {
    left: Vec<String>,
    may_be_repeated: bool,
}

impl Removal {
    fn report(&mut self, place: &str, removed: Result<bool>) {
        match removed {
            Ok(true) => println!("removed from {place}"),
            Ok(false) => println!("nothing to remove from {place}"),
            Err(error) => {
                self.left.push(format!("not removed from {place}: {}", error.chain()));
                self.may_be_repeated = true;
            }
        }
    }
}

/// Keeps processes that replicate away from a database while it is held. None if one is there.
async fn seat(database: &Database) -> Result<Option<Seat>> {
    let started = Instant::now();
    loop {
        let seat = Seat::take(database, "uninstall", &[]).await?;
        if seat.is_some() || started.elapsed() > SEAT_LIMIT {
            return Ok(seat);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn busy(database: &Database) -> Error {
    let name = &database.name;
    let remedy = if name == "primary" {
        ""
    } else {
        ", or take this replica out of its configuration and say pgfanout reload"
    };
    Error::Unfit(format!(
        "{name}: a process of pgfanout is at work there, and would install all again: end it{remedy}"
    ))
}

/// Removes our schema from a replica. Returns whether it was there.
async fn drop_schema(replica: &Database) -> Result<bool> {
    let session = replica.connect("pgfanout uninstall").await?;
    let present = "SELECT to_regnamespace('pgfanout') IS NOT NULL";
    let present = session.query_one("looking for pgfanout's schema", present, &[]).await?.get(0);
    install::drop_schemas(&session).await?;
    Ok(present)
}
