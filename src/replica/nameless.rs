//! What came and went of tables without a key. Removing a row reads its whole table: so what the parts of a batch tell is
//! gathered until the batch ends.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    apply::{FEW, Malformed, TableWork},
    followed::Followed,
};
use crate::{
    change::{self, Change, Operation},
    record::{self, push_copy_field, push_field},
    shape::{Shape, Text},
};

/// From so many bytes on it is written before the batch ends.
const MOST_BYTES: usize = 4 << 20;

/// The memory of a text beside its bytes.
const OVERHEAD: usize = 32;

/// The changes that are gathered.
#[derive(Debug, Default)]
pub struct Nameless {
    tables: BTreeMap<i32, Nets>,
    bytes: usize,
}

/// Of one table, how many more rows of each text came than went; equal ones follow one another.
#[derive(Debug)]
struct Nets {
    table: Rc<Followed>,
    net: Vec<(String, i64)>,
}

impl Nameless {
    /// Adds that a row came, or went; false if it is no such change, or its columns are not the table's.
    ///
    /// # Errors
    /// When a value is malformed.
    pub(super) fn push(&mut self, table: &Rc<Followed>, change: &Change<'_>) -> Result<bool, Malformed> {
        let (row, net) = match (change.operation, &change.new_record, &change.old_record) {
            (Operation::Insert, Some(row), None) => (row, 1),
            (Operation::Delete, None, Some(row)) => (row, -1),
            _ => return Ok(false),
        };
        let columns = &table.shape.columns;
        if !row.0.iter().map(|(name, _)| name).eq(columns.iter().map(|column| &column.name)) {
            return Ok(false);
        }
        let mut text = String::from("(");
        for (n, (_, raw)) in row.0.iter().enumerate() {
            if n > 0 {
                text.push(',');
            }
            push_field(change::value(raw).map_err(|_| Malformed)?.as_deref(), &mut text);
        }
        text.push(')');
        let nets = self.tables.entry(table.id);
        let Nets { net: texts, .. } =
            nets.or_insert_with(|| Nets { table: Rc::clone(table), net: Vec::new() });
        // Also of an equal one: it is written as often as it came.
        self.bytes += text.len() + OVERHEAD;
        match texts.last_mut() {
            Some((last, sum)) if *last == text => *sum += net,
            _ => texts.push((text, net)),
        }
        Ok(true)
    }

    /// The tables that they are of.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Rc<Followed>> {
        self.tables.values().map(|nets| &nets.table)
    }

    /// Whether they are too many to be kept back.
    #[must_use]
    pub(super) const fn are_many(&self) -> bool {
        self.bytes >= MOST_BYTES
    }

    /// What is to be removed and written because of them.
    ///
    /// # Errors
    /// When a row cannot be written.
    pub(super) fn settle(self) -> Result<Vec<TableWork>, Malformed> {
        self.tables.into_values().map(Nets::settle).collect()
    }
}

impl Nets {
    fn settle(self) -> Result<TableWork, Malformed> {
        let mut work = TableWork::new(self.table);
        for (text, net) in self.net {
            for _ in 0..net {
                let values = record::fields(&text).map_err(|_| Malformed)?;
                for (n, value) in values.iter().enumerate() {
                    if n > 0 {
                        work.rows.push(b'\t');
                    }
                    push_copy_field(value.as_deref(), &mut work.rows);
                }
                work.rows.push(b'\n');
                if work.few.len() < FEW {
                    let values = values.into_iter().map(|value| value.map(|value| Text(value.into_owned())));
                    work.few.push(values.collect());
                }
                work.count += 1;
            }
            work.keys.extend((net..0).map(|_| Shape::row_as_key(text.clone())));
        }
        Ok(work)
    }
}
