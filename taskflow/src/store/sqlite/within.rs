//! Inserts through somebody else's connection, as part of their transaction.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::SqliteStore;
use super::error::store_error;
use super::insert;
use super::statements::Statements;
use super::transaction::Transaction;
use crate::model::{StoreError, StoreErrorKind};
use crate::store::{InsertBatch, Inserted, Refusal};

impl SqliteStore {
    /// Inserts as [`Store::insert`](crate::store::Store::insert) does, through a connection of the caller's to the same
    /// file: in the transaction it has open, or in one of its own. In a transaction of the caller's, the commit makes
    /// the tasks visible, and a rollback leaves nothing of them.
    ///
    /// # Errors
    /// When the connection is to another file, and when SQLite refuses. Then nothing of the batch is left in the
    /// transaction, which goes on. A transaction that has read before it writes may be refused for what others wrote
    /// meanwhile: begin it with `BEGIN IMMEDIATE`.
    pub fn insert_within(
        &self,
        connection: &Connection,
        batch: &InsertBatch,
    ) -> Result<Vec<Result<Vec<Inserted>, Refusal>>, StoreError> {
        let here = self.path();
        let there = connection.path().unwrap_or_default();
        if fs::canonicalize(there).ok().as_deref() != Some(here) {
            let message = format!(
                "this connection is to `{there}`, and the tasks are kept in `{}`; add through a connection to that file",
                here.display()
            );
            return Err(StoreError::new(StoreErrorKind::Denied, message));
        }
        insert_within(connection, batch).map_err(|error| store_error(error, Path::new(there)))
    }
}

fn insert_within(
    connection: &Connection,
    batch: &InsertBatch,
) -> rusqlite::Result<Vec<Result<Vec<Inserted>, Refusal>>> {
    let sql = Statements::new(connection);
    let mut tx = Transaction::new(&sql);
    let is_own = connection.is_autocommit();
    if is_own {
        tx.begin()?
    } else {
        tx.join()?
    }
    let mut run = || {
        let answers = insert::insert(&mut tx, batch)?;
        tx.complete()?;
        if is_own {
            tx.commit()?
        } else {
            tx.part()?
        }
        Ok(answers)
    };
    let answer = run();
    if answer.is_err() {
        if is_own { tx.roll_back() } else { tx.part_without()? }
    }
    answer
}
