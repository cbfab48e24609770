//! Concurrency keys: blocking tasks while others of their key run, and unblocking them.
//!
//! A claim blocks tasks. A transaction that moves a task with a key out of the due or running state unblocks the next
//! task of that key. Both lock the row of the queue first and look at the tasks after that, so no task is blocked by
//! one that has already ended.

use std::collections::BTreeSet;

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::session::Session;
use super::value::escape_nul;
use crate::model::TaskId;

/// The queues of these tasks, which must be locked before the tasks are moved.
const QUEUES_OF: &str = "
SELECT DISTINCT queue FROM taskflow_tasks WHERE id = ANY($1::uuid[]) AND concurrency_key IS NOT NULL";

/// The same for the tasks with a given run key that have made no attempt.
pub(super) const QUEUES_OF_RUN_KEY: &str = "
SELECT DISTINCT queue FROM taskflow_tasks
WHERE run_key = $1 AND state <= 2 AND attempt = 0 AND concurrency_key IS NOT NULL";

/// Unblocks the next task of each name of each of these keys: possibly no running process knows the first name. It
/// steps along the index from name to name, however many tasks of one name are blocked.
const UNBLOCK_NEXT: &str = "
WITH RECURSIVE next AS (
    SELECT f.queue, f.key, t.name, t.id
    FROM unnest($1::text[], $2::text[]) AS f (queue, key) CROSS JOIN LATERAL (
        SELECT t.name, t.id FROM taskflow_tasks t
        WHERE t.state = -1 AND t.queue = f.queue AND t.concurrency_key = f.key
        ORDER BY t.queue, t.concurrency_key, t.name, t.priority DESC, t.seq LIMIT 1
    ) t
    UNION ALL
    SELECT n.queue, n.key, t.name, t.id
    FROM next n CROSS JOIN LATERAL (
        SELECT t.name, t.id FROM taskflow_tasks t
        WHERE t.state = -1 AND t.queue = n.queue AND t.concurrency_key = n.key AND t.name > n.name
        ORDER BY t.queue, t.concurrency_key, t.name, t.priority DESC, t.seq LIMIT 1
    ) t
)
UPDATE taskflow_tasks SET state = 0 WHERE state = -1 AND id = ANY (ARRAY(SELECT id FROM next))";

/// Pairs of queue and key, unescaped, of tasks that left the due or running state.
pub(super) type Freed = BTreeSet<(String, String)>;

pub(super) async fn queues_of(
    session: &mut Session<'_>,
    ids: impl IntoIterator<Item = TaskId>,
) -> Result<BTreeSet<String>, Fault> {
    let ids: Vec<Uuid> = ids.into_iter().map(Uuid::from).collect();
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    queues(session, session.query(QUEUES_OF).bind(ids)).await
}

/// The queue names in the rows of a statement.
pub(super) async fn queues(
    session: &mut Session<'_>,
    statement: super::session::Statement,
) -> Result<BTreeSet<String>, Fault> {
    let rows = session.all(statement).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Unblocks the next task of each key. The rows of the queues must be locked.
pub(super) async fn unblock_next(session: &mut Session<'_>, freed: &Freed) -> Result<(), Fault> {
    if freed.is_empty() {
        return Ok(());
    }
    let queues: Vec<String> = freed.iter().map(|(queue, _)| escape_nul(queue).into_owned()).collect();
    if queues.iter().any(|queue| !session.locked_queues.contains(queue)) {
        return Err(Fault::Again("a task was given a concurrency key"));
    }
    let keys: Vec<String> = freed.iter().map(|(_, key)| escape_nul(key).into_owned()).collect();
    session.execute(session.query(UNBLOCK_NEXT).bind(queues).bind(keys)).await.map(drop)
}
