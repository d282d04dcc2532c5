//! Catching up: the delta from where a replica's tables stand to now, read from the primary itself.

use std::{rc::Rc, time::Instant};

use tokio_postgres::types::ToSql;

use super::{
    apply::delete,
    empty::empty,
    followed::Followed,
    sending::{Copy, Format, Sending},
    state::{Replica, begin},
};
use crate::{
    batch::Batch,
    error::{Error, Result},
    postgres::Session,
    primary::{
        batch::record,
        delta::{Cursor, Delta},
        keys::{ChangedKey, Group},
        look::{Changed, Since, look},
        reader::Cut,
        rows::{PIECE_BYTES, Rows},
        source::Source,
    },
    shape::{Key, Shape},
    snapshot::Snapshot,
};

/// How often a delta is cut anew because tables turned up while it was: each time more of them are known.
const MAX_CUTS: u32 = 20;

/// How many rows are removed at once: of a table without a key many may be equal.
const KEYS_AT_ONCE: usize = 100_000;

/// How far catching up came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caught {
    /// Nothing had changed.
    Nothing,
    /// A table was altered on the primary, or the changelog does not go back far enough: the replica has to
    /// be compared with the primary first.
    Unfit,
    /// The delta of this name was applied; it had so many keys.
    To(Batch, u64),
}

/// Brings all tables that are neither being copied nor set aside to one moment, now; tables whose copy is done join the
/// others thereby. Where nothing changed, the position moves only if `forced`. What the replica lacks was committed
/// `since` then, if that is known.
///
/// # Errors
/// When the primary or the replica fails; nothing is committed then, or the outcome is unknown.
pub async fn catch_up(
    replica: &mut Replica,
    source: &Source,
    forced: bool,
    since: Option<Instant>,
) -> Result<Caught> {
    let Some(position) = replica.position.clone() else { return Ok(Caught::Nothing) };
    let follows = |table: &&Rc<Followed>| !table.copying && !replica.is_isolated(table.id);
    let tables: Vec<Rc<Followed>> = replica.tables.iter().filter(follows).cloned().collect();
    let joining: Vec<i32> = tables.iter().filter(|table| table.own.is_some()).map(|table| table.id).collect();
    let start = |table: &Rc<Followed>| table.own.clone().map(|from| Since::of(table.id, from));
    let mut starts: Vec<Since> = tables.iter().filter_map(start).collect();
    // Also tables that are unknown here: one that was altered may have another number since.
    starts.push(Since { but: replica.ids_apart(), ..Since::all(position.snapshot.clone()) });
    let delta = match cut(source, starts, joining.is_empty() && !forced, &tables).await? {
        Ok(delta) => delta,
        Err(caught) => return Ok(caught),
    };
    let batch = name(source, &delta, &replica.name, &position.snapshot, since).await?;
    replica.begin().await?;
    let changes = write(&replica.session, &tables, &delta).await?;
    for table in tables.iter().filter(|table| delta.tables().any(|changed| changed.id == table.id)) {
        replica.writes(table);
    }
    if !joining.is_empty() {
        let join = "UPDATE pgfanout.replicated_table SET snapshot = NULL WHERE id = ANY ($1)";
        replica.session.execute("joining tables", join, &[&joining]).await?;
    }
    replica.commit(&batch).await?;
    delta.end().await?;
    if !joining.is_empty() {
        replica.reload().await?;
    }
    Ok(Caught::To(batch, changes))
}

/// Brings one table whose chunks are all copied from its own snapshot to now.
///
/// # Errors
/// As [`catch_up`].
pub async fn catch_up_table(
    replica: &Session,
    replica_name: &str,
    source: &Source,
    table: &Rc<Followed>,
    from: &Snapshot,
) -> Result<Caught> {
    let start = Since::of(table.id, from.clone());
    let delta = match cut(source, vec![start], true, std::slice::from_ref(table)).await? {
        Ok(delta) => delta,
        Err(caught) => return Ok(caught),
    };
    let batch = name(source, &delta, replica_name, from, None).await?;
    begin(replica).await?;
    let changes = write(replica, std::slice::from_ref(table), &delta).await?;
    let (move_on, from, to) =
        (include_str!("../../sql/replica/move_table.sql"), from.to_string(), batch.to.to_string());
    let parameters: [&(dyn ToSql + Sync); 5] = [&table.id, &from, &to, &batch.number, &batch.token];
    if replica.execute("saving a table's position", move_on, &parameters).await? != 1 {
        return Err(Error::Disconnected(format!(
            "{}: the copy of {} was begun anew, or goes on elsewhere",
            replica.database(),
            table.shape.quoted()
        )));
    }
    replica.commit().await?;
    delta.end().await?;
    Ok(Caught::To(batch, changes))
}

/// Cuts a delta for these tables, or says why there is none; that nothing changed is a reason only if
/// `only_changes` are wanted.
async fn cut<'a>(
    source: &'a Source,
    starts: Vec<Since>,
    only_changes: bool,
    tables: &[Rc<Followed>],
) -> Result<Result<Delta<'a>, Caught>> {
    let mut changed = Changed::new();
    for _ in 0..MAX_CUTS {
        for since in &starts {
            let found = look(&source.control, since).await?;
            if found.trimmed {
                return Ok(Err(Caught::Unfit));
            }
            changed.extend(found.tables);
        }
        if changed.is_empty() && only_changes {
            return Ok(Err(Caught::Nothing));
        }
        match source.reader.cut(starts.clone(), &changed, false).await? {
            Cut::Open(delta) if is_altered(&delta, tables) => {
                delta.end().await?;
                return Ok(Err(Caught::Unfit));
            }
            Cut::Open(delta) => return Ok(Ok(delta)),
            // One of them was renamed or dropped: what they are now the next look tells.
            Cut::Again(found) if found.is_empty() => changed.clear(),
            Cut::Again(found) => changed.extend(found),
            Cut::Trimmed => return Ok(Err(Caught::Unfit)),
        }
    }
    Err(Error::Disconnected("primary: tables kept turning up while a delta was cut".to_owned()))
}

fn is_altered(delta: &Delta<'_>, tables: &[Rc<Followed>]) -> bool {
    let known = |id, definition| tables.iter().any(|table| table.id == id && table.definition == definition);
    !delta.tables().all(|table| known(table.id, table.definition))
}

/// Records the delta on the primary, which also makes what it saw durable there.
async fn name(
    source: &Source,
    delta: &Delta<'_>,
    replica: &str,
    from: &Snapshot,
    since: Option<Instant>,
) -> Result<Batch> {
    record(&source.control, &source.epoch, Some(replica), from, delta.to()?, since).await
}

/// Writes a delta in the replica's open transaction.
async fn write(replica: &Session, tables: &[Rc<Followed>], delta: &Delta<'_>) -> Result<u64> {
    let followed = |id: i32| tables.iter().find(|table| table.id == id).map(Rc::as_ref);
    let truncated = delta.truncated().filter_map(|table| followed(table.id));
    empty(replica, &truncated.map(Followed::named).collect::<Vec<_>>()).await?;
    for table in delta.read_anew() {
        if let Some(followed) = followed(table.id) {
            let rows = delta.all_rows(table, PIECE_BYTES, true).await?;
            write_rows(replica, rows, &followed.shape).await.map_err(followed.to_blame())?;
        }
    }
    if !delta.is_small() {
        // All old rows go before the first new one comes: a value that has to be unique may have moved
        // from a row at the end of the delta to one at its start.
        let mut cursor = Cursor::default();
        while let Some(groups) = delta.next(&mut cursor).await? {
            for group in &groups {
                if let Some(table) = followed(group.table.id) {
                    delete_group(replica, table, group).await?;
                }
            }
        }
    }
    let (mut cursor, mut changes) = (Cursor::default(), 0);
    while let Some(groups) = delta.next(&mut cursor).await? {
        for group in &groups {
            let Some(table) = followed(group.table.id) else { continue };
            // A second spelling of a key may come in a later group: its row is written again then.
            if delta.is_small() || table.shape.is_respellable() {
                delete_group(replica, table, group).await?;
            }
            let written = match table.shape.is_keyless() {
                true => write_nameless(replica, group, &table.shape).await,
                false if group.is_gone() => Ok(()),
                false => {
                    let rows = delta.rows(group, PIECE_BYTES, true).await?;
                    write_rows(replica, rows, &table.shape).await
                }
            };
            written.map_err(table.to_blame())?;
            changes += group.keys.len() as u64;
        }
    }
    Ok(changes)
}

async fn delete_group(replica: &Session, table: &Followed, group: &Group) -> Result<()> {
    let keyless = table.shape.is_keyless();
    let times = |changed: &ChangedKey| if keyless { changed.net.min(0).unsigned_abs() } else { 1 };
    let keys = group.keys.iter().flat_map(|changed| (0..times(changed)).map(|_| &changed.key));
    let keys: Vec<&Key> = keys.collect();
    for some in keys.chunks(KEYS_AT_ONCE) {
        delete(replica, &table.shape, some.iter().copied()).await.map_err(table.to_blame())?;
    }
    Ok(())
}

/// Writes the rows of a group that came, of a table without a key.
async fn write_nameless(replica: &Session, group: &Group, shape: &Shape) -> Result<()> {
    let mut sending = Sending::new(Copy::of_changes(replica, shape, Format::Csv));
    for changed in &group.keys {
        for _ in 0..changed.net.max(0) {
            if let Some(Some(text)) = changed.key.first() {
                sending.lines.push_whole(shape, text)?;
                sending.send_if_many().await?;
            }
        }
    }
    sending.finish().await.map(drop)
}

/// Copies rows as they come from the primary into a table of this shape.
async fn write_rows(replica: &Session, mut rows: Rows<'_>, shape: &Shape) -> Result<()> {
    let mut sending = Sending::new(Copy::of_changes(replica, shape, Format::Csv));
    while let Some(piece) = rows.next().await? {
        sending.lines.push(shape, &piece)?;
        sending.send_if_many().await?;
    }
    sending.finish().await.map(drop)
}
