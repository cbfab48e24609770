//! The task state machine: what each command makes of a task, as pure functions.
//!
//! A store reads a row, fills a [`TaskState`] from it, asks one of these functions, and writes the [`Change`] that comes
//! back. So every store follows the same rules, and they are tested here once. The rule of lost runs is
//! [`LostRun::next`]; what a claim and an insert make of a task is not decided here, since each store does both to many
//! rows in one statement.

use std::borrow::Cow;
use std::sync::Arc;

use super::{AfterLoss, FinishKind, Finished, HoldOutcome, LostRun, Recovered};
use crate::model::{AttemptOutcome, CancelOutcome, Error, RetryPolicy, TaskId, TaskStatus, time};

/// The error of a task that was asked to stop and would have gone back to waiting, or was cancelled by its run key.
pub(super) const CANCELLED: &str = "cancelled";

/// The error of an attempt whose process died.
pub(super) const WORKER_LOST: &str = "worker lost";

/// Where in its life a task is, as far as the rules tell states apart. Whether a waiting task is due, or blocked by its
/// concurrency key, only its store knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Held,
    Running,
    Ended(TaskStatus),
}

impl Stage {
    pub(super) fn status(self) -> TaskStatus {
        match self {
            Self::Waiting | Self::Held => TaskStatus::Pending,
            Self::Running => TaskStatus::Running,
            Self::Ended(status) => status,
        }
    }
}

/// What the rules need to know of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskState {
    pub(super) stage: Stage,
    pub(super) attempt: u32,
    pub(super) max_attempts: u32,
    /// The greatest fence it ever had.
    pub(super) fence: u64,
    /// Lost runs in a row.
    pub(super) lost_runs: u32,
    pub(super) snoozes: u32,
    pub(super) cancel_requested: bool,
    /// Whether any attempt ever began.
    pub(super) has_begun: bool,
    /// Microseconds since the epoch, as all instants here.
    pub(super) run_at: i64,
    pub(super) expires_at: Option<i64>,
}

/// What is to be written to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change<'a> {
    /// The row afterwards. If it has ended, it ended now; if it is pending or running, it has no end.
    pub(super) next: TaskState,
    /// The run that ends now and is kept as an attempt.
    pub(super) ended_run: Option<EndedRun<'a>>,
    pub(super) error: ErrorChange<'a>,
    /// What the run returned, as JSON. Without one, the result stays.
    pub(super) result: Option<&'a str>,
    /// Whether an ended task is reopened: its end and its progress are forgotten.
    pub(super) reopens: bool,
}

/// A run that has ended, as it is kept among the attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndedRun<'a> {
    pub(super) outcome: AttemptOutcome,
    pub(super) error: Option<&'a str>,
}

/// What becomes of the error of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ErrorChange<'a> {
    Keep,
    Clear,
    Set(Cow<'a, str>),
}

/// What a command is answered, and what is to be written before: nothing if there is no change.
#[derive(Debug)]
pub(super) struct Decision<'a, A> {
    pub(super) answer: A,
    pub(super) change: Option<Change<'a>>,
}

impl<A> Decision<'_, A> {
    fn nothing(answer: A) -> Self {
        Self { answer, change: None }
    }
}

impl TaskState {
    /// A task of which no more than that is known. A change of it says what is written wherever the rest does not matter.
    #[cfg(feature = "redis")]
    pub(super) fn of_stage(stage: Stage) -> Self {
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

    /// Whether it waits for its first attempt: then it counts for `max_size`, and its run key can replace it.
    pub(super) fn waits_for_first(&self) -> bool {
        self.attempt == 0 && self.stage.status() == TaskStatus::Pending
    }

    fn has_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// The row after it was let wait until that instant.
    fn waiting(self, run_at: i64) -> Self {
        Self { stage: Stage::Waiting, run_at, cancel_requested: false, ..self }
    }

    /// The row after its end.
    fn ended(self, status: TaskStatus) -> Self {
        // An end is an end, whatever word was given for it.
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
    #[cfg(any(feature = "postgres", test))]
    pub(super) fn finished_at(&self, now: i64) -> Option<i64> {
        matches!(self.next.stage, Stage::Ended(_)).then_some(now)
    }

    /// The run that the task ends with: its error is the task's. A store may keep such an attempt in the task's row.
    #[cfg(feature = "postgres")]
    pub(super) fn last_run(&self) -> Option<&EndedRun<'a>> {
        let error = match &self.error {
            ErrorChange::Set(error) => Some(&**error),
            ErrorChange::Keep | ErrorChange::Clear => None,
        };
        let is_over = matches!(self.next.stage, Stage::Ended(_));
        self.ended_run.as_ref().filter(|run| is_over && run.error == error)
    }

    /// What a recovery that made this change answers; `from` is the row before.
    pub(super) fn recovered(&self, from: &TaskState, id: TaskId, name: Arc<str>) -> Recovered {
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

/// A run under that fence has ended. `task` is `None` where there is no such task, here and below.
pub(super) fn finish<'a>(
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
        // A run that was lost left the next fence, so this one was finished; unless there never was a run, but a hold.
        Stage::Waiting | Stage::Ended(_) if task.has_begun => {
            Decision::nothing(Finished::Repeated(task.stage.status()))
        }
        _ => Decision::nothing(Finished::Stale),
    }
}

fn end_run<'a>(task: &TaskState, kind: &'a FinishKind, now: i64) -> Change<'a> {
    // Only a run that is lost continues a row of lost runs.
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
    // It would wait again, and was asked to stop.
    let next = TaskState { run_at: task.run_at, ..change.next };
    Change { ended_run: change.ended_run, ..Change::end(next, TaskStatus::Cancelled, CANCELLED) }
}

/// The holder of that fence ends its hold. The answer says whether the task is now what the release makes of it.
pub(super) fn release<'a>(
    task: Option<&TaskState>,
    fence: u64,
    outcome: &'a HoldOutcome,
) -> Decision<'a, bool> {
    let Some(task) = task.filter(|task| task.fence == fence) else { return Decision::nothing(false) };
    let change = match (task.stage, outcome) {
        (Stage::Held, HoldOutcome::Run) => end_hold(task),
        (Stage::Held, HoldOutcome::Cancel { reason }) => Change::end(*task, TaskStatus::Cancelled, reason),
        // The hold is over and its fence is still there: the release may be repeated.
        (Stage::Waiting, HoldOutcome::Run)
        | (Stage::Ended(TaskStatus::Cancelled), HoldOutcome::Cancel { .. }) => {
            return Decision::nothing(true);
        }
        _ => return Decision::nothing(false),
    };
    Decision { answer: true, change: Some(change) }
}

/// The task waits for the time it was added with.
fn end_hold(task: &TaskState) -> Change<'static> {
    Change::of(task.waiting(task.run_at), ErrorChange::Keep)
}

/// Somebody asks for the task to be cancelled.
pub(super) fn cancel<'a>(task: Option<&TaskState>, reason: &'a str) -> Decision<'a, CancelOutcome> {
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

/// Somebody asks for the tasks with its run key to be cancelled. The answer says whether it is one of them.
pub(super) fn cancel_by_run_key(task: Option<&TaskState>) -> Decision<'static, bool> {
    match task.filter(|task| task.waits_for_first()) {
        Some(task) => Decision { answer: true, change: cancel(Some(task), CANCELLED).change },
        None => Decision::nothing(false),
    }
}

/// Somebody asks for an ended task to be tried again: as many attempts again as its policy gives, which is `attempts`.
/// `key_holder` is another task that holds its idempotency key now.
pub(super) fn retry(
    id: TaskId,
    task: Option<&TaskState>,
    attempts: u32,
    key_holder: Option<TaskId>,
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
        ..task.waiting(now)
    };
    let change = Change { reopens: true, ..Change::of(next, ErrorChange::Clear) };
    Decision { answer: Ok(()), change: Some(change) }
}

/// The lease of the task has ended, or its time to start is over; `None` if neither can be true of it. `chance`, from 0
/// to 1, is taken for the jitter.
pub(super) fn recover(
    task: &TaskState,
    policy: &RetryPolicy,
    chance: f64,
    now: i64,
) -> Option<Change<'static>> {
    match task.stage {
        Stage::Held => Some(end_hold(task)),
        Stage::Running => Some(lose_run(task, policy, chance, now)),
        Stage::Waiting | Stage::Ended(_) => expire(task, now),
    }
}

/// The time to start the task is over, if it waits.
pub(super) fn expire(task: &TaskState, now: i64) -> Option<Change<'static>> {
    let is_over = task.stage == Stage::Waiting && task.has_expired(now);
    is_over.then(|| Change::end(*task, TaskStatus::Cancelled, Recovered::EXPIRED))
}

fn lose_run(task: &TaskState, policy: &RetryPolicy, chance: f64, now: i64) -> Change<'static> {
    let &TaskState { attempt, max_attempts, lost_runs, cancel_requested, .. } = task;
    let run = TaskState {
        lost_runs: lost_runs.saturating_add(1),
        // So that a late finish is not taken for a repeated one.
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

/// The instant that much later.
pub(super) fn later(now: i64, length: std::time::Duration) -> i64 {
    now.saturating_add(time::micros(length))
}

#[cfg(test)]
mod tests;
