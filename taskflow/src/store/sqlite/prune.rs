//! Deletes old records.
//!
//! There is no index of end times, because each task would pay for it. Instead, a reader looks for ended tasks in the
//! order in which they were added. It starts at the oldest and stops at the first task that is too young to have ended
//! long enough ago. Each time, it passes over the old tasks that have not ended or are kept for longer. Statuses that are
//! kept for less time than successes are searched in `taskflow_ended_badly`, so that these searches pass over no success.

use std::time::Duration;

use rusqlite::OptionalExtension;

use super::control::forget;
use super::documents;
use super::queue_counts::MINUTE;
use super::row_state::RowState;
use super::statements::Statements;
use super::transaction::Transaction;
use crate::model::{TaskStatus, time};
use crate::store::Retention;

const OLDEST: &str = "SELECT seq, created_at, state, finished_at FROM taskflow_tasks ORDER BY seq";

const OLDEST_OF: &str = "
SELECT t.seq, t.created_at, t.state, t.finished_at
FROM taskflow_ended_badly b CROSS JOIN taskflow_tasks t ON t.id = b.id
WHERE b.state = ?1 ORDER BY b.id";

const ENDED: &str = "SELECT state, finished_at FROM taskflow_tasks WHERE seq = ?1 AND state >= 4";

const OLD_INSTANCES: &str = "
DELETE FROM taskflow_instances
WHERE gone_at <= ?1 AND NOT EXISTS (
    SELECT 1 FROM taskflow_tasks t INDEXED BY taskflow_tasks_leases
    WHERE t.lease_until IS NOT NULL AND t.instance = taskflow_instances.number
)";

const EMPTY_QUEUES: &str = "
DELETE FROM taskflow_queues
WHERE paused = 0 AND config IS NULL AND starts IS NULL AND key_limit IS NULL AND refused = 0
  AND blocked = 0 AND due = 0 AND later = 0 AND held = 0 AND running = 0 AND success = 0 AND failed = 0
  AND interrupted = 0 AND cancelled = 0 AND rejected = 0";

const ENDED_LATELY: &str = "DELETE FROM taskflow_ended_lately WHERE second <= ?1";

/// Says up to which instants tasks must have ended to be old.
#[derive(Clone, Copy)]
struct Until {
    retention: Retention,
    now: i64,
}

impl Until {
    fn length(self, length: Duration) -> i64 {
        self.now.saturating_sub(time::micros(length))
    }

    fn status(self, status: TaskStatus) -> i64 {
        self.length(self.retention.of(status))
    }

    /// Whether a task of this state that ended then is old.
    fn is_old(self, state: RowState, finished_at: Option<i64>) -> bool {
        state.is_final() && finished_at.is_none_or(|at| at <= self.status(state.status()))
    }
}

/// The records to delete.
pub(super) struct Old {
    until: Until,
    limit: usize,
    tasks: Vec<i64>,
    /// Whether `tasks` contains all old tasks.
    are_all: bool,
}

pub(super) fn find_old(sql: &Statements<'_>, retention: Retention, limit: usize) -> rusqlite::Result<Old> {
    let until = Until { retention, now: time::now_micros() };
    let of_successes = until.status(TaskStatus::Success);
    let mut old = Old { until, limit, tasks: Vec::new(), are_all: true };
    old.collect(sql.get(OLDEST)?.query([])?, of_successes)?;
    for status in Retention::STATUSES {
        if until.status(status) > of_successes {
            let state = RowState::ended(status).number();
            old.collect(sql.get(OLDEST_OF)?.query([state])?, until.status(status))?;
        }
    }
    Ok(old)
}

impl Old {
    /// Collects the old tasks of `rows`, which come oldest first, up to the first task that was added after `until`. Leaves out
    /// tasks of a status that is kept for less time: another query finds them.
    fn collect(&mut self, mut rows: rusqlite::Rows<'_>, until: i64) -> rusqlite::Result<()> {
        while self.tasks.len() < self.limit {
            let Some(row) =
                rows.next()?.filter(|row| row.get(1).is_ok_and(|created_at: i64| created_at <= until))
            else {
                return Ok(());
            };
            let state = RowState::from_number(row.get(2)?);
            if self.until.is_old(state, row.get(3)?) && self.until.status(state.status()) <= until {
                self.tasks.push(row.get(0)?);
            }
        }
        self.are_all = false;
        Ok(())
    }
}

pub(super) fn prune(tx: &mut Transaction<'_, '_>, old: &Old) -> rusqlite::Result<usize> {
    let mut deleted = 0;
    for seq in &old.tasks {
        // The task may have been retried or deleted since it was found.
        let ended = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?));
        let ended = tx.sql.get(ENDED)?.query_row([seq], ended).optional()?;
        if ended.is_some_and(|(state, at)| at.is_some() && old.until.is_old(RowState::from_number(state), at))
            && let Some(row) = tx.row_of(*seq)?
        {
            forget(tx, &row)?;
            deleted += 1;
        }
    }
    if old.are_all {
        // The tasks of an instance ended before the instance was gone. So no task that stays refers to an instance that
        // is deleted here.
        tx.sql.execute(OLD_INSTANCES, [old.until.length(old.until.retention.longest())])?;
        // The counts of this transaction are not written yet, so a queue that it empties is deleted by the next prune.
        tx.sql.execute(EMPTY_QUEUES, [])?;
        tx.sql.execute(ENDED_LATELY, [tx.now.div_euclid(1_000_000) - MINUTE])?;
    }
    Ok(deleted.max(documents::prune(tx, old.limit)?))
}
