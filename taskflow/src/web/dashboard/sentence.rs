//! Sentences about a task: what has happened, and what a button would do.

use std::time::SystemTime;

use super::words::{ago, between, counted, length};
use crate::model::{AttemptOutcome, TaskPhase, TaskRecord, TaskStatus};

/// The state of a task in a sentence or two. `is_blocking` says whether it is a synchronous function, if that is known.
pub(crate) fn of(record: &TaskRecord, is_blocking: Option<bool>, now: SystemTime) -> String {
    let attempts = counted(u64::from(record.attempt), "attempt");
    let again = counted(u64::from(record.max_attempts.max(1)), "more attempt");
    match (record.status, record.phase_at(now)) {
        (TaskStatus::Running, _) if record.cancel_requested => match is_blocking {
            Some(false) => "It has been asked to stop, and is dropped at its next await.".to_owned(),
            _ => "It has been asked to stop. A synchronous function stops only when it looks; until it returns, it runs on."
                .to_owned(),
        },
        (_, TaskPhase::Overrunning) => format!(
            "It runs longer than its timeout of {} and has been asked to stop. A synchronous function goes on until it returns.",
            record.timeout.map(length).unwrap_or_default()
        ),
        (TaskStatus::Running, _) => {
            let since = record.started_at.map(|at| length(between(at, now))).unwrap_or_default();
            format!("Attempt {} of {} has been running for {since}.", record.attempt, record.max_attempts)
        }
        (_, TaskPhase::Waiting) if record.attempt == 0 => {
            format!("It is due, and has waited {} to begin.", length(between(record.run_at, now)))
        }
        (_, TaskPhase::Waiting) => "It is due again, and waits to begin.".to_owned(),
        (_, TaskPhase::Scheduled) => format!("Its first attempt is due {}.", ago(record.run_at, now)),
        (_, TaskPhase::Retrying) => {
            let reason = match record.attempts.last().map(|it| it.outcome) {
                Some(AttemptOutcome::Snoozed) => "It asked to run later",
                Some(AttemptOutcome::Lost) => "Its last run was lost",
                Some(AttemptOutcome::HandedBack) => "Its process gave it back",
                _ => "Its last attempt failed",
            };
            let left = record.max_attempts.saturating_sub(record.attempt);
            format!("{reason}. The next attempt is due {}; {} left.", ago(record.run_at, now), counted(u64::from(left), "attempt"))
        }
        (TaskStatus::Success, _) if record.attempt > 1 => format!("It succeeded at attempt {}.", record.attempt),
        (TaskStatus::Success, _) => "It succeeded at its first attempt.".to_owned(),
        (TaskStatus::Failed, _) if record.attempt >= record.max_attempts && record.attempt > 1 => {
            format!("All {attempts} failed. A retry gives it {again}; its arguments, key and tags stay as they are.")
        }
        (TaskStatus::Failed, _) => {
            format!("It failed after {attempts}. A retry gives it {again}; its arguments, key and tags stay as they are.")
        }
        (TaskStatus::Interrupted, _) => {
            "A crash, a shutdown or a lost lease interrupted it, and it may not run twice by itself. It may have had effects: \
             look at them before you retry it."
                .to_owned()
        }
        (TaskStatus::Cancelled, _) => {
            let began = if record.attempts.is_empty() { "before it ran" } else { "after it had begun" };
            format!("It was cancelled, or it expired, {began}. A retry gives it {again}.")
        }
        (TaskStatus::Rejected, _) => {
            "Its queue was full and refused it; it never ran. Retry it when there is room in the queue.".to_owned()
        }
        (TaskStatus::Pending, _) => "It waits.".to_owned(),
    }
}

/// What a cancel does to this task.
pub(crate) fn of_cancel(record: &TaskRecord, is_blocking: Option<bool>) -> &'static str {
    match (record.status, is_blocking) {
        (TaskStatus::Pending, _) => "It waits, so it is cancelled at once and never runs.",
        (_, Some(false)) => "It runs, and is dropped at its next await. What it has done so far stays done.",
        (_, Some(true)) => {
            "It is a synchronous function: it is only asked to stop, and runs on until it looks or returns. What it has done \
             so far stays done."
        }
        (_, None) => "It runs, and is asked to stop. What it has done so far stays done.",
    }
}
