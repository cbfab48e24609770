//! Adds that wait for a write: how many may, what the next write takes, and what becomes of them when none comes.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::group::{Group, Permits, Size};
use crate::engine::core::Core;
use crate::engine::slots::Permit;
use crate::engine::worker::Worker;
use crate::model::{AddError, StoreError, StoreErrorKind, TaskId};
use crate::store::InsertGroup;

/// The most bytes of adds that wait or are being written. A further add waits until there is room; one that is larger waits
/// until it is alone.
const MAX_BYTES: usize = 64 << 20;

/// The most bytes of one write, unless a single group has more.
const MAX_WRITE: usize = 16 << 20;

/// Adds that wait for a write.
#[derive(Debug)]
pub(super) struct AddQueue {
    pub(super) core: Arc<Core>,
    pub(super) worker: Option<Arc<Worker>>,
    state: Mutex<State>,
    /// Notified when adds have been written that others wait for.
    room: Notify,
    /// Notified when a writer ends.
    idle: Notify,
    max_batch: usize,
    at_once: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Group>,
    /// Of what waits and of what is being written.
    bytes: usize,
    /// Writers at work.
    writers: usize,
    /// Callers that wait for room.
    crowded: usize,
    /// Until when the writes under way may take.
    busy_until: Option<Instant>,
}

impl State {
    fn is_full_for(&self, bytes: usize) -> bool {
        self.bytes > 0 && self.bytes.saturating_add(bytes) > MAX_BYTES
    }
}

/// What became of a group that was put into the queue.
pub(super) enum Put {
    /// A writer will come to it.
    Waits,
    /// The same, if one is started now.
    NeedsWriter,
    /// There is no room.
    Crowded(Group),
    /// The manager has been shut down: this is not written.
    Closed(Group),
}

impl AddQueue {
    pub(super) fn new(core: Arc<Core>, worker: Option<Arc<Worker>>) -> Self {
        let capabilities = core.store.capabilities();
        Self {
            core,
            worker,
            state: Mutex::default(),
            room: Notify::new(),
            idle: Notify::new(),
            max_batch: capabilities.max_batch.max(1),
            at_once: capabilities.inserts_at_once.max(1),
        }
    }

    pub(super) fn put(&self, group: Group) -> Put {
        let mut state = self.state.lock();
        // Under the lock: a shutdown that has closed the manager waits for all that is in here by then.
        if self.core.is_closed() {
            return Put::Closed(group);
        }
        if state.is_full_for(group.size.bytes) {
            return Put::Crowded(group);
        }
        state.bytes += group.size.bytes;
        state.waiting.push(group);
        if state.writers == self.at_once {
            return Put::Waits;
        }
        state.writers += 1;
        Put::NeedsWriter
    }

    /// Waits until nothing waits and nothing is being written.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.state.lock().writers == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Waits until there may be room for that many bytes.
    pub(super) async fn room(&self, bytes: usize) {
        let room = self.room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        let is_full = {
            let mut state = self.state.lock();
            state.crowded += 1;
            state.is_full_for(bytes)
        };
        let _leaves = Leaves(self);
        if is_full {
            room.await;
        }
    }

    /// The groups of the next write; with none, the writer ends.
    pub(super) fn take(&self) -> Option<Vec<Group>> {
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            state.writers -= 1;
            drop(state);
            self.idle.notify_waiters();
            return None;
        }
        let count = fitting(&state.waiting, Size::default(), self.max_batch).max(1);
        if count == state.waiting.len() {
            Some(mem::take(&mut state.waiting))
        } else {
            Some(state.waiting.drain(..count).collect())
        }
    }

    /// Adds those that came meanwhile to a write that is to be repeated, as far as they fit.
    pub(super) fn join(&self, groups: &mut Vec<Group>) {
        let mut state = self.state.lock();
        let count = fitting(&state.waiting, Size::all(&*groups), usize::MAX);
        groups.extend(state.waiting.drain(..count));
    }

    /// The write under way may take until then.
    pub(super) fn busy_until(&self, until: Instant) {
        let mut state = self.state.lock();
        state.busy_until = state.busy_until.max(Some(until));
    }

    /// These bytes are no longer kept.
    pub(super) fn leave(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        let crowded = state.crowded > 0;
        drop(state);
        if crowded {
            self.room.notify_waiters();
        }
    }

    /// Refuses those that cannot wait longer for the write before theirs. Answers until when the first of the others can.
    pub(super) fn refuse_the_late(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let late: Vec<Group> = state.waiting.extract_if(.., |group| group.deadline <= now).collect();
        let next = state.waiting.iter().map(|group| group.deadline).min();
        drop(state);
        late.into_iter().for_each(|group| {
            self.refuse(group, AddError::Store(unavailable("the store has not answered the adds before it")));
        });
        next
    }

    /// Takes the add of that first id back, if no write has begun with it: then its error, else until when to wait.
    pub(super) fn take_back(&self, id: TaskId) -> Result<AddError, Option<Instant>> {
        let mut state = self.state.lock();
        let Some(place) = state.waiting.iter().position(|group| group.id == id) else {
            return Err(state.busy_until);
        };
        let group = state.waiting.remove(place);
        drop(state);
        let refused = AddError::Store(unavailable(
            "the runtime on which this manager was started has not begun to write it",
        ));
        self.refuse(group, refused.clone());
        Ok(refused)
    }

    /// A writer ends before its time. Answers whether another must be started in its place: after a panic, if adds wait. When
    /// the runtime has ended there is none, and nothing waits any more.
    pub(super) fn writer_died(&self, panicked: bool) -> bool {
        let mut state = self.state.lock();
        if panicked && !state.waiting.is_empty() {
            return true;
        }
        state.writers -= 1;
        self.idle.notify_waiters();
        let waiting = if panicked { Vec::new() } else { mem::take(&mut state.waiting) };
        drop(state);
        waiting.into_iter().for_each(|group| self.refuse(group, AddError::ShutDown));
        false
    }

    /// Nothing of this group was stored.
    fn refuse(&self, group: Group, why: AddError) {
        self.leave(group.size.bytes);
        self.refuse_unqueued(group, why);
    }

    /// The same for a group that has never been in the queue.
    pub(super) fn refuse_unqueued(&self, mut group: Group, why: AddError) {
        self.forget(group.announced, &group.tasks);
        self.free(mem::take(&mut group.permits));
        group.answer(Err(why));
    }

    /// The write of this group is not repeated any more. If it is not known whether its tasks are stored, those that may have
    /// been leased to this process go back to their queues: their leases would end, and none of them has begun.
    pub(super) fn abandon(&self, group: &mut Group) {
        self.forget(group.announced, &group.tasks);
        let permits = mem::take(&mut group.permits);
        match &self.worker {
            Some(worker) if group.in_doubt => {
                for (insert, permit) in group.tasks.tasks.iter().zip(permits.each()) {
                    if let Some(permit) = permit {
                        worker.hand_back_unconfirmed(&insert.task, permit);
                    }
                }
            }
            _ => self.free(permits),
        }
    }

    /// Nothing was added of these, as far as is known.
    pub(super) fn forget(&self, announced: bool, tasks: &InsertGroup) {
        if announced {
            tasks.tasks.iter().for_each(|insert| self.core.events.added(insert.task.id, None));
        }
    }

    /// Gives these slots back.
    pub(super) fn free(&self, permits: Permits) {
        self.free_each(permits.each());
    }

    pub(super) fn free_each(&self, permits: impl IntoIterator<Item = Option<Permit>>) {
        let Some(worker) = &self.worker else { return };
        let mut any = false;
        for permit in permits.into_iter().flatten() {
            worker.give_back(permit);
            any = true;
        }
        if any {
            // A claim may have found no room while the slot was kept for this.
            worker.may_have_work();
            self.core.runs.notify_waiters();
        }
    }
}

/// How many groups, from the first on, fit into a write in which there is so much already.
fn fitting(groups: &[Group], mut size: Size, max_tasks: usize) -> usize {
    let fits = |group: &&Group| {
        size.tasks = size.tasks.saturating_add(group.size.tasks);
        size.bytes = size.bytes.saturating_add(group.size.bytes);
        size.tasks <= max_tasks && size.bytes <= MAX_WRITE
    };
    groups.iter().take_while(fits).count()
}

pub(super) fn unavailable(why: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, why)
}

/// A caller that no longer waits for room.
struct Leaves<'a>(&'a AddQueue);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.state.lock().crowded -= 1;
    }
}
