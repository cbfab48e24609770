//! Delivers results to the callers that wait for tasks.
//!
//! A run that ends in this process delivers its result without a read. For all other tasks
//! [`end_reader`](super::end_reader) asks the store.

use std::collections::hash_map::Entry;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

use crate::model::{FastMap, TaskId, TaskStatus};
use crate::seam::Instant;
use crate::store::TaskEnd;

/// The tasks that callers in this process wait for.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waited_for: Mutex<WaitedFor>,
    /// The number of tasks waited for. While it is 0, a run that ends takes no lock.
    count: AtomicUsize,
    /// Wakes the reader: there is something to read.
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct WaitedFor {
    tasks: FastMap<TaskId, watch::Sender<Seen>>,
    /// The tasks to read at once.
    unread: Vec<TaskId>,
    /// Whether the store has sent a hint since all tasks were read.
    changed: bool,
    /// The number of rounds of reads that have begun.
    rounds: u64,
}

/// The known state of a task that callers wait for.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The status at the last read; pending before the first.
    pub(crate) status: TaskStatus,
    /// The result, once it is known.
    pub(crate) end: Option<TaskEnd>,
    /// The round that read the result; `None` for a task that ended in this process.
    round: Option<u64>,
}

/// One caller that waits for one task, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    waiters: &'a Waiters,
    id: TaskId,
    /// The number of rounds that had begun when this caller began to wait.
    rounds: u64,
    seen: Option<watch::Receiver<Seen>>,
}

impl Waiters {
    /// Begins to wait for a task. The task is read at once: it may have ended already.
    pub(crate) fn join(&self, id: TaskId) -> Waiting<'_> {
        let mut waited_for = self.waited_for.lock();
        let nothing = || watch::Sender::new(Seen { status: TaskStatus::Pending, end: None, round: None });
        let seen = waited_for.tasks.entry(id).or_insert_with(nothing).subscribe();
        waited_for.unread.push(id);
        // Before the read: a run whose result is stored after the read sees this count.
        self.count.store(waited_for.tasks.len(), Ordering::SeqCst);
        let rounds = waited_for.rounds;
        drop(waited_for);
        self.wake.notify_one();
        Waiting { waiters: self, id, rounds, seen: Some(seen) }
    }

    /// Delivers the results of tasks that ended in this process, all under one lock. `None` while nobody waits. Call it once
    /// the results are stored: a caller that begins to wait later then reads them from the store.
    pub(crate) fn ends(&self) -> Option<Ends<'_>> {
        let anybody = self.count.load(Ordering::SeqCst) > 0;
        anybody.then(|| Ends { waiters: self, waited_for: self.waited_for.lock() })
    }

    /// Schedules a read of a task that has ended and whose result is in the store.
    pub(crate) fn ended_somehow(&self, id: TaskId) {
        if let Some(mut ends) = self.ends() {
            ends.ended(id, None::<fn() -> TaskEnd>);
        }
    }

    /// Schedules a read of all tasks: the store has sent a hint.
    pub(crate) fn anything_changed(&self) {
        // The first hint wakes the reader, which then knows when to read. Further hints do not wake it.
        if self.count.load(Ordering::SeqCst) > 0 && !mem::replace(&mut self.waited_for.lock().changed, true) {
            self.wake.notify_one();
        }
    }

    /// Delivers what a round has read. A caller that begins to wait after this delivery reads the task again: it may have been
    /// retried manually.
    pub(super) fn deliver(&self, id: TaskId, end: TaskEnd, round: Option<u64>) {
        let mut waited_for = self.waited_for.lock();
        let Entry::Occupied(task) = waited_for.tasks.entry(id) else { return };
        match end {
            // No caller is woken: callers wait only for the result.
            TaskEnd::Open(status) => drop(task.get().send_if_modified(|seen| {
                seen.status = status;
                false
            })),
            end => {
                task.remove().send_modify(|seen| (seen.end, seen.round) = (Some(end), round));
                self.count.store(waited_for.tasks.len(), Ordering::SeqCst);
            }
        }
    }

    /// The tasks to read now. An error is the time at which to check again, or `None` while no task is waited for.
    pub(super) fn next(&self, times: &Times, now: Instant) -> Result<Round, Option<Instant>> {
        let mut waited_for = self.waited_for.lock();
        let hinted = waited_for.changed && times.hint_from <= now;
        if (hinted || times.poll_at <= now) && !waited_for.tasks.is_empty() {
            waited_for.changed = false;
            waited_for.unread.clear();
            waited_for.rounds += 1;
            let mut ids: Vec<_> = waited_for.tasks.keys().copied().collect();
            // Callers are answered in the order of their adds.
            ids.sort_unstable();
            return Ok(Round { number: waited_for.rounds, ids, is_full: true });
        }
        let mut unread = mem::take(&mut waited_for.unread);
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

/// Delivers the results of some tasks that ended in this process.
pub(crate) struct Ends<'a> {
    waiters: &'a Waiters,
    waited_for: MutexGuard<'a, WaitedFor>,
}

impl Ends<'_> {
    /// Delivers the result of one task. Without a result the task has ended, and its end is read from the store.
    pub(crate) fn ended(&mut self, id: TaskId, end: Option<impl FnOnce() -> TaskEnd>) {
        let Entry::Occupied(task) = self.waited_for.tasks.entry(id) else { return };
        match end {
            Some(end) => {
                task.remove().send_modify(|seen| (seen.end, seen.round) = (Some(end()), None));
                self.waiters.count.store(self.waited_for.tasks.len(), Ordering::SeqCst);
            }
            None => {
                self.waited_for.unread.push(id);
                self.waiters.wake.notify_one();
            }
        }
    }
}

/// The tasks that one round reads.
pub(super) struct Round {
    pub(super) number: u64,
    pub(super) ids: Vec<TaskId>,
    /// Whether these are all the tasks that callers wait for.
    pub(super) is_full: bool,
}

/// When all tasks are read next.
pub(super) struct Times {
    /// The earliest time for a read after a hint.
    pub(super) hint_from: Instant,
    /// The time of the next read without a hint.
    pub(super) poll_at: Instant,
}

impl Waiting<'_> {
    /// Waits for the result of the task.
    pub(crate) async fn end(&mut self) -> TaskEnd {
        while let Some((end, round)) = self.delivered().await {
            // The round may have read the task before a manual retry that this caller knows of.
            if round.is_none_or(|round| round > self.rounds) {
                return end;
            }
            *self = self.waiters.join(self.id);
        }
        // An entry is never removed without a result while a caller waits for it.
        std::future::pending().await
    }

    /// Waits for the result that all callers of this entry receive, and the round that read it.
    async fn delivered(&mut self) -> Option<(TaskEnd, Option<u64>)> {
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
        // Under the lock: of two callers that are dropped together, the second sees that it is the last.
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
    fn a_task_whose_end_is_only_in_the_store_is_read_at_once() {
        let (waiters, id, now) = (Waiters::default(), TaskId::new(), Instant::now());
        let times = Times { hint_from: now + Duration::from_secs(1), poll_at: now + Duration::from_secs(1) };
        let _waiting = waiters.join(id);
        assert!(waiters.next(&times, now).is_ok_and(|round| round.ids == [id]), "it may have ended already");
        assert!(waiters.next(&times, now).is_err(), "there is nothing new");
        waiters.ended_somehow(id);
        assert!(waiters.next(&times, now).is_ok_and(|round| round.ids == [id]));
    }

    #[test]
    fn a_caller_that_comes_after_the_end_was_delivered_waits_for_the_next() {
        let waiters = Waiters::default();
        let id = TaskId::new();
        let first = waiters.join(id);
        let end = || TaskEnd::of(TaskStatus::Failed, None, None);
        waiters.ends().expect("somebody waits").ended(id, Some(end));
        let second = waiters.join(id);
        drop(first);
        let seen = second.seen.as_ref().map(|seen| seen.borrow().end.clone());
        assert_eq!(seen, Some(None), "it may have been retried manually");
        assert_eq!(waiters.waited_for.lock().tasks.len(), 1);
    }

    #[tokio::test]
    async fn a_caller_that_comes_during_a_read_waits_for_the_next() {
        let waiters = Waiters::default();
        let id = TaskId::new();
        let times = Times { hint_from: Instant::now(), poll_at: Instant::now() + Duration::from_millis(500) };
        let mut first = waiters.join(id);
        let Ok(round) = waiters.next(&times, Instant::now()) else { panic!("there is something to read") };
        let mut second = waiters.join(id);
        let end = |error: &str| TaskEnd::of(TaskStatus::Failed, None, Some(error.to_owned()));
        waiters.deliver(id, end("old"), Some(round.number));
        assert_eq!(first.end().await, end("old"));
        let mut second = std::pin::pin!(second.end());
        let told = futures_util::future::poll_immediate(&mut second).await;
        assert_eq!(told, None, "it may have been retried manually before this caller came");
        let Ok(round) = waiters.next(&times, Instant::now()) else { panic!("it is read again") };
        waiters.deliver(id, end("new"), Some(round.number));
        assert_eq!(second.await, end("new"));
    }
}
