//! The reasons why a task has no value.

use serde::{Deserialize, Serialize};

use super::{TaskId, TaskStatus};

/// Why [`wait`](crate::TaskHandle::wait) returned no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.describe())]
pub struct TaskFailure {
    id: TaskId,
    status: TaskStatus,
    kind: FailureKind,
    message: String,
}

/// The kind of a [`TaskFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The task ended without success. The [`message`](TaskFailure::message) is the error of its record.
    Ended,
    /// The task succeeded, but its value does not decode as the requested type. Request the type that the task returns.
    Undecodable,
    /// The task has ended, but its value or its error is sealed, and this process cannot open it: it lacks the key, or the
    /// value was changed. The [`message`](TaskFailure::message) says which.
    Sealed,
    /// The record was deleted or pruned before the outcome was read, so the outcome is not known. To keep records longer, use
    /// [`TaskManagerBuilder::retention`](crate::TaskManagerBuilder::retention).
    Gone,
    /// The manager was shut down, or its runtime ended, before the task ended. The task continues in another process, or when
    /// this program starts again.
    ShutDown,
}

impl TaskFailure {
    /// A failure with the last known status of the task.
    pub(crate) fn new(id: TaskId, status: TaskStatus, kind: FailureKind, message: impl Into<String>) -> Self {
        Self { id, status, kind, message: message.into() }
    }

    fn describe(&self) -> String {
        let Self { id, status, message, .. } = self;
        match self.kind {
            FailureKind::Ended | FailureKind::Undecodable | FailureKind::Sealed => {
                format!("task {id} is {status}: {message}")
            }
            FailureKind::Gone | FailureKind::ShutDown => {
                format!("the outcome of task {id} is not known (last seen {status}): {message}")
            }
        }
    }

    /// The id of the task.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Why there is no value.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The final status of the task. It is [`TaskStatus::Success`] if only its value cannot be decoded or opened. If the outcome
    /// is not known ([`FailureKind::Gone`], [`FailureKind::ShutDown`]), the last status that was seen, or `Pending` if none was.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        self.status
    }

    /// The error of the task, or why its value or its outcome is not available.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}
