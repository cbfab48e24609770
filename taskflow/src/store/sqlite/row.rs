//! Conversions of rows into records.

use std::fmt::Write;

use rusqlite::Row;

use super::readable::{self, is_unreadable};
use super::row_state::RowState;
use crate::model::{Attempt, AttemptOutcome, InstanceId, TaskId, TaskRecord, TaskSource, TaskStatus, time};
pub(super) use crate::store::codec::{
    outcome, policy, policy_json, progress_json, raw, readable_policy, readable_tags, tags, tags_json,
    to_i64, to_u32, to_u64, trace, trace_text,
};
pub(super) use crate::store::prefetch::prefetch;

/// Selects the columns for [`record`]: the whole record except its former attempts.
macro_rules! record_query {
    ($($rest:literal)*) => {
        concat!(
            "SELECT t.seq, t.id, t.name, t.queue, t.state, t.priority, t.attempt, t.max_attempts, t.created_at,
                    t.run_at, t.scheduled_for, t.started_at, t.finished_at, t.cancel_requested, t.source,
                    t.idempotency_key, t.run_key, t.tags, t.progress, t.error, t.result, t.args,
                    t.instance, i.id, i.host, i.pid,
                    t.expires_at, t.concurrency_key, t.snoozes, t.policy, t.trace
             FROM taskflow_tasks t LEFT JOIN taskflow_instances i ON i.number = t.instance ",
            $($rest),*
        )
    };
}
pub(super) use record_query;

/// Selects the columns for [`record`], without the parts that may be large.
macro_rules! outline_query {
    ($($rest:literal)*) => {
        concat!(
            "SELECT t.seq, t.id, t.name, t.queue, t.state, t.priority, t.attempt, t.max_attempts, t.created_at,
                    t.run_at, t.scheduled_for, t.started_at, t.finished_at, t.cancel_requested, t.source,
                    t.idempotency_key, t.run_key, t.tags, NULL, t.error, NULL, 'null',
                    NULL, NULL, NULL, NULL,
                    t.expires_at, t.concurrency_key, t.snoozes, t.policy, t.trace
             FROM taskflow_tasks t ",
            $($rest),*
        )
    };
}
pub(super) use outline_query;

/// Reads a row of [`record_query`]: its row number, and the record with the attempt that the row contains. A row that
/// cannot be read gives the record that it will have after its repair.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<(i64, TaskRecord)> {
    read(row).or_else(|error| if is_unreadable(&error) { damaged(row, &error) } else { Err(error) })
}

fn read(row: &Row<'_>) -> rusqlite::Result<(i64, TaskRecord)> {
    let state = RowState::from_number(row.get(4)?);
    let instant = |at: Option<i64>| at.map(time::from_micros);
    let mut record = TaskRecord {
        id: TaskId::from_bytes(row.get(1)?),
        name: row.get(2)?,
        queue: row.get(3)?,
        status: state.status(),
        priority: i16::try_from(row.get::<_, i64>(5)?).unwrap_or_default(),
        args: raw(row.get(21)?),
        tags: readable_tags(row.get_ref(17)?.as_str_or_null()?).map_err(|why| column("tags", 17, &why))?,
        idempotency_key: row.get(15)?,
        run_key: row.get(16)?,
        concurrency_key: row.get(27)?,
        source: TaskSource::from_word(row.get_ref(14)?.as_str()?),
        trace: trace(row.get_ref(30)?.as_str_or_null()?),
        attempt: to_u32(row.get(6)?),
        max_attempts: to_u32(row.get(7)?),
        attempts: Vec::new(),
        created_at: time::from_micros(row.get(8)?),
        run_at: time::from_micros(row.get(9)?),
        scheduled_for: instant(row.get(10)?),
        expires_at: instant(row.get(26)?),
        timeout: readable_policy(row.get_ref(29)?.as_str_or_null()?)
            .map_err(|why| column("policy", 29, &why))?
            .timeout,
        snoozes: to_u32(row.get(28)?),
        started_at: instant(row.get(11)?),
        finished_at: instant(row.get(12)?),
        error: row.get(19)?,
        result: row.get::<_, Option<String>>(20)?.map(raw),
        progress: row.get_ref(18)?.as_str_or_null()?.and_then(|progress| serde_json::from_str(progress).ok()),
        cancel_requested: row.get(13)?,
    };
    let outcome = match state {
        RowState::Running => AttemptOutcome::Running,
        RowState::Success => AttemptOutcome::Success,
        _ => return Ok((row.get(0)?, record)),
    };
    let instance = row.get::<_, Option<[u8; 16]>>(23)?.unwrap_or_default();
    let started_at = record.started_at.unwrap_or(record.created_at);
    record.attempts.push(Attempt {
        host: row.get::<_, Option<String>>(24)?.unwrap_or_default(),
        pid: to_u32(row.get::<_, Option<i64>>(25)?.unwrap_or_default()),
        finished_at: record.finished_at,
        ..Attempt::new(record.attempt, InstanceId::from_bytes(instance), started_at, outcome)
    });
    Ok((row.get(0)?, record))
}

/// The error of a column that cannot be read.
pub(super) fn column(name: &str, number: usize, why: &str) -> rusqlite::Error {
    readable::unreadable(number, format!("its column `{name}` is damaged: {why}"))
}

/// The readable parts of a damaged row.
fn damaged(row: &Row<'_>, error: &rusqlite::Error) -> rusqlite::Result<(i64, TaskRecord)> {
    let text = |column| row.get_ref(column).map(readable::text);
    let number = |column| row.get_ref(column).map(|value| readable::number(value).unwrap_or(0));
    let instant = |column| row.get_ref(column).map(readable::instant);
    let state = RowState::from_number(number(4)?);
    let reason = readable::reason(&match error {
        rusqlite::Error::FromSqlConversionFailure(_, _, why) => why.to_string(),
        error => error.to_string(),
    });
    let status = if state.is_final() { state.status() } else { TaskStatus::Failed };
    let created_at = instant(8)?.unwrap_or(std::time::UNIX_EPOCH);
    let record = TaskRecord {
        id: TaskId::from_bytes(readable::id(row.get_ref(1)?)),
        name: text(2)?.unwrap_or_default(),
        queue: text(3)?.unwrap_or_default(),
        status,
        priority: i16::try_from(number(5)?).unwrap_or_default(),
        args: raw(text(21)?.unwrap_or_default()),
        tags: tags(text(17)?.as_deref()),
        idempotency_key: text(15)?,
        run_key: text(16)?,
        concurrency_key: text(27)?,
        source: TaskSource::from_word(&text(14)?.unwrap_or_default()),
        trace: trace(text(30)?.as_deref()),
        attempt: to_u32(number(6)?),
        max_attempts: to_u32(number(7)?),
        attempts: Vec::new(),
        created_at,
        run_at: instant(9)?.unwrap_or(created_at),
        scheduled_for: instant(10)?,
        expires_at: instant(26)?,
        timeout: policy(text(29)?.as_deref()).timeout,
        snoozes: to_u32(number(28)?),
        started_at: instant(11)?,
        finished_at: instant(12)?,
        error: if state.is_final() { text(19)?.or(Some(reason)) } else { Some(reason) },
        result: text(20)?.map(raw),
        progress: None,
        cancel_requested: false,
    };
    Ok((number(0)?, record))
}

/// The ended attempts of a task, for [`attempt`].
pub(super) const ATTEMPTS: &str = "
SELECT a.number, a.instance, a.started_at, a.finished_at, a.outcome, a.error, i.host, i.pid
FROM taskflow_attempts a LEFT JOIN taskflow_instances i ON i.id = a.instance
WHERE a.task = ?1 ORDER BY a.n";

/// Reads an attempt. Columns that cannot be read are left out, because an attempt is only history.
pub(super) fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let text = |column| row.get_ref(column).map(readable::text);
    let number = |column| row.get_ref(column).map(|value| to_u32(readable::number(value).unwrap_or(0)));
    let started_at = readable::instant(row.get_ref(2)?).unwrap_or(std::time::UNIX_EPOCH);
    let instance = InstanceId::from_bytes(readable::id(row.get_ref(1)?));
    let outcome = outcome(&text(4)?.unwrap_or_default());
    Ok(Attempt {
        host: text(6)?.unwrap_or_default(),
        pid: number(7)?,
        finished_at: readable::instant(row.get_ref(3)?),
        error: text(5)?,
        ..Attempt::new(number(0)?, instance, started_at, outcome)
    })
}

/// A JSON array of row numbers.
pub(super) fn json_list(seqs: impl ExactSizeIterator<Item = i64>) -> String {
    let mut list = String::with_capacity(seqs.len() * 8 + 2);
    for seq in seqs {
        list.push(if list.is_empty() { '[' } else { ',' });
        // Writing to a string cannot fail.
        let _ = write!(list, "{seq}");
    }
    list.push(']');
    list
}
