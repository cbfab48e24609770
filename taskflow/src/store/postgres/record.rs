//! Turns a row into a record.

use serde::Deserialize;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::error::Fault;
use super::value::{Instant, unescape_nul};
use crate::model::{Attempt, AttemptOutcome, InstanceId, TaskId, TaskRecord, TaskSource, time};
use crate::store::codec;
use crate::store::row_state::RowState;

/// Reads what a full [`record`] needs, in one statement, so that all of it is from one instant. Former attempts come as
/// JSON.
macro_rules! record_query {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.name, t.queue, t.state, t.priority, t.attempt, t.max_attempts, t.created_at, t.run_at,
       t.scheduled_for, t.started_at, t.finished_at, t.outcome, t.cancel_requested, t.source, t.idempotency_key,
       t.run_key, t.tags, t.progress, t.error, t.result, t.args, t.instance, i.host, i.pid,
       t.expires_at, t.concurrency_key, t.snoozes, t.policy, t.trace,
       (SELECT json_agg(json_build_object(
            'number', a.number, 'instance', a.instance,
            'started_at', ",
            $crate::store::postgres::sql::micros!("a.started_at"),
            ",
            'finished_at', ",
            $crate::store::postgres::sql::micros!("a.finished_at"),
            ",
            'outcome', a.outcome, 'error', a.error, 'host', coalesce(h.host, ''), 'pid', coalesce(h.pid, 0)
        ) ORDER BY a.n)
        FROM taskflow_attempts a LEFT JOIN taskflow_instances h ON h.id = a.instance WHERE a.task = t.id)::text
FROM taskflow_tasks t LEFT JOIN taskflow_instances i ON i.id = t.instance ",
            $rest
        )
    };
}
pub(super) use record_query;

/// The same without attempts, progress, result and arguments, which may be large.
macro_rules! outline_query {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.name, t.queue, t.state, t.priority, t.attempt, t.max_attempts, t.created_at, t.run_at,
       t.scheduled_for, t.started_at, t.finished_at, t.outcome, t.cancel_requested, t.source, t.idempotency_key,
       t.run_key, t.tags, NULL::text, t.error, NULL::text, 'null'::text, NULL::uuid, NULL::text, NULL::bigint,
       t.expires_at, t.concurrency_key, t.snoozes, t.policy, t.trace,
       NULL::text
FROM taskflow_tasks t ",
            $rest
        )
    };
}
pub(super) use outline_query;

/// A former attempt, as [`record_query`] writes it.
#[derive(Deserialize)]
struct Past {
    number: i64,
    instance: InstanceId,
    started_at: i64,
    finished_at: i64,
    outcome: String,
    error: Option<String>,
    host: String,
    pid: i64,
}

/// The record in a row of [`record_query`].
pub(super) fn record(row: &PgRow) -> Result<TaskRecord, Fault> {
    let state = RowState::from_number(row.try_get::<i16, _>(3)?.into());
    let instant = |column: usize| {
        row.try_get::<Option<Instant>, _>(column).map(|at| at.map(|at| time::from_micros(at.0)))
    };
    let text = |column: usize| row.try_get::<Option<String>, _>(column).map(|text| text.map(unescape_nul));
    let created_at = instant(7)?.unwrap_or(std::time::UNIX_EPOCH);
    let past: Vec<Past> = row
        .try_get::<Option<&str>, _>(30)?
        .and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or_default();
    let mut record = TaskRecord {
        id: TaskId::from(row.try_get::<Uuid, _>(0)?),
        name: unescape_nul(row.try_get(1)?),
        queue: unescape_nul(row.try_get(2)?),
        status: state.status(),
        priority: row.try_get(4)?,
        args: codec::raw(row.try_get(21)?),
        tags: codec::tags(row.try_get(17)?),
        idempotency_key: text(15)?,
        run_key: text(16)?,
        concurrency_key: text(26)?,
        source: TaskSource::from_word(row.try_get(14)?),
        trace: codec::trace(row.try_get(29)?),
        attempt: codec::to_u32(row.try_get(5)?),
        max_attempts: codec::to_u32(row.try_get(6)?),
        attempts: past.into_iter().map(former).collect(),
        created_at,
        run_at: instant(8)?.unwrap_or(created_at),
        scheduled_for: instant(9)?,
        expires_at: instant(25)?,
        timeout: codec::readable_policy(row.try_get(28)?).ok().and_then(|policy| policy.timeout),
        snoozes: codec::to_u32(row.try_get::<i32, _>(27)?.into()),
        started_at: instant(10)?,
        finished_at: instant(11)?,
        error: text(19)?,
        result: row.try_get::<Option<String>, _>(20)?.map(codec::raw),
        progress: row.try_get::<Option<&str>, _>(18)?.and_then(|json| serde_json::from_str(json).ok()),
        cancel_requested: row.try_get(13)?,
    };
    if let Some(instance) = row.try_get::<Option<Uuid>, _>(22)?
        && (state == RowState::Running || state.is_final())
    {
        let outcome = match state {
            RowState::Running => AttemptOutcome::Running,
            RowState::Success => AttemptOutcome::Success,
            _ => row.try_get::<Option<&str>, _>(12)?.map_or(AttemptOutcome::Failed, codec::outcome),
        };
        let started_at = record.started_at.unwrap_or(created_at);
        record.attempts.push(Attempt {
            host: text(23)?.unwrap_or_default(),
            pid: codec::to_u32(row.try_get::<Option<i64>, _>(24)?.unwrap_or_default()),
            finished_at: record.finished_at,
            // While it runs, the error is that of the previous attempt.
            error: record.error.clone().filter(|_| state.is_final()),
            ..Attempt::new(record.attempt, InstanceId::from(instance), started_at, outcome)
        });
    }
    Ok(record)
}

fn former(past: Past) -> Attempt {
    let started_at = time::from_micros(past.started_at);
    Attempt {
        host: unescape_nul(past.host),
        pid: codec::to_u32(past.pid),
        finished_at: Some(time::from_micros(past.finished_at)),
        error: past.error.map(unescape_nul),
        ..Attempt::new(codec::to_u32(past.number), past.instance, started_at, codec::outcome(&past.outcome))
    }
}
