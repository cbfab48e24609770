//! Finishes of runs, reports of runs, and releases of holds.

use std::time::Duration;

use super::RunRef;
use crate::model::{AttemptOutcome, LogLine, Progress, TaskId, TaskStatus};

/// The end of one run, under its fence, for [`Store::finish`](super::Store::finish).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finish {
    /// The run.
    pub run: RunRef,
    /// How it ended.
    pub kind: FinishKind,
    /// Lines that it logged and that were not reported before.
    pub lines: Vec<LogLine>,
    /// How many lines the task had before these, over all its attempts; `None` if that is not known. A store that has more
    /// lines has the first of these already, from a report whose answer was lost. It skips those.
    pub lines_before: Option<u32>,
    /// Its last progress, if that was not reported before.
    pub progress: Option<Progress>,
}

impl Finish {
    /// An end with no log lines and no progress left to store.
    #[must_use]
    pub fn new(run: RunRef, kind: FinishKind) -> Self {
        Self { run, kind, lines: Vec::new(), lines_before: None, progress: None }
    }

    /// The lines that are new to a store that has `stored` lines of the task.
    #[must_use]
    pub fn new_lines(&self, stored: u32) -> &[LogLine] {
        new_lines(&self.lines, self.lines_before, stored)
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FinishKind {
    /// The run succeeded: the task ends as `Success`.
    Success {
        /// The result that the task returned, as JSON.
        result: Box<str>,
    },
    /// The run failed, and the task is tried again: it is pending, and due after `delay`. If the task has been asked to
    /// stop meanwhile, it is cancelled instead.
    Retry {
        /// How long the task waits, by the store's clock.
        delay: Duration,
        /// How the attempt ended.
        outcome: AttemptOutcome,
        /// The error message.
        error: String,
    },
    /// The run is given back: the task is pending again, and the attempt is not counted. If the task has been asked to
    /// stop meanwhile, it is cancelled instead.
    GiveBack {
        /// How long the task waits, by the store's clock.
        delay: Duration,
        /// How the attempt is recorded. `None` for an attempt that never began: it leaves no record.
        outcome: Option<AttemptOutcome>,
    },
    /// The task ends without success.
    End {
        /// `Failed`, `Interrupted` or `Cancelled`.
        status: TaskStatus,
        /// How the attempt ended.
        outcome: AttemptOutcome,
        /// The error message.
        error: String,
    },
}

/// The answer to one [`Finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finished {
    /// The finish has been stored. The task now has this status.
    Applied(TaskStatus),
    /// The finish was applied before, its answer was lost, and no other run has begun since. Nothing was changed now.
    /// The task has this status.
    Repeated(TaskStatus),
    /// The run was lost, or it ended and another run has begun since, or there is no such task. Nothing was changed.
    Stale,
}

/// Progress and log lines of a run that has not ended, under its fence, for [`Store::report`](super::Store::report).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The run.
    pub run: RunRef,
    /// Its progress, if that is new.
    pub progress: Option<Progress>,
    /// New lines that it logged.
    pub lines: Vec<LogLine>,
    /// How many lines the task had before these, over all its attempts; `None` if that is not known. A store that has more
    /// lines has the first of these already, from a report whose answer was lost. It skips those.
    pub lines_before: Option<u32>,
}

impl Report {
    /// A report of this progress and these lines.
    #[must_use]
    pub fn new(run: RunRef, progress: Option<Progress>, lines: Vec<LogLine>) -> Self {
        Self { run, progress, lines, lines_before: None }
    }

    /// The lines that are new to a store that has `stored` lines of the task.
    #[must_use]
    pub fn new_lines(&self, stored: u32) -> &[LogLine] {
        new_lines(&self.lines, self.lines_before, stored)
    }
}

fn new_lines(lines: &[LogLine], before: Option<u32>, stored: u32) -> &[LogLine] {
    let known = before.map_or(0, |before| stored.saturating_sub(before));
    lines.get(known as usize..).unwrap_or_default()
}

/// The end of one hold, under its fence, for [`Store::release`](super::Store::release).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Release {
    /// The hold.
    pub hold: RunRef,
    /// What happens to the task then.
    pub outcome: HoldOutcome,
}

impl Release {
    /// The end of a hold.
    #[must_use]
    pub fn new(hold: RunRef, outcome: HoldOutcome) -> Self {
        Self { hold, outcome }
    }
}

/// What happens to a held task when its hold ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoldOutcome {
    /// The task waits like any other until it is due.
    Run,
    /// The task is cancelled.
    Cancel {
        /// The reason, which becomes the task's error.
        reason: String,
    },
}

/// An ended task to reopen, for [`Store::retry`](super::Store::retry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reopen {
    /// The task.
    pub id: TaskId,
    /// How long until it is due, by the store's clock.
    pub delay: Duration,
}

impl Reopen {
    /// Reopens the task `id`, due after `delay`.
    #[must_use]
    pub fn after(id: TaskId, delay: Duration) -> Self {
        Self { id, delay }
    }

    /// Reopens these tasks, due at once.
    pub fn at_once(ids: impl IntoIterator<Item = TaskId>) -> Vec<Self> {
        ids.into_iter().map(|id| Self::after(id, Duration::ZERO)).collect()
    }
}
