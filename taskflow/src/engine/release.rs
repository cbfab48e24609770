//! Ends holds: releases or cancels held tasks.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::core::Core;
use super::store_backoff::Backoff;
use super::supervision::supervise;
use super::worker::Worker;
use crate::model::Error;
use crate::store::{HoldOutcome, Release, RunRef};

/// Releases or cancels held tasks. Concurrent ends of holds share a write. If the store supports it, the next turn (round trip)
/// of the dispatcher releases the tasks that are to run, and then claims them. Otherwise, and after an error, a separate writer
/// retries until the store accepts the releases. The leases of the holds are renewed meanwhile.
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
    /// Whether the dispatcher takes releases into its turns.
    has_turns: bool,
    /// Whether a turn with the releases under way has no answer yet.
    is_in_turn: bool,
    /// Whether a separate writer is at work.
    is_writing: bool,
    /// Whether a writer must start once the turn has been answered. If both ran at once, they would write the releases under
    /// way twice.
    needs_writer: bool,
}

impl Gate {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty() && !self.is_writing
    }

    /// The next releases to write: those in flight without an answer, and those that came since.
    fn next(&mut self) -> Option<Arc<Vec<Release>>> {
        if !self.waiting.is_empty() {
            let mut releases = Arc::unwrap_or_clone(mem::take(&mut self.under_way));
            releases.append(&mut self.waiting);
            self.under_way = Arc::new(releases);
        }
        (!self.under_way.is_empty()).then(|| self.under_way.clone())
    }
}

/// Where the answer to one call of [`Releaser::release`] goes.
#[derive(Debug)]
struct Reply {
    holds: usize,
    to: oneshot::Sender<usize>,
}

/// Holds whose end is decided and on its way to the store. Dropping this undoes nothing.
#[derive(Debug)]
pub(crate) struct Ending {
    core: Arc<Core>,
    /// `None` when there was nothing to end.
    answer: Option<oneshot::Receiver<usize>>,
}

impl Ending {
    /// Waits until the end is stored. Returns how many holds it ended.
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
        match &self.worker {
            Some(worker) if *outcome == HoldOutcome::Run && gate.has_turns && !gate.is_writing => {
                drop(gate);
                worker.may_have_work();
            }
            _ => self.write_alone(gate),
        }
        Ending { core, answer: Some(answer) }
    }

    /// Sets whether the dispatcher takes releases into its turns.
    pub(super) fn use_turns(self: &Arc<Self>, use_turns: bool) {
        self.gate.lock().has_turns = use_turns;
        if !use_turns {
            self.without_a_turn();
        }
    }

    /// The releases for the dispatcher's next turn.
    pub(super) fn for_a_turn(&self) -> Option<Arc<Vec<Release>>> {
        let mut gate = self.gate.lock();
        let releases = if gate.is_writing { None } else { gate.next() };
        gate.is_in_turn = releases.is_some();
        releases
    }

    /// Starts a writer for releases that no turn takes, or whose turn has failed.
    pub(super) fn without_a_turn(self: &Arc<Self>) {
        let mut gate = self.gate.lock();
        gate.is_in_turn = false;
        if !gate.is_idle() {
            self.write_alone(gate);
        }
    }

    /// Starts a writer, unless one is at work. While a turn is in flight, the writer starts after that turn.
    fn write_alone(self: &Arc<Self>, mut gate: MutexGuard<'_, Gate>) {
        gate.needs_writer = gate.is_in_turn;
        if !gate.is_in_turn && !mem::replace(&mut gate.is_writing, true) {
            drop(gate);
            let releaser = self.clone();
            let writing = supervise(self.core.clone(), "the releaser", move || releaser.clone().write());
            self.core.spawn(writing);
        }
    }

    /// Waits until every release has been written.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.gate.lock().is_idle() {
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

    /// The next releases for the writer. `None` ends the writer.
    fn next(&self) -> Option<Arc<Vec<Release>>> {
        let mut gate = self.gate.lock();
        let releases = gate.next();
        if releases.is_none() {
            gate.is_writing = false;
            drop(gate);
            self.idle.notify_waiters();
        }
        releases
    }

    /// Completes the releases of a turn that the store has written.
    pub(super) fn written(self: &Arc<Self>, releases: &[Release], applied: &[bool]) {
        self.answer(releases, applied);
        let mut gate = self.gate.lock();
        gate.is_in_turn = false;
        if gate.needs_writer {
            self.write_alone(gate);
        }
        applied.iter().filter(|applied| !**applied).for_each(|_| self.core.health.stale_write());
    }

    /// Answers each caller with the number of its holds that have ended, and stops renewing those holds. It must be called before
    /// anything that may panic.
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
        let is_idle = gate.is_idle();
        drop(gate);
        if is_idle {
            self.idle.notify_waiters();
        }
    }

    async fn complete(&self, releases: &[Release], applied: &[bool]) {
        for (release, applied) in releases.iter().zip(applied) {
            if !applied {
                // Another process has released the task because its lease had ended, or the task was cancelled, or this is a
                // repetition and the task has been claimed since.
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
