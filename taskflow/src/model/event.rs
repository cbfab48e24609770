//! Events: changes of tasks, sent as they happen.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{TaskId, time};

/// A change of a task, made by this process. See [`TaskManager::subscribe`](crate::TaskManager::subscribe).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskEvent {
    /// When it happened.
    #[serde(with = "time::rfc3339_serde")]
    pub at: SystemTime,
    /// The id of the task.
    pub id: TaskId,
    /// The name of the task.
    pub name: Arc<str>,
    /// What happened.
    pub kind: TaskEventKind,
}

/// What happened to a task. The change has been stored before the event is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskEventKind {
    /// This process added it.
    Added,
    /// An attempt began.
    Started {
        /// The number of the attempt: 1 is the first.
        attempt: u32,
    },
    /// It ended with success.
    Succeeded,
    /// An attempt failed and another one follows.
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
    /// It asked to run later.
    Snoozed {
        /// How long until the next attempt.
        #[serde(with = "time::seconds")]
        delay: Duration,
    },
    /// A shutdown interrupted it, and it may not run twice.
    Interrupted,
    /// It went back to the queue; the attempt does not count.
    HandedBack,
    /// It was cancelled.
    Cancelled,
    /// A run was lost together with its process.
    Lost,
}

impl TaskEvent {
    /// An event that happened at that time.
    #[must_use]
    pub fn at(at: SystemTime, id: TaskId, name: Arc<str>, kind: TaskEventKind) -> Self {
        Self { at, id, name, kind }
    }
}
