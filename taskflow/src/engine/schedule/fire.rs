//! Fires the ticks of one schedule in the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::OnceCell;

use super::Plan;
use super::missed::{Due, Step};
use crate::engine::worker::Worker;
use crate::model::{AddError, NewTask, StoreError, TaskEventKind, When};
use crate::observe::Counter;
use crate::store::{Fire, Fired, InsertBatch, InsertGroup, InsertTask, Refusal, ScheduleState, Start};
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
        let (batch, refused) = match runs && !overlaps {
            true => {
                self.batch(When::At(tick)).map_or_else(|refused| (None, Some(refused)), |it| (Some(it), None))
            }
            false => (None, None),
        };
        let mut fire = Fire::new(self.plan.name.clone(), tick, batch.clone());
        fire.definition.clone_from(&self.plan.definition);
        fire.declared.clone_from(&self.plan.declared);
        fire.skipped = skipped + u64::from(overlaps || refused.is_some());
        fire.ahead = self.plan.ticks.ahead(core.seam.now());
        let fired = core.counted("a tick", core.store.fire(fire), |_| 1).await?;
        if fired.outcome().is_some() {
            self.announce_skipped(skipped, overlaps);
            if let Some((task, error)) = refused {
                self.announce_refused(&task, &error);
            }
        }
        self.announce(&fired, batch.as_deref());
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

    /// The batch with the task of a tick, or the task and why it is refused.
    pub(super) fn batch(&self, when: When) -> Result<Arc<InsertBatch>, (Box<NewTask>, AddError)> {
        let core = &self.shared.worker.core;
        let mut task = self.plan.task(when);
        let queue = task.queue.clone();
        let hooked = core.hooked(&mut task).and_then(|()| {
            let admission = core.queues.admission(&task.queue);
            match task.queue == queue {
                // A queue that this program does not know has no limits to enforce here.
                true => Ok(admission.unwrap_or_default()),
                // But a hook may not move a task to such a queue.
                false => admission,
            }
        });
        let checked = match hooked {
            // A hook may have changed what was checked when the schedule was defined.
            Ok(admission) if !core.on_add.is_empty() => task.check().map(|_| admission),
            hooked => hooked,
        };
        let checked = checked.and_then(|admission| {
            core.sealing.as_ref().map_or(Ok(()), |sealing| sealing.seal_new(&mut task))?;
            Ok(admission)
        });
        let admission = match checked {
            Ok(admission) => admission,
            Err(error) => return Err((Box::new(task), error)),
        };
        let mut insert = InsertTask::new(task, Start::Wait);
        (insert.max_size, insert.record_rejected) = admission;
        let group = InsertGroup::new(vec![insert]);
        Ok(Arc::new(InsertBatch::new(core.instance.id, core.settings.lease, vec![group])))
    }

    /// Reports a tick whose task is refused.
    pub(super) fn announce_refused(&self, task: &NewTask, error: &AddError) {
        let core = &self.shared.worker.core;
        core.meter.count(core.meter.cell(&task.name, &task.queue), Counter::Rejected);
        core.refusals.count(error);
        core.rejected(task, error);
        tracing::warn!(schedule = self.plan.name, %error, "the task of a tick is refused; the tick is skipped");
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

    pub(super) fn announce(&self, fired: &Fired, batch: Option<&InsertBatch>) {
        let (worker, schedule) = (&self.shared.worker, &self.plan.name);
        let core = &worker.core;
        let task = batch.and_then(|batch| batch.groups.first()?.tasks.first()).map(|insert| &insert.task);
        let count = |counter| {
            if let Some(task) = task {
                core.meter.count(core.meter.cell(&task.name, &task.queue), counter);
            }
        };
        match fired {
            Fired::Inserted(inserted) => {
                if inserted.kind.is_new() {
                    count(Counter::Ticked);
                    if let Some(task) = task {
                        core.events.of_new(inserted.id, task, TaskEventKind::Added);
                    }
                }
                worker.may_have_work();
            }
            Fired::Refused(refusal) => {
                count(Counter::Rejected);
                if let Some(task) = task {
                    let Refusal::QueueFull { queue, max_size } = refusal.clone();
                    let full = AddError::QueueFull { queue, max_size };
                    core.refusals.count(&full);
                    core.rejected(task, &full);
                }
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
