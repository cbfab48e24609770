//! A run of this process before its body begins and after it is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::in_time;
use super::runs::{Live, StopReason};
use super::slots::Permit;
use crate::store::{Claimed, Finish, FinishKind, RunRef};
use crate::task::{ContextParts, Descriptor, Registered, RunEnv, TaskContext};

/// A claimed task of this program that has not begun.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(super) task: Claimed,
    pub(super) descriptor: &'static Descriptor,
    pub(super) context: TaskContext,
    expires: Option<Instant>,
}

impl Admitted {
    pub(crate) fn new(env: Arc<RunEnv>, known: &Registered, mut task: Claimed) -> Self {
        let context = TaskContext::new(ContextParts {
            id: task.run.id,
            name: known.key,
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            tags: std::mem::take(&mut task.tags),
            scheduled_for: task.scheduled_for,
            env,
            // The line that says so itself goes beyond the limit.
            log_room: TaskContext::MAX_LOG_LINES
                .checked_sub(task.log_lines)
                .zip(TaskContext::MAX_LOG_BYTES.checked_sub(task.log_bytes)),
        });
        let expires = task.expires_in.map(in_time);
        Self { task, descriptor: known.task, context, expires }
    }

    /// Its queue, and whether it is synchronous.
    pub(crate) fn kind(&self) -> (&str, bool) {
        (&self.task.queue, self.descriptor.is_blocking())
    }

    /// What the runs of this process know of it.
    pub(crate) fn live(&self) -> Live {
        Live::new(
            self.task.run,
            self.context.clone(),
            self.descriptor.is_blocking(),
            self.task.may_run_again(),
        )
    }

    /// Its run ends before its body begins: it goes back to the queue as if nothing had claimed it, unless it was
    /// cancelled or lost meanwhile.
    pub(crate) fn turned_away(self, permit: Permit) -> Ended {
        self.context.end_body();
        let kind = match self.context.stop().reason() {
            Some(StopReason::Lost) => None,
            // Of one that was cancelled meanwhile this is the end.
            _ => Some(FinishKind::GiveBack { delay: Duration::ZERO, outcome: None }),
        };
        let run = self.task.run;
        Ended { run, name: self.task.name, permit, finish: kind.map(|kind| Finish::new(run, kind)) }
    }

    /// Whether it has been asked to stop before it began, or its time to begin is over.
    pub(crate) fn may_not_begin(&self) -> bool {
        self.context.stop().is_asked() || self.expires.is_some_and(|at| at <= Instant::now())
    }
}

/// A run whose body is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) run: RunRef,
    pub(crate) name: Arc<str>,
    pub(crate) permit: Permit,
    /// What is to be written; `None` if the run was lost and is no longer ours to end.
    pub(crate) finish: Option<Finish>,
}

/// The permits of these runs.
pub(super) fn permits(ended: &mut [Ended]) -> impl Iterator<Item = &mut Permit> {
    ended.iter_mut().map(|ended| &mut ended.permit)
}
