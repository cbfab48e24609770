//! Which tasks an instance gets, and when there will be more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use super::state::{State, now};
use super::task::{Lease, Task};
use crate::model::TaskId;
use crate::store::{Claim, Claimed, Claims, Run};

/// A lane an instance asked for, and which of its queues that is.
struct Asked {
    lane: usize,
    slot: usize,
}

impl State {
    pub(super) fn claim(&mut self, claim: &Claim) -> Claims {
        let now = now();
        let mut lanes = self.asked(&claim.names, claim.queues.iter().map(|(queue, _)| queue));
        lanes.retain(|asked| claim.queues[asked.slot].1 > 0);
        let mut free: Vec<usize> = claim.queues.iter().map(|(_, free)| *free).collect();
        let lease = self.lease(claim.instance, claim.lease, now);
        let mut tasks = Vec::new();

        // The heads of all lanes; the greatest is the next task.
        let mut heads = BinaryHeap::new();
        for (number, asked) in lanes.iter().enumerate() {
            let lane = &mut self.index.lanes[asked.lane];
            lane.promote(now);
            if self.index.queues[lane.queue].paused {
                continue;
            }
            heads.extend(lane.ready.first_key_value().map(|(&place, &id)| Reverse((place, number, id))));
        }
        while tasks.len() < claim.limit
            && let Some(Reverse((_, number, id))) = heads.pop()
        {
            let asked = &lanes[number];
            if free[asked.slot] == 0 {
                continue;
            }
            free[asked.slot] -= 1;
            tasks.extend(self.start(id, lease.clone(), now));
            let lane = &self.index.lanes[asked.lane];
            heads.extend(lane.ready.first_key_value().map(|(&place, &id)| Reverse((place, number, id))));
        }

        let more_will_be_asked_for = tasks.len() >= claim.limit;
        lanes.retain(|asked| free[asked.slot] > 0 && !more_will_be_asked_for);
        Claims { tasks, next_due: self.next_due(&lanes, now) }
    }

    pub(super) fn next_wakeup(&self, names: &[Arc<str>], queues: &[Arc<str>]) -> Option<Duration> {
        self.next_due(&self.asked(names, queues.iter()), now())
    }

    /// The lanes of these names and queues, each once.
    fn asked<'a>(&self, names: &[Arc<str>], queues: impl Iterator<Item = &'a Arc<str>>) -> Vec<Asked> {
        let mut lanes = Vec::new();
        for (slot, queue) in queues.enumerate() {
            let Some(queue) = self.index.queue(queue) else { continue };
            let of_queue = &self.index.queues[queue].lanes;
            lanes.extend(names.iter().filter_map(|name| Some(Asked { lane: *of_queue.get(name)?, slot })));
        }
        lanes.sort_unstable_by_key(|asked| (asked.lane, asked.slot));
        lanes.dedup_by_key(|asked| asked.lane);
        lanes
    }

    fn next_due(&self, lanes: &[Asked], now: i64) -> Option<Duration> {
        let due = lanes.iter().filter_map(|asked| self.index.lanes[asked.lane].next_due(now)).min()?;
        Some(Duration::from_micros(due.abs_diff(now)))
    }

    fn start(&mut self, id: TaskId, lease: Lease, now: i64) -> Option<Claimed> {
        let task = self.tasks.get_mut(&id)?;
        self.index.remove(task);
        let run = task.start(lease, now);
        self.index.add(task, now);
        let lane = &self.index.lanes[task.lane];
        Some(claimed(task, run, Arc::clone(&lane.name), Arc::clone(&self.index.queues[lane.queue].name)))
    }
}

fn claimed(task: &Task, run: Run, name: Arc<str>, queue: Arc<str>) -> Claimed {
    Claimed {
        run,
        name,
        queue,
        args: Arc::clone(&task.args),
        tags: task.tags.clone(),
        attempt: task.attempt,
        max_attempts: task.max_attempts,
        policy: Arc::clone(&task.policy),
        scheduled_for: task.scheduled_for.map(crate::model::time::from_micros),
        log_lines: u32::try_from(task.lines.len()).unwrap_or(u32::MAX),
        log_bytes: task.log_bytes,
    }
}
