//! Having a replica, or some of its tables, copied anew: noted on the replica, done by `run`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::{
    cli::{Failure, named_replica, table_patterns},
    config::Config,
    error::{Error, Result},
    postgres::{Session, quote_identifier},
};

/// Says what will be done, and does it if that is wanted.
///
/// # Errors
/// When there is no such replica or table, it is not confirmed, or the replica fails.
pub async fn resync(config: Config, name: &str, tables: &[String], yes: bool) -> Result<(), Failure> {
    let replica = named_replica(&config, name)?;
    let patterns = table_patterns(&config, tables)?;
    let session = replica.database.connect("pgfanout resync").await?;
    let all = replicated(&session).await?;
    for (pattern, source) in patterns.iter().zip(tables) {
        if !all.iter().any(|table| pattern.matches(&table.schema, &table.name)) {
            let text =
                format!("replica {name}: {source} matches none of the tables that are replicated there");
            return Err(config.problem("table", text).into());
        }
    }
    let is_meant =
        |table: &&Table| patterns.iter().any(|pattern| pattern.matches(&table.schema, &table.name));
    let some: Vec<&Table> = all.iter().filter(is_meant).collect();
    announce(name, if tables.is_empty() { all.iter().collect() } else { some.clone() }, tables.is_empty());
    if !yes && !confirmed(&config)? {
        return Err(Error::Unfit("nothing was done".to_owned()).into());
    }
    if tables.is_empty() {
        let statements = format!("BEGIN; {}; COMMIT", include_str!("../../sql/replica/resync.sql"));
        session.run("having all tables copied anew", &statements).await?;
    } else {
        let ids: Vec<i32> = some.iter().map(|table| table.id).collect();
        let statement = include_str!("../../sql/replica/resync_tables.sql");
        session.execute("having tables copied anew", statement, &[&ids]).await?;
    }
    println!(
        "noted; the process that runs, or the next, copies them now: pgfanout status shows how far it is"
    );
    Ok(())
}

struct Table {
    id: i32,
    schema: String,
    name: String,
}

async fn replicated(session: &Session) -> Result<Vec<Table>> {
    let present = "SELECT to_regclass('pgfanout.replicated_table') IS NOT NULL";
    if !session.query_one("looking for pgfanout's schema", present, &[]).await?.get::<_, bool>(0) {
        return Err(Error::Unfit(format!(
            "{}: pgfanout has never run for it, and copies all tables when it does",
            session.database()
        )));
    }
    let statement = "SELECT id, schema_name, table_name FROM pgfanout.replicated_table ORDER BY 2, 3";
    let rows = session.query("reading the replicated tables", statement, &[]).await?;
    Ok(rows.iter().map(|row| Table { id: row.get(0), schema: row.get(1), name: row.get(2) }).collect())
}

fn announce(replica: &str, tables: Vec<&Table>, all: bool) {
    let quoted =
        |table: &Table| format!("{}.{}", quote_identifier(&table.schema), quote_identifier(&table.name));
    let whole = if all { ", which are all" } else { "" };
    println!("{} tables on replica {replica}{whole}:", tables.len());
    for table in tables {
        println!("  {}", quoted(table));
    }
    println!(
        "They are emptied and copied anew from the primary as it is now. Until that is done they are not whole; \
         rows that only this replica has are lost. Other replicas are not touched."
    );
}

/// Asks whoever sits there.
fn confirmed(config: &Config) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        let text = "nobody can be asked here whether that is wanted; say --yes";
        return Err(config.problem("", text).into());
    }
    print!("Go on? [y/N] ");
    let mut answer = String::new();
    let asked = io::stdout().flush().and_then(|()| io::stdin().lock().read_line(&mut answer));
    Ok(asked.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}
