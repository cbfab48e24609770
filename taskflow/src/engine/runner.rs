//! What a process has that runs tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::blocking::BlockingPool;
use super::core::Core;
use super::execution;
use super::settle::Tally;
use super::slots::{Seat, Slots};
use crate::store::{Claimed, Finish, FinishKind, Run};
use crate::task::{Outbox, Registry, States, Surroundings};

/// What a process has that runs tasks, beside what every process has.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) core: Arc<Core>,
    pub(crate) registry: Registry,
    pub(crate) names: Names,
    pub(crate) surroundings: Arc<Surroundings>,
    pub(crate) slots: Slots,
    pub(crate) pool: BlockingPool,
    pub(crate) tally: Tally,
    ended: Mutex<Vec<Ended>>,
    wake: Notify,
    maybe_work: AtomicBool,
    stopping: AtomicBool,
    lease_in_doubt: AtomicBool,
}

/// The names that claims ask for.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) all: Arc<[Arc<str>]>,
    pub(crate) asynchronous: Arc<[Arc<str>]>,
    pub(crate) has_blocking: bool,
}

/// A run whose body is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) run: Run,
    pub(crate) name: Arc<str>,
    pub(crate) seat: Seat,
    /// What is to be written; `None` if the run was lost and is no longer ours to end.
    pub(crate) finish: Option<Finish>,
}

impl Runner {
    pub(crate) fn new(
        core: Arc<Core>,
        registry: Registry,
        states: States,
        slots: Slots,
        pool: BlockingPool,
    ) -> Arc<Self> {
        let names = Names {
            all: registry.names(true),
            asynchronous: registry.names(false),
            has_blocking: registry.tasks().iter().any(|task| task.is_blocking()),
        };
        Arc::new(Self {
            core,
            registry,
            names,
            surroundings: Arc::new(Surroundings { states, outbox: Outbox::default() }),
            slots,
            pool,
            tally: Tally::default(),
            ended: Mutex::default(),
            wake: Notify::new(),
            maybe_work: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
            lease_in_doubt: AtomicBool::new(false),
        })
    }

    /// Starts a claimed task in the slot it was given.
    pub(crate) fn start(self: &Arc<Self>, task: Claimed, seat: Seat) {
        let Some(known) = self.registry.get(&task.name) else {
            // A claim asks for known names only, so a store would have to break its contract.
            tracing::error!(task = %task.run.id, name = %task.name, "the store gave a task nobody here knows");
            let name = task.name.clone();
            self.end(Ended { run: task.run, name, seat, finish: None });
            return;
        };
        if self.is_stopping() {
            // Claimed, or leased as it was added, before the end was known.
            let give_back = FinishKind::GiveBack { delay: Duration::ZERO, outcome: None };
            let finish = Some(Finish::new(task.run, give_back));
            self.end(Ended { run: task.run, name: task.name, seat, finish });
            return;
        }
        execution::begin(self.clone(), known, task, seat);
    }

    /// Hands the end of a run to the dispatcher.
    pub(crate) fn end(&self, ended: Ended) {
        let mut all = self.ended.lock();
        all.push(ended);
        let is_first = all.len() == 1;
        drop(all);
        // Whoever came before has woken it, and it takes all there are.
        if is_first {
            self.wake.notify_one();
        }
    }

    /// Adds to `batch` what has ended, up to `most` in all.
    pub(super) fn take_ended(&self, batch: &mut Vec<Ended>, most: usize) {
        let mut all = self.ended.lock();
        if batch.is_empty() && all.len() <= most {
            std::mem::swap(batch, &mut all);
            return;
        }
        let count = most.saturating_sub(batch.len()).min(all.len());
        batch.extend(all.drain(..count));
        let more = !all.is_empty();
        drop(all);
        if more {
            self.wake.notify_one();
        }
    }

    /// There may be work: the dispatcher is to look.
    pub(crate) fn may_have_work(&self) {
        self.maybe_work.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Takes note without waking the dispatcher, which is the one that calls.
    pub(super) fn remember_work(&self) {
        self.maybe_work.store(true, Ordering::Release);
    }

    /// Whether to claim now. If not because of the lease or a shutdown, the note is kept.
    pub(super) fn take_work(&self) -> bool {
        self.may_claim() && self.maybe_work.swap(false, Ordering::AcqRel)
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether something may be started: not while the process ends, nor while its lease is in doubt.
    pub(crate) fn may_claim(&self) -> bool {
        !self.is_stopping() && !self.lease_in_doubt.load(Ordering::Acquire)
    }

    pub(super) fn doubt_lease(&self, in_doubt: bool) {
        if self.lease_in_doubt.swap(in_doubt, Ordering::AcqRel) && !in_doubt {
            self.may_have_work();
        }
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.slots.close();
        self.wake.notify_one();
    }

    /// Whether nothing runs here any more but synchronous bodies that do not stop, and nothing is about to.
    pub(crate) fn only_stubborn_left(&self) -> bool {
        // In this order: what is taken and does not run yet is seen in one of the two.
        self.core.runs.only_stubborn_left() && self.slots.taken() <= self.core.runs.count().0
    }

    /// Whether nothing runs here any more, and nothing is about to.
    pub(crate) fn is_idle(&self) -> bool {
        self.core.runs.is_empty() && self.slots.taken() == 0
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
