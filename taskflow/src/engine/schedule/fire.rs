//! Fires the ticks of one schedule in the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::OnceCell;

use super::Plan;
use super::missed::{Due, Step};
use crate::engine::worker::Worker;
use crate::model::{StoreError, TaskEventKind, When};
use crate::observe::Counter;
use crate::store::{Fire, Fired, InsertBatch, InsertGroup, InsertTask, ScheduleState, Start};
use crate::task::Overlap;

/// The state that all schedules of a process share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) worker: Arc<Worker>,
    started_at: OnceCell<SystemTime>,
}

impl Shared {
    pub(super) fn new(worker: Arc<Worker>) -> Self {
        Self { worker, started_at: OnceCell::new() }
    }

    /// When this process started, by the store's clock.
    pub(super) async fn started_at(&self) -> Result<SystemTime, StoreError> {
        let core = &self.worker.core;
        let read = async || {
            let instances = core.store.instances().await?;
            let own = instances.iter().find(|it| it.id == core.instance.id);
            Ok(own.map_or(core.instance.started_at, |own| own.started_at))
        };
        self.started_at.get_or_try_init(read).await.copied()
    }
}

/// One schedule of this process.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) shared: Arc<Shared>,
    pub(super) plan: Arc<Plan>,
}

/// The progress of a schedule.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Every due tick has been handled.
    Done,
    /// The store's clock is behind this one by this much. The store's clock counts.
    Early(Duration),
    /// Another definition of this schedule is active.
    Superseded,
}

impl Schedule {
    /// Handles the ticks after `last` that are due at `now`, and advances `last` with each.
    pub(super) async fn tick_until(
        &self,
        now: SystemTime,
        last: &mut SystemTime,
    ) -> Result<Progress, StoreError> {
        let plan = &self.plan;
        let mut due = Due::at(&plan.ticks, plan.missed, *last, now);
        if due.missed > 0 {
            // Another process may have handled them while this one stood still.
            let known = self.state().await?.last_tick.filter(|known| plan.ticks.believes(*known, now));
            *last = known.map_or(*last, |known| known.max(*last));
            due = Due::at(&plan.ticks, plan.missed, *last, now);
        }
        for step in due.steps {
            match self.fire(step).await? {
                Fired::Early { by } => {
                    let store_now = step.tick.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH);
                    return Ok(Progress::Early(now.duration_since(store_now).unwrap_or_default()));
                }
                Fired::Superseded => return Ok(Progress::Superseded),
                _ => *last = step.tick,
            }
        }
        Ok(Progress::Done)
    }

    async fn fire(&self, step: Step) -> Result<Fired, StoreError> {
        let Step { tick, runs, skipped } = step;
        let core = &self.shared.worker.core;
        let overlaps = runs && self.plan.overlap == Overlap::Skip && self.is_under_way().await?;
        let batch = (runs && !overlaps).then(|| Arc::new(self.batch(When::At(tick))));
        let mut fire = Fire::new(self.plan.name.clone(), tick, batch);
        fire.definition.clone_from(&self.plan.definition);
        fire.declared.clone_from(&self.plan.declared);
        fire.skipped = skipped + u64::from(overlaps);
        fire.ahead = self.plan.ticks.ahead(core.seam.now());
        let fired = core.store.fire(fire).await?;
        if fired.outcome().is_some() {
            self.announce_skipped(skipped, overlaps);
        }
        self.announce(&fired);
        Ok(fired)
    }

    fn announce_skipped(&self, missed: u64, overlaps: bool) {
        let schedule = &self.plan.name;
        if missed > 0 {
            tracing::warn!(
                schedule,
                ticks = missed,
                "ticks were missed by more than ten seconds and are skipped"
            );
        }
        if overlaps {
            tracing::info!(schedule, "a tick is skipped: the run of an earlier tick has not ended");
        }
    }

    pub(super) fn batch(&self, when: When) -> InsertBatch {
        let core = &self.shared.worker.core;
        let task = self.plan.task(when);
        // A queue that this program does not know has no limits to enforce here.
        let admission = core.queues.admission(&task.queue).unwrap_or_default();
        let mut insert = InsertTask::new(task, Start::Wait);
        (insert.max_size, insert.record_rejected) = admission;
        InsertBatch::new(core.instance.id, core.settings.lease, vec![InsertGroup::new(vec![insert])])
    }

    pub(super) async fn state(&self) -> Result<ScheduleState, StoreError> {
        Ok(self.shared.worker.core.store.schedule(self.plan.name.clone()).await?.unwrap_or_default())
    }

    /// Whether the run of an earlier tick has not ended.
    async fn is_under_way(&self) -> Result<bool, StoreError> {
        let Some(last) = self.state().await?.last_task else { return Ok(false) };
        let record = self.shared.worker.core.store.get(last).await?;
        Ok(record.is_some_and(|record| !record.status.is_final()))
    }

    fn count(&self, counter: Counter) {
        let (task, meter) = (self.plan.task(When::Now), &self.shared.worker.core.meter);
        meter.count(meter.cell(&task.name, &task.queue), counter);
    }

    pub(super) fn announce(&self, fired: &Fired) {
        let (worker, schedule) = (&self.shared.worker, &self.plan.name);
        match fired {
            Fired::Inserted(inserted) => {
                if inserted.kind.is_new() {
                    self.count(Counter::Added);
                }
                worker.core.events.send_named(inserted.id, schedule, || TaskEventKind::Added);
                worker.may_have_work();
            }
            Fired::Refused(refusal) => {
                self.count(Counter::Rejected);
                tracing::warn!(
                    schedule,
                    ?refusal,
                    "the queue refused the task of this tick; the schedule goes on"
                );
            }
            Fired::Early { by } => {
                tracing::debug!(
                    schedule,
                    ?by,
                    "a tick waits for the store's clock, which is behind this one"
                );
            }
            Fired::Passed | Fired::Paused | Fired::Before | Fired::Superseded => {}
        }
    }
}
