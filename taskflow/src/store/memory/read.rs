//! What can be asked about tasks, queues and processes.

use std::ops::Bound;

use super::state::State;
use super::task::{Stage, Task};
use crate::model::{Cursor, InstanceInfo, LogLine, Page, QueueInfo, TaskFilter, TaskId, TaskRecord, time};

impl State {
    pub(super) fn get(&self, id: TaskId) -> Option<TaskRecord> {
        self.tasks.get(&id).map(|task| self.record(task))
    }

    pub(super) fn logs(&self, id: TaskId) -> Option<Vec<LogLine>> {
        self.tasks.get(&id).map(|task| task.lines.clone())
    }

    pub(super) fn list(&self, filter: &TaskFilter) -> Page<TaskRecord> {
        let limit = filter.limit.clamp(1, TaskFilter::MAX_LIMIT);
        let end = filter.after.map_or(Bound::Unbounded, |cursor| Bound::Excluded(cursor.id()));
        let older = self.tasks.range((Bound::Unbounded, end)).rev().map(|(_, task)| task);
        let mut meant = older.filter(|task| self.is_meant(task, filter));
        let items: Vec<TaskRecord> = meant.by_ref().take(limit).map(|task| self.record(task)).collect();
        let more = meant.next().is_some();
        let next = items.last().filter(|_| more).map(|last| Cursor::after(last.id));
        Page::new(items, next)
    }

    pub(super) fn queues(&self) -> Vec<QueueInfo> {
        let there = self.index.queues.iter();
        let there = there.filter(|queue| queue.paused || queue.pending + queue.running + queue.finished > 0);
        let mut queues: Vec<QueueInfo> = there
            .map(|queue| QueueInfo {
                paused: queue.paused,
                pending: queue.pending,
                running: queue.running,
                finished: queue.finished,
                ..QueueInfo::new(queue.name.to_string())
            })
            .collect();
        queues.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        queues
    }

    pub(super) fn instances(&self) -> Vec<InstanceInfo> {
        let mut instances: Vec<InstanceInfo> = self.instances.values().map(|it| it.info.clone()).collect();
        instances.sort_unstable_by_key(|it| (it.started_at, it.id));
        for info in &mut instances {
            info.running = 0;
        }
        let runs = self.index.leases.values().filter_map(|id| match &self.tasks.get(id)?.stage {
            Stage::Running { lease, .. } => Some(lease.holder.id),
            _ => None,
        });
        for holder in runs {
            if let Some(info) = instances.iter_mut().find(|info| info.id == holder) {
                info.running += 1;
            }
        }
        instances
    }

    fn record(&self, task: &Task) -> TaskRecord {
        task.to_record(&self.index.lanes[task.lane].name, &self.index.queue_of(task).name)
    }

    /// [`TaskFilter::matches`] without making a record of every task that is looked at.
    fn is_meant(&self, task: &Task, filter: &TaskFilter) -> bool {
        let any = |words: &[String], word: &str| words.is_empty() || words.iter().any(|one| one == word);
        let created_at = time::from_micros(task.created_at);
        (filter.statuses.is_empty() || filter.statuses.contains(&task.stage.status()))
            && any(&filter.names, &self.index.lanes[task.lane].name)
            && any(&filter.queues, &self.index.queue_of(task).name)
            && filter.tags.iter().all(|(key, value)| task.tags.get(key) == Some(value))
            && filter.created_after.is_none_or(|at| created_at >= at)
            && filter.created_before.is_none_or(|at| created_at < at)
    }
}
