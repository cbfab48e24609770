//! The state of a task, as a caller that waits for its end reads it.

use std::sync::Arc;

use crate::model::TaskStatus;

/// The state of a task, for a caller that waits for its end. See [`Store::ends`](super::Store::ends).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskEnd {
    /// There is no record of the task.
    Gone,
    /// The task has not ended; it has this status.
    Open(TaskStatus),
    /// The task has ended.
    Ended {
        /// Its final status.
        status: TaskStatus,
        /// The result that it returned, as JSON; `None` unless it succeeded.
        result: Option<Arc<str>>,
        /// The error in its record.
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
