//! The options of `#[schedule]`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The options of `#[schedule(..)]` besides those of a task. The code that the attribute generates makes it, in a constant; the
/// attribute has already checked all values.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleSpec {
    pub trigger: Trigger,
    /// The IANA name of the time zone; `None` is UTC.
    pub timezone: Option<&'static str>,
    /// Whether the schedule also ticks once when a process starts.
    pub run_on_startup: bool,
    pub missed: Missed,
    pub overlap: Overlap,
}

/// The rule by which a schedule ticks.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// At each multiple of this interval since the epoch. With a time zone the interval is a number of whole days, and the
    /// schedule ticks at midnights of that zone. At least 100 ms.
    Every(Duration),
    /// A cron expression that fires at some time: five fields, six with the second first, or a nickname such as `@daily`.
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

/// What happens to the ticks that came while no process ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They are skipped.
    Skip,
    /// Only the last one runs late.
    #[default]
    One,
    /// Each of them runs late, at most the last hundred.
    All,
}

/// What happens to a tick while the run of an earlier tick has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Both run at the same time.
    #[default]
    Allow,
    /// The tick is skipped.
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
