//! What people ask for: cancel, retry, delete, pause.

use rusqlite::params;

use super::finish::CANCELLED;
use super::insert::key_holder;
use super::life::Ends;
use super::row;
use super::state::State;
use super::transaction::Transaction;
use crate::model::{CancelOutcome, Error, RetryPolicy, TaskId};

const ASK_TO_STOP: &str = "UPDATE taskflow_tasks SET cancel_requested = 1 WHERE seq = ?1";

const WITH_RUN_KEY: &str = "
SELECT id FROM taskflow_tasks INDEXED BY taskflow_tasks_run_key
WHERE run_key = ?1 AND run_key_held = 1 ORDER BY name";

const RETRIED: &str = "
SELECT name, idempotency_key, policy, outcome, error, finished_at FROM taskflow_tasks WHERE seq = ?1";

const RETRY: &str = "
UPDATE taskflow_tasks
SET state = 0, run_at = ?2, max_attempts = ?3, key_held = ?4, finished_at = NULL, ended_badly = NULL,
    instance = NULL, outcome = NULL, error = NULL, progress = NULL, lost_runs = 0
WHERE seq = ?1";

const DELETE: &str = "DELETE FROM taskflow_tasks WHERE seq = ?1";
const DELETE_ATTEMPTS: &str = "DELETE FROM taskflow_attempts WHERE task = ?1";
const DELETE_LOGS: &str = "DELETE FROM taskflow_logs WHERE task = ?1";

const PAUSE: &str = "
INSERT INTO taskflow_queues (name, paused) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET paused = excluded.paused";

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
    tx.end(&life, Ends { state, attempt, lost_runs, error: reason, outcome: None })?;
    Ok(CancelOutcome::Cancelled)
}

pub(super) fn cancel_scheduled(tx: &mut Transaction<'_, '_>, run_key: &str) -> rusqlite::Result<Vec<TaskId>> {
    let ids: Vec<TaskId> = {
        let mut with_key = tx.sql.get(WITH_RUN_KEY)?;
        let rows = with_key.query_map([run_key], |row| Ok(TaskId::from_bytes(row.get(0)?)))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
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
    let Some(life) = tx.life(id)? else { return Ok(Err(Error::NotFound { id })) };
    if !life.state.is_final() || life.state == State::Success {
        return Ok(Err(Error::NotRetryable { id, status: life.state.status() }));
    }
    let sql = tx.sql;
    let mut retried = sql.get(RETRIED)?;
    let mut rows = retried.query([life.seq])?;
    let Some(row) = rows.next()? else { return Ok(Err(Error::NotFound { id })) };
    let key = row.get_ref(1)?.as_str_or_null()?;
    if let Some(key) = key
        && let Some(holder) = key_holder(tx, key, row.get_ref(0)?.as_str()?)?
    {
        return Ok(Err(Error::KeyTaken { id, holder }));
    }
    if life.instance.is_some() {
        let outcome = row::outcome(row.get_ref(3)?.as_str_or_null()?.unwrap_or_default());
        let ended_at = row.get::<_, Option<i64>>(5)?.unwrap_or(tx.now);
        tx.record(&life, ended_at, outcome, row.get_ref(4)?.as_str_or_null()?)?;
    }
    let again = row.get_ref(2)?.as_str_or_null()?.map_or(RetryPolicy::DEFAULT, row::policy).max_attempts();
    let max_attempts = life.attempt.saturating_add(i64::from(again)).min(i64::from(u32::MAX));
    sql.execute(RETRY, params![life.seq, tx.now, max_attempts, key.map(|_| 1)])?;
    tx.moved(&life, State::Due, life.attempt);
    if life.attempt == 0 {
        tx.take_run_key(life.seq)?;
    }
    tx.is_news = true;
    Ok(Ok(()))
}

pub(super) fn delete(tx: &mut Transaction<'_, '_>, ids: &[TaskId]) -> rusqlite::Result<usize> {
    let mut deleted = 0;
    for id in ids {
        if let Some(life) = tx.life(*id)?.filter(|life| life.state.is_final()) {
            forget(tx, life.seq)?;
            tx.ledger.exit(life.queue, life.state, life.attempt);
            tx.ledger.moves += 1;
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// Deletes a row and what belongs to it.
pub(super) fn forget(tx: &mut Transaction<'_, '_>, seq: i64) -> rusqlite::Result<()> {
    tx.sql.execute(DELETE, [seq])?;
    tx.sql.execute(DELETE_ATTEMPTS, [seq])?;
    tx.sql.execute(DELETE_LOGS, [seq])?;
    Ok(())
}

pub(super) fn set_paused(tx: &mut Transaction<'_, '_>, queue: &str, paused: bool) -> rusqlite::Result<()> {
    tx.sql.execute(PAUSE, params![queue, paused])?;
    let queue = tx.ledger.queue(queue);
    tx.ledger.reread(queue);
    tx.is_news = true;
    Ok(())
}
