//! Reads of tasks and processes.

use std::sync::Arc;

use rusqlite::OptionalExtension;

use super::lock::Locks;
use super::readable;
use super::reader::on_one_state;
use super::recover;
use super::row::{self, record_query};
use super::row_state::RowState;
use super::statements::Statements;
use crate::model::{Attempt, Counts, InstanceId, InstanceInfo, LogLevel, LogLine, TaskId, TaskRecord, time};
use crate::store::TaskEnd;

const SEQ: &str = "SELECT seq FROM taskflow_tasks WHERE id = ?1";

/// Reads the large columns only of a task that has ended.
const END: &str = "
SELECT state, CASE WHEN state >= 4 THEN result END, CASE WHEN state >= 4 THEN error END
FROM taskflow_tasks WHERE id = ?1";

const LOGS: &str = "SELECT at, level, message, attempt FROM taskflow_logs WHERE task = ?1 ORDER BY n";

const COUNTS: &str = "
SELECT total(blocked + due + later + held), total(running), total(success), total(failed), total(interrupted),
       total(cancelled), total(rejected)
FROM taskflow_queues";

/// The partial index contains only running and held tasks.
const INSTANCES: &str = "
SELECT i.id, i.host, i.pid, i.version, i.runs, i.started_at, i.seen_at,
       (SELECT count(*) FROM taskflow_tasks t INDEXED BY taskflow_tasks_leases
        WHERE t.lease_until IS NOT NULL AND t.instance = i.number AND t.state = 3),
       i.schedules
FROM taskflow_instances i WHERE i.gone_at IS NULL ORDER BY i.started_at, i.id";

pub(super) fn get(sql: &Statements<'_>, id: TaskId) -> rusqlite::Result<Option<TaskRecord>> {
    on_one_state(sql, |sql| {
        let mut query = sql.get(record_query!("WHERE t.id = ?1"))?;
        let found = query.query_row([id.as_bytes()], row::record).optional()?;
        found.map(|(seq, record)| with_former_attempts(sql, seq, record)).transpose()
    })
}

pub(super) fn ends(sql: &Statements<'_>, ids: &[TaskId]) -> rusqlite::Result<Vec<TaskEnd>> {
    on_one_state(sql, |sql| {
        let mut query = sql.get(END)?;
        let mut ends = Vec::with_capacity(ids.len());
        for id in ids {
            let end = query.query_row([id.as_bytes()], |row| {
                let status = RowState::from_number(row.get(0)?).status();
                let result = readable::text(row.get_ref(1)?);
                let error = readable::text(row.get_ref(2)?);
                Ok(TaskEnd::of(status, result.map(|json| Arc::from(row::raw(json).get())), error))
            });
            ends.push(end.optional()?.unwrap_or(TaskEnd::Gone));
        }
        Ok(ends)
    })
}

/// Completes a record with its former attempts, which are in another table.
pub(super) fn with_former_attempts(
    sql: &Statements<'_>,
    seq: i64,
    mut record: TaskRecord,
) -> rusqlite::Result<TaskRecord> {
    let mut query = sql.get(row::ATTEMPTS)?;
    let mut attempts: Vec<Attempt> =
        query.query_map([seq], row::attempt)?.collect::<rusqlite::Result<_>>()?;
    attempts.append(&mut record.attempts);
    record.attempts = attempts;
    Ok(record)
}

pub(super) fn logs(sql: &Statements<'_>, id: TaskId) -> rusqlite::Result<Option<Vec<LogLine>>> {
    on_one_state(sql, |sql| {
        let seq: Option<i64> = sql.get(SEQ)?.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
        let Some(seq) = seq else { return Ok(None) };
        let mut query = sql.get(LOGS)?;
        let lines = query.query_map([seq], |row| {
            let at = time::from_micros(row.get(0)?);
            let text = |column| row.get_ref(column).map(|value| readable::text(value).unwrap_or_default());
            let level = LogLevel::from_word(&text(1)?).unwrap_or(LogLevel::Info);
            Ok(LogLine::new(at, level, text(2)?, row::to_u32(row.get(3)?)))
        })?;
        lines.collect::<rusqlite::Result<_>>().map(Some)
    })
}

pub(super) fn counts(sql: &Statements<'_>) -> rusqlite::Result<Counts> {
    sql.get(COUNTS)?.query_row([], |row| {
        // `total` of no rows is 0.0, not `NULL`. As a float it is exact up to 2^53.
        let number = |column| row.get::<_, f64>(column).map(|number| number.max(0.0) as u64);
        Ok(Counts {
            pending: number(0)?,
            running: number(1)?,
            success: number(2)?,
            failed: number(3)?,
            interrupted: number(4)?,
            cancelled: number(5)?,
            rejected: number(6)?,
        })
    })
}

pub(super) fn instances(sql: &Statements<'_>, locks: &Locks) -> rusqlite::Result<Vec<InstanceInfo>> {
    on_one_state(sql, |sql| {
        let now = time::now_micros();
        let alive: Vec<InstanceId> =
            recover::there(sql)?.iter().filter(|it| it.lives(locks, now)).map(|it| it.id).collect();
        let mut query = sql.get(INSTANCES)?;
        let instances = query.query_map([], |row| {
            let text = |column| row.get_ref(column).map(|value| readable::text(value).unwrap_or_default());
            Ok(InstanceInfo {
                schedules: names(&text(8)?),
                id: InstanceId::from_bytes(readable::id(row.get_ref(0)?)),
                host: text(1)?,
                pid: row::to_u32(row.get(2)?),
                version: text(3)?,
                runs: row.get(4)?,
                started_at: time::from_micros(row.get(5)?),
                seen_at: time::from_micros(row.get(6)?),
                running: row::to_u64(row.get(7)?),
            })
        })?;
        instances.filter(|it| it.as_ref().map_or(true, |it| alive.contains(&it.id))).collect()
    })
}

fn names(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}
