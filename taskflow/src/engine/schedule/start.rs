//! The start of a schedule, before its first tick: its startup run, and its declaration.

use std::time::{Duration, SystemTime};

use super::fire::Schedule;
use crate::model::{InstanceInfo, StoreError, When};
use crate::store::{Declaration, Fire, FireAfter, Fired, ScheduleChange, ScheduleState};

impl Schedule {
    /// Adds the startup run, unless another live process already runs this schedule. Of several processes that start at
    /// once, exactly one adds it: it records a marker no older than its own start, and only if no other marker was
    /// recorded in between.
    pub(super) async fn start_up(&self) -> Result<(), StoreError> {
        let core = &self.shared.worker.core;
        loop {
            let mark = self.state().await?.last_start;
            let instances = core.store.instances().await?;
            let Some(own) = instances.iter().find(|it| it.id == core.instance.id) else { return Ok(()) };
            let is_marked = |it: &InstanceInfo| mark.is_some_and(|mark| it.started_at <= mark);
            // A marker since this process started counts too: this function may run again after a panic.
            let runs_schedule =
                |it: &&InstanceInfo| it.id == own.id || it.schedules.contains(&self.plan.name);
            let is_first = !instances.iter().filter(runs_schedule).any(is_marked);
            let after =
                mark.map_or(own.started_at, |mark| own.started_at.max(mark + Duration::from_micros(1)));
            let (batch, refused) = match is_first.then(|| self.batch(When::Now)) {
                Some(Ok(batch)) => (Some(batch), None),
                Some(Err(refused)) => (None, Some(refused)),
                None => (None, None),
            };
            let mut fire = Fire::new(self.plan.name.clone(), after, batch.clone());
            fire.after = FireAfter::Start(mark);
            match core.store.fire(fire).await? {
                Fired::Before => {}
                fired => {
                    if let Some((task, error)) = refused {
                        self.announce_refused(&task, &error);
                    }
                    self.announce(&fired, batch.as_deref());
                    return Ok(());
                }
            }
        }
    }

    /// Declares the schedule, if this program does, and returns the tick after which it continues.
    pub(super) async fn begin(&self, now: SystemTime) -> Result<SystemTime, StoreError> {
        if let Some(timing) = &self.plan.declared {
            self.declare(timing, None).await?;
        }
        Ok(self.last_believed(&self.state().await?, now))
    }

    /// The last tick that any process handled. `now` if there is none, or if it was handled under a wrong clock.
    pub(super) fn last_believed(&self, state: &ScheduleState, now: SystemTime) -> SystemTime {
        let last = state.last_tick.filter(|last| self.plan.ticks.believes(*last, now));
        last.unwrap_or(now)
    }

    /// Takes over from another declaration if its processes are gone. Returns whether this schedule ticks now.
    pub(super) async fn take_over(&self) -> Result<bool, StoreError> {
        let core = &self.shared.worker.core;
        let declared = self.state().await?.declared;
        let instances = core.store.instances().await?;
        let declares =
            |it: &InstanceInfo| it.id != core.instance.id && it.schedules.contains(&self.plan.name);
        match (&self.plan.declared, declared) {
            (Some(timing), Some(other)) => {
                if instances.iter().any(|it| declares(it) && it.started_at >= other.since) {
                    return Ok(false);
                }
                tracing::info!(
                    schedule = self.plan.name,
                    "the processes with another declaration of this schedule are gone: this process fires it again"
                );
                self.declare(timing, Some(other.since)).await?;
            }
            (Some(timing), None) => self.declare(timing, None).await?,
            (None, Some(other)) => {
                if instances.iter().any(declares) {
                    return Ok(false);
                }
                let change = ScheduleChange::Undeclared { since: other.since };
                core.store.set_schedule(self.plan.name.clone(), change).await?;
            }
            (None, None) => {}
        }
        Ok(true)
    }

    async fn declare(&self, timing: &str, instead_of: Option<SystemTime>) -> Result<(), StoreError> {
        let declaration = Declaration::new(timing.to_owned(), self.shared.started_at().await?);
        let change = ScheduleChange::Declared { declaration, instead_of };
        self.shared.worker.core.store.set_schedule(self.plan.name.clone(), change).await.map(drop)
    }
}
