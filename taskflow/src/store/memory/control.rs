//! User requests: cancel, retry, delete, pause, prune.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::state::Tables;
use super::task::Stage;
use crate::model::{CancelOutcome, Error, QueueConfig, TaskId, time};
use crate::store::{Reopen, ReplaceArgs, Retention, transition};

impl Tables {
    pub(super) fn cancel(&mut self, ids: &[TaskId], reason: &str) -> Vec<CancelOutcome> {
        let now = self.now();
        let cancel_one = |id: &TaskId| self.decide(*id, now, |_, task| transition::cancel(task, reason));
        let answers = ids.iter().map(cancel_one).collect();
        self.trim();
        answers
    }

    pub(super) fn cancel_by_run_key(&mut self, run_key: &str) -> Vec<TaskId> {
        let now = self.now();
        let from: (Arc<str>, Arc<str>) = (Arc::from(run_key), Arc::from(""));
        let waiting = self.index.run_keys.range((Bound::Included(from), Bound::Unbounded));
        let with_key = waiting.take_while(|((key, _), _)| **key == *run_key);
        let mut ids: Vec<TaskId> = with_key.map(|(_, &id)| id).collect();
        ids.retain(|id| self.decide(*id, now, |_, task| transition::cancel_by_run_key(task)));
        self.trim();
        ids
    }

    pub(super) fn retry(&mut self, tasks: &[Reopen]) -> Vec<Result<(), Error>> {
        let now = self.now();
        tasks.iter().map(|task| self.retry_one(*task, now)).collect()
    }

    fn retry_one(&mut self, Reopen { id, delay }: Reopen, now: i64) -> Result<(), Error> {
        self.decide(id, now, |store, state| {
            let task = store.tasks.get(&id);
            let attempts = task.map_or(0, |task| task.policy.max_attempts());
            let key_holder = task.and_then(|task| store.index.key_holder(task));
            transition::retry(id, state, attempts, key_holder, delay, now)
        })
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

    pub(super) fn replace_args(&mut self, replacements: &[ReplaceArgs]) -> Vec<bool> {
        let replace = |it: &ReplaceArgs| {
            let task = self.tasks.get_mut(&it.id).filter(|task| task.args == it.from);
            task.map(|task| task.args = Arc::clone(&it.to)).is_some()
        };
        replacements.iter().map(replace).collect()
    }

    pub(super) fn set_paused(&mut self, queue: &str, paused: bool) {
        let queue = self.index.queue_or_new(queue);
        self.index.queues[queue].paused = paused;
    }

    pub(super) fn set_queue(&mut self, queue: &str, config: Option<QueueConfig>) {
        let queue = self.index.queue_or_new(queue);
        self.index.queues[queue].config = config;
    }

    pub(super) fn replace_queue(
        &mut self,
        queue: &str,
        from: Option<&QueueConfig>,
        to: Option<QueueConfig>,
    ) -> bool {
        let stored = self.index.queue(queue).and_then(|queue| self.index.queues[queue].config.as_ref());
        let is_so = stored == from;
        if is_so {
            self.set_queue(queue, to);
        }
        is_so
    }

    pub(super) fn prune(&mut self, retention: Retention, limit: usize) -> usize {
        let now = self.now();
        let until = |length: Duration| now.saturating_sub(time::micros(length));
        // Each call passes over the records that are kept for longer. The limit of the history also limits their number.
        let is_old = |at: i64, id: &TaskId| {
            self.tasks.get(id).is_some_and(|task| at <= until(retention.of(task.stage.status())))
        };
        let ended = self.index.ended.range(..=(until(retention.shortest()), u64::MAX));
        let old = ended.filter(|((at, _), id)| is_old(*at, id)).take(limit);
        let ids: Vec<TaskId> = old.map(|(_, &id)| id).collect();
        // A process that only adds tasks renews nothing, so the store does not know when it was last seen: keep it.
        let gone = until(retention.longest());
        self.instances.retain(|_, it| !it.info.runs || time::to_micros(it.info.seen_at) > gone);
        let documents = self.documents.prune(now, limit);
        self.delete(&ids).max(documents)
    }
}
