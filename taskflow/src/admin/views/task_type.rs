use serde::Serialize;

use super::RunNumbers;
use crate::model::{RunStats, TaskInfo};

/// A type of task, and what its tasks did lately.
#[derive(Debug, Serialize)]
pub struct TypeView {
    #[serde(flatten)]
    info: TaskInfo,
    /// What the tasks of this name did in the last 24 hours; `null` for an actor of some queues.
    last_day: Option<RunNumbers>,
}

impl TypeView {
    /// That type, with the statistics of its last 24 hours if they may be shown.
    #[must_use]
    pub fn of(info: TaskInfo, last_day: Option<&RunStats>) -> Self {
        Self { info, last_day: last_day.map(RunNumbers::of) }
    }
}
