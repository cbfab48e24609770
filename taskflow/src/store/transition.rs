//! The task state machine: how each command changes a task, as pure functions.
//!
//! A store reads a row, fills a [`TaskState`] from it, calls one of these functions, and writes the [`Change`] that it
//! returns. So every store follows the same rules, and the rules are tested once, here. [`LostRun::next`] is the rule
//! for lost runs. The effects of a claim and of an insert are not decided here, because each store applies both to many
//! rows in one statement.
//!
//! A store outside this crate uses them the same way. One that keeps a [`TaskRecord`](crate::TaskRecord) for each task needs
//! no columns: [`TaskState::of_record`] reads a record, and [`Change::write_to`] writes to it. All instants are microseconds
//! since the epoch, in UTC; [`micros`] and [`instant`] convert them.
//!
//! ```
//! use taskflow::store::transition::{self, Stage, TaskState};
//! use taskflow::{CancelOutcome, TaskStatus};
//!
//! let waiting = TaskState::of_stage(Stage::Waiting);
//! let decision = transition::cancel(Some(&waiting), "not wanted");
//! assert_eq!(decision.answer, CancelOutcome::Cancelled);
//! let change = decision.change.expect("a waiting task changes");
//! assert_eq!(change.next.stage, Stage::Ended(TaskStatus::Cancelled));
//! ```

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use super::{AfterLoss, FinishKind, Finished, HoldOutcome, LostRun, Recovered};
use crate::model::{AttemptOutcome, CancelOutcome, Error, RetryPolicy, TaskId, TaskStatus, time};

/// The error of a task that was asked to stop and would otherwise wait again, and of a task that was cancelled by its
/// run key.
pub const CANCELLED: &str = "cancelled";

/// The error of an attempt that was lost: its process died, or did not renew its lease in time, or was considered dead.
pub const WORKER_LOST: &str = "worker lost";

/// The stage of a task, as far as the rules distinguish stages. Only the store knows whether a waiting task is due, or
/// blocked by its concurrency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Pending, and not held.
    Waiting,
    /// Pending, and held by an instance.
    Held,
    /// Running under its fence.
    Running,
    /// Ended with this status.
    Ended(TaskStatus),
}

impl Stage {
    /// The status that the task's record shows.
    #[must_use]
    pub fn status(self) -> TaskStatus {
        match self {
            Self::Waiting | Self::Held => TaskStatus::Pending,
            Self::Running => TaskStatus::Running,
            Self::Ended(status) => status,
        }
    }
}

/// The columns of a row that the rules need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskState {
    /// Its stage.
    pub stage: Stage,
    /// The number of its current or last counted attempt; 0 before the first.
    pub attempt: u32,
    /// The number of the last attempt that it may make.
    pub max_attempts: u32,
    /// The greatest fence that the task ever had.
    pub fence: u64,
    /// The number of lost runs in a row.
    pub lost_runs: u32,
    /// How often it has been given back as snoozed.
    pub snoozes: u32,
    /// Whether the run has been asked to stop.
    pub cancel_requested: bool,
    /// Whether any attempt ever began.
    pub has_begun: bool,
    /// When it is due.
    pub run_at: i64,
    /// Until when it may start.
    pub expires_at: Option<i64>,
}

/// The columns to write to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change<'a> {
    /// The row after the change. If its stage is ended, the task ends now; if it is pending or running, the row has no
    /// end time.
    pub next: TaskState,
    /// The run that ends now and is kept as an attempt.
    pub ended_run: Option<EndedRun<'a>>,
    /// How the stored error changes.
    pub error: ErrorChange<'a>,
    /// The result that the run returned, as JSON. `None` leaves the stored result as it is.
    pub result: Option<&'a str>,
    /// Whether an ended task is reopened: then its end time and its progress are cleared.
    pub reopens: bool,
}

/// A run that has ended, as it is stored among the task's attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndedRun<'a> {
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Its error message, if it has one.
    pub error: Option<&'a str>,
}

/// How the stored error of a task changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorChange<'a> {
    /// It stays.
    Keep,
    /// The task has no error any more.
    Clear,
    /// This is the error now.
    Set(Cow<'a, str>),
}

/// The answer to a command, and the change to write before answering, if there is one.
#[derive(Debug)]
#[non_exhaustive]
pub struct Decision<'a, A> {
    /// What the store answers.
    pub answer: A,
    /// What it writes before that, under the row's fence.
    pub change: Option<Change<'a>>,
}

impl<A> Decision<'_, A> {
    fn nothing(answer: A) -> Self {
        Self { answer, change: None }
    }
}

impl TaskState {
    /// A task of that stage, with nothing else known of it: every number is 0, and it has begun if it is running. A store
    /// sets the other columns from its row.
    #[must_use]
    pub fn of_stage(stage: Stage) -> Self {
        Self {
            stage,
            attempt: 0,
            max_attempts: 0,
            fence: 0,
            lost_runs: 0,
            snoozes: 0,
            cancel_requested: false,
            has_begun: stage == Stage::Running,
            run_at: 0,
            expires_at: None,
        }
    }

    /// Whether the task waits for its first attempt. Then it counts towards `max_size`, and an add with the same run
    /// key replaces it.
    #[must_use]
    pub fn waits_for_first(&self) -> bool {
        self.attempt == 0 && self.stage.status() == TaskStatus::Pending
    }

    fn has_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// The row after it was made to wait until `run_at`.
    fn waiting(self, run_at: i64) -> Self {
        Self { stage: Stage::Waiting, run_at, cancel_requested: false, ..self }
    }

    /// The row after the task has ended with `status`.
    fn ended(self, status: TaskStatus) -> Self {
        // A status that is not final becomes `Failed`, because the task has ended.
        let status = if status.is_final() { status } else { TaskStatus::Failed };
        Self { stage: Stage::Ended(status), cancel_requested: false, ..self }
    }
}

impl<'a> Change<'a> {
    fn of(next: TaskState, error: ErrorChange<'a>) -> Self {
        Self { next, ended_run: None, error, result: None, reopens: false }
    }

    fn end(task: TaskState, status: TaskStatus, error: impl Into<Cow<'a, str>>) -> Self {
        Self::of(task.ended(status), ErrorChange::Set(error.into()))
    }

    fn recording(self, outcome: AttemptOutcome, error: Option<&'a str>) -> Self {
        Self { ended_run: Some(EndedRun { outcome, error }), ..self }
    }

    /// When the task ended, if the change ends it.
    #[must_use]
    pub fn finished_at(&self, now: i64) -> Option<i64> {
        matches!(self.next.stage, Stage::Ended(_)).then_some(now)
    }

    /// The run with which the task ends, if its error is also the task's error. A store may keep such an attempt in the
    /// task's row.
    #[cfg(feature = "postgres")]
    pub(super) fn last_run(&self) -> Option<&EndedRun<'a>> {
        let error = match &self.error {
            ErrorChange::Set(error) => Some(&**error),
            ErrorChange::Keep | ErrorChange::Clear => None,
        };
        let is_over = matches!(self.next.stage, Stage::Ended(_));
        self.ended_run.as_ref().filter(|run| is_over && run.error == error)
    }

    /// The answer of a recovery that made this change; `from` is the row before the change.
    #[must_use]
    pub fn recovered(&self, from: &TaskState, id: TaskId, name: Arc<str>) -> Recovered {
        match (from.stage, self.next.stage, &self.error) {
            (Stage::Held, ..) => Recovered::from_hold(id, name),
            (Stage::Waiting, ..) => Recovered::from_expiry(id, name),
            (_, Stage::Ended(status), ErrorChange::Set(error)) => {
                Recovered::new(id, name, status, Some(error.to_string()))
            }
            (_, stage, _) => Recovered::new(id, name, stage.status(), None),
        }
    }
}

/// Ends the run under that fence. Here and below, `task` is `None` if there is no such task.
#[must_use]
pub fn finish<'a>(
    task: Option<&TaskState>,
    fence: u64,
    kind: &'a FinishKind,
    now: i64,
) -> Decision<'a, Finished> {
    let Some(task) = task.filter(|task| task.fence == fence) else {
        return Decision::nothing(Finished::Stale);
    };
    match task.stage {
        Stage::Running => {
            let change = end_run(task, kind, now);
            Decision { answer: Finished::Applied(change.next.stage.status()), change: Some(change) }
        }
        // A lost run leaves the next fence, so this run was finished. The exception is a task that never ran: its fence
        // is that of a hold.
        Stage::Waiting | Stage::Ended(_) if task.has_begun => {
            Decision::nothing(Finished::Repeated(task.stage.status()))
        }
        _ => Decision::nothing(Finished::Stale),
    }
}

fn end_run<'a>(task: &TaskState, kind: &'a FinishKind, now: i64) -> Change<'a> {
    // Every end except a loss resets the number of lost runs in a row.
    let run = TaskState { lost_runs: 0, ..*task };
    let change = match kind {
        FinishKind::Success { result } => {
            let change = Change::of(run.ended(TaskStatus::Success), ErrorChange::Clear);
            return Change { result: Some(result), ..change.recording(AttemptOutcome::Success, None) };
        }
        FinishKind::End { status, outcome, error } => {
            return Change::end(run, *status, error).recording(*outcome, Some(error));
        }
        FinishKind::Retry { delay, outcome, error } => {
            let next = run.waiting(later(now, *delay));
            Change::of(next, ErrorChange::Set(error.into())).recording(*outcome, Some(error))
        }
        FinishKind::GiveBack { delay, outcome } => {
            let snoozes = u32::from(*outcome == Some(AttemptOutcome::Snoozed));
            let next = TaskState {
                attempt: run.attempt.saturating_sub(1),
                snoozes: run.snoozes.saturating_add(snoozes),
                ..run.waiting(later(now, *delay))
            };
            let change = Change::of(next, ErrorChange::Keep);
            match outcome {
                Some(outcome) => change.recording(*outcome, None),
                None => change,
            }
        }
    };
    if !task.cancel_requested {
        return change;
    }
    // The task would wait again, but it was asked to stop.
    let next = TaskState { run_at: task.run_at, ..change.next };
    Change { ended_run: change.ended_run, ..Change::end(next, TaskStatus::Cancelled, CANCELLED) }
}

/// Ends the hold under that fence. The answer says whether the task is now in the state that the release asks for.
#[must_use]
pub fn release<'a>(task: Option<&TaskState>, fence: u64, outcome: &'a HoldOutcome) -> Decision<'a, bool> {
    let Some(task) = task.filter(|task| task.fence == fence) else { return Decision::nothing(false) };
    let change = match (task.stage, outcome) {
        (Stage::Held, HoldOutcome::Run) => end_hold(task),
        (Stage::Held, HoldOutcome::Cancel { reason }) => Change::end(*task, TaskStatus::Cancelled, reason),
        // The hold is over and its fence is still there: this is a repeated release.
        (Stage::Waiting, HoldOutcome::Run)
        | (Stage::Ended(TaskStatus::Cancelled), HoldOutcome::Cancel { .. }) => {
            return Decision::nothing(true);
        }
        _ => return Decision::nothing(false),
    };
    Decision { answer: true, change: Some(change) }
}

/// Ends a hold: the task waits until it is due.
fn end_hold(task: &TaskState) -> Change<'static> {
    Change::of(task.waiting(task.run_at), ErrorChange::Keep)
}

/// Cancels the task, or asks it to stop if it is running.
#[must_use]
pub fn cancel<'a>(task: Option<&TaskState>, reason: &'a str) -> Decision<'a, CancelOutcome> {
    let Some(task) = task else { return Decision::nothing(CancelOutcome::NotFound) };
    match task.stage {
        Stage::Waiting | Stage::Held => {
            let change = Change::end(*task, TaskStatus::Cancelled, reason);
            Decision { answer: CancelOutcome::Cancelled, change: Some(change) }
        }
        Stage::Running => {
            let next = TaskState { cancel_requested: true, ..*task };
            let change = Change::of(next, ErrorChange::Keep);
            Decision { answer: CancelOutcome::Requested, change: Some(change) }
        }
        Stage::Ended(_) => Decision::nothing(CancelOutcome::AlreadyFinished),
    }
}

/// Cancels the task if it waits for its first attempt, for a request to cancel the tasks of its run key. The answer
/// says whether it was cancelled.
#[must_use]
pub fn cancel_by_run_key(task: Option<&TaskState>) -> Decision<'static, bool> {
    match task.filter(|task| task.waits_for_first()) {
        Some(task) => Decision { answer: true, change: cancel(Some(task), CANCELLED).change },
        None => Decision::nothing(false),
    }
}

/// Reopens an ended task at a user's request; it is due after `delay`. It gets `attempts` more attempts: the number that its
/// policy allows. `key_holder` is another task that holds its idempotency key now.
#[must_use]
pub fn retry(
    id: TaskId,
    task: Option<&TaskState>,
    attempts: u32,
    key_holder: Option<TaskId>,
    delay: std::time::Duration,
    now: i64,
) -> Decision<'static, Result<(), Error>> {
    let Some(task) = task else { return Decision::nothing(Err(Error::NotFound { id })) };
    if !matches!(task.stage, Stage::Ended(status) if status != TaskStatus::Success) {
        return Decision::nothing(Err(Error::NotRetryable { id, status: task.stage.status() }));
    }
    if let Some(holder) = key_holder {
        return Decision::nothing(Err(Error::KeyTaken { id, holder }));
    }
    let next = TaskState {
        max_attempts: task.attempt.saturating_add(attempts),
        lost_runs: 0,
        snoozes: 0,
        expires_at: task.expires_at.filter(|_| !task.has_expired(now)),
        ..task.waiting(later(now, delay))
    };
    let change = Change { reopens: true, ..Change::of(next, ErrorChange::Clear) };
    Decision { answer: Ok(()), change: Some(change) }
}

/// Moves a task on after its lease ended or its `expires_at` passed. `None` if the task has no lease and has not
/// expired. `chance`, from 0 to 1, determines the jitter.
#[must_use]
pub fn recover(task: &TaskState, policy: &RetryPolicy, chance: f64, now: i64) -> Option<Change<'static>> {
    match task.stage {
        Stage::Held => Some(end_hold(task)),
        Stage::Running => Some(lose_run(task, policy, chance, now)),
        Stage::Waiting | Stage::Ended(_) => expire(task, now),
    }
}

/// Cancels a waiting task whose `expires_at` has passed.
#[must_use]
pub fn expire(task: &TaskState, now: i64) -> Option<Change<'static>> {
    let is_over = task.stage == Stage::Waiting && task.has_expired(now);
    is_over.then(|| Change::end(*task, TaskStatus::Cancelled, Recovered::EXPIRED))
}

fn lose_run(task: &TaskState, policy: &RetryPolicy, chance: f64, now: i64) -> Change<'static> {
    let &TaskState { attempt, max_attempts, lost_runs, cancel_requested, .. } = task;
    let run = TaskState {
        lost_runs: lost_runs.saturating_add(1),
        // With the next fence, a late finish is not mistaken for a repeated one.
        fence: task.fence.saturating_add(1),
        ..*task
    };
    let change = match LostRun::new(policy, attempt, max_attempts, lost_runs, cancel_requested).next(chance) {
        AfterLoss::Pending { delay, counted } => {
            let attempt = if counted { attempt } else { attempt.saturating_sub(1) };
            let next = TaskState { attempt, ..run.waiting(later(now, delay)) };
            Change::of(next, ErrorChange::Set(WORKER_LOST.into()))
        }
        AfterLoss::Ended { status, error } => Change::end(run, status, error),
    };
    change.recording(AttemptOutcome::Lost, Some(WORKER_LOST))
}

/// An instant as the rules count it: microseconds since the epoch.
#[must_use]
pub fn micros(at: SystemTime) -> i64 {
    time::to_micros(at)
}

/// The instant of a number of microseconds since the epoch.
#[must_use]
pub fn instant(micros: i64) -> SystemTime {
    time::from_micros(micros)
}

/// The instant `length` after `now`.
#[must_use]
pub fn later(now: i64, length: std::time::Duration) -> i64 {
    now.saturating_add(time::micros(length))
}

mod record;

#[cfg(test)]
mod tests;
