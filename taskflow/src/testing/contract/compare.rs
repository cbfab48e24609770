//! Compares the answers of a store with those of the reference store in `model.rs`, which shares no code with any store.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::{AttemptOutcome, Error, QueueInfo, TaskRecord, TaskStatus};

use super::model::{Entry, Model, State};

#[expect(clippy::needless_pass_by_value, reason = "the callers pass temporary values")]
pub(crate) fn agree<T: PartialEq + Debug>(what: &str, store: T, model: T) -> Result<(), String> {
    if store == model {
        Ok(())
    } else {
        Err(format!("{what}: the store says {store:?}, the model {model:?}"))
    }
}

/// Compares a record with the model's entry for its task.
pub(crate) fn same(record: &TaskRecord, entry: &Entry) -> Result<(), String> {
    let new = &entry.new;
    agree("name", &*record.name, &*new.name)?;
    agree("queue", &*record.queue, &*new.queue)?;
    agree("status", record.status, entry.status())?;
    agree("priority", record.priority, new.priority)?;
    agree("arguments", record.args.get(), &**new.args.as_ref().unwrap())?;
    agree("idempotency key", &record.idempotency_key, &new.idempotency_key)?;
    agree("concurrency key", &record.concurrency_key, &new.concurrency_key)?;
    agree("expires_at", record.expires_at.map(micros), new.expires_at.map(micros))?;
    if record.status == TaskStatus::Pending {
        agree("run key", &record.run_key, &new.run_key)?;
        agree("due", record.run_at <= SystemTime::now(), entry.due)?;
    }
    agree("attempt", (record.attempt, record.max_attempts), (entry.attempt, entry.max_attempts))?;
    let attempts: Vec<_> = record.attempts.iter().map(|it| (it.number, it.instance, it.outcome)).collect();
    let mut past = entry.past.clone();
    if let State::Running { by, .. } = entry.state {
        past.push((entry.attempt, by, AttemptOutcome::Running));
    }
    agree("attempts", attempts, past)?;
    agree("ended", record.finished_at.is_some(), record.status.is_final())?;
    agree("has a result", record.result.is_some(), record.status == TaskStatus::Success)?;
    agree(
        "asked to stop",
        record.cancel_requested,
        matches!(entry.state, State::Running { stop: true, .. }),
    )?;
    match entry.error {
        Some(expected) => agree("error", record.error.as_ref().is_some_and(|it| it.contains(expected)), true),
        None if record.status == TaskStatus::Success => agree("error", &record.error, &None),
        None => Ok(()),
    }
}

pub(crate) fn why_not(error: Error) -> String {
    match error {
        Error::NotFound { .. } => "not found".to_owned(),
        Error::NotRetryable { status, .. } => format!("is {status}"),
        Error::KeyTaken { holder, .. } => format!("key taken by {holder}"),
        error => error.to_string(),
    }
}

/// Stores keep microseconds.
fn micros(at: SystemTime) -> i128 {
    let (before, after) = (UNIX_EPOCH.duration_since(at), at.duration_since(UNIX_EPOCH));
    after.map_or_else(|_| -(before.unwrap().as_micros() as i128), |since| since.as_micros() as i128)
}

/// Compares the queues with the model: their pending, running and finished tasks, and which queues are paused.
pub(crate) fn same_queues(queues: &[QueueInfo], model: &Model) -> Result<(), String> {
    for queue in queues {
        let of_queue = || model.tasks.iter().filter(|task| task.new.queue == *queue.name).map(Entry::status);
        let count =
            |counted: fn(TaskStatus) -> bool| of_queue().filter(|status| counted(*status)).count() as u64;
        let pending = count(|status| status == TaskStatus::Pending);
        let running = count(|status| status == TaskStatus::Running);
        let numbers = (queue.pending, queue.running, queue.finished);
        agree(&queue.name, numbers, (pending, running, count(TaskStatus::is_final)))?;
    }
    let is_listed = |task: &Entry| queues.iter().any(|queue| task.new.queue == *queue.name);
    agree("every queue is listed", model.tasks.iter().all(is_listed), true)?;
    let paused = queues.iter().filter(|queue| queue.paused).map(|queue| &queue.name);
    agree("paused", paused.collect::<Vec<_>>(), model.paused.iter().collect())
}
