//! How much may run at once: in all, of each queue, and on blocking threads.
//!
//! A body has a slot while it runs. The run it belongs to is longer: from its claim until its end is durable. So long it
//! counts against the limits of its queue and against what this process may have claimed in all, which is as many as
//! there are slots, and [`PrefetchWindow`] more.
//!
//! A claim says how many slots are free, and these stay free for it: nothing else takes a slot until it is answered. So a
//! task that may not be prefetched begins as soon as its claim is answered, and only tasks that may wait in `ready`.

mod permit;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) use self::permit::Permit;
use self::permit::{Capacity, Held, Place};
use super::prefetch::{Bodies, MAX_BUFFERED, PrefetchWindow};
use crate::store::ClaimQueue;

/// The slots of this process, for tasks that are claimed as `T`.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    indices: HashMap<Arc<str>, usize>,
    names: Vec<Arc<str>>,
    /// Shared with every permit, which gives back what it holds when it is dropped.
    state: Arc<Mutex<SlotState<T>>>,
    total: usize,
    /// How many slots synchronous tasks may have, if not all.
    threads: Option<usize>,
    max_prefetch: usize,
}

#[derive(Debug)]
struct SlotState<T> {
    /// Slots without a body.
    free: usize,
    /// Runs that are claimed, or being added to run at once, and whose end is not durable.
    runs: usize,
    /// A claim is under way, and every limit was offered to it: what is given back meanwhile is not to be taken twice.
    claiming: bool,
    /// What waits was to go back, and so is what the claim that is under way brings and no slot is free for.
    recalled: bool,
    /// The process ends: nothing is started with what is added.
    closed: bool,
    free_threads: usize,
    queues: Vec<QueueSlots>,
    /// Prefetched, and waiting for a slot, each since when.
    ready: VecDeque<(T, Place, Instant)>,
    window: PrefetchWindow,
    /// The last claim ended at a task that may not be prefetched.
    needs_slot: bool,
    /// Bodies that ended since the last claim was answered.
    ended: Bodies,
    answered: Instant,
}

#[derive(Debug)]
struct QueueSlots {
    name: Arc<str>,
    limit: Option<usize>,
    /// Claims mind limits over all processes.
    shared: bool,
    /// Runs of it.
    taken: usize,
}

impl QueueSlots {
    fn free(&self, of: usize) -> usize {
        self.limit.map_or(of, |limit| limit.saturating_sub(self.taken).min(of))
    }

    fn has_limits(&self) -> bool {
        self.shared || self.limit.is_some()
    }
}

/// What a claim may take: every limit, offered until [`Slots::answered`] or [`Slots::undo`].
#[derive(Debug)]
pub(crate) struct ClaimBudget {
    pub(crate) limit: usize,
    /// How many of `limit` find no free slot.
    pub(crate) prefetch: usize,
    /// How many of `limit` synchronous tasks may take.
    pub(crate) threads: usize,
    pub(crate) queues: Vec<ClaimQueue>,
    asked: Instant,
}

impl ClaimBudget {
    pub(crate) fn slots(&self) -> usize {
        self.limit - self.prefetch
    }
}

impl<T: Send + 'static> Slots<T> {
    /// `total` slots, of which synchronous tasks may have `threads`, and at most `max_prefetch` runs beyond them.
    pub(crate) fn new(
        total: usize,
        threads: usize,
        max_prefetch: usize,
        queues: Vec<(Arc<str>, Option<usize>)>,
    ) -> Self {
        let queues: Vec<_> = queues
            .into_iter()
            .map(|(name, limit)| QueueSlots { name, limit, shared: false, taken: 0 })
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
                queues,
                ready: VecDeque::new(),
                window: PrefetchWindow::new(total, max_prefetch),
                needs_slot: false,
                ended: Bodies::default(),
                answered: Instant::now(),
            })),
            total,
            threads: (threads < total).then_some(threads),
            max_prefetch,
        }
    }

    /// From now on so many tasks of a queue may run here, and claims mind limits over all processes or not. What runs
    /// goes on; what waits for a slot must go back.
    pub(crate) fn set_limit(&self, queue: &str, limit: Option<usize>, shared: bool) {
        let Some(index) = self.indices.get(queue) else { return };
        let queue = &mut self.state.lock().queues[*index];
        (queue.limit, queue.shared) = (limit, shared);
    }

    /// A slot for a task of that queue, if one is free. Queues that do not run here have none, and of those with limits
    /// over all processes only a claim takes slots. A task that is not eager leaves the slot to one that waits for it in the
    /// store: it is not started before that one.
    pub(crate) fn try_take(&self, queue: &str, blocking: bool, eager: bool) -> Option<Permit> {
        let index = *self.indices.get(queue)?;
        let mut state = self.state.lock();
        let free = if state.claiming || state.closed { 0 } else { state.prompt() };
        if state.queues[index].shared
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

    /// No slot can be taken from now on.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
    }

    /// How many runs there are, with what may become one: an add or a claim that is under way.
    pub(crate) fn taken(&self) -> usize {
        let state = self.state.lock();
        state.runs + usize::from(state.claiming)
    }

    /// Nothing ran in its slot. Answers what runs there instead, unless nothing is to start now.
    pub(crate) fn give_back(&self, mut permit: Permit, start_next: bool) -> Option<(T, Permit)> {
        let mut state = self.state.lock();
        let next = if permit.release_slot() { state.free_slot(start_next) } else { None };
        state.take_back(permit.place(), permit.release());
        drop(state);
        next.map(|(task, place)| (task, self.permit(place, Held::Slot)))
    }

    /// A body is over that took so long: its slot is free, and its place is kept until its end is durable. Answers what runs
    /// next in the slot, unless nothing is to start now.
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

    /// The ends of these runs are durable.
    pub(crate) fn leave<'a>(&self, permits: impl IntoIterator<Item = &'a mut Permit>) {
        let mut state = self.state.lock();
        for permit in permits {
            state.take_back(permit.place(), permit.release());
        }
    }

    /// What a claim may take: all that is free, and what `leaving` will leave when the same write has ended them.
    pub(crate) fn budget<'a>(&self, leaving: impl IntoIterator<Item = &'a mut Permit>) -> ClaimBudget {
        let mut state = self.state.lock();
        for permit in leaving {
            state.take_back(permit.place(), permit.release());
        }
        state.claiming = true;
        let most = self.total.saturating_add(state.window.size());
        // Half of it runs while the other half is on its way; without a window, all that is free.
        let limit = most.saturating_sub(state.runs).min(self.total.max(most / 2));
        let slots = state.prompt().min(limit);
        let prefetch = match slots {
            // A claim would bring nothing again.
            0 if state.needs_slot => 0,
            _ => state.window.reach().min(limit - slots),
        };
        let limit = slots + prefetch;
        let queues = state.queues.iter().map(|queue| ClaimQueue {
            // What waited for a slot would use up a limit and run nothing.
            prefetch: !queue.has_limits(),
            ..ClaimQueue::new(queue.name.clone(), queue.free(limit))
        });
        let queues = queues.filter(|queue| queue.limit > 0).collect();
        let threads = self.threads.map_or(limit, |_| state.free_threads.min(limit));
        ClaimBudget { limit, prefetch, threads, queues, asked: Instant::now() }
    }

    /// The claim failed: `leaving` stay.
    pub(crate) fn undo<'a>(&self, leaving: impl IntoIterator<Item = &'a mut Permit>) {
        let mut state = self.state.lock();
        state.claiming = false;
        for permit in leaving {
            if permit.restore() {
                state.reserve(permit.place());
            }
        }
    }

    /// The claim brought these, of which `kind` says the queue and whether they are synchronous. Answers those that begin;
    /// the others wait for a slot. More may come of the same claim.
    pub(crate) fn admit(&self, claimed: Vec<T>, kind: impl Fn(&T) -> (&str, bool)) -> Vec<(T, Permit)> {
        let mut state = self.state.lock();
        let now = Instant::now();
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

    /// The claim has brought `taken` tasks, and ended at one that may not be prefetched if it `needs_slot`.
    pub(crate) fn answered(&self, budget: &ClaimBudget, taken: usize, needs_slot: bool) {
        let mut state = self.state.lock();
        let now = Instant::now();
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

    /// When the first of those that wait for a slot will have waited for too long.
    pub(crate) fn impatient_at(&self) -> Option<Instant> {
        self.state.lock().ready.front().map(|(.., since)| *since + MAX_BUFFERED)
    }

    /// What waits for a slot, once the first of it has waited for too long, or at once if all of it is to go back.
    pub(crate) fn take_waiting(&self, all: bool) -> Vec<(T, Permit)> {
        let mut state = self.state.lock();
        state.recalled |= all && state.claiming;
        let late = |since: &Instant| all || since.elapsed() >= MAX_BUFFERED;
        if !state.ready.front().is_some_and(|(.., since)| late(since)) {
            return Vec::new();
        }
        state.window.close();
        // Nobody knows when a slot will be free: the younger ones go too.
        state.ready.drain(..).map(|(task, place, _)| (task, self.permit(place, Held::Place))).collect()
    }

    /// Whether what waits was to go back while the last claim was under way. Asked once, after that claim.
    pub(crate) fn were_recalled(&self) -> bool {
        std::mem::take(&mut self.state.lock().recalled)
    }

    /// Whether, by leaving, one of these makes room for what no free slot could take: it was under a limit of its own.
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
    /// How many can start at once.
    fn prompt(&self) -> usize {
        self.free.saturating_sub(self.ready.len())
    }

    /// A slot has no body any more: answers what waits for one, unless nothing is to start now.
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
        self.queues[place.queue].taken += 1;
    }

    /// Adds what a permit gives back to what is free.
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

/// The next claim or add takes a slot that comes back this way.
impl<T: Send> Capacity for Mutex<SlotState<T>> {
    fn take_back(&self, place: Place, held: Held) {
        self.lock().take_back(place, held);
    }
}

#[cfg(test)]
mod tests;
