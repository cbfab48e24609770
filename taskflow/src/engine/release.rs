//! Releases held tasks.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::backoff::Backoff;
use super::core::Core;
use super::supervision::supervise;
use super::worker::Worker;
use crate::store::{HoldOutcome, Release, RunRef};

/// Releases held tasks. Concurrent releases share a write. While the store is unavailable the write is retried, and the
/// leases of the holds are renewed meanwhile.
#[derive(Debug)]
pub(crate) struct Releaser {
    core: Arc<Core>,
    worker: Option<Arc<Worker>>,
    gate: Mutex<Gate>,
    /// Notified when everything has been written.
    idle: Notify,
}

#[derive(Debug, Default)]
struct Gate {
    waiting: Vec<Release>,
    /// Sent to the store and not answered yet.
    under_way: Arc<Vec<Release>>,
    writing: bool,
}

impl Releaser {
    pub(crate) fn new(core: Arc<Core>, worker: Option<Arc<Worker>>) -> Arc<Self> {
        Arc::new(Self { core, worker, gate: Mutex::default(), idle: Notify::new() })
    }

    /// Releases these holds with `outcome`.
    pub(crate) fn release(self: &Arc<Self>, holds: Vec<RunRef>, outcome: &HoldOutcome) {
        if holds.is_empty() {
            return;
        }
        self.core.holds.decide(&holds);
        let mut gate = self.gate.lock();
        gate.waiting.extend(holds.into_iter().map(|hold| Release::new(hold, outcome.clone())));
        if !mem::replace(&mut gate.writing, true) {
            drop(gate);
            let releaser = self.clone();
            let writing = supervise(self.core.clone(), "the releaser", move || releaser.clone().write());
            self.core.runtime.spawn(writing);
        }
    }

    /// Waits until every release has been written.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if !self.gate.lock().writing {
                return;
            }
            idle.await;
        }
    }

    async fn write(self: Arc<Self>) {
        let mut backoff = Backoff::new();
        while let Some(releases) = self.next() {
            match self.core.call("a release", self.core.store.release(releases.clone())).await {
                Ok(applied) => {
                    backoff = Backoff::new();
                    self.gate.lock().under_way = Arc::default();
                    self.complete(&releases, &applied).await;
                }
                Err(_) if self.core.over.is_cancelled() => return,
                Err(_) => tokio::time::sleep(backoff.delay()).await,
            }
        }
    }

    /// The next releases to write: those in flight without an answer, and those that came since.
    fn next(&self) -> Option<Arc<Vec<Release>>> {
        let mut gate = self.gate.lock();
        let mut releases = mem::take(&mut gate.under_way).to_vec();
        releases.append(&mut gate.waiting);
        if releases.is_empty() {
            gate.writing = false;
            drop(gate);
            self.idle.notify_waiters();
            return None;
        }
        gate.under_way = Arc::new(releases);
        Some(gate.under_way.clone())
    }

    async fn complete(&self, releases: &[Release], applied: &[bool]) {
        // First, so that a panic below cannot prevent it: an ended hold must not be renewed.
        releases.iter().for_each(|release| self.core.holds.end(release.hold));
        for (release, applied) in releases.iter().zip(applied) {
            if !applied {
                // This process stood still until the lease had ended, and another process has released the task.
                self.core.health.stale_write();
            } else if let HoldOutcome::Cancel { .. } = release.outcome {
                self.core.announce_cancelled(release.hold.id).await;
            }
        }
        if let Some(worker) = &self.worker {
            worker.may_have_work();
        }
    }
}
