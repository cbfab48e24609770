//! The prepared statements of one connection, kept until it is closed.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use rusqlite::{Connection, PrepFlags, Statement};

/// A connection with its prepared statements. `rusqlite` has such a cache too, but behind a feature, and it finds a
/// statement by hashing its text. Here the text is a constant, and its address identifies the statement.
pub(super) struct Statements<'c> {
    connection: &'c Connection,
    idle: RefCell<Vec<(&'static str, Option<Statement<'c>>)>>,
}

/// A prepared statement on loan; dropping it returns it to the cache.
pub(super) struct Prepared<'s, 'c> {
    home: &'s Statements<'c>,
    sql: &'static str,
    /// `None` only while it is being returned.
    statement: Option<Statement<'c>>,
}

impl<'c> Statements<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, idle: RefCell::new(Vec::new()) }
    }

    pub(super) fn connection(&self) -> &'c Connection {
        self.connection
    }

    /// Lends the statement with that text. Prepares another one only if all statements with this text are on loan, and
    /// keeps it.
    pub(super) fn get(&self, sql: &'static str) -> rusqlite::Result<Prepared<'_, 'c>> {
        let idle = self
            .idle
            .borrow_mut()
            .iter_mut()
            .find(|(text, statement)| std::ptr::eq(*text, sql) && statement.is_some())
            .and_then(|it| it.1.take());
        let statement = match idle {
            Some(statement) => statement,
            // Persistent, so that SQLite does not use the connection's lookaside memory, which is for short-lived
            // objects.
            None => self.connection.prepare_with_flags(sql, PrepFlags::SQLITE_PREPARE_PERSISTENT)?,
        };
        Ok(Prepared { home: self, sql, statement: Some(statement) })
    }

    /// Runs the statement with that text once.
    pub(super) fn execute(
        &self,
        sql: &'static str,
        parameters: impl rusqlite::Params,
    ) -> rusqlite::Result<usize> {
        self.get(sql)?.execute(parameters)
    }

    /// The number of steps that SQLite's virtual machine has taken for all statements so far.
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
