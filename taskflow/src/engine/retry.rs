//! What comes after a run: one rule for every way it can end. Nothing waits in memory: a retry is a time in the store.

use std::time::Duration;

use crate::model::rules::{self, Next};
use crate::model::{AttemptOutcome, TaskStatus};
use crate::store::{Claimed, FinishKind};
use crate::task::Steering;

/// After an attempt that failed.
pub(crate) fn after_failure(
    task: &Claimed,
    outcome: AttemptOutcome,
    error: String,
    steering: Steering,
) -> FinishKind {
    let last = task.attempt >= task.max_attempts;
    match steering {
        Steering::Snooze(delay) => FinishKind::GiveBack { delay, outcome: Some(AttemptOutcome::Snoozed) },
        Steering::RetryIn(delay) if !last => FinishKind::Retry { delay, outcome, error },
        Steering::Policy if !last => FinishKind::Retry { delay: back_off(task), outcome, error },
        Steering::Policy | Steering::RetryIn(_) | Steering::Abort => {
            FinishKind::End { status: TaskStatus::Failed, outcome, error }
        }
    }
}

/// After an attempt that we cut short to stop the process, or because its lease was about to end.
pub(crate) fn after_interruption(task: &Claimed) -> FinishKind {
    match rules::after_interruption(&task.policy, task.attempt, task.max_attempts) {
        Next::Pending { delay, .. } => {
            FinishKind::GiveBack { delay, outcome: Some(AttemptOutcome::HandedBack) }
        }
        Next::Ended { status, error } => {
            FinishKind::End { status, outcome: AttemptOutcome::Interrupted, error }
        }
    }
}

/// After an attempt that was cancelled on request.
pub(crate) fn after_cancel() -> FinishKind {
    FinishKind::End {
        status: TaskStatus::Cancelled,
        outcome: AttemptOutcome::Cancelled,
        error: "cancelled while it ran".to_owned(),
    }
}

/// The back-off counts from the first attempt of this round: a manual retry begins a new one.
fn back_off(task: &Claimed) -> Duration {
    let left = task.max_attempts.saturating_sub(task.attempt);
    let in_round = task.policy.max_attempts().saturating_sub(left).max(1);
    task.policy.back_off_with(in_round, fastrand::f64())
}
