//! Applying a small batch in one round trip: what a single change costs is not its work but the waiting for answers.

use std::pin::Pin;

use futures_util::future::join_all;
use tokio_postgres::types::ToSql;

use super::{
    apply::{FEW, TableWork, Work, delete, deleting, writing},
    state::Replica,
};
use crate::{batch::Batch, error::Result};

/// How many statements are sent together at most: so many are polled, and by that sent, in their order.
const MOST: usize = 24;

impl Work {
    /// Whether it can be written at once: rows of a few tables that have no columns of their own.
    #[must_use]
    pub fn is_little(&self) -> bool {
        let statements = self.tables.iter().map(|table| 1 + table.count).sum::<usize>();
        let plain = |table: &TableWork| table.count <= FEW && !table.table.shape.has_own();
        !self.incomplete && self.truncated.is_empty() && statements <= MOST && self.tables.iter().all(plain)
    }
}

impl Replica {
    /// Writes a batch that [is little](Work::is_little) in a transaction of its own, and commits it. Where a
    /// statement fails, so do those after it, and the server takes the COMMIT for a ROLLBACK.
    ///
    /// # Errors
    /// When the replica refuses, the position is not where we believed it, or the link breaks.
    pub async fn write_at_once(&mut self, work: &Work, batch: &Batch) -> Result<()> {
        let this = &*self;
        for table in &work.tables {
            // What is not prepared would be overtaken by what is.
            let shape = &table.table.shape;
            this.session.prepare(&deleting(shape), &shape.delete_by_keys()).await?;
            this.session.prepare(&writing(shape), &shape.insert_row()).await?;
        }
        let mut statements: Vec<Pin<Box<dyn Future<Output = Result<()>> + '_>>> =
            vec![Box::pin(this.begin())];
        for table in &work.tables {
            let shape = &table.table.shape;
            statements.push(Box::pin(async move {
                this.writes(&table.table);
                delete(&this.session, shape, table.keys.iter()).await
            }));
            for row in &table.few {
                statements.push(Box::pin(async move {
                    let values: Vec<&(dyn ToSql + Sync)> =
                        row.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
                    this.session.execute(&writing(shape), &shape.insert_row(), &values).await.map(drop)
                }));
            }
        }
        statements.push(Box::pin(this.save_position_and_commit(batch)));
        for ended in join_all(statements).await {
            ended?;
        }
        self.stand_at(batch);
        Ok(())
    }
}
