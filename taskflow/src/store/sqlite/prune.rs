//! Deletes old records.
//!
//! There is no index of end times, because each task would pay for it. Instead, a reader looks for ended tasks in the
//! order in which they were added. It starts at the oldest and stops at the first task that is too young to have ended
//! long enough ago. It passes old tasks that have not ended each time.

use std::time::Duration;

use rusqlite::params;

use super::control::forget;
use super::queue_counts::MINUTE;
use super::row_state::RowState;
use super::statements::Statements;
use super::transaction::Transaction;
use crate::model::time;

const OLDEST: &str = "SELECT seq, created_at, state, finished_at FROM taskflow_tasks ORDER BY seq";

const ENDED: &str = "SELECT 1 FROM taskflow_tasks WHERE seq = ?1 AND state >= 4 AND finished_at <= ?2";

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

/// The records to delete.
pub(super) struct Old {
    /// Tasks that ended at this instant or before are old.
    until: i64,
    tasks: Vec<i64>,
    /// Whether `tasks` contains all old tasks.
    are_all: bool,
}

pub(super) fn look(sql: &Statements<'_>, retention: Duration, limit: usize) -> rusqlite::Result<Old> {
    let until = time::now_micros().saturating_sub(time::micros(retention));
    let mut oldest = sql.get(OLDEST)?;
    let mut rows = oldest.query([])?;
    let mut tasks = Vec::new();
    while tasks.len() < limit {
        let Some(row) =
            rows.next()?.filter(|row| row.get(1).is_ok_and(|created_at: i64| created_at <= until))
        else {
            return Ok(Old { until, tasks, are_all: true });
        };
        let finished_at: Option<i64> = row.get(3)?;
        if RowState::from_number(row.get(2)?).is_final() && finished_at.is_none_or(|at| at <= until) {
            tasks.push(row.get(0)?);
        }
    }
    Ok(Old { until, tasks, are_all: false })
}

pub(super) fn prune(tx: &mut Transaction<'_, '_>, old: &Old) -> rusqlite::Result<usize> {
    let mut deleted = 0;
    for seq in &old.tasks {
        // The task may have been retried or deleted since it was found.
        if tx.sql.get(ENDED)?.exists(params![seq, old.until])?
            && let Some(row) = tx.row_of(*seq)?
        {
            forget(tx, &row)?;
            deleted += 1;
        }
    }
    if old.are_all {
        // The tasks of an instance ended before the instance was gone. So no task that stays refers to an instance that
        // is deleted here.
        tx.sql.execute(OLD_INSTANCES, [old.until])?;
        // The counts of this transaction are not written yet, so a queue that it empties is deleted by the next prune.
        tx.sql.execute(EMPTY_QUEUES, [])?;
        tx.sql.execute(ENDED_LATELY, [tx.now.div_euclid(1_000_000) - MINUTE])?;
    }
    Ok(deleted)
}
