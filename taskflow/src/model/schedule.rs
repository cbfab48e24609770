//! Schedules as they are shown.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{TaskId, time};

/// One schedule as [`TaskManager::schedules`](crate::TaskManager::schedules) shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScheduleInfo {
    /// Its name: that of its task, or what it was [named](crate::manager::AddSchedule::named).
    pub name: String,
    /// The task it adds; `None` for a schedule of another program's.
    pub task: Option<String>,
    /// `every 30s`, or the cron expression that ticks; `None` for one that neither this program nor the store knows.
    pub trigger: Option<String>,
    /// The zone whose clock counts; `None` is UTC.
    pub timezone: Option<String>,
    /// Whether it was added at run time, and not by an attribute.
    pub stored: bool,
    /// Whether it is paused: its ticks pass.
    pub paused: bool,
    /// Its next tick; `None` while it is paused.
    #[serde(with = "time::rfc3339_option")]
    pub next_run: Option<SystemTime>,
    /// The last tick that has been dealt with, by any process.
    #[serde(with = "time::rfc3339_option")]
    pub last_run: Option<SystemTime>,
    /// What became of that tick.
    pub last_outcome: Option<TickOutcome>,
    /// The task that the last tick added which added one.
    pub last_task: Option<TaskId>,
    /// How many ticks were left out, because they were missed or the run of an earlier one had not ended. Of the ticks that one
    /// absence of every process missed, at most 10,000 of a cron expression are counted.
    pub skipped: u64,
    /// The latest tick with which some were left out.
    #[serde(with = "time::rfc3339_option")]
    pub last_skipped: Option<SystemTime>,
}

impl ScheduleInfo {
    /// A schedule of which nothing is known but its name.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            name,
            task: None,
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
        }
    }
}

/// What became of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TickOutcome {
    /// Its task was added.
    Added,
    /// A task that was there already stood for it: its idempotency or run key was taken.
    Duplicate,
    /// The queue was full.
    Refused,
    /// It was left out: it had been missed, or the run of an earlier one had not ended.
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

    /// The outcome whose word this is.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}
