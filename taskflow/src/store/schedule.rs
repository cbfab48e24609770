//! Ticks of schedules, and the stored state of schedules.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{InsertBatch, Inserted, Refusal};
use crate::model::{TaskId, TickOutcome, time};

/// One tick of a schedule. The first process that fires it handles it; all others get the answer [`Fired::Before`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fire {
    /// The schedule.
    pub schedule: String,
    /// The instant of the tick.
    pub tick: SystemTime,
    /// The task to insert: a batch of one group of one task. `None` inserts nothing and only records that the tick has
    /// passed.
    pub batch: Option<Arc<InsertBatch>>,
    /// Which ticks this one must come after to be handled.
    pub after: FireAfter,
    /// For a schedule that was added at run time: the definition by which it ticks. The tick is handled only while this
    /// is the stored definition.
    pub definition: Option<String>,
    /// For a schedule that a program declares: its [declared timing](Declaration::timing). The tick is handled only
    /// while this is the declared timing.
    pub declared: Option<String>,
    /// How many ticks are skipped with this one, by the rules of the schedule. This one counts too if it is skipped. If
    /// the store handles the tick, it adds this number to [`ScheduleState::skipped`].
    pub skipped: u64,
    /// How far a tick may be ahead of the store's clock. The tick of a process whose clock is further ahead waits. A
    /// recorded tick that is further ahead came from a wrong clock and is ignored. Neither applies to ticks for a start of
    /// the program.
    pub ahead: Duration,
}

/// Which ticks a tick must come after to be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FireAfter {
    /// All earlier ticks: the tick is handled unless one at this instant or later has been handled.
    Earlier,
    /// The tick is for a start of the program. A schedule keeps its latest tick for a start apart from its other ticks.
    /// This tick is handled only if the latest tick for a start is still the given one; `None` if there was none. A
    /// pause does not apply to it.
    Start(Option<SystemTime>),
}

impl Fire {
    /// A tick that inserts the task of `batch`; with `None`, the tick only passes. It may be any time ahead of the store's
    /// clock.
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

    /// The answer, if the tick does not belong to the current definition or declaration of the schedule.
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

    /// How far the tick is ahead of the store's clock, if that is too far.
    fn early_by(&self, now: i64) -> Option<Duration> {
        let ahead = time::to_micros(self.tick).saturating_sub(now);
        let is_early = self.after == FireAfter::Earlier && ahead > time::micros(self.ahead);
        is_early.then(|| Duration::from_micros(ahead.unsigned_abs()))
    }

    /// Whether the tick comes after `last`, the latest recorded tick. A recorded tick too far ahead of the store's
    /// clock is ignored.
    fn is_after(&self, last: Option<i64>, now: i64) -> bool {
        let is_believed = |last: &i64| *last <= now.saturating_add(time::micros(self.ahead));
        last.filter(is_believed).is_none_or(|last| last < time::to_micros(self.tick))
    }
}

/// The result of a [`Fire`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fired {
    /// The tick was handled, and its task was inserted or found.
    Inserted(Inserted),
    /// The tick was handled, and its task was refused.
    Refused(Refusal),
    /// The tick was handled; it had no task to insert.
    Passed,
    /// The tick was handled; its task was not inserted because the schedule is paused.
    Paused,
    /// The tick is further ahead of the store's clock than its [`Fire::ahead`] allows. Nothing was done; fire it again
    /// when its time has come by the store's clock.
    Early {
        /// How far the tick is ahead of the store's clock in all.
        by: Duration,
    },
    /// This tick or a later one was handled before, or the schedule was redefined or removed. For a start of the program:
    /// the latest tick for a start is no longer the given one. Nothing was done.
    Before,
    /// The tick's timing is no longer the one by which the schedule ticks: a program declares another timing, or declares a
    /// schedule that ticked by its definition, or the declaration has ended. Nothing was done.
    Superseded,
}

impl Fired {
    /// The outcome that is stored with the schedule; `None` if nothing was done.
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

/// The stored state of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleState {
    /// The schedule.
    pub name: String,
    /// The latest tick that was handled, except ticks for a start of the program; or, if that is later, the instant after
    /// which the current definition or declaration ticks.
    pub last_tick: Option<SystemTime>,
    /// The outcome of that tick; `None` if the schedule began with that tick, or if its timing has changed since.
    pub last_outcome: Option<TickOutcome>,
    /// The latest tick for a start of the program.
    pub last_start: Option<SystemTime>,
    /// The task of the latest tick that inserted or replaced a task, or found a duplicate.
    pub last_task: Option<TaskId>,
    /// Whether it is paused.
    pub paused: bool,
    /// For a schedule that was added at run time: its definition, in the engine's own format.
    pub definition: Option<String>,
    /// For a schedule that a program declares: the declaration by which it ticks.
    pub declared: Option<Declaration>,
    /// How many ticks were skipped since the store first knew the schedule.
    pub skipped: u64,
    /// The latest tick that was skipped itself, or with which others were skipped.
    pub last_skipped: Option<SystemTime>,
}

/// The timing of a schedule that a program declares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Declaration {
    /// The expression and its time zone, in the engine's own format.
    pub timing: String,
    /// The start of the youngest process that declares this timing.
    pub since: SystemTime,
}

impl Declaration {
    /// The timing that a process declares; `since` is the start of that process.
    #[must_use]
    pub fn new(timing: String, since: SystemTime) -> Self {
        Self { timing, since }
    }
}

impl ScheduleState {
    /// A schedule with only its name.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// Decides whether to handle a tick; `now` is the store's clock. `Ok` is the batch to insert for it, if any. `Err`
    /// is the answer for a tick that is not handled.
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

    /// Records a tick that was [admitted](Self::admit). `inserted` is the answer of the insert of its batch, if there
    /// was one. Returns the answer for the tick.
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
                // The schedule begins at its first tick. If that tick only passes, nothing was skipped, so it has no
                // outcome.
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

    /// Applies a change; `now` is the store's clock. A removal only clears the definition: the store deletes the
    /// schedule if no program declares it.
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

    /// Applies a declaration; `now` is the store's clock.
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
            // A schedule that ticked before any program declared it continues from its latest tick. Any other begins now.
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

    /// Ends the declaration, if it is still the one of `since`.
    fn undeclare(&mut self, since: SystemTime, now: SystemTime) {
        let known = self.declared.as_ref().map(|known| time::to_micros(known.since));
        if known == Some(time::to_micros(since)) {
            self.declared = None;
            self.last_tick = self.last_tick.max(Some(now));
            self.last_outcome = None;
        }
    }
}

/// A change of a schedule, for [`Store::set_schedule`](super::Store::set_schedule).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScheduleChange {
    /// Pauses the schedule (`true`), so that its ticks pass without a task, or resumes it. A schedule that was not
    /// known becomes known.
    Paused(bool),
    /// Defines or redefines the schedule. Its ticks begin after `from`, or after the latest handled tick if that is
    /// later: a tick that was handled is never handled again, even under a new definition.
    Defined {
        /// The definition, in the engine's own format.
        definition: String,
        /// Ticks up to this instant, inclusive, do not belong to this definition.
        from: SystemTime,
    },
    /// Removes the definition. If the schedule has none, nothing changes. Otherwise the store deletes everything it knows of
    /// the schedule, unless a program declares it.
    Removed,
    /// A program declares the schedule with this timing.
    ///
    /// If it is already declared with the same timing, only its [`since`](Declaration::since) changes, to the later of the
    /// two starts. Another timing ticks from now on, by the store's clock; earlier ticks do not belong to it. But if a
    /// process that started later declared the current timing, nothing changes. A schedule that was not known, or that
    /// ticked without a definition or declaration, continues from its latest tick, or begins now.
    Declared {
        /// The timing, and the start of the process that declares it.
        declaration: Declaration,
        /// The [`since`](Declaration::since) of the declaration that this one replaces even if that one is later, because
        /// the processes of that declaration are gone.
        instead_of: Option<SystemTime>,
    },
    /// No program declares the schedule any more. This applies only if its declaration is still the one of `since`. Its
    /// definition, if there is one, ticks from now on.
    Undeclared {
        /// The [`since`](Declaration::since) of the declaration that ends.
        since: SystemTime,
    },
}

/// The changes of schedules that were added at run time, see
/// [`Store::schedule_changes`](super::Store::schedule_changes).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleChanges {
    /// The version to pass to the next call. All changes up to it are in this answer or were in earlier ones.
    pub version: u64,
    /// The schedules that were defined or removed since, in the order of these changes. A removed schedule has no
    /// definition.
    pub changed: Vec<ScheduleState>,
    /// Whether there are more changes: then ask again at once.
    pub more: bool,
}

impl ScheduleChanges {
    /// The maximum number of changes in one answer.
    pub const MAX: usize = 1000;
    /// The minimum number of removals that a store remembers.
    pub const MAX_REMOVED: usize = 10_000;

    /// An answer with the changes up to that version.
    #[must_use]
    pub fn new(version: u64, changed: Vec<ScheduleState>, more: bool) -> Self {
        Self { version, changed, more }
    }
}
