//! The runs of a test, and how they ended.

use serde::de::DeserializeOwned;

use crate::model::{AttemptOutcome, TaskId, TaskRecord, TaskStatus};

/// What a [`drain`](super::TestTasks::drain) or an [`advance`](super::TestTasks::advance) did, in numbers of runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// The runs that began.
    pub started: usize,
    /// The runs that succeeded.
    pub succeeded: usize,
    /// The runs after which a task has failed for good.
    pub failed: usize,
    /// The runs that failed, and whose tasks are tried again later.
    pub retrying: usize,
    /// The runs whose tasks were cancelled.
    pub cancelled: usize,
    /// The runs that were interrupted, and whose tasks may not run again.
    pub interrupted: usize,
    /// The runs that went back to their queue without counting as an attempt.
    pub handed_back: usize,
    /// The runs whose results came too late: the store had already recovered their tasks.
    pub stale: usize,
}

/// What to drain. See [`drain_with`](super::TestTasks::drain_with).
#[derive(Clone, Debug)]
#[must_use]
pub struct Drain {
    pub(super) scheduled: bool,
    pub(super) limit: usize,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// Drains all due tasks, without a limit.
    pub fn new() -> Self {
        Self { scheduled: false, limit: usize::MAX }
    }

    /// Whether to run tasks that are due later, too. The clock moves to the time of each.
    pub fn scheduled(mut self, scheduled: bool) -> Self {
        self.scheduled = scheduled;
        self
    }

    /// The maximum number of runs that begin.
    pub fn limit(mut self, runs: usize) -> Self {
        self.limit = runs;
        self
    }
}

/// A task after a run of it.
#[derive(Clone, Debug)]
pub struct Ran {
    pub(super) record: TaskRecord,
}

impl Ran {
    /// The record of the task.
    #[must_use]
    pub fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// The id of the task.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.record.id
    }

    /// The status after the run. After a failed attempt that is tried again it is `Pending`.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        self.record.status
    }

    /// Whether the task succeeded.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.record.status == TaskStatus::Success
    }

    /// How the attempt ended.
    #[must_use]
    pub fn outcome(&self) -> Option<AttemptOutcome> {
        self.record.attempts.last().map(|attempt| attempt.outcome)
    }

    /// The error of the attempt.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.record.attempts.last().and_then(|attempt| attempt.error.as_deref())
    }

    /// The value that the task returned.
    ///
    /// # Panics
    /// If the task has not succeeded, or returned something else.
    #[must_use]
    #[track_caller]
    pub fn result<T: DeserializeOwned>(&self) -> T {
        result(&self.record)
    }
}

#[track_caller]
pub(super) fn result<T: DeserializeOwned>(record: &TaskRecord) -> T {
    let json = match (&record.result, record.status) {
        (Some(json), TaskStatus::Success) => json.get(),
        (None, TaskStatus::Success) => "null",
        _ => {
            let error = record.error.as_deref().unwrap_or("no error");
            panic!("`{}` has no result: it is {} ({error})", record.name, record.status)
        }
    };
    match serde_json::from_str(json) {
        Ok(value) => value,
        Err(error) => panic!("the result of `{}` is {json}, which does not decode: {error}", record.name),
    }
}
