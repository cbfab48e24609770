//! The counts of tasks of each state in each queue. They are updated as tasks change state, and written once per
//! transaction.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::row;
use super::row_state::RowState;
use super::statements::Statements;

/// The number of queues whose names are remembered between transactions.
const REMEMBERED: usize = 256;

/// The number of a queue in [`CountDeltas`], valid during one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueNumber(usize);

/// The changes that one transaction makes to the counts of the queues.
#[derive(Clone, Debug, Default)]
pub(super) struct CountDeltas {
    queues: Vec<Entry>,
    /// The number of tasks that were added, changed state or were deleted.
    pub(super) moves: usize,
    /// The bytes of arguments that were written.
    pub(super) bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    name: Arc<str>,
    change: Numbers,
    /// The stored counts, once they were read from the file.
    stored: Option<Stored>,
    /// The second of the last stored end of a task.
    last_end: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers {
    /// In the order of [`RowState::ALL`].
    of_state: [i64; RowState::ALL.len()],
    waiting_first: i64,
    refused: i64,
    /// The number of tasks that ended.
    ended: i64,
}

/// The stored state of a queue, without the changes of this transaction.
#[derive(Clone, Copy, Debug, Default)]
struct Stored {
    is_paused: bool,
    keys: KeyLimit,
    blocked: i64,
    due: i64,
    later: i64,
    running: i64,
    /// Pending tasks of every kind.
    pending: i64,
    waiting_first: i64,
}

/// How many tasks of one concurrency key may run, as set by the last claim from the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyLimit {
    pub(super) most: Option<i64>,
    /// How often the limit has changed.
    pub(super) round: i64,
}

const SELECT: &str = "
SELECT paused = 1, key_limit, key_round, blocked, due, later, running, blocked + due + later + held, waiting_first
FROM taskflow_queues WHERE name = ?1";

const ADD: &str = "
INSERT INTO taskflow_queues
    (name, blocked, due, later, held, running, success, failed, interrupted, cancelled, rejected, waiting_first,
     refused)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
ON CONFLICT (name) DO UPDATE SET
    blocked = blocked + excluded.blocked,
    due = due + excluded.due,
    later = later + excluded.later,
    held = held + excluded.held,
    running = running + excluded.running,
    success = success + excluded.success,
    failed = failed + excluded.failed,
    interrupted = interrupted + excluded.interrupted,
    cancelled = cancelled + excluded.cancelled,
    rejected = rejected + excluded.rejected,
    waiting_first = waiting_first + excluded.waiting_first,
    refused = refused + excluded.refused";

const ADD_ENDED: &str = "
INSERT INTO taskflow_ended_lately (queue, second, ended) VALUES (?1, ?2, ?3)
ON CONFLICT (queue, second) DO UPDATE SET ended = ended + excluded.ended";

const FORGET_ENDED: &str = "DELETE FROM taskflow_ended_lately WHERE queue = ?1 AND second <= ?2";

/// How long the ends of tasks are counted, in seconds.
pub(super) const MINUTE: i64 = 60;

impl CountDeltas {
    /// Clears the changes. Call it at the beginning of each transaction.
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
            let (name, change) = (Arc::from(name), Numbers::default());
            self.queues.push(Entry { name, change, stored: None, last_end: 0 });
            self.queues.len() - 1
        }))
    }

    pub(super) fn name(&self, queue: QueueNumber) -> &Arc<str> {
        &self.queues[queue.0].name
    }

    /// The queues in which tasks were counted since the transaction began.
    pub(super) fn changed(&self) -> impl Iterator<Item = &str> {
        let changed = self.queues.iter().filter(|entry| entry.change != Numbers::default());
        changed.map(|entry| &*entry.name)
    }

    /// Counts a task that enters `state`; `attempt` is its attempt number there.
    pub(super) fn enter(&mut self, queue: QueueNumber, state: RowState, attempt: i64) {
        self.moves += 1;
        self.count(queue, state, attempt, 1);
        self.queues[queue.0].change.ended += i64::from(state.is_final());
    }

    /// Counts a task that leaves `state`; `attempt` is its attempt number there.
    pub(super) fn exit(&mut self, queue: QueueNumber, state: RowState, attempt: i64) {
        self.count(queue, state, attempt, -1);
    }

    fn count(&mut self, queue: QueueNumber, state: RowState, attempt: i64, one: i64) {
        let change = &mut self.queues[queue.0].change;
        change.of_state[place(state)] += one;
        if attempt == 0 && state.is_pending() {
            change.waiting_first += one;
        }
    }

    /// Counts refused tasks.
    pub(super) fn refuse(&mut self, queue: QueueNumber, tasks: usize) {
        self.queues[queue.0].change.refused += row::to_i64(tasks);
    }

    pub(super) fn is_paused(&mut self, queue: QueueNumber, sql: &Statements<'_>) -> rusqlite::Result<bool> {
        Ok(self.stored(queue, sql)?.is_paused)
    }

    pub(super) fn key_limit(
        &mut self,
        queue: QueueNumber,
        sql: &Statements<'_>,
    ) -> rusqlite::Result<KeyLimit> {
        Ok(self.stored(queue, sql)?.keys)
    }

    /// The number of blocked tasks. This and the following counts include the changes of this transaction.
    pub(super) fn blocked(&mut self, queue: QueueNumber, sql: &Statements<'_>) -> rusqlite::Result<i64> {
        Ok(self.stored(queue, sql)?.blocked + self.change(queue, RowState::Blocked))
    }

    /// The number of due tasks.
    pub(super) fn due(&mut self, queue: QueueNumber, sql: &Statements<'_>) -> rusqlite::Result<i64> {
        Ok(self.stored(queue, sql)?.due + self.change(queue, RowState::Due))
    }

    /// The number of tasks that are not due yet.
    pub(super) fn later(&mut self, queue: QueueNumber, sql: &Statements<'_>) -> rusqlite::Result<i64> {
        Ok(self.stored(queue, sql)?.later + self.change(queue, RowState::Later))
    }

    /// The number of running tasks.
    pub(super) fn running(&mut self, queue: QueueNumber, sql: &Statements<'_>) -> rusqlite::Result<i64> {
        Ok(self.stored(queue, sql)?.running + self.change(queue, RowState::Running))
    }

    /// The number of pending tasks of every kind.
    pub(super) fn pending(&mut self, queue: QueueNumber, sql: &Statements<'_>) -> rusqlite::Result<i64> {
        let pending = RowState::ALL.into_iter().filter(|state| state.is_pending());
        let change: i64 = pending.map(|state| self.change(queue, state)).sum();
        Ok(self.stored(queue, sql)?.pending + change)
    }

    /// The number of tasks that wait for their first attempt.
    pub(super) fn waiting_first(
        &mut self,
        queue: QueueNumber,
        sql: &Statements<'_>,
    ) -> rusqlite::Result<i64> {
        Ok(self.stored(queue, sql)?.waiting_first + self.queues[queue.0].change.waiting_first)
    }

    fn change(&self, queue: QueueNumber, state: RowState) -> i64 {
        self.queues[queue.0].change.of_state[place(state)]
    }

    /// Forgets the stored state of a queue. Call it after a statement that changes the row of the queue directly.
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
                is_paused: row.get(0)?,
                keys: KeyLimit { most: row.get(1)?, round: row.get(2)? },
                blocked: row.get(3)?,
                due: row.get(4)?,
                later: row.get(5)?,
                running: row.get(6)?,
                pending: row.get(7)?,
                waiting_first: row.get(8)?,
            })
        });
        let stored = found.optional()?.unwrap_or_default();
        entry.stored = Some(stored);
        Ok(stored)
    }

    /// Writes the changes to the file. Call it at the end of each transaction.
    pub(super) fn write(&mut self, sql: &Statements<'_>, now: i64) -> rusqlite::Result<()> {
        let second = now.div_euclid(1_000_000);
        for entry in self.queues.iter_mut().filter(|entry| entry.change != Numbers::default()) {
            let Numbers { of_state: n, waiting_first, refused, ended } = entry.change;
            let [blocked, due, later, held, running, success, failed, interrupted, cancelled, rejected] = n;
            let name = &entry.name;
            sql.execute(
                ADD,
                params![
                    name,
                    blocked,
                    due,
                    later,
                    held,
                    running,
                    success,
                    failed,
                    interrupted,
                    cancelled,
                    rejected,
                    waiting_first,
                    refused
                ],
            )?;
            if ended > 0 {
                sql.execute(ADD_ENDED, params![name, second, ended])?;
                if entry.last_end != second {
                    sql.execute(FORGET_ENDED, params![name, second - MINUTE])?;
                    entry.last_end = second;
                }
            }
        }
        Ok(())
    }
}

/// The index of a state in [`Numbers::of_state`].
fn place(state: RowState) -> usize {
    usize::try_from(state.number() - RowState::Blocked.number()).expect("no state has a smaller number")
}
