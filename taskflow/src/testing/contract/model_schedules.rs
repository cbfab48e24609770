//! The model's part for schedules: what a store should know of them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::{TaskId, TickOutcome};
use crate::store::{Fired, ScheduleState};

/// The instant for a number of a history. Greater numbers are later instants, and all are in the future.
pub(crate) fn instant(number: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(4_000_000_000 + number)
}

/// The number of an instant, or `None` for one of today.
fn number(instant: SystemTime) -> Option<u64> {
    let since = instant.duration_since(UNIX_EPOCH).expect("it is after 1970");
    since.as_secs().checked_sub(4_000_000_000)
}

/// The last tick of a schedule: the instant of a change, by the store's clock, or the number of an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tick {
    Today,
    Number(u64),
}

/// What a history does to a schedule.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Pause(bool),
    Define { definition: &'static str, from: u64 },
    Remove,
    Declare { timing: &'static str, since: u64, instead_of: Option<u64> },
    Undeclare { since: u64 },
}

/// What a history fires.
#[derive(Clone, Debug)]
pub(crate) struct FireSpec {
    pub(crate) schedule: &'static str,
    pub(crate) tick: u64,
    /// The latest start that it follows, if it is a tick for a start.
    pub(crate) start_after: Option<Option<u64>>,
    pub(crate) definition: Option<&'static str>,
    pub(crate) declared: Option<&'static str>,
    pub(crate) skipped: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) last_tick: Option<Tick>,
    pub(crate) last_outcome: Option<TickOutcome>,
    pub(crate) last_start: Option<u64>,
    pub(crate) last_task: Option<TaskId>,
    pub(crate) paused: bool,
    pub(crate) definition: Option<String>,
    pub(crate) declared: Option<(String, u64)>,
    pub(crate) skipped: u64,
    pub(crate) last_skipped: Option<u64>,
}

/// Converts a store's schedule into the model's.
pub(crate) fn told(state: &ScheduleState) -> Schedule {
    let known = |at: Option<SystemTime>| at.and_then(number);
    Schedule {
        last_tick: state.last_tick.map(|at| number(at).map_or(Tick::Today, Tick::Number)),
        last_outcome: state.last_outcome,
        last_start: known(state.last_start),
        last_task: state.last_task,
        paused: state.paused,
        definition: state.definition.clone(),
        declared: state
            .declared
            .as_ref()
            .map(|it| (it.timing.clone(), number(it.since).expect("a number of the history"))),
        skipped: state.skipped,
        last_skipped: known(state.last_skipped),
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Schedules {
    pub(crate) known: BTreeMap<&'static str, Schedule>,
    /// Each definition and removal, in order.
    log: Vec<&'static str>,
}

impl Schedules {
    /// Handles a tick. `Err` is the answer to a tick that inserts nothing. After `Ok` the caller must insert the task and then
    /// call [`inserted`](Self::inserted).
    pub(crate) fn fire(&mut self, fire: &FireSpec, has_task: bool) -> Result<(), Fired> {
        let nothing = Schedule::default();
        let there = self.known.get(fire.schedule).unwrap_or(&nothing);
        if fire.definition.is_some() && fire.definition != there.definition.as_deref() {
            return Err(Fired::Before);
        }
        let declared = there.declared.as_ref().map(|(timing, _)| &**timing);
        let is_superseded = if fire.declared.is_some() {
            fire.declared != declared
        } else {
            fire.definition.is_some() && declared.is_some()
        };
        if is_superseded {
            return Err(Fired::Superseded);
        }
        if matches!(fire.start_after, Some(Some(_))) && !self.known.contains_key(fire.schedule) {
            return Err(Fired::Before);
        }
        let tick = Tick::Number(fire.tick);
        let schedule = self.known.entry(fire.schedule).or_default();
        let is_first = schedule.last_tick.is_none();
        match fire.start_after {
            None if schedule.last_tick >= Some(tick) => return Err(Fired::Before),
            None => schedule.last_tick = Some(tick),
            Some(before) if schedule.last_start != before => return Err(Fired::Before),
            Some(_) => schedule.last_start = Some(fire.tick),
        }
        if fire.skipped > 0 {
            schedule.skipped += fire.skipped;
            schedule.last_skipped = Some(fire.tick);
        }
        let is_tick = fire.start_after.is_none();
        let (outcome, answer) = match has_task {
            true if is_tick && schedule.paused => (Some(TickOutcome::Paused), Fired::Paused),
            true => return Ok(()),
            false => ((!is_first).then_some(TickOutcome::Skipped), Fired::Passed),
        };
        if is_tick {
            schedule.last_outcome = outcome;
        }
        Err(answer)
    }

    /// Notes what became of the task of a tick.
    pub(crate) fn inserted(&mut self, fire: &FireSpec, outcome: TickOutcome, task: Option<TaskId>) {
        let schedule = self.known.get_mut(fire.schedule).expect("it has just ticked");
        schedule.last_task = task.or(schedule.last_task);
        if fire.start_after.is_none() {
            schedule.last_outcome = Some(outcome);
        }
    }

    /// Answers whether the schedule was known.
    pub(crate) fn change(&mut self, name: &'static str, change: &Change) -> bool {
        let was_known = self.known.contains_key(name);
        match *change {
            Change::Pause(paused) => self.known.entry(name).or_default().paused = paused,
            Change::Define { definition, from } => {
                let schedule = self.known.entry(name).or_default();
                schedule.definition = Some(definition.to_owned());
                schedule.last_tick = schedule.last_tick.max(Some(Tick::Number(from)));
                schedule.last_outcome = None;
                self.log.push(name);
            }
            Change::Remove => {
                let Some(schedule) = self.known.get_mut(name) else { return false };
                if schedule.definition.take().is_none() {
                    return false;
                }
                if schedule.declared.is_none() {
                    self.known.remove(name);
                }
                self.log.push(name);
                return true;
            }
            Change::Declare { timing, since, instead_of } => {
                self.known.entry(name).or_default().declare(timing, since, instead_of);
            }
            Change::Undeclare { since } => {
                if let Some(schedule) = self.known.get_mut(name)
                    && schedule.declared.as_ref().is_some_and(|(_, known)| *known == since)
                {
                    schedule.declared = None;
                    schedule.last_tick = schedule.last_tick.max(Some(Tick::Today));
                    schedule.last_outcome = None;
                }
            }
        }
        was_known
    }

    /// The schedules that were defined or removed since the log had that length, each once, with their current definitions.
    pub(crate) fn changes(&self, since: usize) -> Vec<(String, Option<String>)> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.log[since..].iter().rev() {
            if !names.contains(name) {
                names.push(name);
            }
        }
        let definition = |name: &str| self.known.get(name).and_then(|schedule| schedule.definition.clone());
        names.into_iter().rev().map(|name| (name.to_owned(), definition(name))).collect()
    }

    pub(crate) fn log_length(&self) -> usize {
        self.log.len()
    }
}

impl Schedule {
    fn declare(&mut self, timing: &str, since: u64, instead_of: Option<u64>) {
        match &mut self.declared {
            Some((known, at)) if known == timing => {
                *at = since.max(*at);
                return;
            }
            Some((_, at)) if since < *at && instead_of != Some(*at) => return,
            None if self.definition.is_none() => self.last_tick = self.last_tick.or(Some(Tick::Today)),
            _ => {
                self.last_tick = self.last_tick.max(Some(Tick::Today));
                self.last_outcome = None;
            }
        }
        self.declared = Some((timing.to_owned(), since));
    }
}
