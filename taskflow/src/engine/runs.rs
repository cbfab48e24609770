//! The live runs of this process.

use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{FastMap, TaskId};
use crate::store::RunRef;
pub(crate) use crate::task::StopReason;
use crate::task::TaskContext;

/// The live runs of this process, from their claim until their result has been stored.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    live: Mutex<FastMap<TaskId, Live>>,
    executing: AtomicUsize,
    ending: AtomicBool,
    /// Other processes may start this process's repeatable tasks.
    repeatable_in_doubt: AtomicBool,
    /// Nothing polls the async bodies any more: they are lost and no longer count as running.
    suspended: AtomicBool,
    /// The number of callers in [`until`](Self::until).
    watchers: AtomicUsize,
    fewer: Notify,
}

/// A live run, with the context through which it is asked to stop.
#[derive(Debug)]
pub(crate) struct Live {
    run: RunRef,
    context: TaskContext,
    blocking: bool,
    /// Whether the task runs again if this run is lost.
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
    /// Adds claimed runs: from now on their leases are renewed, and they can be asked to stop. With `too_late` they are asked
    /// to stop immediately, since other processes may start their tasks.
    pub(crate) fn admit(&self, runs: impl IntoIterator<Item = Live>, too_late: bool) {
        let mut live = self.live.lock();
        let ending = self.ending.load(Ordering::Relaxed);
        let in_doubt = self.repeatable_in_doubt.load(Ordering::Relaxed);
        for run in runs {
            if ending {
                run.context.stop().ask(StopReason::Shutdown);
            }
            if too_late || in_doubt && run.repeatable {
                run.context.stop().ask(StopReason::LeaseEnding);
            }
            // Of two runs of one task, this process has lost the older one. The newer one needs renewals.
            match live.entry(run.run.id) {
                Entry::Occupied(there) if there.get().run.fence > run.run.fence => {
                    run.context.stop().ask(StopReason::Lost);
                }
                Entry::Occupied(mut there) => {
                    if there.get().run != run.run {
                        there.get().context.stop().ask(StopReason::Lost);
                    }
                    there.insert(run);
                }
                Entry::Vacant(place) => {
                    place.insert(run);
                }
            }
        }
    }

    /// Counts a body that starts.
    pub(crate) fn begin(&self) {
        self.executing.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a body that has ended. Its result has not been stored yet.
    pub(crate) fn executed(&self) {
        // Sequentially consistent with `watchers`: a caller that begins to watch now sees the lower count.
        self.executing.fetch_sub(1, Ordering::SeqCst);
        self.notify_waiters();
    }

    /// Removes runs whose result has been stored, or that were lost.
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
        in_order(&self.live.lock()).into_iter().map(|live| live.run).collect()
    }

    /// The run of this context in this process, if its body has not ended. A lost run has none, even if a later run of its task
    /// is in this process.
    pub(crate) fn of(&self, context: &TaskContext) -> Option<RunRef> {
        let is_its = |live: &&Live| live.context.is_same_run(context) && live.executing();
        self.live.lock().get(&context.id()).filter(is_its).map(|live| live.run)
    }

    /// Asks one run to stop. An older or newer run of the same task is left alone.
    pub(crate) fn ask(&self, run: RunRef, reason: StopReason) {
        if let Some(live) = self.live.lock().get(&run.id).filter(|live| live.run == run) {
            live.context.stop().ask(reason);
        }
    }

    /// Asks the run of this task to stop, if it is in this process.
    pub(crate) fn ask_task(&self, id: TaskId, reason: StopReason) {
        if let Some(live) = self.live.lock().get(&id) {
            live.context.stop().ask(reason);
        }
    }

    pub(crate) fn ask_all(&self, reason: StopReason) {
        for live in in_order(&self.live.lock()) {
            live.context.stop().ask(reason);
        }
    }

    /// Sets whether other processes may start this process's repeatable tasks. While they may, repeatable runs are asked
    /// to stop, including those that start meanwhile.
    pub(crate) fn doubt_repeatable(&self, in_doubt: bool) {
        let live = self.live.lock();
        self.repeatable_in_doubt.store(in_doubt, Ordering::Relaxed);
        if in_doubt {
            for live in in_order(&live).into_iter().filter(|live| live.repeatable) {
                live.context.stop().ask(StopReason::LeaseEnding);
            }
        }
    }

    /// Asks every run to stop because the process shuts down, including runs that start after this.
    pub(crate) fn end_all(&self) {
        let live = self.live.lock();
        self.ending.store(true, Ordering::Relaxed);
        for live in in_order(&live) {
            live.context.stop().ask(StopReason::Shutdown);
        }
    }

    /// Marks all async runs as lost because the runtime makes no progress. If it ever continues, they end before they are
    /// polled again.
    pub(crate) fn lose_suspended(&self) {
        self.suspended.store(true, Ordering::Relaxed);
        for live in self.live.lock().values().filter(|live| !live.blocking) {
            live.context.stop().ask(StopReason::Lost);
        }
        self.notify_waiters();
    }

    /// Whether any body is running that can still have an effect.
    pub(crate) fn is_executing(&self) -> bool {
        if self.suspended.load(Ordering::Relaxed) {
            return self.live.lock().values().any(|live| live.blocking && live.executing());
        }
        self.executing.load(Ordering::SeqCst) > 0
    }

    /// Marks a run as lost because the store says that this process no longer owns it. Returns whether its body was still
    /// running. If the body has ended, nothing is marked: the store already has the result, or will refuse it.
    pub(crate) fn lose(&self, run: RunRef) -> bool {
        let live = self.live.lock();
        let lost = live.get(&run.id).filter(|live| live.run == run && live.executing());
        if let Some(live) = lost {
            live.context.stop().ask(StopReason::Lost);
        }
        lost.is_some()
    }

    /// Makes the callers of [`until`](Self::until) check again.
    pub(crate) fn notify_waiters(&self) {
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.fewer.notify_waiters();
        }
    }

    /// The number of live runs, and the number of bodies that are running.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.live.lock().len(), self.executing.load(Ordering::SeqCst))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live.lock().is_empty()
    }

    /// Whether the only live runs are synchronous bodies, which cannot be cut short.
    pub(crate) fn only_uncancellable_left(&self) -> bool {
        self.live.lock().values().all(|live| live.blocking && live.executing())
    }

    /// Like [`only_uncancellable_left`](Self::only_uncancellable_left), and none of these bodies has ever asked whether
    /// it must stop.
    pub(crate) fn only_unaware_left(&self) -> bool {
        let is_unaware = |live: &Live| live.blocking && live.executing() && !live.context.listens();
        self.live.lock().values().all(is_unaware)
    }

    /// The number of runs whose body is still running, and of runs whose result only has to be stored.
    pub(crate) fn left(&self) -> (usize, usize) {
        let live = self.live.lock();
        let executing = live.values().filter(|live| live.executing()).count();
        (executing, live.len() - executing)
    }

    /// Waits until `done` is true. Checks it whenever there are fewer runs.
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

/// The runs, sorted by the ids of their tasks and not in the order of the map, so that a repeated test does the same again.
fn in_order(live: &FastMap<TaskId, Live>) -> Vec<&Live> {
    let mut all: Vec<_> = live.values().collect();
    all.sort_unstable_by_key(|live| live.run.id);
    all
}

/// A caller that waits in [`Runs::until`].
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
