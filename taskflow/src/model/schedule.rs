//! Schedules as the API shows them.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{TaskId, time};

/// One schedule as [`TaskManager::schedules`](crate::TaskManager::schedules) shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScheduleInfo {
    /// Its name: the name of its task, or the one given with [`named`](crate::manager::AddSchedule::named).
    pub name: String,
    /// The task that it adds; `None` if neither a running program nor the store knows it.
    pub task: Option<String>,
    /// The queue to which it adds; `None` if neither a running program nor the store knows it, or if the declared and the stored
    /// schedule of this name add to different queues.
    pub queue: Option<String>,
    /// When it ticks: `every 30s`, or a cron expression. `None` if neither a running program nor the store knows it.
    pub trigger: Option<String>,
    /// The IANA name of its time zone; `None` is UTC.
    pub timezone: Option<String>,
    /// Whether it was added at run time, not by an attribute.
    pub stored: bool,
    /// Whether it is paused. Its ticks pass without adding a task.
    pub paused: bool,
    /// Its next tick; `None` while it is paused, or if no running program ticks it.
    #[serde(with = "time::rfc3339_option")]
    pub next_run: Option<SystemTime>,
    /// The last tick that any process has handled.
    #[serde(with = "time::rfc3339_option")]
    pub last_run: Option<SystemTime>,
    /// The outcome of that tick.
    pub last_outcome: Option<TickOutcome>,
    /// The most recent task that a tick added.
    pub last_task: Option<TaskId>,
    /// The number of skipped ticks: ticks that were missed, that came while the run of an earlier tick had not ended, or whose
    /// task was refused for another reason than a full queue. For a cron expression, at most 10,000 missed ticks are counted
    /// for each time that no process ran.
    pub skipped: u64,
    /// The latest handled tick that was skipped, or that directly followed skipped ticks.
    #[serde(with = "time::rfc3339_option")]
    pub last_skipped: Option<SystemTime>,
    /// The id of the key with which its arguments are sealed; `None` if it has no stored arguments, or they are not sealed.
    pub sealed_with: Option<String>,
}

impl ScheduleInfo {
    /// A schedule with this name and no other information.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            name,
            task: None,
            queue: None,
            trigger: None,
            timezone: None,
            stored: false,
            paused: false,
            next_run: None,
            last_run: None,
            last_outcome: None,
            last_task: None,
            skipped: 0,
            last_skipped: None,
            sealed_with: None,
        }
    }
}

/// The outcome of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TickOutcome {
    /// The tick added its task.
    Added,
    /// An existing task with the same idempotency or run key was used instead.
    Duplicate,
    /// The queue was full and refused the task.
    Refused,
    /// The tick was missed, came while the run of an earlier tick had not ended, or its task was refused before it was stored.
    Skipped,
    /// The schedule was paused.
    Paused,
}

impl TickOutcome {
    const ALL: [Self; 5] = [Self::Added, Self::Duplicate, Self::Refused, Self::Skipped, Self::Paused];

    /// The word used in JSON and stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
            Self::Skipped => "skipped",
            Self::Paused => "paused",
        }
    }

    /// The outcome with this word; `None` for an unknown word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}
