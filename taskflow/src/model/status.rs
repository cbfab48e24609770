//! The status of a task, and the phases within it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The status of a task.
///
/// `pending → running → success | failed | interrupted | cancelled`. A task that a full queue refused is `rejected`, if the
/// queue is configured to keep such records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskStatus {
    /// Stored and not running: it waits for a slot, for its due time, for its next attempt, for room in the limits of its queue,
    /// for the end of a pause, or for the release of its [hold](crate::manager::Hold).
    Pending,
    /// An attempt is running under a lease.
    Running,
    /// The task returned without an error.
    Success,
    /// Its last attempt failed, or too many runs in a row were [lost](crate::AttemptOutcome::Lost) (poison).
    Failed,
    /// A crash, a shutdown or a lease that was not renewed in time interrupted an attempt, and the task may not run twice.
    Interrupted,
    /// A cancel request or its expiry ended it, or its [hold](crate::manager::Hold) was cancelled, which also happens when the
    /// web request that added it fails.
    Cancelled,
    /// Its full queue refused it, and the queue is configured with
    /// [`record_rejected`](crate::QueueConfig::record_rejected).
    Rejected,
}

impl TaskStatus {
    /// Every status, from `Pending` to the final ones.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Success,
        Self::Failed,
        Self::Interrupted,
        Self::Cancelled,
        Self::Rejected,
    ];

    /// Whether the task has ended. Only [`retry`](crate::TaskManager::retry) makes an ended task run again.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// Whether a task with this status holds its idempotency key: pending, running and succeeded tasks do.
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

/// A finer view of a status, such as what a pending task waits for. See [`TaskRecord::phase`](crate::TaskRecord::phase).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskPhase {
    /// Pending and due: the task waits for a free slot, for room in the limits of its queue, for the end of a pause, or for the
    /// release of its [hold](crate::manager::Hold).
    Waiting,
    /// Pending, and the first attempt is not due yet. A first attempt that snoozed does not count, so it is due again later.
    Scheduled,
    /// Pending after a failed or lost attempt, until the next attempt is due.
    Retrying,
    /// An attempt is running.
    Running,
    /// An attempt runs longer than its timeout, for example that of a synchronous task that was asked to stop and has not
    /// returned.
    Overrunning,
    /// The task has ended; the status says how.
    Ended,
}

impl TaskPhase {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Scheduled => "scheduled",
            Self::Retrying => "retrying",
            Self::Running => "running",
            Self::Overrunning => "overrunning",
            Self::Ended => "ended",
        }
    }

    /// Whether a task with this status can be in this phase.
    pub(crate) fn may_be(self, status: TaskStatus) -> bool {
        match self {
            Self::Waiting | Self::Scheduled | Self::Retrying => status == TaskStatus::Pending,
            Self::Running | Self::Overrunning => status == TaskStatus::Running,
            Self::Ended => status.is_final(),
        }
    }
}
