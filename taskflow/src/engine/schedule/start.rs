//! What comes before the first tick of a schedule: its run for a start of the program, and its declaration.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::fire::Schedule;
use crate::model::{InstanceInfo, StoreError, When};
use crate::store::{Declaration, Fire, FireAfter, Fired, ScheduleChange, ScheduleState};

impl Schedule {
    /// Runs it if no other process that is alive lets this schedule tick. Of several that start at once one does: it leaves a
    /// mark that is no older than its own start, and no other mark came between.
    pub(super) async fn start_up(&self) -> Result<(), StoreError> {
        let core = &self.shared.worker.core;
        loop {
            let mark = self.state().await?.last_start;
            let there = core.store.instances().await?;
            let Some(own) = there.iter().find(|it| it.id == core.instance.id) else { return Ok(()) };
            let has_marked = |it: &InstanceInfo| mark.is_some_and(|mark| it.started_at <= mark);
            // A mark since the own start is as good: this may begin again after a panic.
            let lets_it_tick = |it: &&InstanceInfo| it.id == own.id || it.schedules.contains(&self.plan.name);
            let is_first = !there.iter().filter(lets_it_tick).any(has_marked);
            let after =
                mark.map_or(own.started_at, |mark| own.started_at.max(mark + Duration::from_micros(1)));
            let batch = is_first.then(|| Arc::new(self.batch(When::Now)));
            let mut fire = Fire::new(self.plan.name.clone(), after, batch);
            fire.after = FireAfter::Start(mark);
            match core.store.fire(fire).await? {
                Fired::Before => {}
                fired => {
                    self.announce(&fired);
                    return Ok(());
                }
            }
        }
    }

    /// Declares it, if it is one of this program, and answers after which tick it goes on.
    pub(super) async fn begin(&self, now: SystemTime) -> Result<SystemTime, StoreError> {
        if let Some(timing) = &self.plan.declared {
            self.declare(timing, None).await?;
        }
        Ok(self.last_believed(&self.state().await?, now))
    }

    /// The last tick that any process dealt with, unless it was dealt with under a clock that was wrong.
    pub(super) fn last_believed(&self, state: &ScheduleState, now: SystemTime) -> SystemTime {
        let last = state.last_tick.filter(|last| self.plan.ticks.believes(*last, now));
        last.unwrap_or(now)
    }

    /// Another declaration ticks. Takes its place if its processes are gone. Answers whether this schedule ticks now.
    pub(super) async fn take_over(&self) -> Result<bool, StoreError> {
        let core = &self.shared.worker.core;
        let declared = self.state().await?.declared;
        let there = core.store.instances().await?;
        let declares =
            |it: &InstanceInfo| it.id != core.instance.id && it.schedules.contains(&self.plan.name);
        match (&self.plan.declared, declared) {
            (Some(timing), Some(other)) => {
                if there.iter().any(|it| declares(it) && it.started_at >= other.since) {
                    return Ok(false);
                }
                tracing::info!(
                    schedule = self.plan.name,
                    "the processes that declared this schedule otherwise are gone: it ticks here again"
                );
                self.declare(timing, Some(other.since)).await?;
            }
            (Some(timing), None) => self.declare(timing, None).await?,
            (None, Some(other)) => {
                if there.iter().any(declares) {
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
