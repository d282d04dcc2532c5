//! Tables that are not captured any more: they stay on the replica, and are not touched again.

use std::collections::BTreeSet;

use super::{
    filled::give_up,
    join::Joined,
    state::{Replica, execute},
};
use crate::{
    error::{Error, Result},
    postgres::{Database, Session, quote_names},
    primary::source::{Captured, Source, captured, installation},
};

/// Forgets tables that were dropped here and are not captured any more, or else the replica would wait for them.
/// What the primary cannot tell now stays.
///
/// # Errors
/// When the replica fails.
pub(super) async fn forget_dropped(replica: &Session, primary: &Database, name: &str) -> Result<()> {
    let statement = include_str!("../../sql/replica/dropped_tables.sql");
    let dropped = replica.query("looking for dropped tables", statement, &[]).await?;
    let Some(first) = dropped.first() else { return Ok(()) };
    let asking = async {
        let control = primary.connect(&format!("pgfanout applier {name}")).await?;
        let (epoch, _) = installation(&control).await?;
        let known = epoch == first.get::<_, &str>("epoch");
        Ok::<_, Error>(if known { Some(captured(&control).await?) } else { None })
    };
    let Ok(Some(captured)) = asking.await else { return Ok(()) };
    for table in &dropped {
        let id: i32 = table.get("id");
        if captured.iter().all(|captured| captured.id != id) {
            let forget = "DELETE FROM pgfanout.replicated_table WHERE id = $1";
            execute(replica, "leaving a table", forget, &[&id]).await?;
            let table = quote_names(table.get("schema_name"), table.get("table_name"));
            tracing::info!(
                event = "table_left",
                replica = name,
                table,
                "the table was dropped here, and is not captured any more"
            );
        }
    }
    Ok(())
}

/// Forgets tables that are not captured any more.
///
/// # Errors
/// When a database fails.
pub(super) async fn leave(
    replica: &mut Replica,
    source: &Source,
    captured: &[Captured],
    joined: &mut Joined,
) -> Result<()> {
    let ids: BTreeSet<i32> = captured.iter().map(|table| table.id).collect();
    if replica.isolated.keys().any(|id| !ids.contains(id)) {
        let forget = "DELETE FROM pgfanout.isolated_table WHERE id <> ALL ($1)";
        let ids: Vec<i32> = ids.iter().copied().collect();
        execute(&replica.session, "leaving tables", forget, &[&ids]).await?;
    }
    let gone: Vec<_> = replica.tables.iter().filter(|table| !ids.contains(&table.id)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let names: Vec<_> =
        gone.iter().map(|table| (table.shape.schema.clone(), table.shape.table.clone())).collect();
    give_up(replica, source, &names).await?;
    let forget = "DELETE FROM pgfanout.replicated_table WHERE id = ANY ($1)";
    let gone_ids: Vec<i32> = gone.iter().map(|table| table.id).collect();
    joined.left = gone.iter().map(|table| table.shape.quoted()).collect();
    execute(&replica.session, "leaving tables", forget, &[&gone_ids]).await?;
    replica.tables.retain(|table| ids.contains(&table.id));
    Ok(())
}
