//! The keys that tasks hold. The primary key of their table ensures that at most one task of a name holds a key.

use rusqlite::{OptionalExtension, params};

use super::transaction::Transaction;
use crate::model::TaskId;

/// The kind of a key. The file stores its word.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyKind {
    /// Held while the task is pending, running or succeeded.
    Idempotency,
    /// Held while the task waits for its first attempt.
    Run,
}

const TAKE: &str = "INSERT INTO taskflow_keys (key, name, kind, task) VALUES (?1, ?2, ?3, ?4)";

const HOLDER: &str = "
SELECT t.id FROM taskflow_keys k JOIN taskflow_tasks t ON t.seq = k.task
WHERE k.key = ?1 AND k.name = ?2 AND k.kind = ?3
  AND t.name = ?2 AND iif(?3 = 'run', t.run_key, t.idempotency_key) = ?1";

const FREE_IDEMPOTENCY: &str = "
DELETE FROM taskflow_keys
WHERE (key, name) = (SELECT idempotency_key, name FROM taskflow_tasks WHERE seq = ?1)
  AND kind = 'idempotency' AND task = ?1";

const FREE_RUN: &str = "
DELETE FROM taskflow_keys
WHERE (key, name) = (SELECT run_key, name FROM taskflow_tasks WHERE seq = ?1) AND kind = 'run' AND task = ?1";

const TAKE_RUN_KEY: &str = "
INSERT OR IGNORE INTO taskflow_keys (key, name, kind, task)
SELECT run_key, name, 'run', seq FROM taskflow_tasks WHERE seq = ?1 AND run_key IS NOT NULL";

const LOSE_RUN_KEY: &str = "
UPDATE taskflow_tasks SET run_key = NULL
WHERE seq = ?1 AND NOT EXISTS (
    SELECT 1 FROM taskflow_keys k
    WHERE k.key = taskflow_tasks.run_key AND k.name = taskflow_tasks.name AND k.kind = 'run' AND k.task = ?1
)";

const WITH_RUN_KEY: &str = "
SELECT t.id FROM taskflow_keys k JOIN taskflow_tasks t ON t.seq = k.task
WHERE k.key = ?1 AND k.kind = 'run' ORDER BY k.name";

impl KeyKind {
    fn word(self) -> &'static str {
        match self {
            Self::Idempotency => "idempotency",
            Self::Run => "run",
        }
    }
}

/// Gives a free key to a task.
pub(super) fn take(
    tx: &Transaction<'_, '_>,
    key: &str,
    name: &str,
    kind: KeyKind,
    seq: i64,
) -> rusqlite::Result<()> {
    tx.sql.execute(TAKE, params![key, name, kind.word(), seq]).map(drop)
}

/// The task that holds a key, if the task's own row also says so.
pub(super) fn holder(
    tx: &Transaction<'_, '_>,
    key: &str,
    name: &str,
    kind: KeyKind,
) -> rusqlite::Result<Option<TaskId>> {
    let holder = tx.sql.get(HOLDER)?.query_row([key, name, kind.word()], |row| row.get(0)).optional()?;
    Ok(holder.map(TaskId::from_bytes))
}

/// Frees the key of a task, if the task holds it.
pub(super) fn free(tx: &Transaction<'_, '_>, seq: i64, kind: KeyKind) -> rusqlite::Result<()> {
    let free = match kind {
        KeyKind::Idempotency => FREE_IDEMPOTENCY,
        KeyKind::Run => FREE_RUN,
    };
    tx.sql.execute(free, [seq]).map(drop)
}

/// Gives its run key back to a task that again waits for its first attempt, so that an add can replace it again. If another
/// add has taken the key meanwhile, the task loses its key, because that add replaced it.
pub(super) fn take_run_key(tx: &Transaction<'_, '_>, seq: i64) -> rusqlite::Result<()> {
    if tx.sql.execute(TAKE_RUN_KEY, [seq])? == 0 {
        tx.sql.execute(LOSE_RUN_KEY, [seq])?;
    }
    Ok(())
}

/// The tasks of all names that wait for their first attempt with a run key.
pub(super) fn waiting_with(tx: &Transaction<'_, '_>, run_key: &str) -> rusqlite::Result<Vec<TaskId>> {
    let mut with_key = tx.sql.get(WITH_RUN_KEY)?;
    let ids = with_key.query_map([run_key], |row| Ok(TaskId::from_bytes(row.get(0)?)))?;
    ids.collect()
}
