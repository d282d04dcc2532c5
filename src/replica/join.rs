//! Which tables a replica follows: those that are captured on the primary, made here where they are
//! missing, compared where they are not, each copied before it joins the others.

use std::collections::{BTreeSet, VecDeque};

use tokio_postgres::types::ToSql;

use super::{
    alter::{compare, is_renamed},
    create::create_missing,
    definition::TableDefinition,
    empty::empty,
    filled::{doubt, filled, hold_still, note_filled},
    followed::Followed,
    isolate::is_loss,
    leave::leave,
    made::note_made,
    names::free_names,
    state::{ANEW, Replica},
};
use crate::{
    batch::Batch,
    config::ExistingRows,
    error::{Error, Result},
    postgres::{Session, quote_names},
    primary::source::{Captured, Name, Source, Standing},
};

/// What joining found to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Tables that begin to be copied.
    pub copying: Vec<String>,
    /// Tables that are not captured any more: they stay, and are not touched again.
    pub left: Vec<String>,
    /// Tables that can't be captured any more, and why: they wait as they are.
    pub waiting: Vec<(String, String)>,
    /// Why all tables begin anew, if they do.
    pub anew: Option<String>,
}

/// Brings the replica's list of tables in line with the primary's, and what it holds in doubt with the
/// primary's history.
///
/// # Errors
/// When a table does not fit, or the histories do not; or a database fails.
pub async fn join(replica: &mut Replica, source: &Source, existing: ExistingRows) -> Result<Joined> {
    let captured = source.captured().await?;
    let mut joined = Joined { anew: compare_histories(replica, source).await?, ..Joined::default() };
    if joined.anew.is_some() {
        replica.begin().await?;
        replica.session.run("beginning anew", include_str!("../../sql/replica/resync.sql")).await?;
        replica.session.commit().await?;
        replica.reload().await?;
    }
    renumber(replica, &captured).await?;
    leave(replica, source, &captured, &mut joined).await?;
    let mut pending: VecDeque<&Captured> = captured.iter().collect();
    // How many in a row wait for others.
    let mut postponed = 0;
    while let Some(table) = pending.pop_front() {
        let name = quote_names(&table.schema, &table.table);
        if let Some(reason) = &table.broken {
            joined.waiting.push((name, reason.clone()));
            continue;
        }
        if replica.is_left_alone(table.id) {
            continue;
        }
        let found = join_table(replica, source, table, existing).await;
        match found.map_err(Error::of_table(table.id, &table.schema, &table.table)) {
            Ok(copied) => {
                replica.tried(table.id, true);
                joined.copying.extend(copied.then_some(name));
                postponed = 0;
            }
            Err(error) => {
                if error.is_refusal() {
                    doubt(&replica.session, table.id).await?;
                    if postponed < pending.len() && holds_rows_of(source, table, &pending).await? {
                        pending.push_back(table);
                        postponed += 1;
                        continue;
                    }
                }
                if !replica.isolate(&error).await? {
                    return Err(error);
                }
            }
        }
    }
    replica.reload().await?;
    let anew = replica.tables.iter().filter(|table| table.definition == ANEW);
    replica.waiting = anew.map(|table| table.id).collect();
    Ok(joined)
}

/// Whether rows of one of these others are values in a table's columns: then that one is made first.
async fn holds_rows_of(source: &Source, table: &Captured, others: &VecDeque<&Captured>) -> Result<bool> {
    // Not every server quotes the same names.
    let plain = |name: &str| name.replace('"', "");
    let names: BTreeSet<String> =
        others.iter().map(|other| plain(&format!("{}.{}", other.schema, other.table))).collect();
    Ok(definition(source, table).await?.needs_table(|name| names.contains(&plain(name))))
}

/// Enters a table, or compares it if it was altered. Says whether its copy begins.
async fn join_table(
    replica: &Replica,
    source: &Source,
    table: &Captured,
    existing: ExistingRows,
) -> Result<bool> {
    let Some(followed) = replica.tables.iter().find(|followed| followed.id == table.id) else {
        enter(replica, source, table, existing).await?;
        return Ok(true);
    };
    let stands = followed.own.as_ref().or(replica.position.as_ref().map(|position| &position.snapshot));
    let missed = |xid| stands.is_none_or(|snapshot| !snapshot.contains(xid));
    let renamed = is_renamed(followed, table);
    // One that was set aside for that is made anew.
    if followed.gone && !renamed && !replica.is_isolated(table.id) {
        return Err(replica.is_gone(table.id, (&table.schema, &table.table)));
    }
    let altered = renamed || followed.definition != table.definition || replica.is_isolated(table.id);
    let copied = altered && compare(replica, source, (followed, table), existing).await?
        || table.rewritten.is_some_and(missed)
        || is_left_behind(source, followed).await?;
    if copied {
        begin_copy_anew(replica, source, table).await?;
    }
    Ok(copied)
}

/// Whether the changes that a table lacks which stands apart are gone from the changelog.
async fn is_left_behind(source: &Source, table: &Followed) -> Result<bool> {
    let (Some(own), Some(name)) = (&table.own, &table.name) else { return Ok(false) };
    let standing = Standing::read(&source.control, &[name]).await?;
    Ok(standing.unknown.is_some() || standing.forgotten || own.xmin() < standing.trimmed_before)
}

/// Gives tables whose names are others' on the primary now the numbers of those: they were captured anew after a gap,
/// or another was renamed to take the place of one. They are copied again. Who had such a number, and gets no other,
/// leaves.
async fn renumber(replica: &mut Replica, captured: &[Captured]) -> Result<()> {
    let (mut before, mut now) = (Vec::new(), Vec::new());
    for followed in &replica.tables {
        let same =
            |table: &&Captured| table.schema == followed.shape.schema && table.table == followed.shape.table;
        if let Some(table) = captured.iter().find(same).filter(|table| table.id != followed.id) {
            before.push(followed.id);
            now.push(table.id);
        }
    }
    if before.is_empty() {
        return Ok(());
    }
    replica.begin().await?;
    // Two may change places: in between, each has a number that is no table's on any primary.
    for (sql, parameters) in [
        (
            "UPDATE pgfanout.replicated_table SET id = -id WHERE id > 0 AND id = ANY ($1::int4[] || $2::int4[])",
            &[&before as &(dyn ToSql + Sync), &now][..],
        ),
        (
            "UPDATE pgfanout.replicated_table t SET id = m.now, definition = $3 \
             FROM unnest($1::int4[], $2::int4[]) m (before, now) WHERE t.id = -abs(m.before)",
            &[&before, &now, &ANEW],
        ),
        ("DELETE FROM pgfanout.isolated_table WHERE id = ANY ($1::int4[] || $2::int4[])", &[&before, &now]),
    ] {
        replica.session.execute("renumbering tables", sql, parameters).await?;
    }
    replica.session.commit().await?;
    replica.reload().await
}

/// Whether the replica stands in this primary's past, and within reach of its changelog. Says why not, if
/// a new copy heals it.
///
/// # Errors
/// When they do not go together: the text has the remedy; or a database fails.
pub async fn compare_histories(replica: &Replica, source: &Source) -> Result<Option<String>> {
    let Some(position) = &replica.position else { return Ok(None) };
    let database = replica.session.database();
    let remedy = format!(
        "to have all its tables emptied and copied anew from this primary, run: \
         pgfanout resync --config FILE --replica {}",
        replica.name
    );
    if position.epoch != source.epoch {
        return Err(Error::Unfit(format!(
            "{database}: it follows another installation of pgfanout ({}) than the primary has ({}): \
             the primary was replaced or moved, or pgfanout was installed there anew; {remedy}",
            position.epoch, source.epoch
        )));
    }
    let names: Vec<&Name> = replica.moments(false).map(|(_, name)| name).collect();
    let standing = Standing::read(&source.control, &names).await?;
    let ahead = || {
        Error::Unfit(format!(
            "{database}: it stands at batch {}, which this primary does not know: the primary was put back to an \
             older state, or is another copy of it; {remedy}",
            standing.unknown.unwrap_or(position.name.0)
        ))
    };
    if standing.unknown.is_some() || !position.snapshot.is_subset_of(&standing.now) {
        return Err(ahead());
    }
    // A table that stands apart, and lacks what was trimmed, is copied anew alone.
    let forgotten = standing.forgotten && Standing::read(&source.control, &[&position.name]).await?.forgotten;
    Ok((forgotten || position.snapshot.xmin() < standing.trimmed_before).then(|| {
        format!("{database}: it was away for so long that changes it needs were trimmed from the changelog")
    }))
}

/// A partition that was detached on the primary stands by itself there. As long as it does not here, its rows would
/// be its parent's.
async fn refuse_partition(replica: &Session, table: &Captured) -> Result<()> {
    let statement = include_str!("../../sql/replica/partition_of.sql");
    let table = quote_names(&table.schema, &table.table);
    let rows = replica.query("looking for a table's parent", statement, &[&table]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let parent: &str = row.get("parent");
    Err(Error::Unfit(format!(
        "{}: table {table} is a partition of {parent} there, and on the primary it is not; \
         remedy: ALTER TABLE {parent} DETACH PARTITION {table}; TRUNCATE {table}",
        replica.database()
    )))
}

/// Makes the table, or checks the one that is there, and notes the moment from which its copy starts.
async fn enter(replica: &Replica, source: &Source, table: &Captured, existing: ExistingRows) -> Result<()> {
    let definition = definition(source, table).await?;
    let (rows, bytes) = table.size(&source.control).await?;
    // The moment is held on the primary before anything is noted here: no change after it is trimmed.
    let start = source.hold(&replica.name).await?;
    replica.begin().await?;
    hold_still(&replica.session, table).await?;
    free_names(&replica.session, &definition).await?;
    let made = create_missing(&replica.session, &definition).await?;
    let created = made.contains(&definition.table);
    if !created {
        refuse_partition(&replica.session, table).await?;
        replace_rows(replica, table, existing).await?;
    }
    first_position(replica, &start).await?;
    let insert = include_str!("../../sql/replica/enter_table.sql");
    let from = start.to.to_string();
    let parameters: [&(dyn ToSql + Sync); 12] = [
        &table.id,
        &table.schema,
        &table.table,
        &table.columns,
        &table.key,
        &table.definition,
        &created,
        &from,
        &start.number,
        &start.token,
        &rows,
        &bytes,
    ];
    replica.session.execute("registering a table", insert, &parameters).await?;
    note_filled(&replica.session, table).await?;
    note_made(&replica.session, table, &made).await?;
    replica.session.commit().await
}

/// A table that is there must be empty, unless its rows are to be replaced, or pgfanout's own: they may be somebody's.
pub(super) async fn replace_rows(replica: &Replica, table: &Captured, existing: ExistingRows) -> Result<()> {
    let is_same =
        |((schema, name), _): &((String, String), u32)| (schema, name) == (&table.schema, &table.table);
    if existing == ExistingRows::Replace || filled(&replica.session).await?.iter().any(is_same) {
        return empty(&replica.session, &[(table.id, &table.schema, &table.table)]).await;
    }
    if !holds_rows(&replica.session, table).await? {
        return Ok(());
    }
    let table = quote_names(&table.schema, &table.table);
    Err(Error::Unfit(format!(
        "{}: table {table} holds rows that pgfanout did not write; empty it (TRUNCATE {table}), \
         or set existing_rows = \"replace\" for replica {} to have them replaced by the primary's",
        replica.session.database(),
        replica.name
    )))
}

/// Whether a table that is there has any row.
pub(super) async fn holds_rows(replica: &Session, table: &Captured) -> Result<bool> {
    let any = format!("SELECT EXISTS (SELECT FROM {})", quote_names(&table.schema, &table.table));
    Ok(replica.query_one("looking into a table", &any, &[]).await?.get(0))
}

/// Why a table is refused, where comparing it with the primary's shows that; what is open on the replica is given up.
pub async fn cause(replica: &mut Replica, source: &Source, error: Error) -> Error {
    let Some(of) = error.refused_table().filter(|_| !is_loss(&error)) else { return error };
    let comparing = async {
        replica.renew().await?;
        let captured = source.captured().await?;
        let Some(table) = captured.iter().find(|table| table.id == of.id) else { return Ok(()) };
        let definition = definition(source, table).await?;
        replica.begin().await?;
        let compared = create_missing(&replica.session, &definition).await;
        if compared.as_ref().is_err_and(Error::is_refusal) {
            doubt(&replica.session, table.id).await?;
        }
        let made = compared.map_err(Error::of_table(table.id, &table.schema, &table.table))?;
        note_made(&replica.session, table, &made).await?;
        refused_by(&replica.session, table, &error).await?;
        replica.session.commit().await
    };
    match comparing.await {
        Err(found) if found.refused_table().is_some() => found,
        _ => error,
    }
}

/// Tells of a constraint that only the replica has, if one refused a row, how to take it away.
async fn refused_by(replica: &Session, table: &Captured, error: &Error) -> Result<()> {
    let Some(answer) = error.answer() else { return Ok(()) };
    let statement = include_str!("../../sql/replica/refusing.sql");
    let parameters: [&(dyn ToSql + Sync); 4] =
        [&answer.schema(), &answer.table(), &answer.constraint(), &answer.column()];
    let rows = replica.query("looking for what refused a row", statement, &parameters).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let refusal = Error::Unfit(format!("{}; remedy: {}", error.halt(), row.get::<_, &str>("statement")));
    Err(refusal).map_err(Error::of_table(table.id, &table.schema, &table.table))
}

/// Empties a table whose rows can't be caught up, and has it copied again from now on.
async fn begin_copy_anew(replica: &Replica, source: &Source, table: &Captured) -> Result<()> {
    let (rows, bytes) = table.size(&source.control).await?;
    let start = source.hold(&replica.name).await?;
    replica.begin().await?;
    empty(&replica.session, &[(table.id, &table.schema, &table.table)]).await?;
    first_position(replica, &start).await?;
    let (restart, from) = (include_str!("../../sql/replica/copy_anew.sql"), start.to.to_string());
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&table.id, &from, &start.number, &start.token, &rows, &bytes, &table.definition];
    replica.session.execute("starting a copy anew", restart, &parameters).await?;
    replica.session.commit().await
}

/// Where no table stands at a position, it is where the last copy begins.
async fn first_position(replica: &Replica, start: &Batch) -> Result<()> {
    if replica.position.is_some() {
        return Ok(());
    }
    let lock = "LOCK TABLE pgfanout.position IN SHARE ROW EXCLUSIVE MODE";
    replica.session.run("locking the position", lock).await?;
    let (note, to) = (include_str!("../../sql/replica/first_position.sql"), start.to.to_string());
    let parameters: [&(dyn ToSql + Sync); 5] = [&start.epoch, &to, &start.number, &start.token, &start.term];
    replica.session.execute("noting the position", note, &parameters).await.map(drop)
}

/// What the primary has.
pub(super) async fn definition(source: &Source, table: &Captured) -> Result<TableDefinition> {
    let reading = TableDefinition::read(&source.control, table.relation, &table.key);
    reading.await?.ok_or_else(|| {
        Error::Disconnected(format!("primary: table {}.{} was dropped just now", table.schema, table.table))
    })
}
