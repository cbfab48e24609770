use serde::{Deserialize, Serialize};

use crate::engine::catalogue::Catalogue;
use crate::model::{Error, TaskInfo};
use crate::task::Registry;

/// The tasks and schedules of a program, as [`check`](super::check) prints them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Inventory {
    /// The version of taskflow that the program is built with.
    pub taskflow: String,
    /// Its tasks by name.
    pub tasks: Vec<TaskInfo>,
    /// Its schedules by name.
    #[serde(default)]
    pub schedules: Vec<ScheduleEntry>,
}

/// A schedule that a program declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScheduleEntry {
    /// Its name, which is that of its task.
    pub name: String,
    /// When it ticks: `every 30s`, or a cron expression.
    pub trigger: String,
    /// The IANA name of its time zone; `None` is UTC.
    pub timezone: Option<String>,
}

impl Inventory {
    /// The tasks and schedules that are linked into this program.
    ///
    /// # Errors
    /// [`Error::DuplicateTask`] if two tasks have the same name or alias.
    pub fn of_this_program() -> Result<Self, Error> {
        let tasks = Registry::collect()?.tasks();
        let ticking: Vec<_> = tasks.iter().copied().filter(|task| task.schedule().is_some()).collect();
        let catalogue = Catalogue::new(&tasks, Default::default(), &ticking);
        let schedules = catalogue.schedules.into_iter();
        Ok(Self {
            taskflow: env!("CARGO_PKG_VERSION").to_owned(),
            tasks: catalogue.tasks,
            schedules: schedules
                .map(|it| ScheduleEntry { name: it.name, trigger: it.trigger, timezone: it.timezone })
                .collect(),
        })
    }
}
