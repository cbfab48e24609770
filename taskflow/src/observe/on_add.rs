//! Hooks on adds: code that sees, changes or refuses tasks before they are added.

use crate::model::{AddError, NewTask};

/// Sees each task before it is added, and may change or refuse it. Give it to
/// [`.on_add(..)`](crate::TaskManagerBuilder::on_add). A closure can be a hook too:
///
/// ```
/// use taskflow::{AddError, NewTask, QueueConfig, TaskManager};
///
/// let builder = TaskManager::builder()
///     .queue("slow", QueueConfig::new().concurrency(2))
///     .on_add(|task: &mut NewTask| {
///         task.tags.insert("region".into(), "eu".into());
///         if task.name == "report" {
///             task.queue = "slow".into();
///         }
///         if task.name.starts_with("legacy.") {
///             return Err(AddError::refused(format!("`{}` is switched off", task.name)));
///         }
///         Ok(())
///     });
/// # drop(builder);
/// ```
///
/// It is called for every add of this process: `add_task`, `add`, `add_all`, `within_*`, held and blocking adds, those of the
/// API, the dashboard and the command, and the ticks of schedules. Retries are not adds, and adds by SQL call no hook. The hooks
/// are called in the order in which the builder got them, and each sees the changes of those before it. The limits and the queue
/// are checked after them, as if the caller had given these options.
///
/// The add waits for the hook, and a batch calls it once for each task: keep it short, and do not block. It may be called for a
/// task that is not added in the end: a duplicate, a task for a full queue, or a tick that another process has fired.
///
/// If a hook refuses or panics, nothing of the call is stored, and the error goes to the caller. A refused tick of a schedule is
/// skipped and counted as such.
pub trait OnAdd: Send + Sync + 'static {
    /// Inspects, and may change, a task that is about to be added.
    ///
    /// # Errors
    /// To refuse the add: [`AddError::refused`].
    fn on_add(&self, task: &mut NewTask) -> Result<(), AddError>;
}

impl<F> OnAdd for F
where
    F: Fn(&mut NewTask) -> Result<(), AddError> + Send + Sync + 'static,
{
    fn on_add(&self, task: &mut NewTask) -> Result<(), AddError> {
        self(task)
    }
}
