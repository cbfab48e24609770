//! Where in its life a task is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where in its life a task is.
///
/// `pending → running → success | failed | interrupted | cancelled`, and `rejected` for a task its full queue refused
/// but kept a record of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskStatus {
    /// Stored and not running: waiting for a slot, for its time, or for its next attempt.
    Pending,
    /// An attempt is under way under a lease.
    Running,
    /// It returned without an error.
    Success,
    /// Its last attempt failed, or it was found to kill the processes that run it.
    Failed,
    /// An attempt was cut short by a crash or a shutdown, and the task never said that it may run twice.
    Interrupted,
    /// Cancelled on request, or because the request that added it failed.
    Cancelled,
    /// Refused by its full queue, which is configured to keep such records.
    Rejected,
}

impl TaskStatus {
    /// Every status, in the order of a task's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Success,
        Self::Failed,
        Self::Interrupted,
        Self::Cancelled,
        Self::Rejected,
    ];

    /// Whether the task has ended. An ended task runs again only by [`retry`](crate::TaskManager::retry).
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// Whether a task of this status holds its idempotency key: pending, running and succeeded ones do.
    #[must_use]
    pub fn holds_key(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::Success)
    }

    /// The word used in JSON, logs and the dashboard.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A finer view of a status: what a pending task waits for. See [`TaskRecord::phase`](crate::TaskRecord::phase).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskPhase {
    /// Pending and due: it waits for a free slot.
    Waiting,
    /// Pending with its first attempt still in the future.
    Scheduled,
    /// Pending after a failed or lost attempt, until its next one is due.
    Retrying,
    /// Being run.
    Running,
    /// Being run for longer than its timeout: a synchronous task that was asked to stop and has not returned.
    Overrunning,
    /// It has ended; the status says how.
    Ended,
}

impl TaskPhase {
    /// Whether a task of this status can be in this phase.
    pub(crate) fn may_be(self, status: TaskStatus) -> bool {
        match self {
            Self::Waiting | Self::Scheduled | Self::Retrying => status == TaskStatus::Pending,
            Self::Running | Self::Overrunning => status == TaskStatus::Running,
            Self::Ended => status.is_final(),
        }
    }
}
