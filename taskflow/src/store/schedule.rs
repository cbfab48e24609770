//! Ticks of schedules.

use std::sync::Arc;
use std::time::SystemTime;

use super::{InsertBatch, Inserted, Refusal};

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
}

impl Fire {
    /// A tick that inserts that task, or only passes.
    #[must_use]
    pub fn new(schedule: String, tick: SystemTime, batch: Option<Arc<InsertBatch>>) -> Self {
        Self { schedule, tick, batch }
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
    /// It, or a later one, had been dealt with before: nothing was done.
    Before,
}

/// What a store knows of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleState {
    /// The schedule.
    pub name: String,
    /// The latest tick that has been dealt with.
    pub last_tick: SystemTime,
}

impl ScheduleState {
    /// What a store knows of a schedule.
    #[must_use]
    pub fn new(name: String, last_tick: SystemTime) -> Self {
        Self { name, last_tick }
    }
}
