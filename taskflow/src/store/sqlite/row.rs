//! Between columns and words.

use std::collections::BTreeMap;

use rusqlite::Row;
use serde_json::value::RawValue;

use super::state::State;
use crate::model::{
    Attempt, AttemptOutcome, InstanceId, Progress, RetryPolicy, TaskId, TaskRecord, TaskSource, time,
};

/// A length as SQLite keeps it.
pub(super) fn number(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// A column that counts, as a count; what cannot be one is taken for the nearest.
pub(super) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn small(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

/// The column of a policy: nothing for the default, which most tasks have.
pub(super) fn policy_json(policy: &RetryPolicy) -> Option<String> {
    (*policy != RetryPolicy::DEFAULT)
        .then(|| serde_json::to_string(policy).expect("numbers and lengths can be written as JSON"))
}

pub(super) fn policy(json: &str) -> RetryPolicy {
    serde_json::from_str(json).unwrap_or_default()
}

pub(super) fn tags_json(tags: &BTreeMap<String, String>) -> Option<String> {
    (!tags.is_empty()).then(|| serde_json::to_string(tags).expect("a map of strings can be written as JSON"))
}

pub(super) fn tags(json: Option<&str>) -> BTreeMap<String, String> {
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

pub(super) fn progress_json(progress: &Progress) -> String {
    serde_json::to_string(progress).expect("a number and a string can be written as JSON")
}

/// The word for an outcome in the file.
pub(super) fn outcome_word(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Running => "running",
        AttemptOutcome::Success => "success",
        AttemptOutcome::Failed => "failed",
        AttemptOutcome::Panicked => "panicked",
        AttemptOutcome::TimedOut => "timed_out",
        AttemptOutcome::Lost => "lost",
        AttemptOutcome::HandedBack => "handed_back",
        AttemptOutcome::Interrupted => "interrupted",
        AttemptOutcome::Cancelled => "cancelled",
        AttemptOutcome::Snoozed => "snoozed",
    }
}

/// The outcome whose word this is; a word of a later version is a failure.
pub(super) fn outcome(word: &str) -> AttemptOutcome {
    use AttemptOutcome::{
        Cancelled, Failed, HandedBack, Interrupted, Lost, Panicked, Running, Snoozed, Success, TimedOut,
    };
    [Running, Success, Panicked, TimedOut, Lost, HandedBack, Interrupted, Cancelled, Snoozed]
        .into_iter()
        .find(|outcome| outcome_word(*outcome) == word)
        .unwrap_or(Failed)
}

/// Text that should be JSON, as JSON: if it is not, then as a JSON string, since a record must be readable in any case.
fn raw(json: String) -> Box<RawValue> {
    let text = serde_json::value::to_raw_value(&json).expect("a string can be written as JSON");
    RawValue::from_string(json).unwrap_or(text)
}

/// All of a record but its ended attempts: columns for [`record`].
macro_rules! record_query {
    ($($rest:literal)*) => {
        concat!(
            "SELECT t.seq, t.id, t.name, t.queue, t.state, t.priority, t.attempt, t.max_attempts, t.created_at,
                    t.run_at, t.scheduled_for, t.started_at, t.finished_at, t.cancel_requested, t.source,
                    t.idempotency_key, t.run_key, t.tags, t.progress, t.error, t.result, t.args,
                    t.instance, i.id, i.host, i.pid
             FROM taskflow_tasks t LEFT JOIN taskflow_instances i ON i.number = t.instance ",
            $($rest),*
        )
    };
}
pub(super) use record_query;

/// The record in a row of [`record_query`], with the attempt that is in it, and the number of the row.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<(i64, TaskRecord)> {
    let state = State::from_number(row.get(4)?);
    let instant = |at: Option<i64>| at.map(time::from_micros);
    let mut record = TaskRecord {
        id: TaskId::from_bytes(row.get(1)?),
        name: row.get(2)?,
        queue: row.get(3)?,
        status: state.status(),
        priority: i16::try_from(row.get::<_, i64>(5)?).unwrap_or_default(),
        args: raw(row.get(21)?),
        tags: tags(row.get_ref(17)?.as_str_or_null()?),
        idempotency_key: row.get(15)?,
        run_key: row.get(16)?,
        source: TaskSource::from_word(row.get_ref(14)?.as_str()?),
        attempt: small(row.get(6)?),
        max_attempts: small(row.get(7)?),
        attempts: Vec::new(),
        created_at: time::from_micros(row.get(8)?),
        run_at: time::from_micros(row.get(9)?),
        scheduled_for: instant(row.get(10)?),
        started_at: instant(row.get(11)?),
        finished_at: instant(row.get(12)?),
        error: row.get(19)?,
        result: row.get::<_, Option<String>>(20)?.map(raw),
        progress: row.get_ref(18)?.as_str_or_null()?.and_then(|progress| serde_json::from_str(progress).ok()),
        cancel_requested: row.get(13)?,
    };
    let outcome = match state {
        State::Running => AttemptOutcome::Running,
        State::Success => AttemptOutcome::Success,
        _ => return Ok((row.get(0)?, record)),
    };
    let instance = row.get::<_, Option<[u8; 16]>>(23)?.unwrap_or_default();
    let started_at = record.started_at.unwrap_or(record.created_at);
    record.attempts.push(Attempt {
        host: row.get::<_, Option<String>>(24)?.unwrap_or_default(),
        pid: small(row.get::<_, Option<i64>>(25)?.unwrap_or_default()),
        finished_at: record.finished_at,
        ..Attempt::new(record.attempt, InstanceId::from_bytes(instance), started_at, outcome)
    });
    Ok((row.get(0)?, record))
}

/// The ended attempts of a task, for [`attempt`].
pub(super) const ATTEMPTS: &str = "
SELECT a.number, a.instance, a.started_at, a.finished_at, a.outcome, a.error, i.host, i.pid
FROM taskflow_attempts a LEFT JOIN taskflow_instances i ON i.id = a.instance
WHERE a.task = ?1 ORDER BY a.n";

pub(super) fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let started_at = time::from_micros(row.get(2)?);
    let instance = InstanceId::from_bytes(row.get(1)?);
    Ok(Attempt {
        host: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
        pid: small(row.get::<_, Option<i64>>(7)?.unwrap_or_default()),
        finished_at: Some(time::from_micros(row.get(3)?)),
        error: row.get(5)?,
        ..Attempt::new(small(row.get(0)?), instance, started_at, outcome(row.get_ref(4)?.as_str()?))
    })
}
