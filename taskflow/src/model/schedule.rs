//! Schedules as they are shown.

use std::time::SystemTime;

use serde::Serialize;

use super::time;

/// One schedule as [`TaskManager::schedules`](crate::TaskManager::schedules) shows it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ScheduleInfo {
    /// Its name, which is that of its task.
    pub name: String,
    /// `every 30s`, or the cron expression; `None` for one that this program does not know.
    pub trigger: Option<String>,
    /// The zone whose clock counts; `None` is UTC.
    pub timezone: Option<String>,
    /// Its next tick.
    #[serde(with = "time::rfc3339_option")]
    pub next_run: Option<SystemTime>,
    /// The last tick that has been dealt with, by any process.
    #[serde(with = "time::rfc3339_option")]
    pub last_run: Option<SystemTime>,
}

impl ScheduleInfo {
    /// A schedule of which nothing is known but its name.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, trigger: None, timezone: None, next_run: None, last_run: None }
    }
}
