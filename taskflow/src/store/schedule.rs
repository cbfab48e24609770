//! Ticks of schedules, and schedules that are kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{InsertBatch, Inserted, Refusal};
use crate::model::{TaskId, TickOutcome, time};

/// One tick of a schedule, to be dealt with once by whichever process comes first.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fire {
    /// The schedule.
    pub schedule: String,
    /// The instant of the tick.
    pub tick: SystemTime,
    /// The task to insert: a batch of one group of one task. `None` only takes note that the tick has passed.
    pub batch: Option<Arc<InsertBatch>>,
    /// Which ticks it comes after.
    pub after: FireAfter,
    /// Of a schedule that was added at run time, the definition it ticks by: it is dealt with only while that is the stored
    /// one.
    pub definition: Option<String>,
    /// Of a schedule that a program declares, its [declared timing](Declaration::timing): it is dealt with only while that is
    /// the declared one.
    pub declared: Option<String>,
    /// How many ticks are left out with this one, by the rules of the schedule; this one counts too if it is left out. The
    /// store adds it to [`ScheduleState::skipped`] if it deals with the tick.
    pub skipped: u64,
    /// How far a tick may be ahead of the store's clock. One of a process whose clock is further ahead waits; and one that was
    /// taken note of and is further ahead was so under a clock that was wrong: it is not believed.
    pub ahead: Duration,
}

/// Which ticks a tick comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FireAfter {
    /// Every earlier one: it is dealt with unless one at this instant or later has been.
    Earlier,
    /// It is the one for a start of the program, of which a schedule keeps the latest apart from its ticks: it is dealt
    /// with if the latest is still this one. A pause does not concern it.
    Start(Option<SystemTime>),
}

impl Fire {
    /// A tick that inserts that task, or only passes, however far ahead it is.
    #[must_use]
    pub fn new(schedule: String, tick: SystemTime, batch: Option<Arc<InsertBatch>>) -> Self {
        Self {
            schedule,
            tick,
            batch,
            after: FireAfter::Earlier,
            definition: None,
            declared: None,
            skipped: 0,
            ahead: Duration::MAX,
        }
    }

    /// What it is answered if it is no tick of what the schedule is now.
    fn refused_by(&self, definition: Option<&str>, declared: Option<&str>) -> Option<Fired> {
        if self.definition.is_some() && self.definition.as_deref() != definition {
            return Some(Fired::Before);
        }
        let is_superseded = match &self.declared {
            Some(own) => declared != Some(own),
            None => self.definition.is_some() && declared.is_some(),
        };
        is_superseded.then_some(Fired::Superseded)
    }

    /// How far it is ahead of the store's clock, if that is too far.
    fn early_by(&self, now: i64) -> Option<Duration> {
        let ahead = time::to_micros(self.tick).saturating_sub(now);
        let is_early = self.after == FireAfter::Earlier && ahead > time::micros(self.ahead);
        is_early.then(|| Duration::from_micros(ahead.unsigned_abs()))
    }

    /// Whether it comes after the latest tick that was taken note of, by the store's clock.
    fn is_after(&self, last: Option<i64>, now: i64) -> bool {
        let is_believed = |last: &i64| *last <= now.saturating_add(time::micros(self.ahead));
        last.filter(is_believed).is_none_or(|last| last < time::to_micros(self.tick))
    }
}

/// What became of a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fired {
    /// Its task is inserted.
    Inserted(Inserted),
    /// It has been dealt with, and its task was refused.
    Refused(Refusal),
    /// It has been dealt with, and nothing was to be inserted.
    Passed,
    /// It has been dealt with, and nothing was inserted since the schedule is paused.
    Paused,
    /// It is further ahead of the store's clock than it may be, by so much in all: nothing was done, and it is to be tried again
    /// when its time has come by that clock.
    Early {
        /// How far the tick is ahead.
        by: Duration,
    },
    /// It, or a later one, had been dealt with before, or its schedule was redefined or removed: nothing was done.
    Before,
    /// A program declares the schedule with another timing, and that one ticks: nothing was done.
    Superseded,
}

impl Fired {
    /// What is kept of it with the schedule; `None` where nothing was done.
    #[must_use]
    pub fn outcome(&self) -> Option<TickOutcome> {
        match self {
            Self::Inserted(inserted) if inserted.kind.is_new() => Some(TickOutcome::Added),
            Self::Inserted(_) => Some(TickOutcome::Duplicate),
            Self::Refused(_) => Some(TickOutcome::Refused),
            Self::Passed => Some(TickOutcome::Skipped),
            Self::Paused => Some(TickOutcome::Paused),
            Self::Early { .. } | Self::Before | Self::Superseded => None,
        }
    }
}

/// What a store knows of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleState {
    /// The schedule.
    pub name: String,
    /// The latest tick that has been dealt with.
    pub last_tick: Option<SystemTime>,
    /// What became of it.
    pub last_outcome: Option<TickOutcome>,
    /// The latest tick for a start of the program.
    pub last_start: Option<SystemTime>,
    /// The task of the latest tick that inserted one, or found a duplicate.
    pub last_task: Option<TaskId>,
    /// Whether it is paused.
    pub paused: bool,
    /// Of a schedule that was added at run time: what it is, in the engine's own words.
    pub definition: Option<String>,
    /// Of a schedule that a program declares: the declaration that ticks.
    pub declared: Option<Declaration>,
    /// How many ticks were left out since the schedule is known.
    pub skipped: u64,
    /// The latest tick with which others, or itself, were left out.
    pub last_skipped: Option<SystemTime>,
}

/// When a schedule of a program ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Declaration {
    /// The expression and its zone, in the engine's own words.
    pub timing: String,
    /// When the youngest process that declared this started.
    pub since: SystemTime,
}

impl Declaration {
    /// A timing that a process declares which started at `since`.
    #[must_use]
    pub fn new(timing: String, since: SystemTime) -> Self {
        Self { timing, since }
    }
}

impl ScheduleState {
    /// A schedule of which nothing is known but its name.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// Whether a tick is to be dealt with, by the store's clock: then what is to be inserted for it, if anything is. Else
    /// what it is answered.
    pub(crate) fn admit<'f>(&self, fire: &'f Fire, now: i64) -> Result<Option<&'f Arc<InsertBatch>>, Fired> {
        if let Some(by) = fire.early_by(now) {
            return Err(Fired::Early { by });
        }
        let declared = self.declared.as_ref().map(|declared| &*declared.timing);
        if let Some(refused) = fire.refused_by(self.definition.as_deref(), declared) {
            return Err(refused);
        }
        let micros = |at: Option<SystemTime>| at.map(time::to_micros);
        let is_next = match fire.after {
            FireAfter::Earlier => fire.is_after(micros(self.last_tick), now),
            FireAfter::Start(before) => micros(self.last_start) == micros(before),
        };
        if is_next { Ok(fire.batch.as_ref().filter(|_| !self.pauses(fire))) } else { Err(Fired::Before) }
    }

    fn pauses(&self, fire: &Fire) -> bool {
        self.paused && fire.after == FireAfter::Earlier
    }

    /// Takes note of a tick that was [admitted](Self::admit). `inserted` is what the insert of its batch answered, if there
    /// was one. Answers what became of the tick.
    pub(crate) fn note(
        &mut self,
        fire: &Fire,
        inserted: Option<Vec<Result<Vec<Inserted>, Refusal>>>,
    ) -> Fired {
        let fired = match inserted.and_then(|mut answers| answers.pop()) {
            Some(Ok(mut inserted)) => inserted.pop().map_or(Fired::Passed, Fired::Inserted),
            Some(Err(refusal)) => Fired::Refused(refusal),
            None if fire.batch.is_some() && self.pauses(fire) => Fired::Paused,
            None => Fired::Passed,
        };
        if let Fired::Inserted(inserted) = &fired {
            self.last_task = Some(inserted.id);
        }
        match fire.after {
            FireAfter::Earlier => {
                // The first, if it only passes, is where the schedule begins: nothing was left out.
                let begins = self.last_tick.is_none() && fire.batch.is_none();
                self.last_outcome = fired.outcome().filter(|_| !begins);
                self.last_tick = Some(fire.tick);
            }
            FireAfter::Start(_) => self.last_start = Some(fire.tick),
        }
        if fire.skipped > 0 {
            self.skipped = self.skipped.saturating_add(fire.skipped);
            self.last_skipped = Some(fire.tick);
        }
        fired
    }

    /// Makes a change, by the store's clock. Of a removal, that it loses its definition: the store forgets the schedule if no
    /// program declares it.
    pub(crate) fn change(&mut self, change: &ScheduleChange, now: i64) {
        let now = time::from_micros(now);
        match change {
            ScheduleChange::Paused(paused) => self.paused = *paused,
            ScheduleChange::Defined { definition, from } => {
                self.definition = Some(definition.clone());
                self.last_tick = self.last_tick.max(Some(*from));
                self.last_outcome = None;
            }
            ScheduleChange::Removed => self.definition = None,
            ScheduleChange::Declared { declaration, instead_of } => {
                self.declare(declaration, *instead_of, now);
            }
            ScheduleChange::Undeclared { since } => self.undeclare(*since, now),
        }
    }

    /// Takes note of a declaration; `now` is the store's clock.
    fn declare(&mut self, declaration: &Declaration, instead_of: Option<SystemTime>, now: SystemTime) {
        let micros = |at| time::to_micros(at);
        match &mut self.declared {
            Some(known) if known.timing == declaration.timing => {
                known.since = known.since.max(declaration.since);
                return;
            }
            Some(known)
                if micros(declaration.since) < micros(known.since)
                    && instead_of.map(micros) != Some(micros(known.since)) =>
            {
                return;
            }
            // It ticked under this name before anybody declared it, or begins now.
            None if self.definition.is_none() => {
                self.last_tick.get_or_insert(now);
            }
            _ => {
                self.last_tick = self.last_tick.max(Some(now));
                self.last_outcome = None;
            }
        }
        self.declared = Some(declaration.clone());
    }

    /// Nobody declares it any more, if the declaration is still the one of `since`.
    fn undeclare(&mut self, since: SystemTime, now: SystemTime) {
        let known = self.declared.as_ref().map(|known| time::to_micros(known.since));
        if known == Some(time::to_micros(since)) {
            self.declared = None;
            self.last_tick = self.last_tick.max(Some(now));
            self.last_outcome = None;
        }
    }
}

/// What is to change about a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScheduleChange {
    /// Its ticks pass from now on, or do so no longer. One that was not known is, from then on.
    Paused(bool),
    /// It is this from now on, whether or not it was anything before. Its ticks begin after `from`, or after the latest that
    /// has been dealt with if that is later: a tick that was dealt with is not again, whatever the schedule is by then.
    Defined {
        /// What it is, in the engine's own words.
        definition: String,
        /// Ticks up to this instant are none of it.
        from: SystemTime,
    },
    /// It loses its definition, if it has one, and is forgotten with all that is known of it unless a program declares it.
    Removed,
    /// A program declares it with this timing. One that is declared with the same timing stays as it is. Another timing ticks
    /// from now on, by the store's clock, and no earlier tick is one of it; unless the one that ticks was declared by a process
    /// that started later: then nothing changes. One that was not known, or has ticked without a definition or declaration,
    /// goes on from its latest tick, or begins now.
    Declared {
        /// The timing, and when the process started that declares it.
        declaration: Declaration,
        /// The [`since`](Declaration::since) of the declaration that this one replaces although it is later: its processes
        /// are gone.
        instead_of: Option<SystemTime>,
    },
    /// No program declares it any more, if its declaration is still the one of `since`. Its definition ticks from now on.
    Undeclared {
        /// That of the declaration which ends.
        since: SystemTime,
    },
}

/// What has changed in the schedules that were added at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleChanges {
    /// What to ask with next: everything up to it is in this answer, or was in earlier ones.
    pub version: u64,
    /// The schedules that were defined or removed since, in the order of these changes; without a definition those that were
    /// removed.
    pub changed: Vec<ScheduleState>,
    /// Whether there is more: ask again at once.
    pub more: bool,
}

impl ScheduleChanges {
    /// The most changes in one answer.
    pub const MAX: usize = 1000;
    /// How many removals a store remembers at least.
    pub const MAX_REMOVED: usize = 10_000;

    /// Changes up to that version.
    #[must_use]
    pub fn new(version: u64, changed: Vec<ScheduleState>, more: bool) -> Self {
        Self { version, changed, more }
    }
}
