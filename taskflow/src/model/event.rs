//! Events: changes of tasks, sent as they happen.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{LogLevel, Tags, TaskId, time};

/// A change of a task, made by this process. See [`TaskManager::subscribe`](crate::TaskManager::subscribe) and
/// [`Observer`](crate::observe::Observer).
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
    /// Its queue. Empty if a recovery could not read the task's record.
    #[serde(default)]
    pub queue: Arc<str>,
    /// The number of the attempt that the event is about. 0 if the task has not begun to run, or if its record could not be read.
    #[serde(default)]
    pub attempt: u32,
    /// How long the attempt that ended with this event took. `None` if no attempt of this process ended.
    #[serde(default, with = "time::seconds_option")]
    pub duration: Option<Duration>,
    /// The tags of the task.
    #[serde(default)]
    pub tags: Tags,
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
    /// An add of this process was refused: by a hook, by a full queue, or because it was invalid. A refused
    /// [`add_all`](crate::TaskManager::add_all) sends one event, for the first task that was refused. An add that failed because
    /// the store did not answer sends none.
    Rejected {
        /// Why it was refused.
        error: String,
    },
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
    /// The task failed: no attempt follows.
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
    /// A shutdown, a lease that was not renewed in time, or the death of its process interrupted it, and it may not run twice.
    Interrupted,
    /// A shutdown interrupted the run, or a lease that could not be renewed, or a doubt whether other processes still see that
    /// this one is alive. The task went back to the queue, and the attempt does not count.
    HandedBack,
    /// It was cancelled.
    Cancelled,
    /// A run was [lost](crate::AttemptOutcome::Lost), and this process has recovered the task.
    Lost,
    /// It logged a line with [`TaskContext::log`](crate::TaskContext::log).
    Log {
        /// The severity of the line.
        level: LogLevel,
        /// The text of the line.
        message: String,
    },
}

/// The kind of an event, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "`TaskEventKind` documents them")]
pub enum EventKind {
    Added,
    Rejected,
    Started,
    Succeeded,
    Retrying,
    Failed,
    Snoozed,
    Interrupted,
    HandedBack,
    Cancelled,
    Lost,
    Log,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Added,
        Self::Rejected,
        Self::Started,
        Self::Succeeded,
        Self::Retrying,
        Self::Failed,
        Self::Snoozed,
        Self::Interrupted,
        Self::HandedBack,
        Self::Cancelled,
        Self::Lost,
        Self::Log,
    ];

    /// The word used in JSON, such as `handed_back`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Rejected => "rejected",
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Retrying => "retrying",
            Self::Failed => "failed",
            Self::Snoozed => "snoozed",
            Self::Interrupted => "interrupted",
            Self::HandedBack => "handed_back",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::Log => "log",
        }
    }

    /// The severity of an event of this kind: `Error` for a task that failed, `Warn` for a retry, a refused add, an
    /// interruption and a lost run, and `Info` for all others. (A log line has its own severity: see [`TaskEvent::level`].)
    #[must_use]
    pub const fn level(self) -> LogLevel {
        match self {
            Self::Failed => LogLevel::Error,
            Self::Rejected | Self::Retrying | Self::Interrupted | Self::Lost => LogLevel::Warn,
            _ => LogLevel::Info,
        }
    }

    pub(crate) const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl TaskEventKind {
    /// The kind without its details.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Added => EventKind::Added,
            Self::Rejected { .. } => EventKind::Rejected,
            Self::Started { .. } => EventKind::Started,
            Self::Succeeded => EventKind::Succeeded,
            Self::Retrying { .. } => EventKind::Retrying,
            Self::Failed { .. } => EventKind::Failed,
            Self::Snoozed { .. } => EventKind::Snoozed,
            Self::Interrupted => EventKind::Interrupted,
            Self::HandedBack => EventKind::HandedBack,
            Self::Cancelled => EventKind::Cancelled,
            Self::Lost => EventKind::Lost,
            Self::Log { .. } => EventKind::Log,
        }
    }
}

impl TaskEvent {
    /// An event that happened at that time. The other fields are empty; set them as needed (they are public).
    #[must_use]
    pub fn at(at: SystemTime, id: TaskId, name: Arc<str>, kind: TaskEventKind) -> Self {
        Self { at, id, name, queue: Arc::default(), attempt: 0, duration: None, tags: Tags::default(), kind }
    }

    /// The severity of the event: the severity of the line if it is a log line, else that of its [kind](EventKind::level).
    #[must_use]
    pub fn level(&self) -> LogLevel {
        match &self.kind {
            TaskEventKind::Log { level, .. } => *level,
            kind => kind.kind().level(),
        }
    }

    /// The error of a refused add, a retry or a failed task; `None` for every other event.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        match &self.kind {
            TaskEventKind::Rejected { error }
            | TaskEventKind::Retrying { error, .. }
            | TaskEventKind::Failed { error } => Some(error),
            _ => None,
        }
    }
}
