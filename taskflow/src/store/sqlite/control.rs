//! User requests for tasks: cancel, retry, delete.

use super::row;
use super::task_row::TaskRow;
use super::transaction::Transaction;
use super::unique_keys::{self, KeyKind};
use crate::model::{CancelOutcome, Error, TaskId};
use crate::store::{Reopen, ReplaceArgs, transition};

const RETRIED: &str = "SELECT name, idempotency_key, policy FROM taskflow_tasks WHERE seq = ?1";

const REPLACE_ARGS: &str = "UPDATE taskflow_tasks SET args = ?3 WHERE seq = ?1 AND args = ?2";

const DELETE: &str = "DELETE FROM taskflow_tasks WHERE seq = ?1";
const DELETE_ATTEMPTS: &str = "DELETE FROM taskflow_attempts WHERE task = ?1";
const DELETE_LOGS: &str = "DELETE FROM taskflow_logs WHERE task = ?1";

pub(super) fn cancel(
    tx: &mut Transaction<'_, '_>,
    ids: &[TaskId],
    reason: &str,
) -> rusqlite::Result<Vec<CancelOutcome>> {
    ids.iter().map(|id| tx.decide(*id, |task| transition::cancel(task, reason))).collect()
}

pub(super) fn cancel_by_run_key(
    tx: &mut Transaction<'_, '_>,
    run_key: &str,
) -> rusqlite::Result<Vec<TaskId>> {
    let mut cancelled = Vec::new();
    for id in unique_keys::waiting_with(tx, run_key)? {
        if tx.decide(id, transition::cancel_by_run_key)? {
            cancelled.push(id);
        }
    }
    Ok(cancelled)
}

pub(super) fn retry(
    tx: &mut Transaction<'_, '_>,
    tasks: &[Reopen],
) -> rusqlite::Result<Vec<Result<(), Error>>> {
    tasks.iter().map(|task| retry_one(tx, *task)).collect()
}

fn retry_one(
    tx: &mut Transaction<'_, '_>,
    Reopen { id, delay }: Reopen,
) -> rusqlite::Result<Result<(), Error>> {
    let Some(row) = tx.row(id)? else { return Ok(Err(Error::NotFound { id })) };
    let sql = tx.sql;
    let mut retried = sql.get(RETRIED)?;
    let mut rows = retried.query([row.seq])?;
    let Some(columns) = rows.next()? else { return Ok(Err(Error::NotFound { id })) };
    // The next claim notices columns that cannot be read.
    let key = columns.get_ref(1)?.as_str_or_null().unwrap_or_default().zip(columns.get_ref(0)?.as_str().ok());
    let holder = key
        .map(|(key, name)| unique_keys::holder(tx, key, name, KeyKind::Idempotency))
        .transpose()?
        .flatten();
    let attempts = row::policy(columns.get_ref(2)?.as_str_or_null().unwrap_or_default()).max_attempts();
    let decision = transition::retry(id, Some(&row.task()), attempts, holder, delay, tx.now);
    if let Some(change) = decision.change {
        if let Some((key, name)) = key {
            unique_keys::take(tx, key, name, KeyKind::Idempotency, row.seq)?;
        }
        tx.apply(&row, &change)?;
    }
    Ok(decision.answer)
}

pub(super) fn delete(tx: &mut Transaction<'_, '_>, ids: &[TaskId]) -> rusqlite::Result<usize> {
    let mut deleted = 0;
    for id in ids {
        if let Some(row) = tx.row(*id)?.filter(|row| row.state.is_final()) {
            forget(tx, &row)?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

pub(super) fn replace_args(
    tx: &mut Transaction<'_, '_>,
    replacements: &[ReplaceArgs],
) -> rusqlite::Result<Vec<bool>> {
    let mut replaced = Vec::with_capacity(replacements.len());
    for ReplaceArgs { id, from, to } in replacements {
        let row = tx.row(*id)?;
        let changed = match &row {
            Some(row) => tx.sql.execute(REPLACE_ARGS, (row.seq, &**from, &**to))?,
            None => 0,
        };
        tx.counts.bytes += if changed > 0 { to.len() } else { 0 };
        replaced.push(changed > 0);
    }
    Ok(replaced)
}

/// Deletes the row of an ended task, with its attempts, logs and keys.
pub(super) fn forget(tx: &mut Transaction<'_, '_>, row: &TaskRow) -> rusqlite::Result<()> {
    tx.free_keys(row)?;
    tx.left_state(row, row.state)?;
    tx.counts.exit(row.queue, row.state, row.attempt);
    tx.counts.moves += 1;
    tx.sql.execute(DELETE, [row.seq])?;
    tx.sql.execute(DELETE_ATTEMPTS, [row.seq])?;
    tx.sql.execute(DELETE_LOGS, [row.seq])?;
    Ok(())
}
