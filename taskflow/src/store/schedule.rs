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
        Self { schedule, tick, batch, after: FireAfter::Earlier, definition: None, ahead: Duration::MAX }
    }

    /// How far it is ahead of the store's clock, if that is too far.
    pub(crate) fn early_by(&self, now: i64) -> Option<Duration> {
        let ahead = time::to_micros(self.tick).saturating_sub(now);
        let is_early = self.after == FireAfter::Earlier && ahead > time::micros(self.ahead);
        is_early.then(|| Duration::from_micros(ahead.unsigned_abs()))
    }

    /// Whether it comes after the latest tick that was taken note of, by the store's clock.
    pub(crate) fn is_after(&self, last: Option<i64>, now: i64) -> bool {
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
    /// It, or a later one, had been dealt with before, or its schedule is another by now: nothing was done.
    Before,
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
            Self::Early { .. } | Self::Before => None,
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
}

impl ScheduleState {
    /// A schedule of which nothing is known but its name.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, ..Self::default() }
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
    /// It is forgotten with all that is known of it, if it has a definition.
    Removed,
}
