//! Methods that cancel, retry and delete tasks.

use super::TaskManager;
use crate::engine::runs::StopReason;
use crate::model::{CancelOutcome, Error, TaskFilter, TaskId, TaskRecord, TaskStatus};
use crate::store::Reopen;

/// The statuses on which `cancel_all`, `retry_all` and `delete_all` can act.
const UNFINISHED: [TaskStatus; 2] = [TaskStatus::Pending, TaskStatus::Running];
const RETRYABLE: [TaskStatus; 4] =
    [TaskStatus::Failed, TaskStatus::Interrupted, TaskStatus::Cancelled, TaskStatus::Rejected];
const ENDED: [TaskStatus; 5] = [
    TaskStatus::Success,
    TaskStatus::Failed,
    TaskStatus::Interrupted,
    TaskStatus::Cancelled,
    TaskStatus::Rejected,
];

impl TaskManager {
    /// Cancels a task, in whichever process it runs. A pending task is cancelled at once and never runs. A running async task
    /// is dropped at its next await; if it checks for the request
    /// ([`TaskContext::cancelled`](crate::TaskContext::cancelled)), it first has
    /// [`cancel_grace`](crate::TaskManagerBuilder::cancel_grace) to clean up. A running synchronous task is only asked to stop:
    /// it must check for the request itself.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn cancel(&self, id: TaskId) -> Result<CancelOutcome, Error> {
        let outcomes = self.cancel_these(vec![id]).await?;
        Ok(outcomes.into_iter().next().unwrap_or(CancelOutcome::NotFound))
    }

    pub(crate) async fn cancel_these(&self, ids: Vec<TaskId>) -> Result<Vec<CancelOutcome>, Error> {
        let core = &self.0.core;
        let cancel = core.store.cancel(ids.clone(), "cancelled before it ran".to_owned());
        let outcomes = core.call("a cancel", cancel).await?;
        for (id, outcome) in ids.into_iter().zip(&outcomes) {
            match outcome {
                CancelOutcome::Requested => core.runs.ask_task(id, StopReason::Cancel),
                CancelOutcome::Cancelled => core.announce_cancelled(id).await,
                _ => {}
            }
        }
        Ok(outcomes)
    }

    /// Cancels the tasks with this run key that wait for their first attempt, and returns how many it cancelled.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn cancel_by_run_key(&self, run_key: impl Into<String>) -> Result<usize, Error> {
        let core = &self.0.core;
        let cancelled = core.call("a cancel", core.store.cancel_by_run_key(run_key.into())).await?;
        for id in &cancelled {
            core.announce_cancelled(*id).await;
        }
        Ok(cancelled.len())
    }

    /// Runs a failed, interrupted, cancelled or rejected task again. The task keeps its record and its past attempts, and gets
    /// as many new attempts as it had at first. An [`expires_at`](crate::AddTask::expires_at) in the past is removed; one in
    /// the future stays.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotRetryable`], [`Error::KeyTaken`], and when the store fails.
    pub async fn retry(&self, id: TaskId) -> Result<(), Error> {
        self.retry_these(Reopen::at_once([id]))
            .await?
            .into_iter()
            .next()
            .unwrap_or(Err(Error::NotFound { id }))
    }

    pub(crate) async fn retry_these(&self, tasks: Vec<Reopen>) -> Result<Vec<Result<(), Error>>, Error> {
        let core = &self.0.core;
        let answers = core.call("a retry", core.store.retry(tasks)).await?;
        if let Some(worker) = &self.0.worker {
            worker.may_have_work();
        }
        Ok(answers)
    }

    /// Cancels every unfinished task that matches the filter, and returns how many were cancelled or asked to stop.
    ///
    /// # Errors
    /// [`Error::EmptyFilter`] for a filter without a condition (use [`TaskFilter::all`] to mean all tasks), and when the
    /// store fails; tasks changed until then stay changed.
    pub async fn cancel_all(&self, filter: TaskFilter) -> Result<usize, Error> {
        let mut count = 0;
        let mut pages = Pages::of(self, filter, &UNFINISHED)?;
        while let Some(ids) = pages.next().await? {
            let outcomes = self.cancel_these(ids).await?;
            let acted =
                |it: &&CancelOutcome| matches!(it, CancelOutcome::Cancelled | CancelOutcome::Requested);
            count += outcomes.iter().filter(acted).count();
        }
        Ok(count)
    }

    /// [Retries](Self::retry) every task that matches the filter and can be retried, and returns how many it retried.
    ///
    /// # Errors
    /// As for [`cancel_all`](Self::cancel_all).
    pub async fn retry_all(&self, filter: TaskFilter) -> Result<usize, Error> {
        let mut count = 0;
        let mut pages = Pages::of(self, filter, &RETRYABLE)?;
        while let Some(ids) = pages.next().await? {
            count +=
                self.retry_these(Reopen::at_once(ids)).await?.iter().filter(|answer| answer.is_ok()).count();
        }
        Ok(count)
    }

    /// Deletes the record of a task that has ended, with its attempts, its log lines and its result.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotFinished`] for a pending or running task, and when the store fails.
    pub async fn delete(&self, id: TaskId) -> Result<(), Error> {
        let core = &self.0.core;
        let delete = || core.call("a delete", core.store.delete(vec![id]));
        if delete().await? == 1 {
            return Ok(());
        }
        match self.get(id).await? {
            Some(TaskRecord { status, .. }) if !status.is_final() => Err(Error::NotFinished { id, status }),
            // The task ended between the two calls.
            Some(_) if delete().await? == 1 => Ok(()),
            // The task never existed, or another call has deleted it.
            _ => Err(Error::NotFound { id }),
        }
    }

    #[cfg(feature = "api")]
    pub(crate) async fn delete_these(&self, ids: Vec<TaskId>) -> Result<usize, Error> {
        let core = &self.0.core;
        Ok(core.call("a delete", core.store.delete(ids)).await?)
    }

    /// Deletes the record of every ended task that matches the filter, and returns how many it deleted.
    ///
    /// # Errors
    /// As for [`cancel_all`](Self::cancel_all).
    pub async fn delete_all(&self, filter: TaskFilter) -> Result<usize, Error> {
        let core = &self.0.core;
        let mut count = 0;
        let mut pages = Pages::of(self, filter, &ENDED)?;
        while let Some(ids) = pages.next().await? {
            count += core.call("a delete", core.store.delete(ids)).await?;
        }
        Ok(count)
    }
}

/// The ids of the tasks that match a filter, in bounded batches. A changed task no longer matches the filter; the cursor
/// skips those that still do.
struct Pages<'a> {
    manager: &'a TaskManager,
    filter: Option<TaskFilter>,
}

impl<'a> Pages<'a> {
    fn of(manager: &'a TaskManager, mut filter: TaskFilter, statuses: &[TaskStatus]) -> Result<Self, Error> {
        if !filter.is_deliberate() {
            return Err(Error::EmptyFilter);
        }
        filter.limit = TaskFilter::DEFAULT_LIMIT;
        if filter.statuses.is_empty() {
            filter.statuses = statuses.to_vec();
        } else {
            filter.statuses.retain(|status| statuses.contains(status));
        }
        // The caller named only statuses to which the action does not apply: no task matches.
        let filter = if filter.statuses.is_empty() { None } else { Some(filter) };
        Ok(Self { manager, filter })
    }

    /// `None` after the last batch. An earlier batch may be empty.
    async fn next(&mut self) -> Result<Option<Vec<TaskId>>, Error> {
        let Some(filter) = self.filter.take() else { return Ok(None) };
        let page = self.manager.list_outlines(&filter).await?;
        self.filter = page.next.map(|next| filter.after(next));
        Ok(Some(page.items.iter().map(|record: &TaskRecord| record.id).collect()))
    }
}
