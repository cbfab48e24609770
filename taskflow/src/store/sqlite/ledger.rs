//! How many tasks of each state each queue has: kept as they move, written once a transaction.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::state::State;
use super::statements::Statements;

/// Queues whose names are remembered between transactions.
const REMEMBERED: usize = 256;

/// A queue's place in the ledger, for as long as the transaction lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueNumber(usize);

/// What one transaction changes in the numbers of the queues.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    queues: Vec<Entry>,
    /// Tasks that came, moved or went.
    pub(super) moves: usize,
    /// Bytes of arguments that were written.
    pub(super) bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    name: Arc<str>,
    change: Numbers,
    /// What the file says, once it was asked.
    stored: Option<Stored>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers {
    of_state: [i64; State::ALL.len()],
    waiting_first: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stored {
    paused: bool,
    due: i64,
    later: i64,
    waiting_first: i64,
}

const SELECT: &str = "SELECT paused, due, later, waiting_first FROM taskflow_queues WHERE name = ?1";

const ADD: &str = "
INSERT INTO taskflow_queues
    (name, due, later, held, running, success, failed, interrupted, cancelled, rejected, waiting_first)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (name) DO UPDATE SET
    due = due + excluded.due,
    later = later + excluded.later,
    held = held + excluded.held,
    running = running + excluded.running,
    success = success + excluded.success,
    failed = failed + excluded.failed,
    interrupted = interrupted + excluded.interrupted,
    cancelled = cancelled + excluded.cancelled,
    rejected = rejected + excluded.rejected,
    waiting_first = waiting_first + excluded.waiting_first";

impl Ledger {
    /// Forgets what was changed: at the begin of each transaction.
    pub(super) fn clear(&mut self) {
        (self.moves, self.bytes) = (0, 0);
        if self.queues.len() > REMEMBERED {
            self.queues.clear();
        }
        for entry in &mut self.queues {
            entry.change = Numbers::default();
            entry.stored = None;
        }
    }

    pub(super) fn queue(&mut self, name: &str) -> QueueNumber {
        let known = self.queues.iter().position(|entry| &*entry.name == name);
        QueueNumber(known.unwrap_or_else(|| {
            self.queues.push(Entry { name: Arc::from(name), change: Numbers::default(), stored: None });
            self.queues.len() - 1
        }))
    }

    pub(super) fn name(&self, queue: QueueNumber) -> &Arc<str> {
        &self.queues[queue.0].name
    }

    /// A task of this many attempts came to be in `state`.
    pub(super) fn enter(&mut self, queue: QueueNumber, state: State, attempt: i64) {
        self.moves += 1;
        self.count(queue, state, attempt, 1);
    }

    /// A task of this many attempts is no longer in `state`.
    pub(super) fn exit(&mut self, queue: QueueNumber, state: State, attempt: i64) {
        self.count(queue, state, attempt, -1);
    }

    fn count(&mut self, queue: QueueNumber, state: State, attempt: i64, one: i64) {
        let change = &mut self.queues[queue.0].change;
        change.of_state[state as usize] += one;
        if attempt == 0 && state.is_pending() {
            change.waiting_first += one;
        }
    }

    pub(super) fn is_paused(&mut self, queue: QueueNumber, sql: &Statements<'_>) -> rusqlite::Result<bool> {
        Ok(self.stored(queue, sql)?.paused)
    }

    /// How many are due now, this transaction's changes counted.
    pub(super) fn due(&mut self, queue: QueueNumber, sql: &Statements<'_>) -> rusqlite::Result<i64> {
        Ok(self.stored(queue, sql)?.due + self.queues[queue.0].change.of_state[State::Due as usize])
    }

    /// How many are not due yet.
    pub(super) fn later(&mut self, queue: QueueNumber, sql: &Statements<'_>) -> rusqlite::Result<i64> {
        Ok(self.stored(queue, sql)?.later + self.queues[queue.0].change.of_state[State::Later as usize])
    }

    /// How many wait for their first attempt.
    pub(super) fn waiting_first(
        &mut self,
        queue: QueueNumber,
        sql: &Statements<'_>,
    ) -> rusqlite::Result<i64> {
        Ok(self.stored(queue, sql)?.waiting_first + self.queues[queue.0].change.waiting_first)
    }

    /// Forgets what the file said of a queue, when that was changed past the ledger.
    pub(super) fn reread(&mut self, queue: QueueNumber) {
        self.queues[queue.0].stored = None;
    }

    fn stored(&mut self, queue: QueueNumber, sql: &Statements<'_>) -> rusqlite::Result<Stored> {
        let entry = &mut self.queues[queue.0];
        if let Some(stored) = entry.stored {
            return Ok(stored);
        }
        let found = sql.get(SELECT)?.query_row([&entry.name], |row| {
            Ok(Stored {
                paused: row.get(0)?,
                due: row.get(1)?,
                later: row.get(2)?,
                waiting_first: row.get(3)?,
            })
        });
        let stored = found.optional()?.unwrap_or_default();
        entry.stored = Some(stored);
        Ok(stored)
    }

    /// Writes down what was changed: at the end of each transaction.
    pub(super) fn write(&mut self, sql: &Statements<'_>) -> rusqlite::Result<()> {
        for entry in self.queues.iter().filter(|entry| entry.change != Numbers::default()) {
            let Numbers { of_state: n, waiting_first } = entry.change;
            sql.execute(
                ADD,
                params![entry.name, n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], waiting_first],
            )?;
        }
        Ok(())
    }
}
