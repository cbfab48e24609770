//! Ticks of schedules.

use super::state::State;
use crate::store::{Fire, Fired, ScheduleState};

impl State {
    pub(super) fn fire(&mut self, fire: &Fire) -> Fired {
        if self.ticks.get(&fire.schedule).is_some_and(|last| *last >= fire.tick) {
            return Fired::Before;
        }
        self.ticks.insert(fire.schedule.clone(), fire.tick);
        let Some(batch) = &fire.batch else { return Fired::Passed };
        match self.insert(batch).pop() {
            Some(Ok(mut inserted)) => inserted.pop().map_or(Fired::Passed, Fired::Inserted),
            Some(Err(refusal)) => Fired::Refused(refusal),
            None => Fired::Passed,
        }
    }

    pub(super) fn schedules(&self) -> Vec<ScheduleState> {
        self.ticks.iter().map(|(name, last)| ScheduleState::new(name.clone(), *last)).collect()
    }
}
