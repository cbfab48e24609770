//! The loop of one schedule. Every process that knows the schedule runs one; the store lets each tick happen once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Ticks;
use crate::engine::pause::Backoff;
use crate::engine::runner::Runner;
use crate::model::{NewTask, StoreError, TaskEventKind, TaskFilter, TaskSource, TaskStatus, When};
use crate::store::{Fire, Fired, InsertBatch, InsertGroup, InsertTask, Start};
use crate::task::{Descriptor, Missed, Overlap, ScheduleSpec};

/// Of the ticks that were missed, so many are made up for at most.
const MAX_MISSED: usize = 100;

/// The clock is looked at this often, in case somebody set it.
const LOOK: Duration = Duration::from_secs(10);

/// A tick that is later than this was missed.
const LATE: Duration = Duration::from_secs(10);

/// Fires the ticks of one schedule until the process stops.
pub(crate) async fn keep(runner: Arc<Runner>, task: &'static Descriptor, spec: &'static ScheduleSpec) {
    let schedule = Schedule { name: task.config().name, runner, task, spec };
    let ticks = match Ticks::of(spec) {
        Ok(ticks) => ticks,
        Err(error) => {
            tracing::error!(schedule = schedule.name, error, "this schedule cannot tick on this machine");
            return;
        }
    };
    let core = schedule.runner.core.clone();
    tokio::select! {
        () = core.over.cancelled() => {}
        () = schedule.run(&ticks) => {}
    }
}

struct Schedule {
    name: &'static str,
    runner: Arc<Runner>,
    task: &'static Descriptor,
    spec: &'static ScheduleSpec,
}

impl Schedule {
    async fn run(&self, ticks: &Ticks) {
        if self.spec.run_on_startup {
            self.persist(|| self.start_up()).await;
        }
        let mut last = self.persist(|| self.last_tick()).await;
        loop {
            let Some(next) = ticks.after(last) else { return };
            wait_until(next).await;
            if self.runner.is_stopping() {
                return;
            }
            // Usually one; more after the process, or all of them, were away.
            let due = ticks.between(last, SystemTime::now(), MAX_MISSED);
            let Some((newest, missed)) = due.split_last() else { continue };
            if self.spec.missed == Missed::All {
                for tick in missed {
                    self.persist(|| self.fire(*tick)).await;
                }
            }
            let late = SystemTime::now().duration_since(*newest).unwrap_or_default() > LATE;
            if late && self.spec.missed == Missed::Skip {
                self.persist(|| self.pass(*newest)).await;
            } else {
                self.persist(|| self.fire(*newest)).await;
            }
            last = *newest;
        }
    }

    /// Tries until the store answers. Ticks that come meanwhile are then due, or missed.
    async fn persist<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> T {
        let mut backoff = Backoff::new();
        loop {
            match self.runner.core.health.note("a tick", attempt().await) {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(backoff.delay()).await,
            }
        }
    }

    /// The last tick that anybody dealt with. A schedule that is new begins now.
    async fn last_tick(&self) -> Result<SystemTime, StoreError> {
        let known = self.runner.core.store.schedules().await?;
        if let Some(last) =
            known.into_iter().find(|state| state.name == self.name).and_then(|it| it.last_tick)
        {
            return Ok(last);
        }
        let now = SystemTime::now();
        self.pass(now).await?;
        Ok(now)
    }

    async fn pass(&self, tick: SystemTime) -> Result<(), StoreError> {
        self.runner.core.store.fire(Fire::new(self.name.to_owned(), tick, None)).await.map(drop)
    }

    async fn fire(&self, tick: SystemTime) -> Result<(), StoreError> {
        let core = &self.runner.core;
        if self.spec.overlap == Overlap::Skip && self.is_under_way().await? {
            tracing::info!(
                schedule = self.name,
                "a tick is left out: the run of an earlier one has not ended"
            );
            return self.pass(tick).await;
        }
        let fire = Fire::new(self.name.to_owned(), tick, Some(Arc::new(self.batch(When::At(tick)))));
        match core.store.fire(fire).await? {
            Fired::Inserted(inserted) => {
                core.events.send_named(inserted.id, self.name, || TaskEventKind::Added);
                self.runner.may_have_work();
            }
            Fired::Refused(refusal) => {
                tracing::warn!(schedule = self.name, ?refusal, "a tick was refused; the next one comes");
            }
            Fired::Passed | Fired::Paused | Fired::Before => {}
        }
        Ok(())
    }

    fn batch(&self, when: When) -> InsertBatch {
        let core = &self.runner.core;
        let config = self.task.config();
        // Its parameters are all provided by the worker: the attribute refuses others.
        let mut task = NewTask::new(config.name, Ok(Arc::from("{}")));
        task.queue = config.queue.into();
        task.priority = config.priority;
        task.policy = std::borrow::Cow::Borrowed(&config.policy);
        task.source = TaskSource::Schedule;
        task.when = when;
        let mut insert = InsertTask::new(task, Start::Wait);
        insert.max_size = core.settings.queues.get(config.queue).and_then(|queue| queue.max_size);
        InsertBatch::new(core.instance.id, core.settings.lease, vec![InsertGroup::new(vec![insert])])
    }

    async fn is_under_way(&self) -> Result<bool, StoreError> {
        let unfinished =
            TaskFilter::new().name(self.name).status(TaskStatus::Pending).status(TaskStatus::Running);
        let page = self.runner.core.store.list(unfinished).await?;
        Ok(page.items.iter().any(|task| task.source == TaskSource::Schedule))
    }

    /// Runs it if this is the first of the processes that run tasks: of several that start at once, the eldest.
    async fn start_up(&self) -> Result<(), StoreError> {
        let core = &self.runner.core;
        let there = core.store.instances().await?;
        if there.iter().any(|other| other.runs && other.id < core.instance.id) {
            return Ok(());
        }
        core.store.insert(Arc::new(self.batch(When::Now))).await?;
        self.runner.may_have_work();
        Ok(())
    }
}

async fn wait_until(instant: SystemTime) {
    while let Ok(left) = instant.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LOOK)).await;
    }
}
