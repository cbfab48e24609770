use std::sync::Arc;
use std::time::SystemTime;

use super::{Actor, AdminError, AuditEntry, AuditOutcome, Face, Permission};
use crate::manager::{TaskHandle, TaskManager};
use crate::model::{
    CancelOutcome, Error, InstanceInfo, NewTask, QueueConfig, QueueInfo, ScheduleInfo, TaskId, TaskInfo,
    TaskRecord, time,
};
use crate::seam::Seam;
use crate::task::IntoNewTask;

/// Acts of people and programs on tasks, queues and schedules. Each act checks the permission of its actor and writes an entry
/// into the audit log, also when it is refused or fails; an act on many tasks writes one when it begins and one when it ends.
/// The dashboard, the API and the command line are thin layers over it.
#[derive(Clone, Debug)]
pub struct Console {
    tasks: TaskManager,
}

/// An actor, and the face through which it acts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct By {
    /// The actor.
    pub actor: Actor,
    /// The face.
    pub via: Face,
    /// The address from which the request came.
    pub remote: Option<Arc<str>>,
    /// The reason that the actor gave.
    pub reason: Option<String>,
}

impl By {
    /// That actor through that face.
    #[must_use]
    pub fn new(actor: Actor, via: Face) -> Self {
        Self { actor, via, remote: None, reason: None }
    }

    /// With the reason that the actor gave; an empty one counts as none.
    #[must_use]
    pub fn reason(mut self, reason: Option<String>) -> Self {
        self.reason = reason.filter(|reason| !reason.trim().is_empty());
        self
    }
}

impl Console {
    /// A console of these tasks.
    #[must_use]
    pub fn new(tasks: &TaskManager) -> Self {
        Self { tasks: tasks.clone() }
    }

    /// The tasks.
    #[must_use]
    pub fn tasks(&self) -> &TaskManager {
        &self.tasks
    }

    pub(crate) fn seam(&self) -> &Seam {
        self.tasks.seam()
    }

    /// The present, to the microsecond: by the clock of the system, or of a test.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        time::whole_micros(self.seam().now())
    }

    /// An entry of the audit log: what this actor did now.
    pub(crate) fn entry(&self, by: &By, action: &str) -> AuditEntry {
        let mut entry = AuditEntry::at(self.now(), by.actor.name(), by.via, action);
        entry.remote = by.remote.as_ref().map(ToString::to_string);
        entry.reason.clone_from(&by.reason);
        entry
    }

    /// The record of a task that this actor may see.
    ///
    /// # Errors
    /// [`AdminError::NoTask`], also for a task of a queue that the actor may not see; and when the store fails.
    pub async fn task(&self, actor: &Actor, id: TaskId) -> Result<TaskRecord, AdminError> {
        let record = self.tasks.get(id).await?;
        record.filter(|record| actor.sees(record)).ok_or(AdminError::NoTask { id })
    }

    /// [Cancels](TaskManager::cancel) a task.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`], [`AdminError::NoTask`], and when the store fails.
    pub async fn cancel(&self, by: &By, id: TaskId) -> Result<CancelOutcome, AdminError> {
        let act = async {
            self.task(&by.actor, id).await?;
            match self.tasks.cancel(id).await? {
                CancelOutcome::NotFound => Err(AdminError::NoTask { id }),
                outcome => Ok(outcome),
            }
        };
        self.audited(by, Permission::Cancel, "cancel", &id.to_string(), None, act).await
    }

    /// [Retries](TaskManager::retry) a task.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`], [`AdminError::NoTask`], and the errors of [`TaskManager::retry`].
    pub async fn retry(&self, by: &By, id: TaskId) -> Result<(), AdminError> {
        let act = async {
            self.task(&by.actor, id).await?;
            Ok(self.tasks.retry(id).await?)
        };
        self.audited(by, Permission::Retry, "retry", &id.to_string(), None, act).await
    }

    /// [Deletes](TaskManager::delete) the record of an ended task.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`], [`AdminError::NoTask`], and the errors of [`TaskManager::delete`].
    pub async fn delete(&self, by: &By, id: TaskId) -> Result<(), AdminError> {
        let act = async {
            self.task(&by.actor, id).await?;
            Ok(self.tasks.delete(id).await?)
        };
        self.audited(by, Permission::DeleteOne, "delete", &id.to_string(), None, act).await
    }

    /// Adds a task by its name. Its [source](crate::model::TaskSource) is `manager`.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`], [`AdminError::NotFound`] for a queue that the actor may not see, and the errors
    /// of [`TaskManager::add`].
    pub async fn add(
        &self,
        by: &By,
        task: NewTask,
    ) -> Result<TaskHandle<<NewTask as IntoNewTask>::Value>, AdminError> {
        let (name, queue) = (task.name.to_string(), task.queue.to_string());
        let act = async {
            if !by.actor.sees_queue(&queue) {
                return Err(AdminError::NotFound { what: "queue", name: queue });
            }
            self.tasks.learn_queues().await?;
            let added = self.tasks.add_all([task]).await?;
            Ok(added.into_iter().next().expect("one handle for each task"))
        };
        self.audited(by, Permission::Add, "add", &name, None, act).await
    }

    /// Pauses a queue for all processes.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`], [`AdminError::NotFound`] for a queue that nobody knows or that the actor may not see,
    /// and when the store fails.
    pub async fn pause_queue(&self, by: &By, queue: &str) -> Result<(), AdminError> {
        let act = async {
            self.known_queue(&by.actor, queue).await?;
            Ok(self.tasks.pause_queue(queue).await?)
        };
        self.audited(by, Permission::Pause, "pause_queue", queue, None, act).await
    }

    /// Resumes a paused queue.
    ///
    /// # Errors
    /// As for [`pause_queue`](Self::pause_queue).
    pub async fn resume_queue(&self, by: &By, queue: &str) -> Result<(), AdminError> {
        let act = async {
            self.known_queue(&by.actor, queue).await?;
            Ok(self.tasks.resume_queue(queue).await?)
        };
        self.audited(by, Permission::Pause, "resume_queue", queue, None, act).await
    }

    /// Sets the limits of a queue for all processes.
    ///
    /// # Errors
    /// As for [`pause_queue`](Self::pause_queue), and the errors of [`TaskManager::set_queue`].
    pub async fn set_queue(&self, by: &By, queue: &str, config: QueueConfig) -> Result<(), AdminError> {
        let detail = serde_json::to_string(&config).ok();
        let act = async {
            self.known_queue(&by.actor, queue).await?;
            Ok(self.tasks.set_queue(queue, config).await?)
        };
        self.audited(by, Permission::SetLimits, "set_queue", queue, detail, act).await
    }

    /// [Changes](TaskManager::change_queue) the limits of a queue for all processes. A limit that `change` leaves alone keeps its
    /// value, even one that somebody else sets at the same time.
    ///
    /// # Errors
    /// As for [`set_queue`](Self::set_queue).
    pub async fn change_queue(
        &self,
        by: &By,
        queue: &str,
        change: impl Fn(QueueConfig) -> QueueConfig,
    ) -> Result<(), AdminError> {
        let known = self.known_queue(&by.actor, queue).await;
        let detail = match &known {
            Ok(info) => serde_json::to_string(&change(info.config())).ok(),
            Err(_) => None,
        };
        let act = async {
            known?;
            self.tasks.change_queue(queue, change).await?;
            Ok(())
        };
        self.audited(by, Permission::SetLimits, "set_queue", queue, detail, act).await
    }

    /// Removes the stored limits of a queue, so that those of the programs apply again.
    ///
    /// # Errors
    /// As for [`pause_queue`](Self::pause_queue).
    pub async fn reset_queue(&self, by: &By, queue: &str) -> Result<(), AdminError> {
        let act = async {
            self.known_queue(&by.actor, queue).await?;
            Ok(self.tasks.reset_queue(queue).await?)
        };
        self.audited(by, Permission::SetLimits, "reset_queue", queue, None, act).await
    }

    /// The schedules that this actor may see. An actor that is narrowed to some queues sees those whose tasks go to these queues.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn schedules(&self, actor: &Actor) -> Result<Vec<ScheduleInfo>, AdminError> {
        let mut schedules = self.tasks.schedules().await?;
        if !actor.sees_all_queues() {
            let is_seen = |queue: &String| actor.sees_queue(queue);
            schedules.retain(|schedule| schedule.queue.as_ref().is_some_and(is_seen));
        }
        Ok(schedules)
    }

    /// The live processes. Of the schedules that tick in them, an actor that is narrowed to some queues sees only those of
    /// these queues.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn instances(&self, actor: &Actor) -> Result<Vec<InstanceInfo>, AdminError> {
        let mut instances = self.tasks.instances().await?;
        if !actor.sees_all_queues() {
            let seen = self.schedules(actor).await?;
            for instance in &mut instances {
                instance.schedules.retain(|name| seen.iter().any(|schedule| schedule.name == *name));
            }
        }
        Ok(instances)
    }

    /// The tasks that live processes know, as far as this actor may see them: those of its queues.
    ///
    /// # Errors
    /// When the store fails or keeps no documents.
    pub async fn types(&self, actor: &Actor) -> Result<Vec<TaskInfo>, AdminError> {
        let mut known = self.tasks.tasks().await?;
        known.retain(|task| actor.sees_queue(&task.queue));
        Ok(known)
    }

    /// Refuses a schedule that the actor may not see, as if there were none.
    async fn seen_schedule(&self, actor: &Actor, name: &str) -> Result<(), AdminError> {
        if actor.sees_all_queues() || self.schedules(actor).await?.iter().any(|it| it.name == name) {
            return Ok(());
        }
        Err(AdminError::NotFound { what: "schedule", name: name.to_owned() })
    }

    /// Adds the task of a schedule now, and returns the id of the task.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`], [`AdminError::NotFound`] for a schedule that the actor may not see, and the errors of
    /// [`TaskManager::run_now`].
    pub async fn run_schedule(&self, by: &By, schedule: &str) -> Result<TaskId, AdminError> {
        let act = async {
            self.seen_schedule(&by.actor, schedule).await?;
            self.tasks.learn_queues().await?;
            Ok(self.tasks.run_now(schedule).await?.id())
        };
        self.audited(by, Permission::RunSchedule, "run_schedule", schedule, None, act).await
    }

    /// Pauses a schedule.
    ///
    /// # Errors
    /// As for [`run_schedule`](Self::run_schedule), but with the errors of [`TaskManager::pause_schedule`].
    pub async fn pause_schedule(&self, by: &By, schedule: &str) -> Result<(), AdminError> {
        let act = async {
            self.seen_schedule(&by.actor, schedule).await?;
            Ok(self.tasks.pause_schedule(schedule).await?)
        };
        self.audited(by, Permission::RunSchedule, "pause_schedule", schedule, None, act).await
    }

    /// Resumes a paused schedule.
    ///
    /// # Errors
    /// As for [`run_schedule`](Self::run_schedule), but with the errors of [`TaskManager::resume_schedule`].
    pub async fn resume_schedule(&self, by: &By, schedule: &str) -> Result<(), AdminError> {
        let act = async {
            self.seen_schedule(&by.actor, schedule).await?;
            Ok(self.tasks.resume_schedule(schedule).await?)
        };
        self.audited(by, Permission::RunSchedule, "resume_schedule", schedule, None, act).await
    }

    /// Removes a schedule that was added at run time.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`], [`AdminError::NotFound`], and the errors of [`TaskManager::remove_schedule`].
    pub async fn remove_schedule(&self, by: &By, schedule: &str) -> Result<(), AdminError> {
        let act = async {
            self.seen_schedule(&by.actor, schedule).await?;
            match self.tasks.remove_schedule(schedule).await? {
                true => Ok(()),
                false => Err(AdminError::NotFound { what: "schedule", name: schedule.to_owned() }),
            }
        };
        self.audited(by, Permission::Add, "remove_schedule", schedule, None, act).await
    }

    async fn known_queue(&self, actor: &Actor, queue: &str) -> Result<QueueInfo, AdminError> {
        let known = match actor.sees_queue(queue) {
            true => self.tasks.queues().await?.into_iter().find(|info| info.name == queue),
            false => None,
        };
        known.ok_or_else(|| AdminError::NotFound { what: "queue", name: queue.to_owned() })
    }

    /// Checks the permission, acts, and writes an entry into the audit log, also for a refusal or a failure.
    pub(crate) async fn audited<T>(
        &self,
        by: &By,
        permission: Permission,
        action: &str,
        target: &str,
        detail: Option<String>,
        act: impl Future<Output = Result<T, AdminError>>,
    ) -> Result<T, AdminError> {
        let answer = match by.actor.may(permission) {
            true => act.await,
            false => Err(AdminError::Forbidden { actor: by.actor.name().to_owned(), permission }),
        };
        let mut entry = self.entry(by, action);
        entry.target = Some(target.to_owned());
        match answer {
            Ok(answer) => {
                entry.detail = detail;
                self.record(entry).await;
                Ok(answer)
            }
            Err(error) => Err(self.refused(entry, error).await),
        }
    }

    /// Records an act that was refused or has failed, and returns its error.
    pub(super) async fn refused(&self, mut entry: AuditEntry, error: AdminError) -> AdminError {
        entry.outcome = outcome(&error);
        entry.detail = Some(error.to_string());
        self.record(entry).await;
        error
    }
}

/// Whether an error is a refusal or a failure.
fn outcome(error: &AdminError) -> AuditOutcome {
    match error {
        AdminError::Task(Error::Store(_)) => AuditOutcome::Failed,
        error if error.code() == "degraded" => AuditOutcome::Failed,
        _ => AuditOutcome::Refused,
    }
}
