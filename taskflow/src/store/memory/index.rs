//! Every way of finding tasks other than by id, and every number of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::task::{Stage, Task};
use crate::model::{Counts, RetryPolicy, TaskId, TaskStatus};

/// An instant or a priority, then the age: the order of an index.
type Place<T> = (T, u64);

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) queues: Vec<Queue>,
    pub(super) lanes: Vec<Lane>,
    queue_numbers: HashMap<Arc<str>, usize>,
    /// Who holds an idempotency key: name and key.
    pub(super) keys: HashMap<(Arc<str>, Arc<str>), TaskId>,
    /// Who waits for its first attempt with a run key: key and name.
    pub(super) run_keys: BTreeMap<(Arc<str>, Arc<str>), TaskId>,
    /// Runs and holds by the end of their lease.
    pub(super) leases: BTreeMap<Place<i64>, TaskId>,
    /// Runs that were asked to stop.
    pub(super) stopping: BTreeSet<TaskId>,
    /// Ended tasks by when they ended.
    pub(super) ended: BTreeMap<Place<i64>, TaskId>,
    pub(super) counts: Counts,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Arc<str>,
    pub(super) paused: bool,
    /// By the name of their tasks.
    pub(super) lanes: HashMap<Arc<str>, usize>,
    pub(super) pending: u64,
    /// Those of `pending` that wait for their first attempt.
    pub(super) waiting_first: usize,
    pub(super) running: u64,
    pub(super) finished: u64,
}

/// The claimable tasks of one name in one queue, so that tasks which nobody here knows are in nobody's way.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: usize,
    pub(super) name: Arc<str>,
    pub(super) ready: BTreeMap<Place<Reverse<i16>>, TaskId>,
    /// Not due when last looked at.
    later: BTreeMap<Place<i64>, (i16, TaskId)>,
    /// The policy of its youngest task: the next one's is most likely the same.
    policy: Arc<RetryPolicy>,
}

impl Lane {
    /// Moves what is due by now to `ready`.
    pub(super) fn promote(&mut self, now: i64) {
        while let Some(entry) = self.later.first_entry() {
            let (run_at, seq) = *entry.key();
            if run_at > now {
                break;
            }
            let (priority, id) = entry.remove();
            self.ready.insert((Reverse(priority), seq), id);
        }
    }

    /// When the first of those that are not due will be.
    pub(super) fn next_due(&self, now: i64) -> Option<i64> {
        let future = self.later.range((now.saturating_add(1), 0)..).next();
        future.map(|((run_at, _), _)| *run_at)
    }

    /// That policy, shared with the last task that had the same.
    pub(super) fn share(&mut self, policy: &RetryPolicy) -> Arc<RetryPolicy> {
        if *self.policy != *policy {
            self.policy = Arc::new(policy.clone());
        }
        Arc::clone(&self.policy)
    }
}

impl Index {
    pub(super) fn queue(&self, name: &str) -> Option<usize> {
        self.queue_numbers.get(name).copied()
    }

    pub(super) fn queue_or_new(&mut self, name: &str) -> usize {
        if let Some(number) = self.queue(name) {
            return number;
        }
        let name: Arc<str> = Arc::from(name);
        self.queue_numbers.insert(Arc::clone(&name), self.queues.len());
        self.queues.push(Queue {
            name,
            paused: false,
            lanes: HashMap::new(),
            pending: 0,
            waiting_first: 0,
            running: 0,
            finished: 0,
        });
        self.queues.len() - 1
    }

    pub(super) fn lane_or_new(&mut self, queue: &str, name: &str) -> usize {
        let queue = self.queue_or_new(queue);
        if let Some(&lane) = self.queues[queue].lanes.get(name) {
            return lane;
        }
        let name: Arc<str> = Arc::from(name);
        self.queues[queue].lanes.insert(Arc::clone(&name), self.lanes.len());
        let policy = Arc::new(RetryPolicy::DEFAULT);
        self.lanes.push(Lane { queue, name, ready: BTreeMap::new(), later: BTreeMap::new(), policy });
        self.lanes.len() - 1
    }

    /// The queue of a task.
    pub(super) fn queue_of(&self, task: &Task) -> &Queue {
        &self.queues[self.lanes[task.lane].queue]
    }

    /// Whether a task that could be claimed waits in this queue.
    pub(super) fn has_due(&mut self, queue: usize, now: i64) -> bool {
        let lanes = &mut self.lanes;
        self.queues[queue].lanes.values().any(|&lane| {
            lanes[lane].promote(now);
            !lanes[lane].ready.is_empty()
        })
    }

    /// Who holds this task's idempotency key, or would stand in its way.
    pub(super) fn key_holder(&self, task: &Task) -> Option<TaskId> {
        let key = task.idempotency_key.as_ref()?;
        self.keys.get(&(Arc::clone(&self.lanes[task.lane].name), Arc::clone(key))).copied()
    }

    /// Who waits with this task's run key.
    pub(super) fn run_key_holder(&self, task: &Task) -> Option<TaskId> {
        let key = task.run_key.as_ref()?;
        self.run_keys.get(&(Arc::clone(key), Arc::clone(&self.lanes[task.lane].name))).copied()
    }

    /// Puts a task where it belongs. A task that comes to wait for its first attempt again, when another has taken its
    /// run key meanwhile, loses that key: the younger add replaced it.
    pub(super) fn add(&mut self, task: &mut Task, now: i64) {
        let status = task.stage.status();
        let (lane, seq) = (&mut self.lanes[task.lane], task.seq);
        let queue = &mut self.queues[lane.queue];
        *self.counts.get_mut(status) += 1;
        match &task.stage {
            Stage::Pending if task.run_at <= now => {
                lane.ready.insert((Reverse(task.priority), seq), task.id);
            }
            Stage::Pending => {
                lane.later.insert((task.run_at, seq), (task.priority, task.id));
            }
            Stage::Held(lease) => {
                self.leases.insert((lease.until, seq), task.id);
            }
            Stage::Running { lease, stop } => {
                self.leases.insert((lease.until, seq), task.id);
                if *stop {
                    self.stopping.insert(task.id);
                }
            }
            Stage::Ended { at, .. } => {
                self.ended.insert((*at, seq), task.id);
            }
        }
        *queue.number_of(status) += 1;
        if let Some(key) = task.idempotency_key.as_ref().filter(|_| status.holds_key()) {
            self.keys.insert((Arc::clone(&lane.name), Arc::clone(key)), task.id);
        }
        if task.waits_for_first() {
            queue.waiting_first += 1;
            if let Some(key) = &task.run_key {
                let place = (Arc::clone(key), Arc::clone(&lane.name));
                if *self.run_keys.entry(place).or_insert(task.id) != task.id {
                    task.run_key = None;
                }
            }
        }
    }

    /// Takes a task out of everything [`add`](Self::add) put it in.
    pub(super) fn remove(&mut self, task: &Task) {
        let status = task.stage.status();
        let (lane, seq) = (&mut self.lanes[task.lane], task.seq);
        let queue = &mut self.queues[lane.queue];
        *self.counts.get_mut(status) -= 1;
        match &task.stage {
            Stage::Pending => {
                if lane.ready.remove(&(Reverse(task.priority), seq)).is_none() {
                    lane.later.remove(&(task.run_at, seq));
                }
            }
            Stage::Held(lease) => {
                self.leases.remove(&(lease.until, seq));
            }
            Stage::Running { lease, stop } => {
                self.leases.remove(&(lease.until, seq));
                if *stop {
                    self.stopping.remove(&task.id);
                }
            }
            Stage::Ended { at, .. } => {
                self.ended.remove(&(*at, seq));
            }
        }
        *queue.number_of(status) -= 1;
        if let Some(key) = task.idempotency_key.as_ref().filter(|_| status.holds_key()) {
            self.keys.remove(&(Arc::clone(&lane.name), Arc::clone(key)));
        }
        if task.waits_for_first() {
            queue.waiting_first -= 1;
            if let Some(key) = &task.run_key {
                self.run_keys.remove(&(Arc::clone(key), Arc::clone(&lane.name)));
            }
        }
    }
}

impl Queue {
    fn number_of(&mut self, status: TaskStatus) -> &mut u64 {
        match status {
            TaskStatus::Pending => &mut self.pending,
            TaskStatus::Running => &mut self.running,
            _ => &mut self.finished,
        }
    }
}
