//! The end of a task, as a caller that waits for it reads it.

use std::sync::Arc;

use crate::model::TaskStatus;

/// Where a task is, for a caller that waits for its end. See [`Store::ends`](super::Store::ends).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskEnd {
    /// There is no record of it.
    Gone,
    /// It has not ended.
    Open(TaskStatus),
    /// It has ended.
    Ended {
        /// How it ended.
        status: TaskStatus,
        /// What it returned, as JSON; `None` unless it succeeded.
        result: Option<Arc<str>>,
        /// The error of its record.
        error: Option<String>,
    },
}

impl TaskEnd {
    /// The answer for a task of that status. `result` and `error` are kept only if the status is final.
    #[must_use]
    pub fn of(status: TaskStatus, result: Option<Arc<str>>, error: Option<String>) -> Self {
        if status.is_final() { Self::Ended { status, result, error } } else { Self::Open(status) }
    }
}
