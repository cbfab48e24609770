//! What a watch of one task tells.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{LogLine, Progress, TaskStatus, sealed, time};

/// One thing that a [watch](crate::TaskManager::watch) of a task tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskUpdate {
    /// Its status, first as the watch begins and then whenever this has changed. A status that lasts only a moment may be
    /// left out. A final status is the last update of all.
    Status(StatusUpdate),
    /// The progress that it last reported.
    Progress(Progress),
    /// A line that it logged. Each line comes once and in order, those from before the watch included.
    Log(LogLine),
    /// The store could not be read. The watch goes on and reads again; this comes once until a read succeeds.
    Unavailable {
        /// Why.
        error: String,
    },
    /// There is no such task, or its record has been deleted. It is the last update.
    Gone,
}

/// The status of a task that is watched.
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
