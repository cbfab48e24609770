//! Tasks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Listed;
use crate::admin::{Actor, Permission, Verb};
use crate::model::{Page, TaskId, TaskPhase, TaskRecord, TaskSource, TaskStatus, TraceContext, sealed, time};

/// A task in a list: without its arguments, result, progress and attempts, which may be large.
#[derive(Debug, Serialize)]
pub struct TaskRow<'a> {
    id: TaskId,
    name: &'a str,
    queue: &'a str,
    status: TaskStatus,
    phase: TaskPhase,
    priority: i16,
    tags: &'a BTreeMap<String, String>,
    idempotency_key: Option<&'a str>,
    run_key: Option<&'a str>,
    concurrency_key: Option<&'a str>,
    source: TaskSource,
    trace: Option<&'a TraceContext>,
    attempt: u32,
    max_attempts: u32,
    #[serde(with = "time::rfc3339_serde")]
    created_at: SystemTime,
    #[serde(with = "time::rfc3339_serde")]
    run_at: SystemTime,
    #[serde(with = "time::rfc3339_option")]
    scheduled_for: Option<SystemTime>,
    #[serde(with = "time::rfc3339_option")]
    expires_at: Option<SystemTime>,
    #[serde(with = "time::seconds_option")]
    timeout: Option<Duration>,
    snoozes: u32,
    #[serde(with = "time::rfc3339_option")]
    started_at: Option<SystemTime>,
    #[serde(with = "time::rfc3339_option")]
    finished_at: Option<SystemTime>,
    error: Option<Cow<'a, str>>,
    cancel_requested: bool,
}

impl<'a> TaskRow<'a> {
    /// The row of this task, with its phase at `now`.
    #[must_use]
    pub fn of(record: &'a TaskRecord, now: SystemTime) -> Self {
        Self {
            id: record.id,
            name: &record.name,
            queue: &record.queue,
            status: record.status,
            phase: record.phase_at(now),
            priority: record.priority,
            tags: &record.tags,
            idempotency_key: record.idempotency_key.as_deref(),
            run_key: record.run_key.as_deref(),
            concurrency_key: record.concurrency_key.as_deref(),
            source: record.source,
            trace: record.trace.as_ref(),
            attempt: record.attempt,
            max_attempts: record.max_attempts,
            created_at: record.created_at,
            run_at: record.run_at,
            scheduled_for: record.scheduled_for,
            expires_at: record.expires_at,
            timeout: record.timeout,
            snoozes: record.snoozes,
            started_at: record.started_at,
            finished_at: record.finished_at,
            error: record.error.as_deref().map(sealed::shown),
            cancel_requested: record.cancel_requested,
        }
    }
}

/// What the actor may do to a task as it is now.
#[derive(Debug, Serialize)]
struct Can {
    retry: bool,
    cancel: bool,
    delete: bool,
}

/// A whole task, and what the actor may do to it.
#[derive(Debug, Serialize)]
pub struct WholeTask {
    #[serde(flatten)]
    record: TaskRecord,
    phase: TaskPhase,
    /// The id of the key with which a part of it is sealed.
    sealed_with: Option<String>,
    #[serde(with = "time::rfc3339_option")]
    next_attempt_at: Option<SystemTime>,
    can: Can,
}

impl WholeTask {
    /// The view of this task, with its phase at `now` and what this actor may do to it. Hides sealed parts, but no others: the
    /// caller hides arguments and results that the actor may not see.
    #[must_use]
    pub fn of(actor: &Actor, mut record: TaskRecord, now: SystemTime) -> Self {
        let sealed_with = record.sealed_with().map(str::to_owned);
        record.hide_sealed();
        let can = |verb: Verb, permission| verb.applies_to(record.status) && actor.may(permission);
        let can = Can {
            retry: can(Verb::Retry, Permission::Retry),
            cancel: can(Verb::Cancel, Permission::Cancel),
            delete: can(Verb::Delete, Permission::DeleteOne),
        };
        let phase = record.phase_at(now);
        let next_attempt_at = Some(record.run_at).filter(|_| phase == TaskPhase::Retrying);
        Self { record, phase, sealed_with, next_attempt_at, can }
    }
}

impl<'a> Listed<TaskRow<'a>> {
    /// The rows of a page, with the phases at `now`.
    #[must_use]
    pub fn rows(page: &'a Page<TaskRecord>, now: SystemTime) -> Self {
        Self { items: page.items.iter().map(|record| TaskRow::of(record, now)).collect(), next: page.next }
    }
}
