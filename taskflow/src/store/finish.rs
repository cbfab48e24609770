//! How runs and holds end.

use std::time::Duration;

use super::RunRef;
use crate::model::{AttemptOutcome, LogLine, Progress, TaskStatus};

/// The end of one run, under its fence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finish {
    /// The run.
    pub run: RunRef,
    /// How it ended.
    pub kind: FinishKind,
    /// Lines it logged that were not reported before.
    pub lines: Vec<LogLine>,
    /// How far it last said it was, if that was not reported before.
    pub progress: Option<Progress>,
}

impl Finish {
    /// An end without anything left to report.
    #[must_use]
    pub fn new(run: RunRef, kind: FinishKind) -> Self {
        Self { run, kind, lines: Vec::new(), progress: None }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FinishKind {
    /// Well: the task is a success.
    Success {
        /// What it returned, as JSON.
        result: Box<str>,
    },
    /// Badly, and the task is to be tried again: pending, due after `delay`. If it has been asked to stop meanwhile
    /// it is cancelled instead.
    Retry {
        /// How long it waits, by the store's clock.
        delay: Duration,
        /// How the attempt ended.
        outcome: AttemptOutcome,
        /// What went wrong.
        error: String,
    },
    /// Not at all: the run is given back, and its attempt is not counted. If the task has been asked to stop meanwhile
    /// it is cancelled instead.
    GiveBack {
        /// How long it waits, by the store's clock.
        delay: Duration,
        /// How the attempt is recorded; `None` for one that never began, which leaves no trace.
        outcome: Option<AttemptOutcome>,
    },
    /// The task ends other than well.
    End {
        /// `Failed`, `Interrupted` or `Cancelled`.
        status: TaskStatus,
        /// How the attempt ended.
        outcome: AttemptOutcome,
        /// What went wrong.
        error: String,
    },
}

/// The answer to one [`Finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finished {
    /// It is durable, and the task is now this.
    Applied(TaskStatus),
    /// It was applied before, and no other run has begun since: the answer to that finish was lost. Nothing was changed
    /// now; the task is this.
    Repeated(TaskStatus),
    /// The run had been lost: nothing was changed.
    Stale,
}

/// What a run says before it ends, under its fence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The run.
    pub run: RunRef,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Lines it logged.
    pub lines: Vec<LogLine>,
}

impl Report {
    /// What a run says.
    #[must_use]
    pub fn new(run: RunRef, progress: Option<Progress>, lines: Vec<LogLine>) -> Self {
        Self { run, progress, lines }
    }
}

/// The end of one hold, under its fence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Release {
    /// The hold.
    pub hold: RunRef,
    /// What becomes of the task.
    pub outcome: HoldOutcome,
}

impl Release {
    /// The end of a hold.
    #[must_use]
    pub fn new(hold: RunRef, outcome: HoldOutcome) -> Self {
        Self { hold, outcome }
    }
}

/// What becomes of a held task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoldOutcome {
    /// It waits like any other, for the time it was added with.
    Run,
    /// It is cancelled.
    Cancel {
        /// Why.
        reason: String,
    },
}
