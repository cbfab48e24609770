//! What happens to tasks, as it happens.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{TaskId, time};

/// Something that happened to a task in this process. See [`TaskManager::subscribe`](crate::TaskManager::subscribe).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskEvent {
    /// When.
    #[serde(with = "time::rfc3339_serde")]
    pub at: SystemTime,
    /// To which task.
    pub id: TaskId,
    /// The task's name.
    pub name: Arc<str>,
    /// What.
    pub kind: TaskEventKind,
}

/// What happened to a task. All of it is in the store by the time the event is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskEventKind {
    /// It was added by this process.
    Added,
    /// An attempt began.
    Started {
        /// Which one: 1 is the first.
        attempt: u32,
    },
    /// It ended well.
    Succeeded,
    /// An attempt failed and another will follow.
    Retrying {
        /// What went wrong.
        error: String,
        /// How long until the next attempt.
        #[serde(with = "time::seconds")]
        delay: Duration,
    },
    /// Its last attempt failed.
    Failed {
        /// What went wrong.
        error: String,
    },
    /// It asked to be run later.
    Snoozed {
        /// How much later.
        #[serde(with = "time::seconds")]
        delay: Duration,
    },
    /// A shutdown cut it short and it must not run twice.
    Interrupted,
    /// It went back to the queue, uncounted.
    HandedBack,
    /// It was cancelled.
    Cancelled,
    /// A run of it was lost with its process.
    Lost,
}

impl TaskEvent {
    /// An event of this moment.
    #[must_use]
    pub fn now(id: TaskId, name: Arc<str>, kind: TaskEventKind) -> Self {
        Self { at: SystemTime::now(), id, name, kind }
    }
}
