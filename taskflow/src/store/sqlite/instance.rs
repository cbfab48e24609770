//! The rows of processes: joining and leaving.

use rusqlite::{OptionalExtension, params};

use super::transaction::Transaction;
use crate::model::{InstanceId, InstanceInfo};

const NUMBER: &str = "SELECT number FROM taskflow_instances WHERE id = ?1";

const JOIN: &str = "
INSERT INTO taskflow_instances (id, host, pid, version, runs, schedules, started_at, seen_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
ON CONFLICT (id) DO UPDATE SET
    host = excluded.host, pid = excluded.pid, version = excluded.version, runs = excluded.runs,
    schedules = excluded.schedules, seen_at = excluded.seen_at,
    started_at = iif(gone_at IS NULL, started_at, excluded.started_at), gone_at = NULL";

const JOIN_UNKNOWN: &str = "
INSERT INTO taskflow_instances (id, host, pid, version, runs, started_at, seen_at, gone_at)
VALUES (?1, '', 0, '', 1, ?2, ?2, ?2)";

const LEAVE: &str = "UPDATE taskflow_instances SET gone_at = ?2 WHERE id = ?1 AND gone_at IS NULL";

/// The partial index contains only running and held tasks, so this reads no other rows.
const END_LEASES: &str = "
UPDATE taskflow_tasks SET lease_until = ?2
WHERE seq IN (
    SELECT seq FROM taskflow_tasks INDEXED BY taskflow_tasks_leases
    WHERE lease_until IS NOT NULL AND instance = ?1
)";

const END_SOME_LEASES: &str = "
UPDATE taskflow_tasks SET lease_until = ?2
WHERE seq IN (
    SELECT seq FROM taskflow_tasks INDEXED BY taskflow_tasks_leases
    WHERE lease_until > ?2 AND instance = ?1 LIMIT ?3
)";

/// The row number of an instance. An instance that has not joined gets a row without a host, so that its runs can refer
/// to it.
pub(super) fn number(tx: &mut Transaction<'_, '_>, instance: InstanceId) -> rusqlite::Result<i64> {
    if let Some(number) = find(tx, instance)? {
        return Ok(number);
    }
    tx.sql.execute(JOIN_UNKNOWN, params![instance.as_bytes(), tx.now])?;
    Ok(tx.sql.connection().last_insert_rowid())
}

pub(super) fn find(tx: &Transaction<'_, '_>, instance: InstanceId) -> rusqlite::Result<Option<i64>> {
    tx.sql.get(NUMBER)?.query_row([instance.as_bytes()], |row| row.get(0)).optional()
}

pub(super) fn join(tx: &mut Transaction<'_, '_>, info: &InstanceInfo) -> rusqlite::Result<()> {
    let InstanceInfo { id, host, pid, version, runs, schedules, .. } = info;
    let schedules = (!schedules.is_empty())
        .then(|| serde_json::to_string(schedules).expect("a list of strings can be written as JSON"));
    tx.sql.execute(JOIN, params![id.as_bytes(), host, pid, version, runs, schedules, tx.now])?;
    Ok(())
}

/// Marks an instance as gone. Runs that it still has are lost at once, because their leases end now.
pub(super) fn leave(tx: &mut Transaction<'_, '_>, instance: InstanceId) -> rusqlite::Result<()> {
    tx.should_notify = true;
    tx.sql.execute(LEAVE, params![instance.as_bytes(), tx.now])?;
    if let Some(number) = find(tx, instance)? {
        end_leases(tx, number)?;
    }
    Ok(())
}

/// Ends at most `most` of the leases of an instance that have not ended yet. Answers how many it ended.
pub(super) fn end_leases_of(tx: &mut Transaction<'_, '_>, number: i64, most: i64) -> rusqlite::Result<i64> {
    let ended = tx.sql.execute(END_SOME_LEASES, [number, tx.now, most])?;
    Ok(i64::try_from(ended).unwrap_or(i64::MAX))
}

fn end_leases(tx: &mut Transaction<'_, '_>, number: i64) -> rusqlite::Result<()> {
    tx.sql.execute(END_LEASES, [number, tx.now]).map(drop)
}
