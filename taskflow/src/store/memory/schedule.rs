//! Ticks of schedules, and schedules that are kept.

use super::state::{State, now};
use crate::model::time;
use crate::store::{Fire, FireAfter, Fired, ScheduleChange, ScheduleState};

impl State {
    pub(super) fn fire(&mut self, fire: &Fire) -> Fired {
        let now = now();
        if let Some(by) = fire.early_by(now) {
            return Fired::Early { by };
        }
        if let FireAfter::Start(Some(_)) = fire.after
            && !self.schedules.contains_key(&fire.schedule)
        {
            return Fired::Before;
        }
        let stored = self.schedules.get(&fire.schedule).and_then(|state| state.definition.as_ref());
        if fire.definition.is_some() && fire.definition.as_ref() != stored {
            return Fired::Before;
        }
        let state = self.schedule(&fire.schedule);
        let begins = state.last_tick.is_none() && fire.batch.is_none();
        match fire.after {
            FireAfter::Earlier if !fire.is_after(state.last_tick.map(time::to_micros), now) => {
                return Fired::Before;
            }
            FireAfter::Earlier => state.last_tick = Some(fire.tick),
            FireAfter::Start(before) if state.last_start != before => return Fired::Before,
            FireAfter::Start(_) => state.last_start = Some(fire.tick),
        }
        let paused = state.paused && fire.after == FireAfter::Earlier;
        let fired = match &fire.batch {
            None => Fired::Passed,
            Some(_) if paused => Fired::Paused,
            Some(batch) => match self.insert(batch).pop() {
                Some(Ok(mut inserted)) => inserted.pop().map_or(Fired::Passed, Fired::Inserted),
                Some(Err(refusal)) => Fired::Refused(refusal),
                None => Fired::Passed,
            },
        };
        let state = self.schedule(&fire.schedule);
        if let Fired::Inserted(inserted) = &fired {
            state.last_task = Some(inserted.id);
        }
        if fire.after == FireAfter::Earlier {
            state.last_outcome = fired.outcome().filter(|_| !begins);
        }
        fired
    }

    fn schedule(&mut self, name: &str) -> &mut ScheduleState {
        let new = || ScheduleState::new(name.to_owned());
        self.schedules.entry(name.to_owned()).or_insert_with(new)
    }

    pub(super) fn set_schedule(&mut self, name: &str, change: ScheduleChange) -> bool {
        let was_known = self.schedules.contains_key(name);
        match change {
            ScheduleChange::Paused(paused) => self.schedule(name).paused = paused,
            ScheduleChange::Defined { definition, from } => {
                let state = self.schedule(name);
                state.definition = Some(definition);
                state.last_tick = state.last_tick.max(Some(from));
                state.last_outcome = None;
            }
            ScheduleChange::Removed => {
                let is_defined = self.schedules.get(name).is_some_and(|state| state.definition.is_some());
                return is_defined && self.schedules.remove(name).is_some();
            }
        }
        was_known
    }

    pub(super) fn schedules(&self) -> Vec<ScheduleState> {
        self.schedules.values().cloned().collect()
    }
}
