//! The runs that are alive in this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::core::Core;
use crate::model::TaskId;
use crate::store::Run;

/// Why a run is asked to stop. The first reason counts, except that a lost lease outweighs all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StopReason {
    /// Its task was cancelled.
    Cancel = 1,
    /// It took too long.
    Timeout = 2,
    /// The process ends.
    Shutdown = 3,
    /// The lease cannot be renewed and is about to end.
    LeaseEnding = 4,
    /// The store says that the run is no longer ours.
    Lost = 5,
}

/// How a run is asked to stop, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    reason: Arc<AtomicU8>,
}

impl Stop {
    pub(crate) fn ask(&self, reason: StopReason) {
        if reason == StopReason::Lost {
            self.reason.store(reason as u8, Ordering::Release);
        } else {
            // Whoever asked first is the reason.
            let _ = self.reason.compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Relaxed);
        }
        self.token.cancel();
    }

    pub(crate) fn reason(&self) -> Option<StopReason> {
        use StopReason::{Cancel, LeaseEnding, Lost, Shutdown, Timeout};
        let reason = self.reason.load(Ordering::Acquire);
        [Cancel, Timeout, Shutdown, LeaseEnding, Lost].into_iter().find(|it| *it as u8 == reason)
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }
}

/// A body that is under way. It is dropped when the body is over, or with the runtime that would have gone on with it.
#[derive(Debug)]
pub(crate) struct Executing {
    core: Arc<Core>,
    run: Run,
}

impl Executing {
    /// The body of a run that has [begun](Runs::begin).
    pub(crate) fn new(core: Arc<Core>, run: Run) -> Self {
        Self { core, run }
    }
}

impl Drop for Executing {
    fn drop(&mut self) {
        self.core.runs.executed(self.run);
    }
}

/// The runs that are alive in this process, from claim until their end is durable.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    live: Mutex<HashMap<TaskId, Live>>,
    executing: AtomicUsize,
    ending: AtomicBool,
    fewer: Notify,
}

#[derive(Debug)]
struct Live {
    run: Run,
    stop: Stop,
    blocking: bool,
    executing: bool,
}

impl Runs {
    /// A run begins.
    pub(crate) fn begin(&self, run: Run, blocking: bool) -> Stop {
        let stop = Stop::default();
        self.executing.fetch_add(1, Ordering::Relaxed);
        let mut live = self.live.lock();
        if self.ending.load(Ordering::Relaxed) {
            stop.ask(StopReason::Shutdown);
        }
        live.insert(run.id, Live { run, stop: stop.clone(), blocking, executing: true });
        stop
    }

    /// Its body is over; its end is not durable yet.
    fn executed(&self, run: Run) {
        self.executing.fetch_sub(1, Ordering::Relaxed);
        if let Some(live) = self.live.lock().get_mut(&run.id).filter(|live| live.run == run) {
            live.executing = false;
        }
        self.fewer.notify_waiters();
    }

    /// Its end is durable, or it was lost.
    pub(crate) fn end(&self, runs: impl Iterator<Item = Run>) {
        let mut live = self.live.lock();
        for run in runs {
            if live.get(&run.id).is_some_and(|it| it.run == run) {
                live.remove(&run.id);
            }
        }
        drop(live);
        self.fewer.notify_waiters();
    }

    pub(crate) fn all(&self) -> Vec<Run> {
        self.live.lock().values().map(|live| live.run).collect()
    }

    /// The run of this task whose body is not over, if it is here.
    pub(crate) fn find(&self, id: TaskId) -> Option<Run> {
        self.live.lock().get(&id).filter(|live| live.executing).map(|live| live.run)
    }

    /// Asks one run to stop. A run of another fence is left alone.
    pub(crate) fn ask(&self, run: Run, reason: StopReason) {
        if let Some(live) = self.live.lock().get(&run.id).filter(|live| live.run == run) {
            live.stop.ask(reason);
        }
    }

    /// Asks the run of this task to stop, if it is here.
    pub(crate) fn ask_task(&self, id: TaskId, reason: StopReason) {
        if let Some(live) = self.live.lock().get(&id) {
            live.stop.ask(reason);
        }
    }

    pub(crate) fn ask_all(&self, reason: StopReason) {
        for live in self.live.lock().values() {
            live.stop.ask(reason);
        }
    }

    /// The process ends: all are asked to stop, and whatever begins after all.
    pub(crate) fn end_all(&self) {
        let live = self.live.lock();
        self.ending.store(true, Ordering::Relaxed);
        for live in live.values() {
            live.stop.ask(StopReason::Shutdown);
        }
    }

    /// The store says that this run is no longer ours. Answers whether its body was still under way: of one that is
    /// over the store knows the end already, or will refuse it.
    pub(crate) fn lose(&self, run: Run) -> bool {
        let live = self.live.lock();
        let lost = live.get(&run.id).filter(|live| live.run == run && live.executing);
        if let Some(live) = lost {
            live.stop.ask(StopReason::Lost);
        }
        lost.is_some()
    }

    /// Whoever waits for there to be fewer is to look again.
    pub(crate) fn look_again(&self) {
        self.fewer.notify_waiters();
    }

    /// Runs that are alive, and those of them whose body is not over.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.live.lock().len(), self.executing.load(Ordering::Relaxed))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live.lock().is_empty()
    }

    /// Whether nothing is alive but synchronous bodies that do not stop.
    pub(crate) fn only_stubborn_left(&self) -> bool {
        self.live.lock().values().all(|live| live.blocking && live.executing)
    }

    /// Waits until `done` holds; looks whenever there are fewer runs.
    pub(crate) async fn until(&self, done: impl Fn(&Self) -> bool) {
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
