//! Opens the sealed (encrypted) parts of one task for a person, and seals stored arguments anew. The audit log gets an entry.

#[cfg(feature = "encryption")]
use super::grammar::pairs;
use super::{AdminError, By, Console, Permission};
#[cfg(feature = "encryption")]
use crate::crypt::Rewrapped;
#[cfg(feature = "encryption")]
use crate::model::TaskFilter;
use crate::model::{LogLine, TaskId, TaskRecord};

/// A task with its sealed parts opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The record.
    pub record: TaskRecord,
    /// Its log lines, if the actor may see them.
    pub lines: Vec<LogLine>,
}

impl Console {
    /// Opens the sealed parts of a task: arguments, result, errors and log lines. Needs
    /// [`Permission::ViewSecrets`], and keys in this process. The audit log says who opened which task.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`], [`AdminError::NoTask`], [`AdminError::Sealed`] when this process lacks a key or a part was
    /// changed. Also when the store fails.
    pub async fn open(&self, by: &By, id: TaskId) -> Result<Opened, AdminError> {
        let act = async {
            let record = self.task(&by.actor, id).await?;
            let may_logs = by.actor.may(Permission::ViewLogs);
            let lines = if may_logs { self.tasks().logs(id).await?.unwrap_or_default() } else { Vec::new() };
            self.opened(&record, lines)
        };
        self.audited(by, Permission::ViewSecrets, "open", &id.to_string(), None, act).await
    }

    /// [Seals](crate::TaskManager::rewrap) the arguments of matching tasks with the current key. `with_schedules` also seals
    /// those of all [schedules](crate::TaskManager::rewrap_schedules), if the actor sees all queues. Needs
    /// [`Permission::ViewSecrets`].
    ///
    /// # Errors
    /// [`AdminError::Forbidden`]. Also when this process has no keys, and when the store fails.
    #[cfg(feature = "encryption")]
    pub async fn rewrap(
        &self,
        by: &By,
        tasks: TaskFilter,
        with_schedules: bool,
    ) -> Result<Rewrapped, AdminError> {
        let words: Vec<_> =
            pairs(&tasks).into_iter().map(|(word, value)| format!("{word}:{value}")).collect();
        let act = async {
            let mut done = self.tasks().rewrap(by.actor.narrow(tasks)).await?;
            if with_schedules && by.actor.sees_all_queues() {
                done += self.tasks().rewrap_schedules().await?;
            }
            Ok(done)
        };
        let target = if words.is_empty() { "all tasks".to_owned() } else { words.join(" ") };
        self.audited(by, Permission::ViewSecrets, "rewrap", &target, None, act).await
    }

    /// Whether this process has keys.
    #[cfg(feature = "dashboard")]
    pub(crate) fn can_open(&self) -> bool {
        #[cfg(feature = "encryption")]
        let can = self.tasks().has_keys();
        #[cfg(not(feature = "encryption"))]
        let can = false;
        can
    }

    #[cfg(feature = "encryption")]
    fn opened(&self, record: &TaskRecord, lines: Vec<LogLine>) -> Result<Opened, AdminError> {
        let refused = |error: crate::crypt::OpenError| AdminError::Sealed { message: error.to_string() };
        let lines = self.tasks().open_logs(record, lines).map_err(refused)?;
        Ok(Opened { record: self.tasks().open(record).map_err(refused)?, lines })
    }

    #[cfg(not(feature = "encryption"))]
    fn opened(&self, record: &TaskRecord, lines: Vec<LogLine>) -> Result<Opened, AdminError> {
        let is_sealed = |line: &LogLine| crate::model::sealed::is_sealed(&line.message);
        if record.sealed_with().is_some() || lines.iter().any(is_sealed) {
            let message = "this program was built without the feature `encryption`".to_owned();
            return Err(AdminError::Sealed { message });
        }
        Ok(Opened { record: record.clone(), lines })
    }
}
