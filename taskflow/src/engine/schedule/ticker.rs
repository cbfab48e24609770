//! The loop of one schedule. Every process that knows the schedule runs one; the store lets each tick happen once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Plan;
use crate::engine::pause::Backoff;
use crate::engine::runner::Runner;
use crate::model::{InstanceInfo, StoreError, TaskEventKind, When};
use crate::store::{Fire, FireAfter, Fired, InsertBatch, InsertGroup, InsertTask, ScheduleState, Start};
use crate::task::{Missed, Overlap};

/// Of the ticks that were missed, so many are made up for at most.
const MAX_MISSED: usize = 100;

/// The clock is looked at this often, in case somebody set it.
const LOOK: Duration = Duration::from_secs(10);

/// A tick that is later than this was missed.
const LATE: Duration = Duration::from_secs(10);

/// Fires the ticks of one schedule until the process stops.
pub(super) async fn keep(runner: Arc<Runner>, plan: Plan) {
    let core = runner.core.clone();
    let schedule = Schedule { runner, plan };
    tokio::select! {
        () = core.over.cancelled() => {}
        () = schedule.run() => {}
    }
}

/// A tick is too far ahead of the store's clock.
#[derive(Debug)]
struct Early {
    /// What that clock said.
    now: SystemTime,
}

impl Early {
    fn check(tick: SystemTime, fired: &Fired) -> Result<(), Self> {
        match fired {
            Fired::Early { by } => Err(Self { now: tick.checked_sub(*by).unwrap_or(SystemTime::UNIX_EPOCH) }),
            _ => Ok(()),
        }
    }
}

struct Schedule {
    runner: Arc<Runner>,
    plan: Plan,
}

impl Schedule {
    async fn run(&self) {
        let ticks = &self.plan.ticks;
        if self.plan.run_on_startup {
            self.persist(|| self.start_up()).await;
        }
        let mut last = self.persist(|| self.last_tick()).await;
        loop {
            let Some(next) = ticks.after(last) else { return };
            if !self.wait_until(next, last).await {
                last = self.persist(|| self.last_tick()).await;
                continue;
            }
            if self.runner.is_stopping() {
                return;
            }
            let mut now = SystemTime::now();
            // Where this clock is far ahead of the store's, that one counts.
            while let Err(Early { now: earlier }) = self.tick_until(now, &mut last).await {
                now = earlier;
                tokio::time::sleep(LOOK.min(next.duration_since(now).unwrap_or_default())).await;
            }
        }
    }

    /// Deals with the ticks after `last` that are due: usually one, more after the process, or all of them, were away.
    async fn tick_until(&self, now: SystemTime, last: &mut SystemTime) -> Result<(), Early> {
        let due = self.plan.ticks.between(*last, now, MAX_MISSED);
        let Some((newest, missed)) = due.split_last() else { return Ok(()) };
        if self.plan.missed == Missed::All {
            for tick in missed {
                self.persist(|| self.fire(*tick)).await?;
            }
        }
        let late = now.duration_since(*newest).unwrap_or_default() > LATE;
        if late && self.plan.missed == Missed::Skip {
            self.persist(|| self.pass(*newest)).await?;
        } else {
            self.persist(|| self.fire(*newest)).await?;
        }
        *last = *newest;
        Ok(())
    }

    /// Waits for a tick. `false` if the clock has been set back so far meanwhile that the tick before it is not believed.
    async fn wait_until(&self, next: SystemTime, last: SystemTime) -> bool {
        loop {
            let now = SystemTime::now();
            if !self.plan.ticks.believes(last, now) {
                return false;
            }
            match next.duration_since(now) {
                Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LOOK)).await,
                _ => return true,
            }
        }
    }

    /// Tries until the store answers. Ticks that come meanwhile are then due, or missed.
    async fn persist<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> T {
        let mut backoff = Backoff::new();
        loop {
            let health = &self.runner.core.health;
            let began = health.begin();
            match health.note_read("a tick", began, attempt().await) {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(backoff.delay()).await,
            }
        }
    }

    /// The last tick that anybody dealt with. A schedule that is new, or of which that is not believed, begins now.
    async fn last_tick(&self) -> Result<SystemTime, StoreError> {
        let mut now = SystemTime::now();
        if let Some(last) = self.state().await?.last_tick.filter(|last| self.plan.ticks.believes(*last, now))
        {
            return Ok(last);
        }
        while let Err(Early { now: earlier }) = self.pass(now).await? {
            now = earlier;
        }
        Ok(now)
    }

    async fn pass(&self, tick: SystemTime) -> Result<Result<(), Early>, StoreError> {
        let fired = self.runner.core.store.fire(self.tick(tick, None)).await?;
        Ok(Early::check(tick, &fired))
    }

    fn tick(&self, tick: SystemTime, batch: Option<Arc<InsertBatch>>) -> Fire {
        let mut fire = Fire::new(self.plan.name.clone(), tick, batch);
        fire.definition.clone_from(&self.plan.definition);
        fire.ahead = self.plan.ticks.ahead(SystemTime::now());
        fire
    }

    async fn fire(&self, tick: SystemTime) -> Result<Result<(), Early>, StoreError> {
        let core = &self.runner.core;
        if self.plan.overlap == Overlap::Skip && self.is_under_way().await? {
            tracing::info!(
                schedule = self.plan.name,
                "a tick is left out: the run of an earlier one has not ended"
            );
            return self.pass(tick).await;
        }
        let fire = self.tick(tick, Some(Arc::new(self.batch(When::At(tick)))));
        let fired = core.store.fire(fire).await?;
        self.tell(&fired);
        Ok(Early::check(tick, &fired))
    }

    fn batch(&self, when: When) -> InsertBatch {
        let core = &self.runner.core;
        let task = self.plan.task(when);
        // A queue that this program does not know has no limits it could mind.
        let admission = core.queues.admission(&task.queue).unwrap_or_default();
        let mut insert = InsertTask::new(task, Start::Wait);
        (insert.max_size, insert.record_rejected) = admission;
        InsertBatch::new(core.instance.id, core.settings.lease, vec![InsertGroup::new(vec![insert])])
    }

    async fn state(&self) -> Result<ScheduleState, StoreError> {
        let known = self.runner.core.store.schedules().await?;
        let mut own = known.into_iter().filter(|state| state.name == self.plan.name);
        Ok(own.next().unwrap_or_default())
    }

    /// Whether the run of an earlier tick has not ended.
    async fn is_under_way(&self) -> Result<bool, StoreError> {
        let Some(last) = self.state().await?.last_task else { return Ok(false) };
        let record = self.runner.core.store.get(last).await?;
        Ok(record.is_some_and(|record| !record.status.is_final()))
    }

    /// Ticks if no other process that is alive lets this schedule tick. Of several that start at once one does: who has
    /// seen to it leaves a mark that is no older than its own start, and nobody else's mark came between.
    async fn start_up(&self) -> Result<(), StoreError> {
        let core = &self.runner.core;
        loop {
            let mark = self.state().await?.last_start;
            let there = core.store.instances().await?;
            let Some(own) = there.iter().find(|it| it.id == core.instance.id) else { return Ok(()) };
            let has_seen_to_it = |it: &InstanceInfo| mark.is_some_and(|mark| it.started_at <= mark);
            let lets_it_tick = |it: &&InstanceInfo| it.id != own.id && it.schedules.contains(&self.plan.name);
            let is_first = !there.iter().filter(lets_it_tick).any(has_seen_to_it);
            let after =
                mark.map_or(own.started_at, |mark| own.started_at.max(mark + Duration::from_micros(1)));
            let batch = is_first.then(|| Arc::new(self.batch(When::Now)));
            let mut fire = Fire::new(self.plan.name.clone(), after, batch);
            fire.after = FireAfter::Start(mark);
            match core.store.fire(fire).await? {
                Fired::Before => {}
                fired => {
                    self.tell(&fired);
                    return Ok(());
                }
            }
        }
    }

    fn tell(&self, fired: &Fired) {
        let schedule = &self.plan.name;
        match fired {
            Fired::Inserted(inserted) => {
                self.runner.core.events.send_named(inserted.id, schedule, || TaskEventKind::Added);
                self.runner.may_have_work();
            }
            Fired::Refused(refusal) => {
                tracing::warn!(schedule, ?refusal, "a tick was refused; the next one comes");
            }
            Fired::Early { by } => {
                tracing::debug!(
                    schedule,
                    ?by,
                    "a tick waits for the store's clock, which is behind this one"
                );
            }
            Fired::Passed | Fired::Paused | Fired::Before => {}
        }
    }
}
