//! Limits how many tasks run at once: in total, per queue, and on blocking threads.
//!
//! A task holds a slot while its body runs. Its run lasts longer: from the claim until its result has been stored. For
//! that time the run counts against the limits of its queue and against the total this process may have claimed: the
//! number of slots plus the size of the [`PrefetchWindow`].
//!
//! A claim reserves the free slots, and nothing else takes one of them until the claim is answered. So a task that must
//! not be prefetched starts as soon as its claim is answered; only tasks that may wait are put into `ready`.

mod permit;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub(crate) use self::permit::Permit;
use self::permit::{Capacity, Held, Place};
use super::prefetch::{Bodies, MAX_BUFFERED, PrefetchWindow};
use crate::seam::{Instant, Seam};
use crate::store::{ClaimQueue, ClaimQueues, SharedLimits};

/// The slots of this process. `T` is a claimed task.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    seam: Seam,
    indices: HashMap<Arc<str>, usize>,
    names: Vec<Arc<str>>,
    /// Shared with every permit, which returns what it holds when it is dropped.
    state: Arc<Mutex<SlotState<T>>>,
    total: usize,
    /// The number of threads for synchronous tasks, if it is lower than the number of slots.
    threads: Option<usize>,
    max_prefetch: usize,
}

#[derive(Debug)]
struct SlotState<T> {
    /// Slots in which no body runs.
    free: usize,
    /// Runs whose result has not been stored: claimed, or being added to run at once.
    runs: usize,
    /// A claim is in flight and has reserved all capacity; capacity released meanwhile must not be used twice.
    claiming: bool,
    /// Waiting tasks were returned while a claim was in flight: also return the tasks of that claim that find no free
    /// slot.
    recalled: bool,
    /// The process shuts down: added tasks do not start here.
    closed: bool,
    free_threads: usize,
    queues: Vec<QueueSlots>,
    /// The queues with their limits, in the form that a claim takes. All claims share them.
    served: ClaimQueues,
    /// The queues with runs, which may have less room than their limit. Some queues whose runs have ended are still listed.
    busy: Vec<usize>,
    /// Prefetched tasks that wait for a slot, each with the time it was admitted.
    ready: VecDeque<(T, Place, Instant)>,
    window: PrefetchWindow,
    /// The last claim stopped at a task that must not be prefetched.
    needs_slot: bool,
    /// Bodies that have ended since the last claim was answered.
    ended: Bodies,
    answered: Instant,
}

#[derive(Debug)]
struct QueueSlots {
    name: Arc<str>,
    limit: Option<usize>,
    /// The store enforces these limits over all processes when it claims.
    shared: SharedLimits,
    /// The runs of this queue.
    taken: usize,
    is_busy: bool,
}

impl QueueSlots {
    fn free(&self, of: usize) -> usize {
        self.limit.map_or(of, |limit| limit.saturating_sub(self.taken).min(of))
    }

    fn has_limits(&self) -> bool {
        self.shared.any() || self.limit.is_some()
    }

    fn served(&self) -> ClaimQueue {
        let limit = self.limit.unwrap_or(usize::MAX);
        // A prefetched task would count against the limit of its queue without running, so none is claimed.
        let mut queue = ClaimQueue::new(Arc::clone(&self.name), limit);
        (queue.prefetch, queue.shared) = (!self.has_limits(), self.shared);
        queue
    }
}

/// The capacity a claim may use, reserved until [`Slots::answered`] or [`Slots::undo`].
#[derive(Debug)]
pub(crate) struct ClaimBudget {
    pub(crate) limit: usize,
    /// How many tasks of `limit` are prefetched: no slot is free for them.
    pub(crate) prefetch: usize,
    /// How many tasks of `limit` may be synchronous.
    pub(crate) threads: usize,
    pub(crate) queues: ClaimQueues,
    asked: Instant,
}

impl ClaimBudget {
    pub(crate) fn slots(&self) -> usize {
        self.limit - self.prefetch
    }

    /// The same budget, for at most `most` tasks.
    pub(crate) fn at_most(mut self, most: usize) -> Self {
        let slots = self.slots().min(most);
        self.prefetch = self.prefetch.min(most - slots);
        self.limit = slots + self.prefetch;
        self.threads = self.threads.min(self.limit);
        self
    }
}

impl<T: Send + 'static> Slots<T> {
    /// Creates `total` slots, with at most `threads` of them for synchronous tasks and at most `max_prefetch` runs beyond
    /// them.
    pub(crate) fn new(
        total: usize,
        threads: usize,
        max_prefetch: usize,
        queues: Vec<(Arc<str>, Option<usize>)>,
        seam: Seam,
    ) -> Self {
        let queues: Vec<_> = queues
            .into_iter()
            .map(|(name, limit)| {
                let shared = SharedLimits::default();
                QueueSlots { name, limit, shared, taken: 0, is_busy: false }
            })
            .collect();
        Self {
            indices: queues.iter().enumerate().map(|(index, queue)| (queue.name.clone(), index)).collect(),
            names: queues.iter().map(|queue| queue.name.clone()).collect(),
            state: Arc::new(Mutex::new(SlotState {
                free: total,
                runs: 0,
                claiming: false,
                recalled: false,
                closed: false,
                free_threads: threads,
                served: queues.iter().map(QueueSlots::served).collect(),
                queues,
                busy: Vec::new(),
                ready: VecDeque::new(),
                window: PrefetchWindow::new(total, max_prefetch),
                needs_slot: false,
                ended: Bodies::default(),
                answered: seam.instant(),
            })),
            total,
            threads: (threads < total).then_some(threads),
            max_prefetch,
            seam,
        }
    }

    /// Sets the limits of these queues: in this process, and over all processes. Running tasks go on; the caller must
    /// return the tasks that wait for a slot.
    pub(crate) fn set_limits(&self, limits: &[(String, Option<usize>, SharedLimits)]) {
        let mut state = self.state.lock();
        for (queue, limit, shared) in limits {
            if let Some(index) = self.indices.get(&**queue) {
                let queue = &mut state.queues[*index];
                (queue.limit, queue.shared) = (*limit, *shared);
            }
        }
        state.served = state.queues.iter().map(QueueSlots::served).collect();
    }

    /// Takes a slot for a task of `queue`, if one is free. A queue that does not run here has no slots. In a queue with
    /// limits over all processes only a claim takes slots. While a task in the store waits for a slot, only an eager task
    /// gets one here; any other must not start before that task.
    pub(crate) fn try_take(&self, queue: &str, blocking: bool, eager: bool) -> Option<Permit> {
        let index = *self.indices.get(queue)?;
        let mut state = self.state.lock();
        let free = if state.claiming || state.closed { 0 } else { state.startable() };
        if state.queues[index].shared.any()
            || (state.needs_slot && !eager)
            || state.queues[index].free(free) == 0
            || state.runs >= self.total.saturating_add(self.max_prefetch)
            || (blocking && self.threads.is_some() && state.free_threads == 0)
        {
            return None;
        }
        state.free -= 1;
        let place = Place { queue: index, blocking };
        state.reserve(place);
        drop(state);
        Some(self.permit(place, Held::Slot))
    }

    fn permit(&self, place: Place, held: Held) -> Permit {
        Permit::new(self.state.clone(), place, held)
    }

    /// The queue of a permit.
    pub(crate) fn queue(&self, permit: &Permit) -> Arc<str> {
        self.names[permit.place().queue].clone()
    }

    /// Refuses to hand out slots from now on.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
    }

    /// The number of slots.
    #[cfg(any(feature = "api", feature = "metrics"))]
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// The number of runs, plus one if a claim is in flight. An add that holds a permit counts as a run.
    pub(crate) fn taken(&self) -> usize {
        let state = self.state.lock();
        state.runs + usize::from(state.claiming)
    }

    /// Takes back a permit whose task never ran. Returns the waiting task that takes over the slot, unless `start_next` is
    /// false.
    pub(crate) fn give_back(&self, mut permit: Permit, start_next: bool) -> Option<(T, Permit)> {
        let mut state = self.state.lock();
        let next = if permit.release_slot() { state.free_slot(start_next) } else { None };
        state.take_back(permit.place(), permit.release());
        drop(state);
        next.map(|(task, place)| (task, self.permit(place, Held::Slot)))
    }

    /// Frees the slot of a body that ran for `took`. Its run counts against the limits until its result has been stored.
    /// Returns the waiting task that takes over the slot, unless `start_next` is false.
    pub(crate) fn end_body(
        &self,
        permit: &mut Permit,
        took: Duration,
        start_next: bool,
    ) -> Option<(T, Permit)> {
        let mut state = self.state.lock();
        state.ended.add(took);
        let next = if permit.release_slot() { state.free_slot(start_next) } else { None };
        drop(state);
        next.map(|(task, place)| (task, self.permit(place, Held::Slot)))
    }

    /// Releases these permits: the results of their runs have been stored.
    pub(crate) fn leave<'a>(&self, permits: impl IntoIterator<Item = &'a mut Permit>) {
        let mut state = self.state.lock();
        for permit in permits {
            state.take_back(permit.place(), permit.release());
        }
    }

    /// Reserves capacity for a claim: everything that is free, and what the runs in `leaving` free when the same write
    /// stores their results.
    pub(crate) fn budget<'a>(&self, leaving: impl IntoIterator<Item = &'a mut Permit>) -> ClaimBudget {
        let mut state = self.state.lock();
        for permit in leaving {
            state.take_back(permit.place(), permit.release());
        }
        state.claiming = true;
        let most = self.total.saturating_add(state.window.size());
        // At most half of the tasks that may be claimed in all, so that one half runs while the other is on its way; but as
        // many as there are slots, so that without a window everything that is free is claimed.
        let limit = most.saturating_sub(state.runs).min(self.total.max(most / 2));
        let slots = state.startable().min(limit);
        let prefetch = match slots {
            // The next task needs a free slot, so a claim would bring nothing.
            0 if state.needs_slot => 0,
            _ => state.window.reach().min(limit - slots),
        };
        let limit = slots + prefetch;
        let queues = state.room();
        let threads = self.threads.map_or(limit, |_| state.free_threads.min(limit));
        ClaimBudget { limit, prefetch, threads, queues, asked: self.seam.instant() }
    }

    /// Undoes [`budget`](Self::budget) after a failed claim: the runs in `leaving` count again.
    pub(crate) fn undo<'a>(&self, leaving: impl IntoIterator<Item = &'a mut Permit>) {
        let mut state = self.state.lock();
        state.claiming = false;
        for permit in leaving {
            if permit.restore() {
                state.reserve(permit.place());
            }
        }
    }

    /// Admits claimed tasks. `kind` returns the queue of a task and whether it is synchronous. Returns the tasks that
    /// start now; the others wait for a slot. It may be called more than once for one claim.
    pub(crate) fn admit(&self, claimed: Vec<T>, kind: impl Fn(&T) -> (&str, bool)) -> Vec<(T, Permit)> {
        let mut state = self.state.lock();
        let now = self.seam.instant();
        for task in claimed {
            let (queue, blocking) = kind(&task);
            let queue = self.indices.get(queue).copied().unwrap_or_default();
            let place = Place { queue, blocking };
            state.reserve(place);
            state.ready.push_back((task, place, now));
        }
        let begin = if state.closed { 0 } else { state.free.min(state.ready.len()) };
        state.free -= begin;
        let begin = state.ready.drain(..begin);
        begin.map(|(task, place, _)| (task, self.permit(place, Held::Slot))).collect()
    }

    /// Ends a claim that brought `taken` tasks. `needs_slot` says that it stopped at a task that must not be prefetched.
    pub(crate) fn answered(&self, budget: &ClaimBudget, taken: usize, needs_slot: bool) {
        let mut state = self.state.lock();
        let now = self.seam.instant();
        let since = now - std::mem::replace(&mut state.answered, now);
        let ended = std::mem::take(&mut state.ended);
        state.window.measure(ended, since, now - budget.asked);
        if budget.prefetch > 0 {
            state.window.learn(taken.saturating_sub(budget.slots()), needs_slot);
        }
        if budget.limit > 0 {
            state.needs_slot = needs_slot;
        }
        state.claiming = false;
    }

    /// When the first waiting task will have waited too long for a slot.
    pub(crate) fn give_back_at(&self) -> Option<Instant> {
        self.state.lock().ready.front().map(|(.., since)| *since + MAX_BUFFERED)
    }

    /// Takes all tasks that wait for a slot if the first has waited too long, or at once if `all` is set.
    pub(crate) fn take_waiting(&self, all: bool) -> Vec<(T, Permit)> {
        let mut state = self.state.lock();
        state.recalled |= all && state.claiming;
        let late = |since: &Instant| all || self.seam.since(*since) >= MAX_BUFFERED;
        if !state.ready.front().is_some_and(|(.., since)| late(since)) {
            return Vec::new();
        }
        state.window.close();
        // It is not known when a slot becomes free, so the younger tasks go back too.
        state.ready.drain(..).map(|(task, place, _)| (task, self.permit(place, Held::Place))).collect()
    }

    /// Whether waiting tasks were returned while the last claim was in flight. Resets the flag: ask once after each
    /// claim.
    pub(crate) fn were_recalled(&self) -> bool {
        std::mem::take(&mut self.state.lock().recalled)
    }

    /// Whether one of these permits counts against a further limit (of its queue, or of the threads), so that releasing it
    /// makes room that a free slot alone does not.
    pub(crate) fn any_scarce<'a>(&self, mut permits: impl Iterator<Item = &'a Permit>) -> bool {
        let state = self.state.lock();
        permits.any(|permit| {
            let Place { queue, blocking } = permit.place();
            let queue = &state.queues[queue];
            (blocking && self.threads.is_some()) || queue.has_limits()
        })
    }
}

impl<T> SlotState<T> {
    /// How many more tasks can start immediately.
    fn startable(&self) -> usize {
        self.free.saturating_sub(self.ready.len())
    }

    /// Frees a slot. Returns the waiting task that takes it over, unless `start_next` is false.
    fn free_slot(&mut self, start_next: bool) -> Option<(T, Place)> {
        let next = if start_next { self.ready.pop_front() } else { None };
        if next.is_none() {
            self.free += 1;
        }
        next.map(|(task, place, _)| (task, place))
    }

    fn reserve(&mut self, place: Place) {
        self.runs += 1;
        self.free_threads = self.free_threads.saturating_sub(usize::from(place.blocking));
        let queue = &mut self.queues[place.queue];
        queue.taken += 1;
        if !std::mem::replace(&mut queue.is_busy, true) {
            self.busy.push(place.queue);
        }
    }

    /// The queues for a claim, each with the room that its runs leave.
    fn room(&mut self) -> ClaimQueues {
        let mut served = self.served.clone();
        self.busy.retain(|&place| {
            let queue = &mut self.queues[place];
            queue.is_busy = queue.taken > 0;
            if let Some(limit) = queue.limit {
                served.lower_at(place, limit.saturating_sub(queue.taken));
            }
            queue.is_busy
        });
        served
    }

    /// Takes back the capacity that a permit held.
    fn take_back(&mut self, place: Place, held: Held) {
        if held == Held::Nothing {
            return;
        }
        self.free += usize::from(held == Held::Slot);
        self.runs -= 1;
        self.free_threads += usize::from(place.blocking);
        self.queues[place.queue].taken -= 1;
    }
}

/// A slot returned this way goes to the next claim or add.
impl<T: Send> Capacity for Mutex<SlotState<T>> {
    fn take_back(&self, place: Place, held: Held) {
        self.lock().take_back(place, held);
    }
}

#[cfg(test)]
mod tests;
