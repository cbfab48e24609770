//! What people ask of tasks: cancel, retry, delete.

use super::finish::CANCELLED;
use super::keys::{self, Kind};
use super::life::{Ends, Life};
use super::row;
use super::state::State;
use super::transaction::Transaction;
use crate::model::{CancelOutcome, Error, TaskId};

const ASK_TO_STOP: &str = "UPDATE taskflow_tasks SET cancel_requested = 1 WHERE seq = ?1";

const RETRIED: &str = "SELECT name, idempotency_key, policy FROM taskflow_tasks WHERE seq = ?1";

const RETRY: &str = "
UPDATE taskflow_tasks
SET state = 0, run_at = ?2, max_attempts = ?3, finished_at = NULL, error = NULL, progress = NULL, lost_runs = 0,
    snoozes = 0, expires_at = CASE WHEN expires_at > ?2 THEN expires_at END
WHERE seq = ?1";

const DELETE: &str = "DELETE FROM taskflow_tasks WHERE seq = ?1";
const DELETE_ATTEMPTS: &str = "DELETE FROM taskflow_attempts WHERE task = ?1";
const DELETE_LOGS: &str = "DELETE FROM taskflow_logs WHERE task = ?1";

pub(super) fn cancel(
    tx: &mut Transaction<'_, '_>,
    ids: &[TaskId],
    reason: &str,
) -> rusqlite::Result<Vec<CancelOutcome>> {
    ids.iter().map(|id| cancel_one(tx, *id, reason)).collect()
}

fn cancel_one(tx: &mut Transaction<'_, '_>, id: TaskId, reason: &str) -> rusqlite::Result<CancelOutcome> {
    let Some(life) = tx.life(id)? else { return Ok(CancelOutcome::NotFound) };
    if life.state.is_final() {
        return Ok(CancelOutcome::AlreadyFinished);
    }
    tx.is_news = true;
    if life.state == State::Running {
        tx.sql.execute(ASK_TO_STOP, [life.seq])?;
        return Ok(CancelOutcome::Requested);
    }
    let (state, attempt, lost_runs) = (State::Cancelled, life.attempt, life.lost_runs);
    tx.end(&life, Ends { state, attempt, lost_runs, error: reason })?;
    Ok(CancelOutcome::Cancelled)
}

pub(super) fn cancel_by_run_key(
    tx: &mut Transaction<'_, '_>,
    run_key: &str,
) -> rusqlite::Result<Vec<TaskId>> {
    let ids = keys::waiting_with(tx, run_key)?;
    cancel(tx, &ids, CANCELLED)?;
    Ok(ids)
}

pub(super) fn retry(
    tx: &mut Transaction<'_, '_>,
    ids: &[TaskId],
) -> rusqlite::Result<Vec<Result<(), Error>>> {
    ids.iter().map(|id| retry_one(tx, *id)).collect()
}

fn retry_one(tx: &mut Transaction<'_, '_>, id: TaskId) -> rusqlite::Result<Result<(), Error>> {
    let Some(mut life) = tx.life(id)? else { return Ok(Err(Error::NotFound { id })) };
    if !life.state.is_final() || life.state == State::Success {
        return Ok(Err(Error::NotRetryable { id, status: life.state.status() }));
    }
    let sql = tx.sql;
    let mut retried = sql.get(RETRIED)?;
    let mut rows = retried.query([life.seq])?;
    let Some(row) = rows.next()? else { return Ok(Err(Error::NotFound { id })) };
    // What cannot be read is found out by the claim.
    let key = row.get_ref(1)?.as_str_or_null().unwrap_or_default();
    if let Some(key) = key
        && let Ok(name) = row.get_ref(0)?.as_str()
    {
        if let Some(holder) = keys::holder(tx, key, name, Kind::Idempotency)? {
            return Ok(Err(Error::KeyTaken { id, holder }));
        }
        keys::take(tx, key, name, Kind::Idempotency, life.seq)?;
    }
    let again = row::policy(row.get_ref(2)?.as_str_or_null().unwrap_or_default()).max_attempts();
    let max_attempts = life.attempt.saturating_add(i64::from(again)).min(i64::from(u32::MAX));
    sql.execute(RETRY, [life.seq, tx.now, max_attempts])?;
    life.expires_at = life.expires_at.filter(|at| *at > tx.now);
    tx.moved(&life, State::Due, life.attempt)?;
    if life.attempt == 0 {
        keys::take_run_key(tx, life.seq)?;
    }
    tx.is_news = true;
    Ok(Ok(()))
}

pub(super) fn delete(tx: &mut Transaction<'_, '_>, ids: &[TaskId]) -> rusqlite::Result<usize> {
    let mut deleted = 0;
    for id in ids {
        if let Some(life) = tx.life(*id)?.filter(|life| life.state.is_final()) {
            forget(tx, &life)?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// Deletes an ended row and what belongs to it.
pub(super) fn forget(tx: &mut Transaction<'_, '_>, life: &Life) -> rusqlite::Result<()> {
    tx.free_keys(life)?;
    tx.left_state(life, life.state)?;
    tx.ledger.exit(life.queue, life.state, life.attempt);
    tx.ledger.moves += 1;
    tx.sql.execute(DELETE, [life.seq])?;
    tx.sql.execute(DELETE_ATTEMPTS, [life.seq])?;
    tx.sql.execute(DELETE_LOGS, [life.seq])?;
    Ok(())
}
