//! Builds records from the stored parts of a task.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::answer::List;
use super::damage::Damaged;
use super::instance::Known;
use super::packed_row::{Body, PackedRow, RUNNING, Unpack, outcome_of, policy, status_of};
use crate::model::{Attempt, AttemptOutcome, InstanceId, StoreError, TaskId, TaskRecord, TaskStatus, time};
use crate::store::TaskEnd;

/// The answer of `get_main.lua`: records without the hosts and process ids of their instances, and the tasks that
/// cannot be read.
pub(super) fn unpack(mut answer: List<'_>) -> Result<(Vec<TaskRecord>, Vec<Damaged>), StoreError> {
    let (mut records, mut damaged) = (Vec::with_capacity(answer.len() / 8), Vec::new());
    while !answer.is_empty() {
        let id = answer.task_id()?;
        let mut row = Row {
            state: answer.bytes()?,
            key: answer.option()?,
            run_key: answer.option()?,
            error: answer.option()?,
            result: answer.option()?,
            progress: answer.option()?,
            past: answer.option()?,
        };
        let bytes = std::mem::take(&mut row.state);
        let state = PackedRow::unpack(&bytes);
        match state.as_ref().and_then(|state| row.record(id, state)) {
            Some(record) => records.push(record),
            None => damaged.push(Damaged::of(id, state.as_ref())),
        }
    }
    Ok((records, damaged))
}

/// The answer of `ends_main.lua` for one task.
pub(super) fn end(stage: i64, error: Option<Vec<u8>>, result: Option<Vec<u8>>) -> TaskEnd {
    let Ok(stage) = u8::try_from(stage) else { return TaskEnd::Gone };
    let status = status_of(stage);
    let result = result.map(|json| Arc::from(raw(&text(json)).get()));
    let nothing = || (status == TaskStatus::Success).then(|| Arc::from("null"));
    TaskEnd::of(status, result.or_else(nothing), error.map(text))
}

/// Fills in host and process id of the instances in the attempts.
pub(super) fn name_processes(records: &mut [TaskRecord], known: &Known) {
    for attempt in records.iter_mut().flat_map(|record| &mut record.attempts) {
        if let Some((host, pid)) = known.get(&attempt.instance) {
            attempt.host.clone_from(host);
            attempt.pid = *pid;
        }
    }
}

struct Row {
    state: Vec<u8>,
    key: Option<Vec<u8>>,
    run_key: Option<Vec<u8>>,
    error: Option<Vec<u8>>,
    result: Option<Vec<u8>>,
    progress: Option<Vec<u8>>,
    past: Option<Vec<u8>>,
}

impl Row {
    fn record(self, id: TaskId, state: &PackedRow<'_>) -> Option<TaskRecord> {
        let body = Body::unpack(state.body)?;
        let status = status_of(state.stage);
        let error = self.error.map(text);
        let mut attempts = self.past.as_deref().map(former_attempts).unwrap_or_default();
        attempts.extend(last_attempt(state, status, error.as_ref()));
        let result = match self.result {
            Some(result) => Some(raw(&text(result))),
            // The result `null` is not stored.
            None if status == TaskStatus::Success => Some(raw("null")),
            None => None,
        };
        let instant = |micros: i64| (micros != 0).then(|| time::from_micros(micros));
        Some(TaskRecord {
            concurrency_key: state.concurrency_key.map(str::to_owned),
            expires_at: state.expires_at.map(time::from_micros),
            // A policy that cannot be read fails the task when it is to run.
            timeout: policy(body.policy).and_then(|policy| policy.timeout),
            snoozes: state.snoozes,
            id,
            status,
            priority: state.priority,
            args: raw(body.args),
            tags: body.tags,
            trace: body.trace,
            // Skips the name and its length, which come first.
            idempotency_key: self.key.and_then(|key| key_in(&text(key))),
            run_key: self.run_key.map(text),
            source: state.source,
            attempt: state.attempt,
            max_attempts: state.max_attempts,
            attempts,
            created_at: time::from_micros(state.created_at),
            run_at: time::from_micros(state.run_at),
            scheduled_for: state.scheduled_for.map(time::from_micros),
            started_at: instant(state.started_at),
            finished_at: instant(state.finished_at),
            error,
            result,
            progress: self.progress.and_then(|json| serde_json::from_slice(&json).ok()),
            cancel_requested: state.stop,
            name: state.name.to_owned(),
            queue: state.queue.to_owned(),
        })
    }
}

/// The attempt in the state: the running one, or the one with which the task ended.
fn last_attempt(state: &PackedRow<'_>, status: TaskStatus, error: Option<&String>) -> Option<Attempt> {
    let outcome = if state.stage == RUNNING { AttemptOutcome::Running } else { state.outcome? };
    Some(Attempt {
        finished_at: (state.finished_at != 0).then(|| time::from_micros(state.finished_at)),
        // While it runs, the error is that of the previous attempt.
        error: error.filter(|_| status.is_final()).cloned(),
        ..Attempt::new(state.attempt, state.holder, time::from_micros(state.started_at), outcome)
    })
}

/// Attempts as `transitions.lua` packs them: `<I4c16i8i8BI4` and the error.
fn former_attempts(bytes: &[u8]) -> Vec<Attempt> {
    let mut at = Unpack(bytes);
    std::iter::from_fn(|| former_attempt(&mut at)).collect()
}

fn former_attempt(at: &mut Unpack<'_>) -> Option<Attempt> {
    let (number, instance) = (at.u32()?, InstanceId::from_bytes(at.array()?));
    let (started_at, finished_at) = (at.i64()?, at.i64()?);
    let outcome = outcome_of(at.u8()?).unwrap_or(AttemptOutcome::Failed);
    let error = at.text()?;
    Some(Attempt {
        finished_at: Some(time::from_micros(finished_at)),
        error: (!error.is_empty()).then(|| error.to_owned()),
        ..Attempt::new(number, instance, time::from_micros(started_at), outcome)
    })
}

fn key_in(key: &str) -> Option<String> {
    let (length, rest) = key.split_once(':')?;
    rest.split_at_checked(length.parse().ok()?).map(|(_, key)| key.to_owned())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The text as JSON. If it is not valid JSON, it becomes a JSON string, because a record must be readable in any
/// case.
fn raw(json: &str) -> Box<RawValue> {
    match serde_json::from_str::<&RawValue>(json) {
        Ok(raw) => raw.to_owned(),
        Err(_) => serde_json::value::to_raw_value(json).expect("a string can be written as JSON"),
    }
}
