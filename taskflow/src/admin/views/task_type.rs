use serde::Serialize;

use super::RunNumbers;
use crate::model::{RunStats, TaskInfo};

/// A type of task, and what its tasks did lately.
#[derive(Debug, Serialize)]
pub struct TypeView {
    #[serde(flatten)]
    info: TaskInfo,
    /// What the tasks of this name did in the last 24 hours; `null` if the actor does not see all queues.
    last_day: Option<RunNumbers>,
}

impl TypeView {
    /// The view of this type, with its statistics of the last 24 hours if the actor may see them.
    #[must_use]
    pub fn of(info: TaskInfo, last_day: Option<&RunStats>) -> Self {
        Self { info, last_day: last_day.map(RunNumbers::of) }
    }
}
