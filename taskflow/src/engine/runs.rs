//! The runs that are alive in this process.

use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::TaskId;
use crate::store::RunRef;
pub(crate) use crate::task::StopReason;
use crate::task::{FastMap, TaskContext};

/// The runs that are alive in this process, from claim until their end is durable.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    live: Mutex<FastMap<TaskId, Live>>,
    executing: AtomicUsize,
    ending: AtomicBool,
    /// Others may start what may be repeated.
    repeatable_in_doubt: AtomicBool,
    /// Nobody drives the async bodies any more: they are lost, and no longer under way.
    suspended: AtomicBool,
    /// How many wait for there to be fewer.
    watchers: AtomicUsize,
    fewer: Notify,
}

/// A run, and how it is asked to stop.
#[derive(Debug)]
pub(crate) struct Live {
    run: RunRef,
    context: TaskContext,
    blocking: bool,
    /// Whether it runs again if it is lost.
    repeatable: bool,
}

impl Live {
    pub(crate) fn new(run: RunRef, context: TaskContext, blocking: bool, repeatable: bool) -> Self {
        Self { run, context, blocking, repeatable }
    }

    fn executing(&self) -> bool {
        !self.context.is_over()
    }
}

impl Runs {
    /// These are claimed: their leases are kept from now on, and they can be asked to stop.
    pub(crate) fn admit(&self, runs: impl IntoIterator<Item = Live>) {
        let mut live = self.live.lock();
        let ending = self.ending.load(Ordering::Relaxed);
        let in_doubt = self.repeatable_in_doubt.load(Ordering::Relaxed);
        for run in runs {
            if ending {
                run.context.stop().ask(StopReason::Shutdown);
            }
            if in_doubt && run.repeatable {
                run.context.stop().ask(StopReason::LeaseEnding);
            }
            live.insert(run.run.id, run);
        }
    }

    /// A body begins.
    pub(crate) fn begin(&self) {
        self.executing.fetch_add(1, Ordering::Relaxed);
    }

    /// A body is over; its end is not durable yet.
    pub(crate) fn executed(&self) {
        // In one order with `watchers`: whoever watches from now on sees that there are fewer.
        self.executing.fetch_sub(1, Ordering::SeqCst);
        self.notify_waiters();
    }

    /// Its end is durable, or it was lost.
    pub(crate) fn end(&self, runs: impl Iterator<Item = RunRef>) {
        let mut live = self.live.lock();
        for run in runs {
            if let Entry::Occupied(entry) = live.entry(run.id)
                && entry.get().run == run
            {
                entry.remove();
            }
        }
        drop(live);
        self.notify_waiters();
    }

    pub(crate) fn all(&self) -> Vec<RunRef> {
        self.live.lock().values().map(|live| live.run).collect()
    }

    /// The run of this task whose body is not over, if it is here.
    pub(crate) fn find(&self, id: TaskId) -> Option<RunRef> {
        self.live.lock().get(&id).filter(|live| live.executing()).map(|live| live.run)
    }

    /// Asks one run to stop. A run of another fence is left alone.
    pub(crate) fn ask(&self, run: RunRef, reason: StopReason) {
        if let Some(live) = self.live.lock().get(&run.id).filter(|live| live.run == run) {
            live.context.stop().ask(reason);
        }
    }

    /// Asks the run of this task to stop, if it is here.
    pub(crate) fn ask_task(&self, id: TaskId, reason: StopReason) {
        if let Some(live) = self.live.lock().get(&id) {
            live.context.stop().ask(reason);
        }
    }

    pub(crate) fn ask_all(&self, reason: StopReason) {
        for live in self.live.lock().values() {
            live.context.stop().ask(reason);
        }
    }

    /// Others may start what may be repeated, or no longer. While they may, such runs are asked to stop, also those that
    /// begin meanwhile.
    pub(crate) fn doubt_repeatable(&self, in_doubt: bool) {
        let live = self.live.lock();
        self.repeatable_in_doubt.store(in_doubt, Ordering::Relaxed);
        if in_doubt {
            for live in live.values().filter(|live| live.repeatable) {
                live.context.stop().ask(StopReason::LeaseEnding);
            }
        }
    }

    /// The process ends: all are asked to stop, and whatever begins after all.
    pub(crate) fn end_all(&self) {
        let live = self.live.lock();
        self.ending.store(true, Ordering::Relaxed);
        for live in live.values() {
            live.context.stop().ask(StopReason::Shutdown);
        }
    }

    /// The runtime does not get on: async bodies are lost, and end before they are polled again should it ever do.
    pub(crate) fn lose_suspended(&self) {
        self.suspended.store(true, Ordering::Relaxed);
        for live in self.live.lock().values().filter(|live| !live.blocking) {
            live.context.stop().ask(StopReason::Lost);
        }
        self.notify_waiters();
    }

    /// Whether any body is under way that may yet do something.
    pub(crate) fn is_executing(&self) -> bool {
        if self.suspended.load(Ordering::Relaxed) {
            return self.live.lock().values().any(|live| live.blocking && live.executing());
        }
        self.executing.load(Ordering::SeqCst) > 0
    }

    /// The store says that this run is no longer ours. Answers whether its body was still under way: of one that is
    /// over the store knows the end already, or will refuse it.
    pub(crate) fn lose(&self, run: RunRef) -> bool {
        let live = self.live.lock();
        let lost = live.get(&run.id).filter(|live| live.run == run && live.executing());
        if let Some(live) = lost {
            live.context.stop().ask(StopReason::Lost);
        }
        lost.is_some()
    }

    /// Whoever waits for there to be fewer is to look again.
    pub(crate) fn notify_waiters(&self) {
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.fewer.notify_waiters();
        }
    }

    /// Runs that are alive, and those of them whose body is not over.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.live.lock().len(), self.executing.load(Ordering::SeqCst))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live.lock().is_empty()
    }

    /// Whether nothing is alive but synchronous bodies that do not stop.
    pub(crate) fn only_uncancellable_left(&self) -> bool {
        self.live.lock().values().all(|live| live.blocking && live.executing())
    }

    /// As [`only_uncancellable_left`](Self::only_uncancellable_left), and none of them has ever asked whether it is to stop.
    pub(crate) fn only_unaware_left(&self) -> bool {
        let is_deaf = |live: &Live| live.blocking && live.executing() && !live.context.listens();
        self.live.lock().values().all(is_deaf)
    }

    /// Runs whose bodies are not over, and runs of which only the end is to be written.
    pub(crate) fn left(&self) -> (usize, usize) {
        let live = self.live.lock();
        let executing = live.values().filter(|live| live.executing()).count();
        (executing, live.len() - executing)
    }

    /// Waits until `done` holds; looks whenever there are fewer runs.
    pub(crate) async fn until(&self, done: impl Fn(&Self) -> bool) {
        let _watching = Watching::new(self);
        loop {
            let fewer = self.fewer.notified();
            tokio::pin!(fewer);
            fewer.as_mut().enable();
            if done(self) {
                return;
            }
            fewer.await;
        }
    }
}

/// Somebody who waits for there to be fewer runs.
struct Watching<'a>(&'a Runs);

impl<'a> Watching<'a> {
    fn new(runs: &'a Runs) -> Self {
        runs.watchers.fetch_add(1, Ordering::SeqCst);
        Self(runs)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::SeqCst);
    }
}
