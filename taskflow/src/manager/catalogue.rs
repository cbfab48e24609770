//! The catalogue: the tasks of all live processes, merged.

use std::collections::BTreeMap;

use super::TaskManager;
use crate::engine::catalogue::{self, Catalogue};
use crate::model::{Error, TaskInfo};

impl TaskManager {
    /// The tasks that live processes run, by name: their options, parameters and documentation. A process that only
    /// [connects](crate::TaskManagerBuilder::connect) sees them too. While a new version is being deployed, processes may
    /// disagree about a task: [`differs`](TaskInfo::differs) says so.
    ///
    /// If a task waits and no entry has its name or alias, no running process can run it. A process is listed within a second
    /// of its start, and until the store notices its end.
    ///
    /// ```
    /// # async fn demo(tasks: taskflow::TaskManager) -> Result<(), taskflow::Error> {
    /// for task in tasks.tasks().await? {
    ///     println!("{} ({} processes): {}", task.name, task.known_by, task.summary.unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If the store keeps no documents ([`Store::documents`](crate::Store::documents)), the answer has only the tasks that this
    /// process runs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tasks(&self) -> Result<Vec<TaskInfo>, Error> {
        let live = catalogue::live(&self.0.core).await?;
        Ok(merged(live.catalogues.iter().map(|catalogue| &**catalogue)))
    }
}

/// Merges the tasks of these catalogues, which are ordered from the oldest process to the newest. The newest one counts.
fn merged<'a>(catalogues: impl Iterator<Item = &'a Catalogue>) -> Vec<TaskInfo> {
    let mut tasks: BTreeMap<&str, TaskInfo> = BTreeMap::new();
    for task in catalogues.flat_map(|catalogue| &catalogue.tasks) {
        let mut newest = TaskInfo { known_by: 1, differs: false, ..task.clone() };
        if let Some(older) = tasks.remove(&*task.name) {
            newest.differs = older.differs || TaskInfo { known_by: 1, ..older.clone() } != newest;
            newest.known_by = older.known_by + 1;
        }
        tasks.insert(&task.name, newest);
    }
    tasks.into_values().collect()
}
