//! The state of a process that runs tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::blocking::BlockingPool;
use super::core::Core;
use super::execution;
use super::late::is_late;
use super::run::{Admitted, Ended, Ran};
use super::runs::Live;
use super::slots::{Permit, Slots};
use super::tally::Tally;
use crate::model::NewTask;
use crate::observe::CellId;
use crate::seam::Instant;
use crate::store::{Claimed, Finish, FinishKind, RunRef};
use crate::task::{Registered, Registry, ReportQueue, RunEnv, States};

/// The state of a process that runs tasks, in addition to [`Core`].
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) core: Arc<Core>,
    pub(crate) registry: Registry,
    pub(crate) names: Names,
    /// Where the meter counts each task in its own queue, by the index of the task.
    cells: Vec<CellId>,
    pub(crate) env: Arc<RunEnv>,
    pub(crate) slots: Slots<Admitted>,
    pub(crate) pool: BlockingPool,
    pub(crate) tally: Tally,
    ended: Mutex<Vec<Ended>>,
    wake: Notify,
    maybe_work: AtomicBool,
    stopping: AtomicBool,
    lease_in_doubt: AtomicBool,
    liveness_in_doubt: AtomicBool,
}

/// The task names that claims ask for.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) all: Arc<[Arc<str>]>,
    pub(crate) asynchronous: Arc<[Arc<str>]>,
    pub(crate) has_blocking: bool,
}

impl Worker {
    pub(crate) fn new(
        core: Arc<Core>,
        registry: Registry,
        states: States,
        slots: Slots<Admitted>,
        pool: BlockingPool,
    ) -> Arc<Self> {
        let names = Names {
            all: registry.names(true),
            asynchronous: registry.names(false),
            has_blocking: registry.tasks().iter().any(|task| task.is_blocking()),
        };
        let tasks = registry.all().iter().map(|task| task.config());
        let cells = tasks.map(|config| core.meter.cell(config.name, config.queue)).collect();
        let seam = core.seam.clone();
        let log_events = core.settings.trace.logs;
        let sealed_logs = core.with_sealed_logs(&registry);
        let env =
            Arc::new(RunEnv { seam, states, report_queue: ReportQueue::default(), log_events, sealed_logs });
        Arc::new(Self {
            core,
            registry,
            names,
            cells,
            env,
            slots,
            pool,
            tally: Tally::default(),
            ended: Mutex::default(),
            wake: Notify::new(),
            maybe_work: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
            lease_in_doubt: AtomicBool::new(false),
            liveness_in_doubt: AtomicBool::new(false),
        })
    }

    /// Takes ownership of tasks whose claim was sent at `asked`. A task whose name this program does not know stays claimed
    /// until its lease ends.
    pub(super) fn admit(&self, claimed: Vec<Claimed>, asked: Instant) -> Vec<Admitted> {
        let mut admitted = Vec::with_capacity(claimed.len());
        for task in claimed {
            match self.registry.get(&task.name) {
                Some(known) => {
                    let cell = self.cell(known, &task.queue);
                    admitted.push(Admitted::new(&self.core.seam, self.env.clone(), known, task, cell));
                }
                // Claims ask for known names only, so this store breaks its contract.
                None => {
                    tracing::error!(
                        task = %task.run.id, name = %task.name,
                        "the store returned a task with a name that this program does not know"
                    )
                }
            }
        }
        if !admitted.is_empty() {
            self.take_on(admitted.iter().map(Admitted::live), asked);
        }
        admitted
    }

    /// Adds runs whose leases were requested at `asked`. The store may have answered late: then the leases may end before the
    /// next renewal and are renewed sooner, or they can no longer be relied on and the runs are asked to stop.
    fn take_on(&self, runs: impl IntoIterator<Item = Live>, asked: Instant) {
        let (age, lease) = (self.core.seam.since(asked), self.core.settings.lease);
        let too_late = age >= lease / 5 * 4;
        self.core.runs.admit(runs, too_late);
        if !too_late && is_late(age, lease) {
            self.core.late.came(asked);
        }
    }

    /// Where the meter counts a run of this task in that queue.
    fn cell(&self, known: &Registered, queue: &str) -> CellId {
        let config = known.task.config();
        let own = self.cells.get(known.index).filter(|_| config.queue == queue);
        own.copied().unwrap_or_else(|| self.core.meter.cell(config.name, queue))
    }

    /// Starts a task that was leased by its insert, which was sent at `asked`. It is not read back from the store.
    pub(crate) fn start_leased(
        self: &Arc<Self>,
        task: &NewTask,
        run: RunRef,
        permit: Permit,
        asked: Instant,
    ) {
        let Some(known) = self.registry.get(&task.name) else { return self.give_back(permit) };
        let args = task.args.clone().unwrap_or_else(|_| Arc::from("{}"));
        let policy = match &task.policy {
            policy if **policy == *known.policy => known.policy.clone(),
            policy => Arc::new(policy.clone().into_owned()),
        };
        let mut claimed = Claimed::new(run, known.name.clone(), self.slots.queue(&permit), args, policy);
        claimed.tags = task.tags.clone();
        claimed.trace = task.trace.clone();
        let cell = self.cell(known, &task.queue);
        let admitted = Admitted::new(&self.core.seam, self.env.clone(), known, claimed, cell);
        self.take_on([admitted.live()], asked);
        self.start(admitted, permit);
    }

    /// Hands back a task whose insert got no answer. If it was stored and leased to this process, it goes back to the queue
    /// as if it had not been leased.
    pub(crate) fn hand_back_unconfirmed(self: &Arc<Self>, task: &NewTask, permit: Permit) {
        let run = RunRef::new(task.id, RunRef::FIRST_FENCE);
        let back = FinishKind::GiveBack { delay: Duration::ZERO, outcome: None };
        let finish = Some(Finish::new(run, back));
        // It has not begun, so the meter counts nothing.
        let cell = CellId::REST;
        let ran = Ran { queue: self.slots.queue(&permit), tags: (&task.tags).into(), ..Ran::default() };
        self.end(Ended { run, name: Arc::from(&*task.name), ran, cell, permit, finish }, Duration::ZERO);
    }

    /// Starts a task in its slot.
    pub(crate) fn start(self: &Arc<Self>, task: Admitted, permit: Permit) {
        if self.is_stopping() || task.must_not_start(&self.core.seam) {
            // It was claimed or leased before the stop or the expiry.
            self.end(task.not_started(permit), Duration::ZERO);
        } else {
            self.begin(task, permit);
        }
    }

    fn begin(self: &Arc<Self>, task: Admitted, permit: Permit) {
        let worker = self.clone();
        execution::begin(&self.core, &self.pool, task, permit, move |ended, took| {
            worker.core.meter.ran(ended.cell, took, ended.went_well());
            worker.end(ended, took);
        });
    }

    /// Ends a run whose body has ended after `took`, or will not start: gives the end to the dispatcher, and the slot to
    /// the next waiting task.
    pub(crate) fn end(self: &Arc<Self>, mut ended: Ended, took: Duration) {
        let next = self.slots.end_body(&mut ended.permit, took, self.may_claim());
        // Only after the slot is free: the dispatcher claims as soon as it gets the end.
        self.hand_in([ended]);
        self.begin_next(next, took);
    }

    /// Gives back a slot in which no task ran, and starts the next waiting task.
    pub(crate) fn give_back(self: &Arc<Self>, permit: Permit) {
        let next = self.slots.give_back(permit, self.may_claim());
        self.begin_next(next, Duration::ZERO);
    }

    /// Starts the task that waited for a slot, or the first after it that may still start.
    fn begin_next(self: &Arc<Self>, mut next: Option<(Admitted, Permit)>, took: Duration) {
        while let Some((task, permit)) = next {
            if !task.must_not_start(&self.core.seam) {
                return self.begin(task, permit);
            }
            let mut ended = task.not_started(permit);
            next = self.slots.end_body(&mut ended.permit, took, self.may_claim());
            self.hand_in([ended]);
        }
    }

    /// Gives every task that waits for a slot back to the queue, if the first of them has waited too long or `all` is set.
    pub(crate) fn give_back_waiting(&self, all: bool) {
        let waiting = self.slots.take_waiting(all);
        if !waiting.is_empty() {
            self.hand_in(waiting.into_iter().map(|(task, permit)| task.not_started(permit)));
        }
    }

    fn hand_in(&self, ended: impl IntoIterator<Item = Ended>) {
        let mut all = self.ended.lock();
        let is_first = all.is_empty();
        all.extend(ended);
        drop(all);
        // The first caller has woken the dispatcher, which takes all ends.
        if is_first {
            self.wake.notify_one();
        }
    }

    /// Whether there are ends that the dispatcher has not taken.
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.lock().is_empty()
    }

    /// Moves ends to `batch`, which holds at most `most` of them afterwards.
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

    /// Notes that there may be work, and wakes the dispatcher.
    pub(crate) fn may_have_work(&self) {
        self.maybe_work.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Notes that there may be work, without waking the dispatcher: it is the caller.
    pub(super) fn remember_work(&self) {
        self.maybe_work.store(true, Ordering::Release);
    }

    /// Whether to claim now: there may be work, and tasks may start. Clears the note of work if tasks may start.
    pub(super) fn take_work(&self) -> bool {
        self.may_claim() && self.maybe_work.swap(false, Ordering::AcqRel)
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether tasks may start: not during a shutdown, and not while the lease or liveness is in doubt.
    pub(crate) fn may_claim(&self) -> bool {
        !self.is_stopping()
            && !self.lease_in_doubt.load(Ordering::Acquire)
            && !self.liveness_in_doubt.load(Ordering::Acquire)
    }

    pub(super) fn doubt_lease(&self, in_doubt: bool) {
        if self.lease_in_doubt.swap(in_doubt, Ordering::AcqRel) && !in_doubt {
            self.may_have_work();
        }
    }

    /// Sets whether other processes may consider this process dead.
    pub(super) fn doubt_liveness(&self, in_doubt: bool) {
        if self.liveness_in_doubt.swap(in_doubt, Ordering::AcqRel) && !in_doubt {
            self.may_have_work();
        }
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.slots.close();
        self.give_back_waiting(true);
        self.wake.notify_one();
    }

    /// Whether only synchronous bodies, which cannot be cut short, still run, and nothing is about to start.
    pub(crate) fn only_uncancellable_left(&self) -> bool {
        // In this order: a run that is reserved but not live yet is then seen in one of the two.
        self.core.runs.only_uncancellable_left() && self.slots.taken() <= self.core.runs.count().0
    }

    /// Whether only synchronous bodies that never ask whether they must stop still run, and nothing is about to start.
    pub(crate) fn only_unaware_left(&self) -> bool {
        self.core.runs.only_unaware_left() && self.slots.taken() <= self.core.runs.count().0
    }

    /// Whether nothing runs in this process and nothing is about to start.
    pub(crate) fn is_idle(&self) -> bool {
        self.core.runs.is_empty() && self.slots.taken() == 0
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
