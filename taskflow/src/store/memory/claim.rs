//! Claims: the tasks that an instance gets, and when more will be due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use super::index::Queue;
use super::state::Tables;
use super::task::{Lease, Task};
use crate::model::{TaskId, time};
use crate::store::{Claim, ClaimQueue, Claimed, Claims, RunRef, SharedLimits};

/// A requested ready list. `slot` is the position of its queue in [`Tables::requested_queues`].
struct Asked {
    ready_list: usize,
    slot: usize,
}

impl Tables {
    pub(super) fn claim(&mut self, claim: &Claim) -> Claims {
        let now = self.now();
        self.index.lapse(&self.tasks, now);
        let queues = self.requested_queues(claim);
        let mut ready_lists = self.ready_lists(&claim.names, &queues);
        let mut free: Vec<usize> = queues.iter().map(|(_, queue)| queue.limit).collect();
        let limited = self.shared_limits(&queues, &mut free, now);
        let lease = self.lease(claim.instance, claim.lease, now);
        let mut tasks = Vec::new();

        // The heads of all ready lists; the greatest is the next task.
        let mut heads = BinaryHeap::new();
        for (number, asked) in ready_lists.iter().enumerate() {
            let ready_list = &mut self.index.ready_lists[asked.ready_list];
            ready_list.promote(now);
            if self.index.queues[ready_list.queue].paused {
                continue;
            }
            heads
                .extend(ready_list.ready.first_key_value().map(|(&place, &id)| Reverse((place, number, id))));
        }
        let mut needs_slot = false;
        while tasks.len() < claim.limit
            && let Some(Reverse((_, number, id))) = heads.pop()
        {
            let asked = &ready_lists[number];
            if free[asked.slot] == 0 {
                continue;
            }
            if !self.blocks(id) {
                if tasks.len() >= claim.slots() && !(queues[asked.slot].1.prefetch && self.may_prefetch(id)) {
                    needs_slot = true;
                    break;
                }
                free[asked.slot] -= 1;
                tasks.extend(self.start(id, lease.clone(), now));
            }
            let ready_list = &self.index.ready_lists[asked.ready_list];
            heads
                .extend(ready_list.ready.first_key_value().map(|(&place, &id)| Reverse((place, number, id))));
        }

        let next_start = self.count_starts(&limited, &tasks, now);
        let more_will_be_asked_for = needs_slot || tasks.len() >= claim.limit;
        ready_lists.retain(|asked| free[asked.slot] > 0 && !more_will_be_asked_for);
        let next_due = self.next_due(&ready_lists, now);
        Claims { tasks, next_due: [next_due, next_start].into_iter().flatten().min(), needs_slot }
    }

    /// Lowers the free places of each queue to what its shared limits allow, and applies a changed key limit. Answers the
    /// queues that have shared limits.
    fn shared_limits(
        &mut self,
        queues: &[(usize, ClaimQueue)],
        free: &mut [usize],
        now: i64,
    ) -> Vec<(usize, SharedLimits)> {
        let mut limited = Vec::new();
        for ((number, asked), free) in queues.iter().zip(free) {
            let (number, limits) = (*number, asked.shared);
            self.index.limit_keys(number, limits.key_concurrency);
            let queue = &self.index.queues[number];
            if let Some(most) = limits.global_concurrency {
                let running = usize::try_from(queue.running).unwrap_or(usize::MAX);
                *free = (*free).min(most.saturating_sub(running));
            }
            if let Some(rate) = limits.rate_limit {
                *free = (*free).min(queue.window.free(rate, now));
            }
            if limits.any() {
                limited.push((number, limits));
            }
        }
        limited
    }

    /// Counts the started tasks in queues with a rate limit. Answers how long until another task may start, if a rate
    /// limit is used up now.
    fn count_starts(
        &mut self,
        limited: &[(usize, SharedLimits)],
        tasks: &[Claimed],
        now: i64,
    ) -> Option<Duration> {
        let mut next_start: Option<i64> = None;
        for (number, limits) in limited {
            let Some(rate) = limits.rate_limit else { continue };
            let queue = &mut self.index.queues[*number];
            queue.window.start(rate, now, tasks.iter().filter(|task| task.queue == queue.name).count());
            if queue.pending > 0 {
                next_start = [next_start, queue.window.next_free(rate, now)].into_iter().flatten().min();
            }
        }
        next_start.map(|at| Duration::from_micros(at.abs_diff(now)))
    }

    /// Whether a task may be claimed before a slot is free for it.
    fn may_prefetch(&self, id: TaskId) -> bool {
        self.tasks.get(&id).is_some_and(|task| {
            task.policy.may_prefetch(task.attempt.saturating_add(1), task.max_attempts, task.lost_runs)
        })
    }

    /// Blocks a task if the limit of its concurrency key is used up. Answers whether it did.
    fn blocks(&mut self, id: TaskId) -> bool {
        let Some(task) = self.tasks.get(&id) else { return false };
        let Some(key) = &task.rare.concurrency_key else { return false };
        let ready_list = &mut self.index.ready_lists[task.ready_list];
        let queue = &self.index.queues[ready_list.queue];
        let running = queue.running_keys.get(key).copied().unwrap_or(0);
        if queue.key_limit.is_none_or(|most| running < most) {
            return false;
        }
        ready_list.block((Reverse(task.priority), task.seq), key);
        true
    }

    /// The requested queues that the store knows, each with its number. An instance may serve thousands of queues that never
    /// had a task.
    fn requested_queues(&self, claim: &Claim) -> Vec<(usize, ClaimQueue)> {
        let known = &self.index.queues;
        if known.len() < claim.queues.len() {
            let asked = |(number, queue): (usize, &Queue)| Some((number, claim.queues.get(&queue.name)?));
            return known.iter().enumerate().filter_map(asked).collect();
        }
        claim.queues.iter().filter_map(|queue| Some((self.index.queue(&queue.name)?, queue))).collect()
    }

    /// The ready lists of these names in queues with room.
    fn ready_lists(&self, names: &[Arc<str>], queues: &[(usize, ClaimQueue)]) -> Vec<Asked> {
        let mut ready_lists = Vec::new();
        for (slot, (number, _)) in queues.iter().enumerate().filter(|(_, (_, queue))| queue.limit > 0) {
            let of_queue = &self.index.queues[*number].ready_lists;
            ready_lists.extend(
                names.iter().filter_map(|name| Some(Asked { ready_list: *of_queue.get(name)?, slot })),
            );
        }
        ready_lists.sort_unstable_by_key(|asked| (asked.ready_list, asked.slot));
        ready_lists.dedup_by_key(|asked| asked.ready_list);
        ready_lists
    }

    fn next_due(&self, ready_lists: &[Asked], now: i64) -> Option<Duration> {
        let due = ready_lists
            .iter()
            .filter_map(|asked| self.index.ready_lists[asked.ready_list].next_due(now))
            .min()?;
        Some(Duration::from_micros(due.abs_diff(now)))
    }

    pub(super) fn start(&mut self, id: TaskId, lease: Lease, now: i64) -> Option<Claimed> {
        let task = self.tasks.get_mut(&id)?;
        self.index.remove(task);
        let run = task.start(lease, now);
        self.index.add(task, now);
        let ready_list = &self.index.ready_lists[task.ready_list];
        Some(claimed(
            task,
            run,
            Arc::clone(&ready_list.name),
            Arc::clone(&self.index.queues[ready_list.queue].name),
        ))
    }
}

fn claimed(task: &Task, run: RunRef, name: Arc<str>, queue: Arc<str>) -> Claimed {
    Claimed {
        run,
        name,
        queue,
        args: Arc::clone(&task.args),
        tags: task.rare.tags.clone(),
        trace: task.rare.trace.clone(),
        attempt: task.attempt,
        max_attempts: task.max_attempts,
        policy: Arc::clone(&task.policy),
        scheduled_for: task.rare.scheduled_for.map(time::from_micros),
        expires_in: task.rare.expires_at.zip(task.started_at).map(|(end, now)| time::left(end, now)),
        snoozes: task.rare.snoozes,
        log_lines: u32::try_from(task.rare.lines.len()).unwrap_or(u32::MAX),
        log_bytes: task.rare.log_bytes,
    }
}
