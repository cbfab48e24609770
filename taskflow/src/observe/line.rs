//! An event as one line of JSON.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::model::{LogLevel, Tags, TaskEvent, TaskEventKind, TaskId, time};

/// How many bytes of lines are collected before they are written, if events come without a pause.
pub(super) const COLLECT: usize = 64 * 1024;

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    level: LogLevel,
    event: &'static str,
    id: TaskId,
    name: &'a Arc<str>,
    queue: &'a Arc<str>,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "is_empty")]
    tags: &'a Tags,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde calls")]
fn is_empty(tags: &&Tags) -> bool {
    tags.is_empty()
}

/// Appends the event as one line.
pub(super) fn append(lines: &mut Vec<u8>, event: &TaskEvent) {
    let (delay, message) = match &event.kind {
        TaskEventKind::Retrying { delay, .. } | TaskEventKind::Snoozed { delay } => (Some(*delay), None),
        TaskEventKind::Log { message, .. } => (None, Some(message.as_str())),
        _ => (None, None),
    };
    let line = Line {
        at: time::rfc3339(event.at),
        level: event.level(),
        event: event.kind.kind().as_str(),
        id: event.id,
        name: &event.name,
        queue: &event.queue,
        attempt: event.attempt,
        duration: event.duration.as_ref().map(Duration::as_secs_f64),
        error: event.error(),
        delay: delay.as_ref().map(Duration::as_secs_f64),
        message,
        tags: &event.tags,
    };
    serde_json::to_writer(&mut *lines, &line).expect("words and numbers can be written as JSON into memory");
    lines.push(b'\n');
}
