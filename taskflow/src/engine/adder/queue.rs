//! The queue of adds that wait for a write. It limits their size, selects the groups of the next write, and refuses
//! groups that no write will take.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::group::{Group, Permits, Size};
use crate::engine::core::Core;
use crate::engine::slots::Permit;
use crate::engine::worker::Worker;
use crate::model::{AddError, StoreError, StoreErrorKind, TaskId};
use crate::seam::Instant;
use crate::store::InsertGroup;

/// The most bytes of adds that wait or are being written. A further add waits until there is room; one that is larger
/// than this waits until the queue is empty.
const MAX_BYTES: usize = 64 << 20;

/// The most bytes of one write, unless a single group is larger.
const MAX_WRITE: usize = 16 << 20;

/// The adds that wait for a write.
#[derive(Debug)]
pub(super) struct AddQueue {
    pub(super) core: Arc<Core>,
    pub(super) worker: Option<Arc<Worker>>,
    state: Mutex<State>,
    /// Notified when room becomes free for adds that wait for it.
    room: Notify,
    /// Notified when a writer ends.
    idle: Notify,
    /// The number of callers that are inserting their adds themselves.
    inserting_now: AtomicUsize,
    max_batch: usize,
    at_once: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Group>,
    /// The bytes of the adds that wait and of those being written.
    bytes: usize,
    /// The number of running writers.
    writers: usize,
    /// The number of callers that wait for room.
    waiting_for_room: usize,
    /// The latest time at which the writes in flight may end.
    busy_until: Option<Instant>,
}

impl State {
    fn is_full_for(&self, bytes: usize) -> bool {
        self.bytes > 0 && self.bytes.saturating_add(bytes) > MAX_BYTES
    }
}

/// The outcome of putting a group into the queue.
pub(super) enum Put {
    /// A running writer will take it.
    Waits,
    /// The caller must start a writer, which will take it.
    NeedsWriter,
    /// The queue has no room for it.
    Full(Group),
    /// The manager has been shut down: the group is not written.
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
            inserting_now: AtomicUsize::new(0),
            max_batch: capabilities.max_batch.max(1),
            at_once: capabilities.inserts_at_once.max(1),
        }
    }

    pub(super) fn put(&self, group: Group) -> Put {
        let mut state = self.state.lock();
        // Checked under the lock: a shutdown that has closed the manager waits for all groups that are in the queue by
        // then.
        if self.core.is_closed() {
            return Put::Closed(group);
        }
        if state.is_full_for(group.size.bytes) {
            return Put::Full(group);
        }
        state.bytes += group.size.bytes;
        state.waiting.push(group);
        if state.writers == self.at_once {
            return Put::Waits;
        }
        state.writers += 1;
        Put::NeedsWriter
    }

    /// Begins an insert that does not go through the queue. It lasts until the returned value is dropped. `None` once the
    /// manager has been shut down or its runtime has ended.
    pub(super) fn begin_now(&self) -> Option<InsertingNow<'_>> {
        // Counted first: a shutdown that has closed the manager waits for all inserts that have begun by then.
        self.inserting_now.fetch_add(1, Ordering::SeqCst);
        let inserting = InsertingNow(self);
        (!self.core.is_closed()).then_some(inserting)
    }

    /// Waits until no add waits or is being written.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.state.lock().writers == 0 && self.inserting_now.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Waits until there may be room for `bytes` bytes.
    pub(super) async fn room(&self, bytes: usize) {
        let room = self.room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        let is_full = {
            let mut state = self.state.lock();
            state.waiting_for_room += 1;
            state.is_full_for(bytes)
        };
        let _waiter = RoomWaiter(self);
        if is_full {
            room.await;
        }
    }

    /// Takes the groups of the next write. With `None` the writer ends.
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

    /// Adds the groups that came meanwhile to a write that will be retried, as long as they fit.
    pub(super) fn join(&self, groups: &mut Vec<Group>) {
        let mut state = self.state.lock();
        let count = fitting(&state.waiting, Size::all(&*groups), usize::MAX);
        groups.extend(state.waiting.drain(..count));
    }

    /// Records the latest time at which the write in flight may end.
    pub(super) fn busy_until(&self, until: Instant) {
        let mut state = self.state.lock();
        state.busy_until = state.busy_until.max(Some(until));
    }

    /// Frees the room of `bytes` bytes.
    pub(super) fn leave(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        let others_wait = state.waiting_for_room > 0;
        drop(state);
        if others_wait {
            self.room.notify_waiters();
        }
    }

    /// Refuses the groups whose deadline has passed while they waited for an earlier write. Returns the first deadline of
    /// the other groups.
    pub(super) fn refuse_the_late(&self) -> Option<Instant> {
        let now = self.core.seam.instant();
        let mut state = self.state.lock();
        let late: Vec<Group> = state.waiting.extract_if(.., |group| group.deadline <= now).collect();
        let next = state.waiting.iter().map(|group| group.deadline).min();
        drop(state);
        late.into_iter().for_each(|group| {
            let why = "it waited until `add_timeout` because the store has not answered earlier adds";
            self.refuse(group, AddError::Store(unavailable(why)));
        });
        next
    }

    /// Takes back the add whose first task has this id, and returns its error. If a write has begun with it, returns
    /// until when to wait for that write.
    pub(super) fn take_back(&self, id: TaskId) -> Result<AddError, Option<Instant>> {
        let mut state = self.state.lock();
        let Some(place) = state.waiting.iter().position(|group| group.id == id) else {
            return Err(state.busy_until);
        };
        let group = state.waiting.remove(place);
        drop(state);
        let refused = AddError::Store(unavailable(
            "the runtime on which this manager was started did not begin to write it until `add_timeout`",
        ));
        self.refuse(group, refused.clone());
        Ok(refused)
    }

    /// Ends a writer that died early. Returns whether another must be started in its place: after a panic, if adds wait.
    /// When the runtime has ended no writer can run, and all waiting adds are refused.
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

    /// Refuses a group. Nothing of it was stored.
    fn refuse(&self, group: Group, why: AddError) {
        self.leave(group.size.bytes);
        self.refuse_unqueued(group, why);
    }

    /// Like [`refuse`](Self::refuse), for a group that has never been in the queue.
    pub(super) fn refuse_unqueued(&self, mut group: Group, why: AddError) {
        self.forget(group.announced, &group.tasks);
        self.free(mem::take(&mut group.permits));
        group.answer(Err(why));
    }

    /// Abandons a group whose write is not retried. If it is unknown whether its tasks are stored, those that may be
    /// leased to this process go back to their queues: none of them has started.
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

    /// Withdraws the announced added events of tasks that were not added, as far as is known.
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
            // A claim may have found no room while the slot was reserved for this add.
            worker.may_have_work();
            self.core.runs.notify_waiters();
        }
    }
}

/// How many groups, counted from the first, fit into a write that already has `size`.
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

/// An insert that does not go through the queue.
pub(super) struct InsertingNow<'a>(&'a AddQueue);

impl Drop for InsertingNow<'_> {
    fn drop(&mut self) {
        let was_last = self.0.inserting_now.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && self.0.core.is_closed() {
            self.0.idle.notify_waiters();
        }
    }
}

/// A caller that waits for room. Dropping this lowers their number.
struct RoomWaiter<'a>(&'a AddQueue);

impl Drop for RoomWaiter<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting_for_room -= 1;
    }
}
