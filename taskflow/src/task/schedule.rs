//! When a scheduled task ticks.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What `#[schedule(..)]` says beside a task's options. Written by the attribute's expansion, in a constant; everything in
/// it was checked there.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleSpec {
    pub trigger: Trigger,
    /// The IANA name of the zone whose midnight and clock count; UTC without one.
    pub timezone: Option<&'static str>,
    /// Whether it also ticks once when a process starts.
    pub run_on_startup: bool,
    pub missed: Missed,
    pub overlap: Overlap,
}

/// What makes a schedule tick.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The multiples of this length since the epoch; of whole days with a time zone, that zone's midnights. At least
    /// 100 ms.
    Every(Duration),
    /// Five fields, six with the second first, or a nickname such as `@daily`; it fires some day.
    Cron(&'static str),
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(length) => write!(f, "every {length:?}"),
            Self::Cron(expression) => f.write_str(expression),
        }
    }
}

/// What becomes of the ticks that came while no process ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// Nothing.
    Skip,
    /// The last one is made up for.
    #[default]
    One,
    /// Each is made up for, the last hundred at most.
    All,
}

/// What becomes of a tick while the run of an earlier one has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It runs beside it.
    #[default]
    Allow,
    /// It is left out.
    Skip,
}

#[allow(missing_docs, reason = "one function for each option of the attribute, which documents them")]
impl ScheduleSpec {
    #[must_use]
    pub const fn new(trigger: Trigger) -> Self {
        Self { trigger, timezone: None, run_on_startup: false, missed: Missed::One, overlap: Overlap::Allow }
    }

    #[must_use]
    pub const fn timezone(mut self, zone: &'static str) -> Self {
        self.timezone = Some(zone);
        self
    }

    #[must_use]
    pub const fn run_on_startup(mut self, run: bool) -> Self {
        self.run_on_startup = run;
        self
    }

    #[must_use]
    pub const fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    #[must_use]
    pub const fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }
}
