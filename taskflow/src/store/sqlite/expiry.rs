//! Tasks whose `expires_at` has passed.
//!
//! A claim that finds expired tasks *lapses* them: their state becomes blocked, so that no later claim meets them. A
//! recovery then cancels them and reports them.

use std::sync::Arc;

use rusqlite::params;

use super::expiring::forget;
use super::readable::is_unreadable;
use super::row;
use super::row_state::RowState;
use super::statements::Statements;
use super::task_row::{TaskRow, may_expire};
use super::transaction::Transaction;
use crate::model::TaskId;
use crate::store::{Recovered, transition};

/// The maximum number of tasks that one transaction lapses. This takes about 20 ms.
const LAPSED_AT_ONCE: i64 = 2_000;

const EXPIRED: &str = "
SELECT task, expires_at FROM taskflow_expiring
WHERE lapsed = 0 AND expires_at <= ?1 ORDER BY expires_at, task LIMIT ?2";

const LAPSE: &str = "UPDATE taskflow_tasks SET state = -1 WHERE seq = ?1";

const RECORD_LAPSED: &str = "
INSERT OR IGNORE INTO taskflow_expiring (lapsed, expires_at, task) SELECT 1, expires_at, seq FROM taskflow_tasks WHERE seq = ?1";

const OVER: &str = "
SELECT task, expires_at FROM taskflow_expiring WHERE lapsed IN (0, 1) AND expires_at <= ?1 LIMIT ?2";

const WHAT: &str = "SELECT id, name FROM taskflow_tasks WHERE seq = ?1";

/// Lapses the tasks that have expired. Answers whether these were all.
pub(super) fn lapse(tx: &mut Transaction<'_, '_>) -> rusqlite::Result<bool> {
    let expired: Vec<(i64, i64)> = {
        let mut expired = tx.sql.get(EXPIRED)?;
        let rows =
            expired.query_map(params![tx.now, LAPSED_AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    for (seq, expires_at) in &expired {
        let Some(row) = expiring(tx, *seq, *expires_at)? else { continue };
        // The task may be blocked already, by its concurrency key.
        tx.sql.execute(LAPSE, [seq])?;
        tx.counts.exit(row.queue, row.state, row.attempt);
        tx.counts.enter(row.queue, RowState::Blocked, row.attempt);
        tx.left_state(&row, RowState::Blocked)?;
        tx.sql.execute(RECORD_LAPSED, [seq])?;
    }
    Ok(row::to_i64(expired.len()) < LAPSED_AT_ONCE)
}

/// The row of a listed task, if it really expires at that instant. If not, another program has changed the row or the
/// list, and the entry is removed.
fn expiring(tx: &mut Transaction<'_, '_>, seq: i64, expires_at: i64) -> rusqlite::Result<Option<TaskRow>> {
    let row = tx.row_of(seq)?;
    let row = row.filter(|row| row.expires_at == Some(expires_at) && may_expire(row.state));
    if row.is_none() {
        forget(tx, seq, expires_at)?;
        tx.is_suspect = true;
    }
    Ok(row)
}

/// Whether there are expired tasks to [`cancel`].
pub(super) fn is_any_over(sql: &Statements<'_>, now: i64) -> rusqlite::Result<bool> {
    sql.get(OVER)?.exists([now, 1])
}

/// Cancels up to `limit` tasks that have expired.
pub(super) fn cancel(tx: &mut Transaction<'_, '_>, limit: i64) -> rusqlite::Result<Vec<Recovered>> {
    let over: Vec<(i64, i64)> = {
        let mut over = tx.sql.get(OVER)?;
        let rows = over.query_map([tx.now, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut cancelled = Vec::with_capacity(over.len());
    for (seq, expires_at) in over {
        let Some(row) = expiring(tx, seq, expires_at)? else { continue };
        let what = tx
            .sql
            .get(WHAT)?
            .query_row([seq], |row| Ok((TaskId::from_bytes(row.get(0)?), row.get::<_, Arc<str>>(1)?)));
        let (id, name) = match what {
            Err(error) if is_unreadable(&error) => {
                tx.fail_damaged(seq, &error)?;
                continue;
            }
            what => what?,
        };
        let task = row.task();
        if let Some(change) = transition::expire(&task, tx.now) {
            tx.apply(&row, &change)?;
            cancelled.push(change.recovered(&task, id, name));
        }
    }
    Ok(cancelled)
}
