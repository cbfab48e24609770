//! Inserts through a connection of the application, as part of its transaction.

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
    /// Inserts like [`Store::insert`](crate::store::Store::insert), but through the caller's connection to the same
    /// file. If the connection has an open transaction, the insert is part of it: the tasks become visible with its
    /// commit, and a rollback removes them. Otherwise the insert uses a transaction of its own.
    ///
    /// # Errors
    /// If the connection is to another file, or if SQLite refuses the insert. Then nothing of the batch is left in the
    /// caller's transaction. It stays open, unless SQLite itself rolls it back, for example on a full disk. SQLite may
    /// refuse a transaction that reads before it writes, because
    /// others wrote in between: begin such a transaction with `BEGIN IMMEDIATE`.
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
