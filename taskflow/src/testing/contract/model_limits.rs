//! The model's part for limits and expiry: what a claim may take from a queue, and when a task has expired.
//!
//! The model counts the tasks anew for each claim. It keeps only the number of starts, and which queues have a key limit. Rate
//! limits of histories are hours long, so every start of a history still counts at its end.
//! An instant of a history is at least a millisecond in the past or an hour ahead, so no check depends on luck.
//!
//! The contract leaves these open, and so does the model:
//!
//! - Whether a queue is idle ([`Start::LeaseIfIdle`](crate::store::Start)) if all its due tasks have expired or may be
//!   blocked by their concurrency key. Histories do not ask for it then.
//! - What [`Claims::next_due`](crate::store::Claims) says of a queue whose limits, other than its rate, are reached, and
//!   of tasks that will have expired when they are due.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::model::{TaskId, TaskStatus};
use crate::store::SharedLimits;

use super::history::{LONGEST_RATE, Request};
use super::model::{Entry, Model, State};

/// What a claim may still take from one of its queues.
pub(crate) struct Room {
    pub(crate) queue: &'static str,
    pub(crate) prefetch: bool,
    limits: SharedLimits,
    /// How many tasks the claim asks for; 0 if the queue is paused.
    asked: usize,
    /// How many more may run at once.
    unused: usize,
    /// How many more may start under the rate limit.
    starts: usize,
    running_of_key: HashMap<String, usize>,
    taken: usize,
}

impl Room {
    fn free(&self) -> usize {
        self.asked.min(self.unused).min(self.starts).saturating_sub(self.taken)
    }

    fn key_is_free(&self, task: &Entry) -> bool {
        let (Some(key), Some(most)) = (&task.new.concurrency_key, self.limits.key_concurrency) else {
            return true;
        };
        self.running_of_key.get(key).copied().unwrap_or(0) < most
    }

    pub(crate) fn admits(&self, task: &Entry) -> bool {
        self.free() > 0 && self.key_is_free(task)
    }

    pub(crate) fn take(&mut self, task: &Entry) {
        self.taken += 1;
        if let Some(key) = &task.new.concurrency_key {
            *self.running_of_key.entry(key.clone()).or_default() += 1;
        }
    }
}

/// What the answer to a claim should have as its `next_due`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NextDue {
    Never,
    Within(Duration),
    Open,
}

impl NextDue {
    pub(crate) fn allows(self, said: Option<Duration>) -> bool {
        match self {
            Self::Never => said.is_none(),
            Self::Within(longest) => said.is_some_and(|next| next <= longest),
            Self::Open => true,
        }
    }
}

impl Entry {
    /// Whether it may no longer start.
    pub(crate) fn has_expired(&self) -> bool {
        self.new.expires_at.is_some_and(|at| at <= SystemTime::now())
    }

    fn is_in(&self, queue: &str) -> bool {
        self.new.queue == queue
    }
}

impl Model {
    /// What a claim may take from each of its queues now.
    pub(crate) fn rooms(&self, request: &Request) -> Vec<Room> {
        let room = |&(queue, asked, prefetch): &(&'static str, usize, bool)| {
            let limits = request.limits_of(queue);
            let of_queue = |task: &&Entry| task.is_in(queue) && task.status() == TaskStatus::Running;
            let mut running_of_key = HashMap::new();
            for key in self.tasks.iter().filter(of_queue).filter_map(|task| task.new.concurrency_key.clone())
            {
                *running_of_key.entry(key).or_default() += 1;
            }
            let running = self.tasks.iter().filter(of_queue).count();
            let started = self.memory.starts.get(queue).copied().unwrap_or(0);
            let left = |most: Option<usize>, used| most.map_or(usize::MAX, |most| most.saturating_sub(used));
            Room {
                queue,
                prefetch,
                limits,
                asked: if self.paused.contains(queue) { 0 } else { asked },
                unused: left(limits.global_concurrency, running),
                starts: left(limits.rate_limit.map(|rate| rate.starts), started),
                running_of_key,
                taken: 0,
            }
        };
        request.queues.iter().map(room).collect()
    }

    /// Takes note of what a claim took and of its limits.
    pub(crate) fn remember(&mut self, rooms: &[Room], request: &Request) {
        for room in rooms {
            if room.limits.rate_limit.is_some() {
                *self.memory.starts.entry(room.queue).or_default() += room.taken;
            }
            if room.limits.key_concurrency.is_some() {
                self.memory.limits_keys.insert(room.queue);
            } else if room.asked > 0 && request.limit > 0 {
                self.memory.limits_keys.remove(room.queue);
            }
        }
    }

    /// The `next_due` that the answer to a claim must have. `taken` returns how many tasks the claim took from a queue.
    pub(crate) fn next_due(&self, request: &Request, taken: impl Fn(&str) -> usize) -> NextDue {
        let is_known = |task: &Entry| request.names.contains(&&*task.new.name);
        let mut next_start: Option<Duration> = None;
        let mut rooms = self.rooms(request);
        for room in &mut rooms {
            room.asked = room.asked.saturating_sub(taken(room.queue));
            if room.asked == 0 || room.unused == 0 {
                return NextDue::Open;
            }
            if let (Some(rate), 0) = (room.limits.rate_limit, room.starts) {
                let may_start = |task: &Entry| is_known(task) && task.is_ready() && room.key_is_free(task);
                let waits = self.tasks.iter().any(|task| task.is_in(room.queue) && may_start(task));
                if rate.starts == 0 || !waits {
                    return NextDue::Open;
                }
                // A store counts starts in slices of a period. They may have started under a limit with a longer one.
                let at_most = rate.per + LONGEST_RATE / 50;
                next_start = Some(next_start.map_or(at_most, |sooner| sooner.min(at_most)));
            }
        }
        if let Some(next_start) = next_start {
            return NextDue::Within(next_start);
        }
        let is_asked = |task: &&Entry| is_known(task) && rooms.iter().any(|room| task.is_in(room.queue));
        let is_later = |task: &&Entry| task.state == State::Pending && !task.due;
        let mut later = self.tasks.iter().filter(is_asked).filter(is_later).peekable();
        match (later.peek().is_some(), later.any(|task| !task.has_expired())) {
            (false, _) => NextDue::Never,
            // A back-off grows with each attempt and has jitter, so there is no bound.
            (true, true) => NextDue::Within(Duration::MAX),
            (true, false) => NextDue::Open,
        }
    }

    /// Whether the contract determines if this queue is idle.
    pub(crate) fn knows_if_idle(&self, queue: &str) -> bool {
        let limits_keys = self.memory.limits_keys.contains(queue);
        let may_be_aside = |task: &Entry| limits_keys && task.new.concurrency_key.is_some();
        let is_open = |task: &Entry| task.has_expired() || may_be_aside(task);
        !self.tasks.iter().any(|task| task.is_in(queue) && task.state == State::Pending && is_open(task))
    }

    /// Pending tasks that may no longer start: a recovery ends them all, and nothing else does.
    pub(crate) fn expired(&self) -> Vec<TaskId> {
        let is_over = |task: &&Entry| task.state == State::Pending && task.has_expired();
        self.tasks.iter().filter(is_over).map(|task| task.new.id).collect()
    }

    /// Cancels a pending task that has expired, and answers its new status. `None` if it is not pending or has not expired.
    pub(crate) fn expire(&mut self, id: TaskId) -> Option<TaskStatus> {
        let task = self.find(id).filter(|task| task.state == State::Pending && task.has_expired())?;
        task.end(TaskStatus::Cancelled, Some("expired"));
        Some(task.status())
    }
}
