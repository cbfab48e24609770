//! How a body ended, and what follows from it.

use std::pin::Pin;
use std::time::Duration;

use super::panics;
use super::retry;
use super::runs::StopReason;
use crate::model::AttemptOutcome;
use crate::seam::{Instant, Seam, Sleep};
use crate::store::{Claimed, FinishKind};
use crate::task::{RunError, Steering, TaskContext, TaskOutcome};

/// The delay before a synchronous task is claimed again after no thread could be started for it.
const NO_THREAD: Duration = Duration::from_secs(1);

/// How a body ended.
#[derive(Debug)]
pub(super) enum BodyEnd {
    Returned(TaskOutcome),
    Panicked(String),
    /// It was asked to stop. Its context has the reason.
    CutShort,
    /// No thread could be started for it.
    NoThread,
    /// Its lease was lost: this process may no longer end the run.
    Lost,
}

impl BodyEnd {
    /// How the run ends. `None` means it was lost.
    pub(super) fn finish(self, task: &Claimed, context: &TaskContext) -> Option<FinishKind> {
        match self {
            Self::Returned(TaskOutcome::Success { result }) => Some(FinishKind::Success { result }),
            Self::Returned(TaskOutcome::Failure { error, steering }) => {
                Some(retry::after_failure(task, AttemptOutcome::Failed, error, steering))
            }
            Self::Panicked(panic) => {
                Some(retry::after_failure(task, AttemptOutcome::Panicked, panic, Steering::Policy))
            }
            Self::CutShort => cut_short(task, context),
            Self::NoThread => Some(FinishKind::GiveBack { delay: NO_THREAD, outcome: None }),
            Self::Lost => None,
        }
    }
}

impl From<RunError> for BodyEnd {
    fn from(error: RunError) -> Self {
        let (error, steering) = match error {
            // No further attempt would succeed. The stored arguments stay as they are, for a program that can decode them.
            RunError::Arguments(error) => (error, Steering::Abort),
            RunError::Injection(error) => (error, Steering::Policy),
        };
        Self::Returned(TaskOutcome::Failure { error, steering })
    }
}

/// Runs code of the task; a panic becomes an error with its text.
pub(super) fn within<T>(context: &TaskContext, code: impl FnOnce() -> T) -> Result<T, String> {
    panics::catch(|| context.clone().sync_scope(code))
}

/// Resolves at the task's timeout, for an attempt that began at `since`. Most tasks have none, and then no timer is created.
pub(super) async fn limit(seam: &Seam, task: &Claimed, since: Instant) {
    let sleep: Option<Pin<Box<Sleep>>> = task
        .policy
        .timeout
        .and_then(|limit| since.checked_add(limit))
        .map(|at| Box::pin(seam.sleep_until(at)));
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

/// How a run that was asked to stop ends. `None` means it was lost.
pub(super) fn cut_short(task: &Claimed, context: &TaskContext) -> Option<FinishKind> {
    match context.stop().reason() {
        Some(StopReason::Lost) => None,
        Some(StopReason::Cancel) => Some(retry::after_cancel()),
        Some(StopReason::Timeout) => {
            Some(retry::after_failure(task, AttemptOutcome::TimedOut, timed_out(task), Steering::Policy))
        }
        Some(StopReason::LeaseEnding) => Some(retry::after_interruption(
            task,
            "because its lease could not be renewed in time: the store was slow or failed, or the process stood still",
        )),
        Some(StopReason::Shutdown) | None => Some(retry::after_interruption(task, "by a shutdown")),
    }
}

/// The error of an attempt that timed out.
pub(super) fn timed_out(task: &Claimed) -> String {
    let limit = task.policy.timeout.unwrap_or_default();
    format!("timed out: it took longer than its timeout of {limit:?}")
}
