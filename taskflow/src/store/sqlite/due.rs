//! Makes tasks due when their time has come.

use std::sync::Arc;
use std::time::Duration;

use super::row;
use super::row_state::RowState;
use super::statements::Statements;
use super::transaction::{Known, Transaction};

/// The maximum number of tasks that one transaction makes due. 10,000 tasks that come due at the same instant cost one
/// claim about 30 ms.
const PROMOTED_AT_ONCE: i64 = 10_000;

/// The maximum number of future tasks, also of other queues and names, to examine for the next task that will be due.
const LOOK_AHEAD: usize = 1000;

const COME_DUE: &str = "
SELECT run_at, task, queue FROM taskflow_later WHERE run_at <= ?1 ORDER BY run_at, task LIMIT ?2";

const PROMOTE: &str = "UPDATE taskflow_tasks SET state = 0 WHERE seq = ?1 AND state = 1";

const NO_LONGER_LATER: &str = "DELETE FROM taskflow_later WHERE run_at = ?1 AND task = ?2";

const LATER: &str = "
SELECT run_at, queue, name FROM taskflow_later WHERE run_at > ?1 ORDER BY run_at, task";

/// Makes tasks due when their time has come. Answers whether none is left.
pub(super) fn promote(tx: &mut Transaction<'_, '_>) -> rusqlite::Result<bool> {
    let mut come_due = tx.sql.get(COME_DUE)?;
    let mut rows = come_due.query([tx.now, PROMOTED_AT_ONCE])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let queue = row.get_ref(2)?.as_str().ok().map(|queue| tx.counts.queue(queue));
        found.push((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, queue));
    }
    drop(rows);
    if found.is_empty() {
        return Ok(true);
    }
    let are_all = row::to_i64(found.len()) < PROMOTED_AT_ONCE;
    let (mut promote, mut forget) = (tx.sql.get(PROMOTE)?, tx.sql.get(NO_LONGER_LATER)?);
    for (run_at, seq, queue) in found {
        let is_promoted = promote.execute([seq])? > 0;
        forget.execute([run_at, seq])?;
        let Some(queue) = queue.filter(|_| is_promoted) else {
            // Another program has changed the entry in this table, or the task's row.
            tx.is_suspect = true;
            continue;
        };
        // Attempt 0 for both, because whether the task waits for its first attempt does not change.
        tx.counts.exit(queue, RowState::Later, 0);
        tx.counts.enter(queue, RowState::Due, 0);
    }
    Ok(are_all)
}

/// How long until the next future task of these names and queues is due. If a thousand other tasks come before it, the
/// time until the last of those: then the instance asks again.
pub(super) fn next_later(
    sql: &Statements<'_>,
    known: &Known,
    queues: &[Arc<str>],
    now: i64,
) -> rusqlite::Result<Option<Duration>> {
    if queues.is_empty() {
        return Ok(None);
    }
    let mut later = sql.get(LATER)?;
    let (mut rows, mut looked_at) = (later.query([now])?, 0);
    while let Some(row) = rows.next()? {
        looked_at += 1;
        let queue = row.get_ref(1)?.as_str().ok();
        let is_wanted = queues.iter().any(|one| Some(&**one) == queue)
            && row.get_ref(2)?.as_str().is_ok_and(|name| known.knows(name));
        if is_wanted || looked_at >= LOOK_AHEAD {
            let run_at: i64 = row.get(0)?;
            return Ok(Some(Duration::from_micros(run_at.abs_diff(now))));
        }
    }
    Ok(None)
}
