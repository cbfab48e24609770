//! What people ask for: cancel, retry, delete, pause, prune.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::state::{State, now};
use super::task::Stage;
use crate::model::{CancelOutcome, Error, QueueConfig, TaskId, TaskStatus, time};
use crate::store::Retention;

impl State {
    pub(super) fn cancel(&mut self, ids: &[TaskId], reason: &str) -> Vec<CancelOutcome> {
        let now = now();
        let answers = ids.iter().map(|id| self.cancel_one(*id, reason, now)).collect();
        self.trim();
        answers
    }

    fn cancel_one(&mut self, id: TaskId, reason: &str, now: i64) -> CancelOutcome {
        let cancelled = self.change(id, now, |task| match &mut task.stage {
            Stage::Pending | Stage::Held(_) => {
                task.end(TaskStatus::Cancelled, Some(reason.to_owned()), now);
                CancelOutcome::Cancelled
            }
            Stage::Running { stop, .. } => {
                *stop = true;
                CancelOutcome::Requested
            }
            Stage::Ended { .. } => CancelOutcome::AlreadyFinished,
        });
        cancelled.unwrap_or(CancelOutcome::NotFound)
    }

    pub(super) fn cancel_by_run_key(&mut self, run_key: &str) -> Vec<TaskId> {
        let from: (Arc<str>, Arc<str>) = (Arc::from(run_key), Arc::from(""));
        let waiting = self.index.run_keys.range((Bound::Included(from), Bound::Unbounded));
        let with_key = waiting.take_while(|((key, _), _)| **key == *run_key);
        let ids: Vec<TaskId> = with_key.map(|(_, &id)| id).collect();
        self.cancel(&ids, "cancelled");
        ids
    }

    pub(super) fn retry(&mut self, ids: &[TaskId]) -> Vec<Result<(), Error>> {
        let now = now();
        ids.iter().map(|id| self.retry_one(*id, now)).collect()
    }

    fn retry_one(&mut self, id: TaskId, now: i64) -> Result<(), Error> {
        let task = self.tasks.get_mut(&id).ok_or(Error::NotFound { id })?;
        match task.stage {
            Stage::Ended { status, .. } if status != TaskStatus::Success => {}
            _ => return Err(Error::NotRetryable { id, status: task.stage.status() }),
        }
        if let Some(holder) = self.index.key_holder(task) {
            return Err(Error::KeyTaken { id, holder });
        }
        self.index.remove(task);
        task.stage = Stage::Pending;
        task.run_at = now;
        task.rare.expires_at = task.rare.expires_at.filter(|at| *at > now);
        task.max_attempts = task.attempt.saturating_add(task.policy.max_attempts());
        task.lost_runs = 0;
        task.rare.snoozes = 0;
        task.rare.error = None;
        task.rare.progress = None;
        self.index.add(task, now);
        Ok(())
    }

    pub(super) fn delete(&mut self, ids: &[TaskId]) -> usize {
        let mut deleted = 0;
        for id in ids {
            let ended = self.tasks.get(id).is_some_and(|task| matches!(task.stage, Stage::Ended { .. }));
            if ended && self.detach(*id).is_some() {
                deleted += 1;
            }
        }
        deleted
    }

    pub(super) fn set_paused(&mut self, queue: &str, paused: bool) {
        let queue = self.index.queue_or_new(queue);
        self.index.queues[queue].paused = paused;
    }

    pub(super) fn set_queue(&mut self, queue: &str, config: Option<QueueConfig>) {
        let queue = self.index.queue_or_new(queue);
        self.index.queues[queue].config = config;
    }

    pub(super) fn prune(&mut self, retention: Retention, limit: usize) -> usize {
        let now = now();
        let until = |length: Duration| now.saturating_sub(time::micros(length));
        // Records that are kept for longer are passed each time. The bound of the history bounds that, too.
        let is_old = |at: i64, id: &TaskId| {
            self.tasks.get(id).is_some_and(|task| at <= until(retention.of(task.stage.status())))
        };
        let ended = self.index.ended.range(..=(until(retention.shortest()), u64::MAX));
        let old = ended.filter(|((at, _), id)| is_old(*at, id)).take(limit);
        let ids: Vec<TaskId> = old.map(|(_, &id)| id).collect();
        // A process that only adds renews nothing, so nothing can be said of when it was last seen.
        let gone = until(retention.longest());
        self.instances.retain(|_, it| !it.info.runs || time::to_micros(it.info.seen_at) > gone);
        self.delete(&ids)
    }
}
