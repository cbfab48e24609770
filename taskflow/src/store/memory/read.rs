//! Reads of tasks, queues and processes.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::index::{Queue, ReadyList};
use super::state::Tables;
use super::task::{Detail, Stage, Task};
use crate::model::{
    Cursor, InstanceInfo, LimitsFrom, LogLine, Order, Page, QueueInfo, TaskFilter, TaskId, TaskRecord, time,
};
use crate::store::{QueueState, TaskEnd};

impl Tables {
    pub(super) fn get(&self, id: TaskId) -> Option<TaskRecord> {
        self.tasks.get(&id).map(|task| self.record(task))
    }

    pub(super) fn ends(&self, ids: &[TaskId]) -> Vec<TaskEnd> {
        let end = |task: &Task| {
            TaskEnd::of(task.stage.status(), task.result.as_deref().map(Arc::from), task.rare.error.clone())
        };
        ids.iter().map(|id| self.tasks.get(id).map_or(TaskEnd::Gone, |task| end(task))).collect()
    }

    pub(super) fn logs(&self, id: TaskId) -> Option<Vec<LogLine>> {
        self.tasks.get(&id).map(|task| task.rare.lines.clone())
    }

    pub(super) fn list(&self, filter: &TaskFilter, detail: Detail) -> Page<TaskRecord> {
        let limit = filter.limit.clamp(1, TaskFilter::MAX_LIMIT);
        let start = filter.after.map_or(Bound::Unbounded, |cursor| Bound::Excluded(cursor.id()));
        match filter.order {
            Order::Newest => {
                self.page(self.tasks.range((Bound::Unbounded, start)).rev(), limit, filter, detail)
            }
            Order::Oldest => self.page(self.tasks.range((start, Bound::Unbounded)), limit, filter, detail),
        }
    }

    /// The page of the matching tasks among `tasks`.
    fn page<'a>(
        &self,
        tasks: impl Iterator<Item = (&'a TaskId, &'a Box<Task>)>,
        limit: usize,
        filter: &TaskFilter,
        detail: Detail,
    ) -> Page<TaskRecord> {
        let mut items: Vec<TaskRecord> = Vec::new();
        let mut last = None;
        for (looked_at, (_, task)) in tasks.enumerate() {
            if looked_at == TaskFilter::MAX_LOOKED_AT {
                return Page::new(items, last.map(Cursor::after));
            }
            if self.matches(task, filter) {
                if items.len() == limit {
                    return Page::new(items, last.map(Cursor::after));
                }
                items.push(self.record_in(task, detail));
            }
            last = Some(task.id);
        }
        Page::new(items, None)
    }

    pub(super) fn queues(&self) -> Vec<QueueInfo> {
        let now = self.now();
        let in_it = |queue: &Queue| queue.pending + queue.running + queue.finished + queue.rejected;
        let there = self.index.queues.iter();
        let there = there.filter(|queue| queue.paused || queue.config.is_some() || in_it(queue) > 0);
        let mut queues: Vec<QueueInfo> = there.map(|queue| self.queue_info(queue, now)).collect();
        let minute_ago = (now.saturating_sub(60_000_000), 0);
        let lately = self.index.ended.range(minute_ago..).take(QueueInfo::MAX_COUNTED as usize);
        for task in lately.filter_map(|(_, id)| self.tasks.get(id)) {
            let name = &self.index.queue_of(task).name;
            if let Some(info) = queues.iter_mut().find(|info| *info.name == **name) {
                info.finished_last_minute += 1;
            }
        }
        queues.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        queues
    }

    fn queue_info(&self, queue: &Queue, now: i64) -> QueueInfo {
        let ready_lists =
            || queue.ready_lists.values().map(|ready_list| &self.index.ready_lists[*ready_list]);
        let waiting_since = |id| self.tasks.get(&id).map(|task| task.run_at.max(task.created_at));
        let oldest = ready_lists().flat_map(ReadyList::oldest).filter_map(waiting_since).min();
        let mut info = QueueInfo {
            paused: queue.paused,
            pending: queue.pending,
            scheduled: ready_lists().map(|ready_list| ready_list.scheduled(now) as u64).sum(),
            running: queue.running,
            finished: queue.finished,
            rejected: queue.rejected,
            oldest_waiting: oldest.map(|at| Duration::from_micros(now.saturating_sub(at).unsigned_abs())),
            ..QueueInfo::new(queue.name.to_string())
        };
        if let Some(config) = &queue.config {
            info.show_limits(config, LimitsFrom::Store);
        }
        info
    }

    pub(super) fn queue_states(&self) -> Vec<QueueState> {
        let asked = self.index.queues.iter().filter(|queue| queue.paused || queue.config.is_some());
        let mut states: Vec<_> = asked
            .map(|queue| QueueState::new(queue.name.to_string(), queue.paused, queue.config.clone()))
            .collect();
        states.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        states
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
        self.record_in(task, Detail::Whole)
    }

    fn record_in(&self, task: &Task, detail: Detail) -> TaskRecord {
        task.to_record(&self.index.ready_lists[task.ready_list].name, &self.index.queue_of(task).name, detail)
    }

    /// [`TaskFilter::matches_base`] without building a record for every examined task.
    fn matches(&self, task: &Task, filter: &TaskFilter) -> bool {
        let any = |words: &[String], word: &str| words.is_empty() || words.iter().any(|one| one == word);
        let created_at = time::from_micros(task.created_at);
        (filter.statuses.is_empty() || filter.statuses.contains(&task.stage.status()))
            && any(&filter.names, &self.index.ready_lists[task.ready_list].name)
            && any(&filter.queues, &self.index.queue_of(task).name)
            && filter.tags.iter().all(|(key, value)| task.rare.tags.get(key) == Some(value))
            && filter.created_after.is_none_or(|at| created_at >= at)
            && filter.created_before.is_none_or(|at| created_at < at)
    }
}
