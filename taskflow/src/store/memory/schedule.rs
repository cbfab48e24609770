//! Ticks of schedules, and schedules that are kept.

use super::state::{State, now};
use crate::model::time;
use crate::store::{Fire, FireAfter, Fired, ScheduleChange, ScheduleChanges, ScheduleState};

impl State {
    pub(super) fn fire(&mut self, fire: &Fire) -> Fired {
        let now = now();
        if let Some(by) = fire.early_by(now) {
            return Fired::Early { by };
        }
        let known = self.schedules.get(&fire.schedule);
        let definition = known.and_then(|state| state.definition.as_deref());
        let declared = known.and_then(|state| Some(&*state.declared.as_ref()?.timing));
        if let Some(refused) = fire.refused_by(definition, declared) {
            return refused;
        }
        if let FireAfter::Start(Some(_)) = fire.after
            && !self.schedules.contains_key(&fire.schedule)
        {
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
        state.count_skipped(fire);
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
                self.schedule_log.changed(name, false);
            }
            ScheduleChange::Removed => {
                let Some(state) = self.schedules.get_mut(name) else { return false };
                let was_defined = state.definition.take().is_some();
                if was_defined {
                    if state.declared.is_none() {
                        self.schedules.remove(name);
                    }
                    self.schedule_log.changed(name, true);
                }
                return was_defined;
            }
            ScheduleChange::Declared { declaration, instead_of } => {
                self.schedule(name).declare(&declaration, instead_of, time::from_micros(now()));
            }
            ScheduleChange::Undeclared { since } => {
                if let Some(state) = self.schedules.get_mut(name) {
                    state.undeclare(since, time::from_micros(now()));
                }
            }
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
