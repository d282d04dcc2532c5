//! The keys that a delta names.

use std::rc::Rc;

use tokio_postgres::Row;

use super::reader::Table;
use crate::{
    error::{Error, Result},
    record,
    shape::Key,
};

/// The keys of one table that changed, a part of the delta.
#[derive(Debug)]
pub struct Group {
    /// The table.
    pub table: Rc<Table>,
    /// Whether it was truncated between the snapshots: then keys without a row need no delete.
    pub truncated: bool,
    /// The keys, each once, if no key can be spelled in two ways. Of a table without a key rows; with old rows, each
    /// once for a transaction. None if it was truncated, as all its rows are to be read then.
    pub keys: Vec<ChangedKey>,
}

/// A key that changed.
#[derive(Debug)]
pub struct ChangedKey {
    /// Its values.
    pub key: Key,
    /// How many more times it came than went, as far as that was asked for.
    pub net: i64,
    /// Of a row without a key, the transaction in which it came or went.
    pub transaction: Option<u64>,
    /// The row at the start in JSON, where it was logged.
    pub old: Option<String>,
}

impl Group {
    /// Whether no row of it is there at the delta's end, so that none has to be looked for: each went once more than it
    /// came. A key that is spelled in another way may have come under that spelling.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        !self.table.shape.is_respellable() && self.keys.iter().all(|changed| changed.net < 0)
    }
}

impl ChangedKey {
    /// Whether the row was there at the delta's start, given whether it is at its end.
    #[must_use]
    pub fn existed(&self, exists: bool) -> bool {
        i64::from(exists) - self.net > 0
    }
}

/// Keys as the query brought them, by table; tables other than these are left out.
///
/// # Errors
/// When a key is not what capture writes.
pub(super) fn groups(tables: &[(Rc<Table>, bool)], rows: &[Row]) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let id: i32 = row.get("table_id");
        if groups.last().is_none_or(|group| group.table.id != id) {
            let found = tables.iter().find(|(table, _)| table.id == id);
            let Some((table, truncated)) = found else { continue };
            groups.push(Group { table: Rc::clone(table), truncated: *truncated, keys: Vec::new() });
        }
        if let Some(group) = groups.last_mut()
            && !(group.truncated && group.table.shape.is_keyless())
        {
            group.keys.push(changed_key(&group.table, row)?);
        }
    }
    Ok(groups)
}

fn changed_key(table: &Table, row: &Row) -> Result<ChangedKey> {
    let width = table.shape.key_width();
    let Ok(text) = row.try_get::<_, String>("key") else {
        return Err(Error::Unfit(format!(
            "primary: a key of {} is in the changelog that is no text: exclude the table, and take it back in",
            table.shape.quoted()
        )));
    };
    let key: Key = match width {
        1 => vec![Some(text.into())],
        _ => {
            let fields = record::fields(&text).unwrap_or_default();
            fields.into_iter().map(|field| field.map(|field| field.into_owned().into())).collect()
        }
    };
    if key.len() != width {
        return Err(Error::Unfit(format!(
            "primary: the key of {} changed while changes under the old one were waiting",
            table.shape.quoted()
        )));
    }
    let transaction = row.get::<_, Option<&str>>("transaction").and_then(|text| text.parse().ok());
    // Versions before this one logged a "char" beyond ASCII as no text: such a row is told by its key alone.
    let old = row.try_get("old").unwrap_or_default();
    Ok(ChangedKey { key, net: row.get("net"), transaction, old })
}
