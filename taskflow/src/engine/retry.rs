//! Decides what happens after a run, with one rule for every way it can end. No task waits in memory: a retry is a due
//! time in the store.

use std::time::Duration;

use crate::model::recovery_policy::{self, AfterLoss};
use crate::model::{AttemptOutcome, TaskStatus, limits};
use crate::seam::random;
use crate::store::{Claimed, FinishKind};
use crate::task::Steering;

/// The longest stored error, in bytes, without the note that it was cut off. Each attempt stores its own, and the writes of
/// many tasks share a transaction.
const MAX_ERROR: usize = 64 * 1024;

/// Decides what follows an attempt that failed.
pub(crate) fn after_failure(
    task: &Claimed,
    outcome: AttemptOutcome,
    error: String,
    steering: Steering,
) -> FinishKind {
    let error = shortened(error);
    let last = task.attempt >= task.max_attempts;
    match steering {
        Steering::Snooze(delay) if task.snoozes < task.policy.max_snoozes => {
            let delay = delay.min(limits::LENGTH);
            FinishKind::GiveBack { delay, outcome: Some(AttemptOutcome::Snoozed) }
        }
        Steering::Snooze(_) => {
            let error = format!(
                "{error}; it was snoozed {} times before, the limit set by `max_snoozes`",
                task.snoozes
            );
            after_failure(task, outcome, error, Steering::Policy)
        }
        Steering::RetryIn(delay) if !last => {
            FinishKind::Retry { delay: delay.min(limits::LENGTH), outcome, error }
        }
        Steering::Policy if !last => FinishKind::Retry { delay: back_off(task), outcome, error },
        Steering::Policy | Steering::RetryIn(_) | Steering::Abort => {
            FinishKind::End { status: TaskStatus::Failed, outcome, error }
        }
    }
}

/// Decides what follows an attempt that was cut short by a shutdown, or because its lease was about to end.
pub(crate) fn after_interruption(task: &Claimed, why: &str) -> FinishKind {
    match recovery_policy::after_interruption(&task.policy, task.attempt, task.max_attempts, why) {
        AfterLoss::Pending { delay, .. } => {
            FinishKind::GiveBack { delay, outcome: Some(AttemptOutcome::HandedBack) }
        }
        AfterLoss::Ended { status, error } => {
            FinishKind::End { status, outcome: AttemptOutcome::Interrupted, error }
        }
    }
}

/// Shortens an error to the stored length. A shortened error says so.
pub(crate) fn shortened(mut error: String) -> String {
    let length = error.len();
    if length > MAX_ERROR {
        error.truncate(error.floor_char_boundary(MAX_ERROR));
        // Frees the memory of the part that was cut off.
        error.shrink_to_fit();
        error.push_str(&format!("… (cut off: it is {length} bytes)"));
    }
    error
}

/// Ends a task that was cancelled on request.
pub(crate) fn after_cancel() -> FinishKind {
    FinishKind::End {
        status: TaskStatus::Cancelled,
        outcome: AttemptOutcome::Cancelled,
        error: "cancelled while it ran".to_owned(),
    }
}

/// The back-off counts from the first attempt of this round; a manual retry begins a new round.
fn back_off(task: &Claimed) -> Duration {
    let left = task.max_attempts.saturating_sub(task.attempt);
    let in_round = task.policy.max_attempts().saturating_sub(left).max(1);
    task.policy.back_off_with(in_round, random())
}
