//! A run in this process: before its body starts and after its body has ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::runs::{Live, StopReason};
use super::slots::Permit;
use crate::model::{AttemptOutcome, LogLine, Tags, TaskEvent, TaskEventKind, TaskId};
use crate::observe::CellId;
use crate::seam::{Instant, Seam};
use crate::store::{Claimed, Finish, FinishKind, RunRef};
use crate::task::{ContextParts, Descriptor, Registered, RunEnv, TaskContext};

/// A claimed task that has not started.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(super) task: Claimed,
    pub(super) descriptor: &'static Descriptor,
    pub(super) context: TaskContext,
    /// Where the meter counts this run.
    pub(super) cell: CellId,
    expires: Option<Instant>,
}

impl Admitted {
    pub(crate) fn new(
        seam: &Seam,
        env: Arc<RunEnv>,
        known: &Registered,
        mut task: Claimed,
        cell: CellId,
    ) -> Self {
        let context = TaskContext::new(ContextParts {
            id: task.run.id,
            name: known.key,
            queue: task.queue.clone(),
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            tags: std::mem::take(&mut task.tags).into(),
            scheduled_for: task.scheduled_for,
            added_in: task.trace.clone(),
            env,
            // The line that reports the limit is itself allowed beyond the limit.
            log_room: TaskContext::MAX_LOG_LINES
                .checked_sub(task.log_lines)
                .zip(TaskContext::MAX_LOG_BYTES.checked_sub(task.log_bytes)),
            log_lines: task.log_lines,
        });
        let expires = task.expires_in.map(|length| seam.in_time(length));
        Self { task, descriptor: known.task, context, cell, expires }
    }

    /// The queue of the task, and whether the task is synchronous.
    pub(crate) fn kind(&self) -> (&str, bool) {
        (&self.task.queue, self.descriptor.is_blocking())
    }

    /// The entry for this process's [`Runs`](super::runs::Runs).
    pub(crate) fn live(&self) -> Live {
        Live::new(
            self.task.run,
            self.context.clone(),
            self.descriptor.is_blocking(),
            self.task.may_run_again(),
        )
    }

    /// Ends the run before its body starts. The task goes back to the queue as if it had not been claimed, unless it was
    /// cancelled or lost meanwhile.
    pub(crate) fn not_started(self, permit: Permit) -> Ended {
        self.context.end_body();
        let kind = match self.context.stop().reason() {
            Some(StopReason::Lost) => None,
            // If the task was cancelled meanwhile, the store ends it as cancelled.
            _ => Some(FinishKind::GiveBack { delay: Duration::ZERO, outcome: None }),
        };
        let (run, cell) = (self.task.run, self.cell);
        let ran = Ran::of(&self.context);
        Ended {
            run,
            name: self.task.name,
            ran,
            cell,
            permit,
            finish: kind.map(|kind| Finish::new(run, kind)),
        }
    }

    /// Whether the run was asked to stop before it started, or the task has expired.
    pub(crate) fn must_not_start(&self, seam: &Seam) -> bool {
        self.context.stop().is_asked() || self.expires.is_some_and(|at| at <= seam.instant())
    }
}

/// A run whose body has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) run: RunRef,
    pub(crate) name: Arc<str>,
    pub(crate) ran: Ran,
    /// Where the meter counts this run.
    pub(crate) cell: CellId,
    pub(crate) permit: Permit,
    /// The result to store; `None` if the run was lost and this process may no longer end it.
    pub(crate) finish: Option<Finish>,
}

impl Ended {
    /// Whether the run succeeded or asked to run later.
    pub(super) fn went_well(&self) -> bool {
        matches!(
            self.finish.as_ref().map(|finish| &finish.kind),
            Some(
                FinishKind::Success { .. }
                    | FinishKind::GiveBack { outcome: Some(AttemptOutcome::Snoozed), .. }
            )
        )
    }
}

/// What events report about a run.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(super) queue: Arc<str>,
    pub(super) attempt: u32,
    /// How long the body took; `None` if it has not begun.
    pub(super) took: Option<Duration>,
    pub(super) tags: Tags,
}

impl Ran {
    pub(super) fn of(context: &TaskContext) -> Self {
        let tags = context.shared_tags().clone();
        Self { queue: context.shared_queue().clone(), attempt: context.attempt(), took: None, tags }
    }

    pub(super) fn event(&self, at: SystemTime, id: TaskId, name: Arc<str>, kind: TaskEventKind) -> TaskEvent {
        let mut event = TaskEvent::at(at, id, name, kind);
        (event.queue, event.attempt, event.tags) = (self.queue.clone(), self.attempt, self.tags.clone());
        event
    }

    /// The event of a line that this run has logged.
    pub(super) fn line(&self, id: TaskId, name: Arc<str>, line: &LogLine) -> TaskEvent {
        let kind = TaskEventKind::Log { level: line.level, message: line.message.clone() };
        self.event(line.at, id, name, kind)
    }
}

/// The permits of these runs.
pub(super) fn permits(ended: &mut [Ended]) -> impl Iterator<Item = &mut Permit> {
    ended.iter_mut().map(|ended| &mut ended.permit)
}
