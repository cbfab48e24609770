//! Ends holds: releases or cancels held tasks.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::backoff::Backoff;
use super::core::Core;
use super::supervision::supervise;
use super::worker::Worker;
use crate::model::Error;
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
    /// One for each call of [`Releaser::release`], in the order of the releases.
    replies: VecDeque<Reply>,
    writing: bool,
}

/// Where the answer to one call of [`Releaser::release`] goes.
#[derive(Debug)]
struct Reply {
    holds: usize,
    to: oneshot::Sender<usize>,
}

/// Holds whose end is decided and on its way to the store. To drop it undoes nothing.
#[derive(Debug)]
pub(crate) struct Ending {
    core: Arc<Core>,
    /// `None` when there was nothing to end.
    answer: Option<oneshot::Receiver<usize>>,
}

impl Ending {
    /// Waits until the end is stored, and answers how many holds it ended.
    pub(crate) async fn stored(self) -> Result<usize, Error> {
        let Some(answer) = self.answer else { return Ok(0) };
        tokio::select! {
            biased;
            ended = answer => ended.map_err(|_| Error::ShutDown),
            () = self.core.over.cancelled() => Err(Error::ShutDown),
            () = self.core.orphaned.cancelled() => Err(Error::ShutDown),
        }
    }
}

impl Releaser {
    pub(crate) fn new(core: Arc<Core>, worker: Option<Arc<Worker>>) -> Arc<Self> {
        Arc::new(Self { core, worker, gate: Mutex::default(), idle: Notify::new() })
    }

    /// Ends these holds with `outcome`. The caller may drop the [`Ending`].
    pub(crate) fn release(self: &Arc<Self>, holds: Vec<RunRef>, outcome: &HoldOutcome) -> Ending {
        let core = self.core.clone();
        if holds.is_empty() {
            return Ending { core, answer: None };
        }
        core.holds.decide(&holds);
        let (to, answer) = oneshot::channel();
        let mut gate = self.gate.lock();
        gate.replies.push_back(Reply { holds: holds.len(), to });
        gate.waiting.extend(holds.into_iter().map(|hold| Release::new(hold, outcome.clone())));
        if !mem::replace(&mut gate.writing, true) {
            drop(gate);
            let releaser = self.clone();
            let writing = supervise(self.core.clone(), "the releaser", move || releaser.clone().write());
            self.core.spawn(writing);
        }
        Ending { core, answer: Some(answer) }
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
                    self.answer(&releases, &applied);
                    self.complete(&releases, &applied).await;
                }
                Err(_) if self.core.over.is_cancelled() => return,
                Err(_) => self.core.seam.sleep(backoff.delay()).await,
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

    /// Answers each caller with the number of its holds that have ended, and stops renewing them. Comes before anything that may
    /// panic.
    fn answer(&self, releases: &[Release], applied: &[bool]) {
        releases.iter().for_each(|release| self.core.holds.end(release.hold));
        let mut gate = self.gate.lock();
        gate.under_way = Arc::default();
        let mut rest = applied;
        let mut left = releases.len();
        while left > 0
            && let Some(reply) = gate.replies.pop_front()
        {
            let (its, others) = rest.split_at(reply.holds.min(rest.len()));
            let _ = reply.to.send(its.iter().filter(|applied| **applied).count());
            rest = others;
            left = left.saturating_sub(reply.holds);
        }
    }

    async fn complete(&self, releases: &[Release], applied: &[bool]) {
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
