//! The updates that a watch of one task yields.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{LogLine, Progress, TaskStatus, sealed, time};

/// One update from a [watch](crate::TaskManager::watch) of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskUpdate {
    /// Its status: once when the watch begins, and then whenever a field of the [`StatusUpdate`] changes. A status that lasts
    /// only a moment may be left out. A final status is the last update.
    Status(StatusUpdate),
    /// The progress that the task last reported.
    Progress(Progress),
    /// A line that the task logged. Each line comes once and in order, including the lines from before the watch.
    Log(LogLine),
    /// The store could not be read. The watch keeps trying; this update comes only once until a read succeeds.
    Unavailable {
        /// Why.
        error: String,
    },
    /// There is no such task, or its record has been deleted or pruned. This is the last update.
    Gone,
}

/// The status of a watched task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatusUpdate {
    /// Its status.
    pub status: TaskStatus,
    /// The number of its current or last counted attempt; 0 before the first.
    pub attempt: u32,
    /// When its next attempt is due, or its last one was.
    #[serde(with = "time::rfc3339_serde")]
    pub run_at: SystemTime,
    /// Whether the running attempt has been asked to stop.
    pub cancel_requested: bool,
    /// Why its last attempt failed, or why the task ended; `sealed with key ..` for an error that is sealed.
    pub error: Option<String>,
}

impl StatusUpdate {
    /// The status in this record.
    #[must_use]
    pub fn of(record: &super::TaskRecord) -> Self {
        Self {
            status: record.status,
            attempt: record.attempt,
            run_at: record.run_at,
            cancel_requested: record.cancel_requested,
            error: record.error.as_deref().map(|error| sealed::shown(error).into_owned()),
        }
    }
}
