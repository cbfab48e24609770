//! Delivers the ends of tasks to the callers that wait for them.
//!
//! A run that ends in this process hands its outcome over without a read. For all other tasks
//! [`end_reader`](super::end_reader) asks the store.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::model::{TaskId, TaskStatus};
use crate::store::TaskEnd;

/// The tasks that callers of this process wait for.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waited_for: Mutex<WaitedFor>,
    /// How many tasks are waited for: an end that nobody waits for takes no lock.
    count: AtomicUsize,
    /// Tells the reader that there is something to read.
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct WaitedFor {
    tasks: HashMap<TaskId, watch::Sender<Seen>>,
    /// Those to read at once.
    unread: Vec<TaskId>,
    /// Whether the store has hinted at a change since all were read.
    changed: bool,
    /// How many rounds of reads have begun.
    rounds: u64,
}

/// What is known of a task that is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its status when it was last read; pending before.
    pub(crate) status: TaskStatus,
    /// Its end, once it is known.
    pub(crate) end: Option<TaskEnd>,
    /// The round that read its end; `None` for an end in this process.
    round: Option<u64>,
}

/// One caller that waits for one task. Dropped, it waits no longer.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    waiters: &'a Waiters,
    id: TaskId,
    /// How many rounds had begun before this caller came.
    rounds: u64,
    seen: Option<watch::Receiver<Seen>>,
}

impl Waiters {
    /// Begins to wait for a task, which is read at once: it may have ended before.
    pub(crate) fn join(&self, id: TaskId) -> Waiting<'_> {
        let mut waited_for = self.waited_for.lock();
        let nothing = || watch::Sender::new(Seen { status: TaskStatus::Pending, end: None, round: None });
        let seen = waited_for.tasks.entry(id).or_insert_with(nothing).subscribe();
        waited_for.unread.push(id);
        // Before the read: an end that becomes durable after it finds this number.
        self.count.store(waited_for.tasks.len(), Ordering::SeqCst);
        let rounds = waited_for.rounds;
        drop(waited_for);
        self.wake.notify_one();
        Waiting { waiters: self, id, rounds, seen: Some(seen) }
    }

    /// A task has ended in this process; `end` says how.
    pub(crate) fn ended(&self, id: TaskId, end: impl FnOnce() -> TaskEnd) {
        if self.count.load(Ordering::SeqCst) > 0 && self.waited_for.lock().tasks.contains_key(&id) {
            self.deliver(id, end(), None);
        }
    }

    /// A task has ended, and how is in the store.
    pub(crate) fn ended_somehow(&self, id: TaskId) {
        if self.count.load(Ordering::SeqCst) > 0 {
            let mut waited_for = self.waited_for.lock();
            if waited_for.tasks.contains_key(&id) {
                waited_for.unread.push(id);
                self.wake.notify_one();
            }
        }
    }

    /// Something changed in the store.
    pub(crate) fn anything_changed(&self) {
        if self.count.load(Ordering::SeqCst) > 0 {
            self.waited_for.lock().changed = true;
            self.wake.notify_one();
        }
    }

    /// What a round has read, or what has ended. Callers that begin to wait for a task after its end is delivered read it
    /// anew: it may have been retried by hand.
    pub(super) fn deliver(&self, id: TaskId, end: TaskEnd, round: Option<u64>) {
        let mut waited_for = self.waited_for.lock();
        let Entry::Occupied(task) = waited_for.tasks.entry(id) else { return };
        match end {
            TaskEnd::Open(status) => task.get().send_modify(|seen| seen.status = status),
            end => {
                task.remove().send_modify(|seen| (seen.end, seen.round) = (Some(end), round));
                self.count.store(waited_for.tasks.len(), Ordering::SeqCst);
            }
        }
    }

    /// The tasks to read now, and otherwise how long to wait before the next look: without a limit while nothing is
    /// waited for.
    pub(super) fn next(&self, times: &Times) -> Result<Round, Option<Instant>> {
        let now = Instant::now();
        let mut waited_for = self.waited_for.lock();
        let hinted = waited_for.changed && times.hint_from <= now;
        if (hinted || times.poll_at <= now) && !waited_for.tasks.is_empty() {
            waited_for.changed = false;
            waited_for.unread.clear();
            waited_for.rounds += 1;
            let ids = waited_for.tasks.keys().copied().collect();
            return Ok(Round { number: waited_for.rounds, ids, is_full: true });
        }
        let mut unread = std::mem::take(&mut waited_for.unread);
        unread.retain(|id| waited_for.tasks.contains_key(id));
        if !unread.is_empty() {
            unread.sort_unstable();
            unread.dedup();
            waited_for.rounds += 1;
            return Ok(Round { number: waited_for.rounds, ids: unread, is_full: false });
        }
        let next = if waited_for.changed { times.hint_from.min(times.poll_at) } else { times.poll_at };
        Err((!waited_for.tasks.is_empty()).then_some(next))
    }
}

/// What is read in one round.
pub(super) struct Round {
    pub(super) number: u64,
    pub(super) ids: Vec<TaskId>,
    /// Whether these are all that are waited for.
    pub(super) is_full: bool,
}

/// When all are read next.
pub(super) struct Times {
    /// After a hint, not before this.
    pub(super) hint_from: Instant,
    /// Without a hint.
    pub(super) poll_at: Instant,
}

impl Waiting<'_> {
    /// The end of the task.
    pub(crate) async fn end(&mut self) -> TaskEnd {
        while let Some((end, round)) = self.told().await {
            // The round may have read it before a retry by hand that this caller knows of.
            if round.is_none_or(|round| round > self.rounds) {
                return end;
            }
            *self = self.waiters.join(self.id);
        }
        // Nothing takes a task out without an end while it is waited for.
        std::future::pending().await
    }

    /// The end that the callers of one time are told, and the round that has read it.
    async fn told(&mut self) -> Option<(TaskEnd, Option<u64>)> {
        let seen = self.seen.as_mut()?.wait_for(|seen| seen.end.is_some()).await.ok()?;
        seen.end.clone().map(|end| (end, seen.round))
    }

    /// The status of the task when it was last read.
    pub(crate) fn last_status(&self) -> TaskStatus {
        self.seen.as_ref().map_or(TaskStatus::Pending, |seen| seen.borrow().status)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Under the lock: of two that are dropped together the second sees that it is the last.
        let mut waited_for = self.waiters.waited_for.lock();
        self.seen = None;
        if let Entry::Occupied(task) = waited_for.tasks.entry(self.id)
            && task.get().receiver_count() == 0
        {
            task.remove();
            self.waiters.count.store(waited_for.tasks.len(), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn callers_that_give_up_together_leave_nothing_behind() {
        let waiters = Waiters::default();
        let id = TaskId::new();
        for _ in 0..2_000 {
            let both = [waiters.join(id), waiters.join(id)];
            std::thread::scope(|scope| {
                for waiting in both {
                    scope.spawn(move || drop(waiting));
                }
            });
            assert!(waiters.waited_for.lock().tasks.is_empty());
        }
        assert_eq!(waiters.count.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_caller_that_comes_after_the_end_was_delivered_waits_for_the_next() {
        let waiters = Waiters::default();
        let id = TaskId::new();
        let first = waiters.join(id);
        waiters.ended(id, || TaskEnd::of(TaskStatus::Failed, None, None));
        let second = waiters.join(id);
        drop(first);
        let seen = second.seen.as_ref().map(|seen| seen.borrow().end.clone());
        assert_eq!(seen, Some(None), "it has been retried by hand, perhaps");
        assert_eq!(waiters.waited_for.lock().tasks.len(), 1);
    }

    #[tokio::test]
    async fn a_caller_that_comes_during_a_read_waits_for_the_next() {
        let waiters = Waiters::default();
        let id = TaskId::new();
        let times = Times { hint_from: Instant::now(), poll_at: Instant::now() + Duration::from_millis(500) };
        let mut first = waiters.join(id);
        let Ok(round) = waiters.next(&times) else { panic!("there is something to read") };
        let mut second = waiters.join(id);
        let end = |error: &str| TaskEnd::of(TaskStatus::Failed, None, Some(error.to_owned()));
        waiters.deliver(id, end("old"), Some(round.number));
        assert_eq!(first.end().await, end("old"));
        let mut second = std::pin::pin!(second.end());
        let told = futures_util::future::poll_immediate(&mut second).await;
        assert_eq!(told, None, "it may have been retried by hand before this caller came");
        let Ok(round) = waiters.next(&times) else { panic!("it is read anew") };
        waiters.deliver(id, end("new"), Some(round.number));
        assert_eq!(second.await, end("new"));
    }
}
