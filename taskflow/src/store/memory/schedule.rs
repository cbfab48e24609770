//! Ticks of schedules, and the stored state of schedules.

use super::state::Tables;
use crate::store::{Fire, Fired, ScheduleChange, ScheduleChanges, ScheduleState};

impl Tables {
    pub(super) fn fire(&mut self, fire: &Fire) -> Fired {
        let unknown = || ScheduleState::new(fire.schedule.clone());
        let mut state = self.schedules.get(&fire.schedule).cloned().unwrap_or_else(unknown);
        let batch = match state.admit(fire, self.now()) {
            Ok(batch) => batch,
            Err(fired) => return fired,
        };
        let inserted = batch.map(|batch| self.insert(batch));
        let fired = state.note(fire, inserted);
        self.schedules.insert(fire.schedule.clone(), state);
        fired
    }

    fn schedule(&mut self, name: &str) -> &mut ScheduleState {
        let new = || ScheduleState::new(name.to_owned());
        self.schedules.entry(name.to_owned()).or_insert_with(new)
    }

    pub(super) fn set_schedule(&mut self, name: &str, change: &ScheduleChange) -> bool {
        let was_known = self.schedules.contains_key(name);
        let is_end = matches!(change, ScheduleChange::Removed | ScheduleChange::Undeclared { .. });
        if is_end && !was_known {
            return false;
        }
        let now = self.now();
        let state = self.schedule(name);
        let was_defined = state.definition.is_some();
        state.change(change, now);
        let is_forgotten = was_defined && state.definition.is_none() && state.declared.is_none();
        match change {
            ScheduleChange::Defined { .. } => self.schedule_log.changed(name, false),
            ScheduleChange::Removed if was_defined => self.schedule_log.changed(name, true),
            ScheduleChange::Removed => return false,
            _ => {}
        }
        if is_forgotten {
            self.schedules.remove(name);
        }
        was_known
    }

    pub(super) fn schedule_changes(&self, since: u64) -> ScheduleChanges {
        let mut changes = ScheduleChanges::new(self.schedule_log.version(), Vec::new(), false);
        for (version, name) in self.schedule_log.since(since) {
            if changes.changed.len() == ScheduleChanges::MAX {
                changes.more = true;
                break;
            }
            changes.version = version;
            let known = self.schedules.get(name).filter(|state| state.definition.is_some());
            changes.changed.push(known.cloned().unwrap_or_else(|| ScheduleState::new(name.to_owned())));
        }
        changes
    }

    pub(super) fn schedules(&self) -> Vec<ScheduleState> {
        self.schedules.values().cloned().collect()
    }
}
