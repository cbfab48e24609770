//! The prepared statements of one connection, kept until it is closed.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use rusqlite::{Connection, PrepFlags, Statement};

/// A connection with its prepared statements. `rusqlite` has such a cache too, but behind a feature, and it finds a
/// statement by hashing its text. Here the text is a constant, and its address identifies the statement.
pub(super) struct Statements<'c> {
    connection: &'c Connection,
    /// Each text once, with its statements that nobody has on loan.
    idle: RefCell<Vec<(&'static str, Vec<Statement<'c>>)>>,
}

/// The most statements with one text that are kept.
const KEPT: usize = 256;

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
        let mut idle = self.idle.borrow_mut();
        let idle = idle.iter_mut().find(|(text, _)| std::ptr::eq(*text, sql)).and_then(|it| it.1.pop());
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
        let statements = idle.iter().flat_map(|(_, statements)| statements);
        statements.map(|it| i64::from(it.get_status(rusqlite::StatementStatus::VmStep))).sum()
    }
}

impl Drop for Prepared<'_, '_> {
    fn drop(&mut self) {
        let mut idle = self.home.idle.borrow_mut();
        let Some(statement) = self.statement.take() else { return };
        match idle.iter_mut().find(|(text, _)| std::ptr::eq(*text, self.sql)) {
            Some((_, statements)) if statements.len() < KEPT => statements.push(statement),
            Some(_) => {}
            None => idle.push((self.sql, vec![statement])),
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
