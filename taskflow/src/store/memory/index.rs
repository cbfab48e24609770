//! All lookups of tasks by anything but their id, and all counts.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::task::{Stage, Task};
use crate::model::{Counts, FastMap, QueueConfig, RetryPolicy, TaskId, TaskStatus};
use crate::store::StartWindow;

/// The sort key of an index: an instant or a priority, then the age.
type Place<T> = (T, u64);

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) queues: Vec<Queue>,
    pub(super) ready_lists: Vec<ReadyList>,
    queue_numbers: FastMap<Arc<str>, usize>,
    /// The holder of each idempotency key, by name and key.
    pub(super) keys: HashMap<(Arc<str>, Arc<str>), TaskId>,
    /// The task that waits for its first attempt with a run key, by key and name.
    pub(super) run_keys: BTreeMap<(Arc<str>, Arc<str>), TaskId>,
    /// Runs and holds by the end of their lease.
    pub(super) leases: BTreeMap<Place<i64>, TaskId>,
    /// Runs that were asked to stop.
    pub(super) stopping: BTreeSet<TaskId>,
    /// Pending tasks that expire, by their `expires_at`.
    expiring: BTreeMap<Place<i64>, TaskId>,
    /// Pending tasks whose `expires_at` has passed. They are in no ready list.
    pub(super) lapsed: BTreeSet<TaskId>,
    /// The queue and concurrency key of a task that has just stopped running, or has just left its ready list: another
    /// task of that key may be unblocked.
    freed: Option<(usize, Arc<str>)>,
    /// Ended tasks, by the instant at which they ended.
    pub(super) ended: BTreeMap<Place<i64>, TaskId>,
    pub(super) counts: Counts,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Arc<str>,
    pub(super) paused: bool,
    pub(super) config: Option<QueueConfig>,
    /// The recent starts, for the rate limit.
    pub(super) window: StartWindow,
    /// The `key_concurrency` of the last claim.
    pub(super) key_limit: Option<usize>,
    /// Running tasks by their concurrency key.
    pub(super) running_keys: HashMap<Arc<str>, usize>,
    /// The number of tasks that the queue has refused.
    pub(super) rejected: u64,
    /// Its ready lists, by the name of their tasks.
    pub(super) ready_lists: FastMap<Arc<str>, usize>,
    pub(super) pending: u64,
    /// The part of `pending` that waits for the first attempt.
    pub(super) waiting_first: usize,
    pub(super) running: u64,
    pub(super) finished: u64,
}

/// The pending tasks of one name in one queue. With a list for each name, tasks with a name that no instance knows
/// never slow down the claims of others.
#[derive(Debug)]
pub(super) struct ReadyList {
    pub(super) queue: usize,
    pub(super) name: Arc<str>,
    pub(super) ready: BTreeMap<Place<Reverse<i16>>, TaskId>,
    /// Due, but blocked because their concurrency key is busy; by that key.
    pub(super) blocked: HashMap<Arc<str>, BTreeMap<Place<Reverse<i16>>, TaskId>>,
    /// Not due at the last [`promote`](Self::promote).
    later: BTreeMap<Place<i64>, (i16, TaskId)>,
    /// The policy of its youngest task. The next task most likely has the same one and can share it.
    policy: Arc<RetryPolicy>,
}

impl ReadyList {
    /// Moves the tasks that have come due to `ready`.
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

    /// The instant at which the next task comes due.
    pub(super) fn next_due(&self, now: i64) -> Option<i64> {
        let future = self.later.range((now.saturating_add(1), 0)..).next();
        future.map(|((run_at, _), _)| *run_at)
    }

    /// The number of tasks that are not due.
    pub(super) fn scheduled(&self, now: i64) -> usize {
        self.later.len() - self.later.range(..=(now, u64::MAX)).count()
    }

    /// The first task of each priority, and the first blocked task of each key.
    pub(super) fn oldest(&self) -> impl Iterator<Item = TaskId> + '_ {
        let next_priority = |((priority, _), _): &(&Place<Reverse<i16>>, &TaskId)| {
            let lower = (Reverse(priority.0.checked_sub(1)?), 0);
            self.ready.range(lower..).next()
        };
        let heads = std::iter::successors(self.ready.first_key_value(), next_priority);
        let of_keys = self.blocked.values().filter_map(BTreeMap::first_key_value);
        heads.chain(of_keys).map(|(_, id)| *id)
    }

    /// Blocks a task until another task of its key has stopped running or has left its ready list.
    pub(super) fn block(&mut self, place: Place<Reverse<i16>>, key: &Arc<str>) {
        if let Some(id) = self.ready.remove(&place) {
            self.blocked.entry(Arc::clone(key)).or_default().insert(place, id);
        }
    }

    /// Unblocks the first blocked task of a key.
    fn unblock(&mut self, key: &str) {
        let Some(blocked) = self.blocked.get_mut(key) else { return };
        self.ready.extend(blocked.pop_first());
        if blocked.is_empty() {
            self.blocked.remove(key);
        }
    }

    /// Removes a task from the blocked ones. Answers whether it was there.
    fn remove_blocked(&mut self, key: Option<&Arc<str>>, place: Place<Reverse<i16>>) -> bool {
        let Some(key) = key else { return false };
        let Some(blocked) = self.blocked.get_mut(key) else { return false };
        let was_there = blocked.remove(&place).is_some();
        if blocked.is_empty() {
            self.blocked.remove(key);
        }
        was_there
    }

    /// Returns the policy, shared with the previous task if that one has the same.
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
            config: None,
            window: StartWindow::default(),
            key_limit: None,
            running_keys: HashMap::new(),
            rejected: 0,
            ready_lists: FastMap::default(),
            pending: 0,
            waiting_first: 0,
            running: 0,
            finished: 0,
        });
        self.queues.len() - 1
    }

    pub(super) fn ready_list_or_new(&mut self, queue: &str, name: &str) -> usize {
        let queue = self.queue_or_new(queue);
        if let Some(&ready_list) = self.queues[queue].ready_lists.get(name) {
            return ready_list;
        }
        let name: Arc<str> = Arc::from(name);
        self.queues[queue].ready_lists.insert(Arc::clone(&name), self.ready_lists.len());
        let policy = Arc::new(RetryPolicy::DEFAULT);
        let (ready, blocked, later) = (BTreeMap::new(), HashMap::new(), BTreeMap::new());
        self.ready_lists.push(ReadyList { queue, name, ready, blocked, later, policy });
        self.ready_lists.len() - 1
    }

    /// Sets how many tasks of one concurrency key may run in this queue. If the limit changes, all blocked tasks become
    /// ready again.
    pub(super) fn limit_keys(&mut self, queue: usize, limit: Option<usize>) {
        let queue = &mut self.queues[queue];
        if queue.key_limit != limit {
            queue.key_limit = limit;
            for ready_list in queue.ready_lists.values() {
                let ready_list = &mut self.ready_lists[*ready_list];
                ready_list.ready.extend(std::mem::take(&mut ready_list.blocked).into_values().flatten());
            }
        }
    }

    /// Takes tasks whose `expires_at` has passed out of their ready lists.
    pub(super) fn lapse(&mut self, tasks: &BTreeMap<TaskId, Box<Task>>, now: i64) {
        while let Some(entry) = self.expiring.first_entry().filter(|entry| entry.key().0 <= now) {
            let id = *entry.get();
            let Some(task) = tasks.get(&id) else { continue };
            self.leave_ready_list(task);
            self.lapsed.insert(id);
            self.unblock_ready();
        }
    }

    /// Takes a pending task out of its ready list.
    fn leave_ready_list(&mut self, task: &Task) {
        let (ready_list, place) =
            (&mut self.ready_lists[task.ready_list], (Reverse(task.priority), task.seq));
        if let Some(expires_at) = task.rare.expires_at {
            self.expiring.remove(&(expires_at, task.seq));
        }
        if ready_list.ready.remove(&place).is_some() {
            self.freed = task.rare.concurrency_key.clone().map(|key| (ready_list.queue, key));
        } else if !ready_list.remove_blocked(task.rare.concurrency_key.as_ref(), place) {
            ready_list.later.remove(&(task.run_at, task.seq));
        }
    }

    /// Unblocks the next task of the freed key. It unblocks one of each name, because perhaps no instance knows the
    /// name of the first.
    pub(super) fn unblock_ready(&mut self) {
        let Some((queue, key)) = self.freed.take() else { return };
        for ready_list in self.queues[queue].ready_lists.values() {
            self.ready_lists[*ready_list].unblock(&key);
        }
    }

    /// The queue of a task.
    pub(super) fn queue_of(&self, task: &Task) -> &Queue {
        &self.queues[self.ready_lists[task.ready_list].queue]
    }

    /// Whether a claimable task waits in this queue.
    pub(super) fn has_due(&mut self, queue: usize, now: i64) -> bool {
        let ready_lists = &mut self.ready_lists;
        self.queues[queue].ready_lists.values().any(|&ready_list| {
            ready_lists[ready_list].promote(now);
            !ready_lists[ready_list].ready.is_empty()
        })
    }

    /// The task that holds this task's idempotency key.
    pub(super) fn key_holder(&self, task: &Task) -> Option<TaskId> {
        let key = task.rare.idempotency_key.as_ref()?;
        self.keys.get(&(Arc::clone(&self.ready_lists[task.ready_list].name), Arc::clone(key))).copied()
    }

    /// The task that waits for its first attempt with this task's run key.
    pub(super) fn run_key_holder(&self, task: &Task) -> Option<TaskId> {
        let key = task.rare.run_key.as_ref()?;
        self.run_keys.get(&(Arc::clone(key), Arc::clone(&self.ready_lists[task.ready_list].name))).copied()
    }

    /// Adds a task to all indexes and counts. A task that waits for its first attempt again loses its run key if
    /// another task has taken that key meanwhile, because the younger add replaced it.
    pub(super) fn add(&mut self, task: &mut Task, now: i64) {
        let status = task.stage.status();
        let (ready_list, seq) = (&mut self.ready_lists[task.ready_list], task.seq);
        let queue = &mut self.queues[ready_list.queue];
        *self.counts.get_mut(status) += 1;
        match &task.stage {
            Stage::Pending if task.has_expired(now) => {
                self.lapsed.insert(task.id);
            }
            Stage::Pending => {
                if task.run_at <= now {
                    ready_list.ready.insert((Reverse(task.priority), seq), task.id);
                } else {
                    ready_list.later.insert((task.run_at, seq), (task.priority, task.id));
                }
                if let Some(expires_at) = task.rare.expires_at {
                    self.expiring.insert((expires_at, seq), task.id);
                }
            }
            Stage::Held(lease) => {
                self.leases.insert((lease.until, seq), task.id);
            }
            Stage::Running { lease, stop } => {
                self.leases.insert((lease.until, seq), task.id);
                if *stop {
                    self.stopping.insert(task.id);
                }
                if let Some(key) = &task.rare.concurrency_key {
                    *queue.running_keys.entry(Arc::clone(key)).or_default() += 1;
                    // The freed place is taken by this task itself: do not unblock another one.
                    self.freed.take_if(|(queue, freed)| *queue == ready_list.queue && *freed == *key);
                }
            }
            Stage::Ended { at, .. } => {
                self.ended.insert((*at, seq), task.id);
            }
        }
        *queue.number_of(status) += 1;
        if let Some(key) = task.rare.idempotency_key.as_ref().filter(|_| status.holds_key()) {
            self.keys.insert((Arc::clone(&ready_list.name), Arc::clone(key)), task.id);
        }
        if task.waits_for_first() {
            queue.waiting_first += 1;
            if let Some(key) = &task.rare.run_key {
                let place = (Arc::clone(key), Arc::clone(&ready_list.name));
                if *self.run_keys.entry(place).or_insert(task.id) != task.id {
                    task.rare.run_key = None;
                }
            }
        }
        self.unblock_ready();
    }

    /// Removes a task from all indexes and counts to which [`add`](Self::add) added it. If the task is not added again,
    /// call [`unblock_ready`](Self::unblock_ready) next.
    pub(super) fn remove(&mut self, task: &Task) {
        if matches!(task.stage, Stage::Pending) && !self.lapsed.remove(&task.id) {
            self.leave_ready_list(task);
        }
        let status = task.stage.status();
        let (ready_list, seq) = (&mut self.ready_lists[task.ready_list], task.seq);
        let queue = &mut self.queues[ready_list.queue];
        *self.counts.get_mut(status) -= 1;
        match &task.stage {
            Stage::Pending => {}
            Stage::Held(lease) => {
                self.leases.remove(&(lease.until, seq));
            }
            Stage::Running { lease, stop } => {
                self.leases.remove(&(lease.until, seq));
                if *stop {
                    self.stopping.remove(&task.id);
                }
                if let Some(key) = &task.rare.concurrency_key {
                    if let Entry::Occupied(mut running) = queue.running_keys.entry(Arc::clone(key)) {
                        *running.get_mut() -= 1;
                        if *running.get() == 0 {
                            running.remove();
                        }
                    }
                    self.freed = Some((ready_list.queue, Arc::clone(key)));
                }
            }
            Stage::Ended { at, .. } => {
                self.ended.remove(&(*at, seq));
            }
        }
        *queue.number_of(status) -= 1;
        if let Some(key) = task.rare.idempotency_key.as_ref().filter(|_| status.holds_key()) {
            self.keys.remove(&(Arc::clone(&ready_list.name), Arc::clone(key)));
        }
        if task.waits_for_first() {
            queue.waiting_first -= 1;
            if let Some(key) = &task.rare.run_key {
                self.run_keys.remove(&(Arc::clone(key), Arc::clone(&ready_list.name)));
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
