//! Tasks in JSON.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::admin::{Permission, Verb};
use crate::model::{Cursor, Page, TaskId, TaskPhase, TaskRecord, TaskSource, TaskStatus, time};
use crate::web::call::Call;

/// A task in a list: without what may be large.
#[derive(Debug, Serialize)]
pub(super) struct Row<'a> {
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
    error: Option<&'a str>,
    cancel_requested: bool,
}

impl<'a> Row<'a> {
    pub(super) fn of(record: &'a TaskRecord) -> Self {
        Self {
            id: record.id,
            name: &record.name,
            queue: &record.queue,
            status: record.status,
            phase: record.phase(),
            priority: record.priority,
            tags: &record.tags,
            idempotency_key: record.idempotency_key.as_deref(),
            run_key: record.run_key.as_deref(),
            concurrency_key: record.concurrency_key.as_deref(),
            source: record.source,
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
            error: record.error.as_deref(),
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

/// A whole task, as the actor may see it.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    #[serde(flatten)]
    record: TaskRecord,
    phase: TaskPhase,
    #[serde(with = "time::rfc3339_option")]
    next_attempt_at: Option<SystemTime>,
    can: Can,
}

impl Whole {
    pub(super) fn of(call: &Call, record: TaskRecord) -> Self {
        let can = |verb: Verb, permission| verb.applies_to(record.status) && call.may(permission);
        let can = Can {
            retry: can(Verb::Retry, Permission::Retry),
            cancel: can(Verb::Cancel, Permission::Cancel),
            delete: can(Verb::Delete, Permission::DeleteOne),
        };
        let phase = record.phase();
        let next_attempt_at = Some(record.run_at).filter(|_| phase == TaskPhase::Retrying);
        Self { record: call.desk.shown(&call.actor, record), phase, next_attempt_at, can }
    }
}

/// A page of a list.
#[derive(Debug, Serialize)]
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<Cursor>,
}

impl<T> Listed<T> {
    /// A list that has one page.
    pub(super) fn all(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

impl<'a> From<&'a Page<TaskRecord>> for Listed<Row<'a>> {
    fn from(page: &'a Page<TaskRecord>) -> Self {
        Self { items: page.items.iter().map(Row::of).collect(), next: page.next }
    }
}
