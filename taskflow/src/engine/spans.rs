//! The `tracing` spans of adds and runs. Their names and fields follow the conventions of OpenTelemetry for messaging, where
//! the queue is the destination and a task is a message. Nothing is computed for a span that nobody records.

use std::fmt;
use std::time::Duration;

use tracing::Span;
use tracing::field::{Empty, display};

use super::core::Core;
use super::panics;
use crate::model::{AddError, AttemptOutcome, NewTask, TaskStatus, TraceContext, sealed, time};
use crate::observe::reason;
use crate::store::{Claimed, FinishKind, InsertTask, Inserted, InsertedAs};
use crate::task::TaskContext;

/// The span of an add, until the add is answered.
#[derive(Debug)]
pub(crate) struct AddSpan {
    span: Span,
    /// Whether the span already has the id of its task, or is of several tasks and needs no id.
    is_named: bool,
}

impl AddSpan {
    /// Begins the span of an add, and puts these tasks into its trace. A task that names a trace itself keeps that one.
    pub(crate) fn begin(core: &Core, tasks: &mut [InsertTask], of_request: Option<TraceContext>) -> Self {
        let settings = &core.settings.trace;
        // The answer to an add with a key may name another task, so its id is recorded with the answer. Recording it now as
        // well would export the attribute twice.
        let is_named = match tasks {
            [InsertTask { task, .. }] => task.idempotency_key.is_none() && task.run_key.is_none(),
            _ => true,
        };
        let span = match tasks {
            [insert] => of_one(&insert.task),
            _ => tracing::debug_span!(
                target: "taskflow", "taskflow.add_all",
                otel.name = "send batch", otel.kind = "client", messaging.system = "taskflow",
                messaging.operation.r#type = "send", messaging.operation.name = "add_all",
                messaging.batch.message_count = signed(tasks.len()), error.r#type = Empty,
            ),
        };
        let named = match tasks {
            [insert] => insert.task.trace.clone(),
            _ => None,
        };
        let around = settings.current().filter(|_| named.is_none());
        // The adapter has already made the span a child of the span around it.
        let outer = match &around {
            Some(_) => None,
            None => named.or(of_request).or_else(|| TaskContext::current()?.trace()),
        };
        if let Some(parent) = &outer {
            settings.attach_add(&span, parent);
        }
        let trace = if span.is_disabled() { None } else { span.in_scope(|| settings.current()) };
        if let Some(trace) = trace.or(around).or(outer) {
            for insert in tasks.iter_mut().filter(|insert| insert.task.trace.is_none()) {
                insert.task.trace = Some(trace.clone());
            }
        }
        if let ([insert], true) = (&*tasks, is_named) {
            span.record("messaging.message.id", display(insert.task.id));
        }
        Self { span, is_named }
    }

    /// Records the answer.
    pub(crate) fn answered(&mut self, answer: &Result<Vec<Inserted>, AddError>) {
        if self.span.is_disabled() {
            return;
        }
        match answer {
            Ok(inserted) => {
                if let [Inserted { id, kind, .. }] = &inserted[..] {
                    if *kind == InsertedAs::Duplicate {
                        self.span.record("taskflow.duplicate", true);
                    }
                    if !self.is_named {
                        self.span.record("messaging.message.id", display(id));
                    }
                }
            }
            Err(error) => {
                if let (AddError::Unknown { id, .. }, false) = (error, self.is_named) {
                    self.span.record("messaging.message.id", display(id));
                }
                self.span.record("error.type", reason(error));
                self.span.in_scope(|| tracing::debug!(target: "taskflow", %error, "the add was refused"));
            }
        }
        self.span = Span::none();
    }
}

/// As a signed number: the bridge to OpenTelemetry exports unsigned ones as texts.
fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn of_one(task: &NewTask) -> Span {
    tracing::debug_span!(
        target: "taskflow", "taskflow.add",
        otel.name = %format_args!("send {}", task.queue), otel.kind = "producer", messaging.system = "taskflow",
        messaging.operation.r#type = "send", messaging.operation.name = "add",
        messaging.destination.name = &*task.queue, messaging.message.id = Empty, taskflow.task.name = &*task.name,
        taskflow.duplicate = Empty, error.r#type = Empty,
    )
}

/// Begins the span of an attempt, in which the code of the task runs. As the setting `traces` says, it is a child of the span
/// of the add, or it begins a new trace that links to the add.
pub(super) fn begin(core: &Core, context: &TaskContext, task: &Claimed) {
    // A panic in a log layer must not end the run.
    let _ = panics::catch(|| begin_span(core, context, task));
}

fn begin_span(core: &Core, context: &TaskContext, task: &Claimed) {
    let settings = &core.settings.trace;
    let shown = Shown(context, &settings.tags);
    // The values are computed only if the span is recorded. They are given here, since a later `record` is one more call.
    let span = tracing::info_span!(
        target: "taskflow", parent: None, "taskflow.run",
        otel.name = %format_args!("process {}", task.name), otel.kind = "consumer", messaging.system = "taskflow",
        messaging.operation.r#type = "process", messaging.operation.name = "run",
        messaging.destination.name = &*task.queue, messaging.message.id = %task.run.id,
        taskflow.task.name = &*task.name, taskflow.attempt = signed(task.attempt),
        taskflow.max_attempts = signed(task.max_attempts),
        taskflow.wait_s = since_add(core, task).map(|(_, wait)| wait.as_secs_f64()),
        taskflow.tags = shown.any().then(|| display(&shown)), taskflow.outcome = Empty,
        otel.status_code = Empty, error.r#type = Empty,
    );
    if span.is_disabled() {
        return;
    }
    settings.attach_run(&span, task.trace.as_ref(), || since_add(core, task).map(|(age, _)| age));
    if let Some(trace) = settings.adapter.as_ref().and_then(|adapter| span.in_scope(|| adapter.current())) {
        context.set_trace(trace);
    }
    context.set_span(span);
}

/// Records how the attempt ended, as it is stored, and ends its span. `None`: its lease was lost.
pub(super) fn end(context: &TaskContext, finish: Option<&FinishKind>) {
    if let Some(span) = context.take_span() {
        // Moved in, so that the span is also closed where a panic is caught.
        let _ = panics::catch(move || end_span(&span, finish));
    }
}

fn end_span(span: &Span, finish: Option<&FinishKind>) {
    let (outcome, error_type, error) = match finish {
        None => (AttemptOutcome::Lost, Some("lost_lease"), None),
        Some(FinishKind::Success { .. }) => (AttemptOutcome::Success, None, None),
        Some(FinishKind::GiveBack { outcome, .. }) => {
            (outcome.unwrap_or(AttemptOutcome::HandedBack), None, None)
        }
        Some(FinishKind::End { status: TaskStatus::Cancelled, outcome, .. }) => {
            (*outcome, Some("cancelled"), None)
        }
        Some(FinishKind::Retry { outcome, error, .. } | FinishKind::End { outcome, error, .. }) => {
            (*outcome, type_of(*outcome), Some(error))
        }
    };
    // OpenTelemetry leaves the status of a success unset.
    match error_type {
        None => tracing::record_all!(span, taskflow.outcome = outcome.as_str()),
        Some(error) => tracing::record_all!(
            span,
            taskflow.outcome = outcome.as_str(),
            error.r#type = error,
            otel.status_code = "ERROR",
        ),
    }
    if let Some(error) = error {
        // The text can be long, so it is an event and not an attribute.
        let error = sealed::shown(error);
        span.in_scope(|| tracing::warn!(target: "taskflow", %error, "the attempt failed"));
    }
}

/// The time since the add, and the time since the task was due. `None` after a first attempt or a snooze, and for an id that
/// does not contain its time.
fn since_add(core: &Core, task: &Claimed) -> Option<(Duration, Duration)> {
    let made = task.run.id.made_at_millis().filter(|_| task.attempt == 1 && task.snoozes == 0)?;
    let made = i64::try_from(made.saturating_mul(1000)).ok()?;
    let now = time::to_micros(core.seam.now());
    let due = task.scheduled_for.map_or(made, |at| time::to_micros(at).max(made));
    Some((time::left(now, made), time::left(now, due)))
}

fn type_of(outcome: AttemptOutcome) -> Option<&'static str> {
    match outcome {
        AttemptOutcome::Panicked => Some("panic"),
        AttemptOutcome::TimedOut => Some("timeout"),
        AttemptOutcome::Interrupted => Some("interrupted"),
        AttemptOutcome::Cancelled => Some("cancelled"),
        AttemptOutcome::Snoozed | AttemptOutcome::HandedBack | AttemptOutcome::Success => None,
        _ => Some("error"),
    }
}

/// The tags of a task that a span shows: `tenant=42, plan=pro`.
struct Shown<'a>(&'a TaskContext, &'a [String]);

impl Shown<'_> {
    fn any(&self) -> bool {
        self.1.iter().any(|name| self.0.tags().contains_key(name))
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.1.iter().filter_map(|name| Some((name, self.0.tags().get(name)?)));
        for (at, (name, value)) in shown.enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}
