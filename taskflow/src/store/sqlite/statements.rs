//! Prepared statements of one connection, kept for as long as it lives.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use rusqlite::{Connection, PrepFlags, Statement};

/// A connection with the statements it has prepared. `rusqlite` has such a cache, but behind a feature, and it finds a
/// statement by hashing its text; here the text is constant and its address finds it.
pub(super) struct Statements<'c> {
    connection: &'c Connection,
    idle: RefCell<Vec<(&'static str, Option<Statement<'c>>)>>,
}

/// A prepared statement, out on loan.
pub(super) struct Prepared<'s, 'c> {
    home: &'s Statements<'c>,
    sql: &'static str,
    /// `None` only while it is being given back.
    statement: Option<Statement<'c>>,
}

impl<'c> Statements<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, idle: RefCell::new(Vec::new()) }
    }

    pub(super) fn connection(&self) -> &'c Connection {
        self.connection
    }

    /// The statement of that text. As many are prepared, and kept, as were ever on loan at once.
    pub(super) fn get(&self, sql: &'static str) -> rusqlite::Result<Prepared<'_, 'c>> {
        let idle = self
            .idle
            .borrow_mut()
            .iter_mut()
            .find(|(text, statement)| std::ptr::eq(*text, sql) && statement.is_some())
            .and_then(|it| it.1.take());
        let statement = match idle {
            Some(statement) => statement,
            // To be kept: the little memory that a connection has for short uses is not for these.
            None => self.connection.prepare_with_flags(sql, PrepFlags::SQLITE_PREPARE_PERSISTENT)?,
        };
        Ok(Prepared { home: self, sql, statement: Some(statement) })
    }

    /// Runs the statement of that text once.
    pub(super) fn execute(
        &self,
        sql: &'static str,
        parameters: impl rusqlite::Params,
    ) -> rusqlite::Result<usize> {
        self.get(sql)?.execute(parameters)
    }

    /// How many steps SQLite's machine has taken for all that was asked so far.
    #[cfg(test)]
    pub(super) fn steps(&self) -> i64 {
        let idle = self.idle.borrow();
        let statements = idle.iter().filter_map(|(_, statement)| statement.as_ref());
        statements.map(|it| i64::from(it.get_status(rusqlite::StatementStatus::VmStep))).sum()
    }
}

impl Drop for Prepared<'_, '_> {
    fn drop(&mut self) {
        let mut idle = self.home.idle.borrow_mut();
        let empty = idle.iter_mut().find(|(text, there)| std::ptr::eq(*text, self.sql) && there.is_none());
        match empty {
            Some((_, place)) => *place = self.statement.take(),
            None => idle.push((self.sql, self.statement.take())),
        }
    }
}

impl<'c> Deref for Prepared<'_, 'c> {
    type Target = Statement<'c>;

    fn deref(&self) -> &Statement<'c> {
        self.statement.as_ref().expect("it is given back only by drop")
    }
}

impl DerefMut for Prepared<'_, '_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.statement.as_mut().expect("it is given back only by drop")
    }
}
