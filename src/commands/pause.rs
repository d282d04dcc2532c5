//! Having nothing applied to a replica until that is taken back: noted on the replica itself.

use std::time::Duration;

use crate::{
    cli::{Failure, named_replica},
    config::{self, Config},
    error::Result,
    postgres::{ANSWER_LIMIT, Session, within},
    replica::session::is_paused,
};

/// How often we look whether the sessions that applied are gone.
const INTERVAL: Duration = Duration::from_millis(100);

/// Pauses a replica: when this returns, nothing more is applied to it.
///
/// # Errors
/// When there is no such replica, it cannot be reached, or what applies to it does not end.
pub async fn pause(config: Config, name: &str) -> Result<(), Failure> {
    let replica = named_replica(&config, name)?;
    let session = replica.database.connect("pgfanout pause").await?;
    let statements = format!("BEGIN; {} COMMIT", include_str!("../../sql/replica/pause.sql"));
    session.run("noting the pause", &statements).await?;
    let ending = format!("{}: ending what applies to it", replica.database.name);
    within(ANSWER_LIMIT, &ending, end_appliers(&session, replica)).await?;
    println!("replica {name} is paused: nothing is applied to it until pgfanout resume");
    Ok(())
}

async fn end_appliers(session: &Session, replica: &config::Replica) -> Result<()> {
    let now = "SELECT clock_timestamp()::text";
    let noted: String = session.query_one("reading the clock", now, &[]).await?.get(0);
    let statement = include_str!("../../sql/replica/end_appliers.sql");
    while session.execute("ending what applies", statement, &[&replica.name, &noted]).await? > 0 {
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}

/// Ends a pause; whoever applies notices within a second or two.
///
/// # Errors
/// When there is no such replica, or it cannot be reached.
pub async fn resume(config: Config, name: &str) -> Result<(), Failure> {
    let replica = named_replica(&config, name)?;
    let session = replica.database.connect("pgfanout resume").await?;
    let was_paused = is_paused(&session).await?;
    session.run("ending the pause", include_str!("../../sql/replica/resume.sql")).await?;
    match was_paused {
        true => println!("replica {name} goes on: it catches up now, or when pgfanout runs"),
        false => println!("replica {name} was not paused"),
    }
    Ok(())
}
