//! When a schedule ticks, as a program says it at run time, and the instants that follow from it.
//!
//! [`cron`] and [`every`] are the two rules, and refuse what the attribute refuses. [`calendar`] reads a cron expression by the
//! clock of a time zone, over both changes of that clock. [`ticks`] gives the instants of either rule.

mod calendar;
mod cron;
mod every;
mod ticks;
mod zone;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use cron::Cron;
pub use every::Every;
pub(crate) use ticks::Ticks;
pub use ticks::Upcoming;

use super::schedule::{ScheduleSpec, Trigger};

/// When a schedule ticks: a [`Cron`] or an [`Every`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    pub(crate) rule: Rule,
    pub(crate) timezone: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rule {
    Every(Duration),
    Cron(String),
}

impl Timing {
    /// As a store keeps it.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("words and numbers can be written as JSON")
    }

    /// What [`text`](Self::text) wrote; `None` for the words of a newer version.
    pub(crate) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl From<&ScheduleSpec> for Timing {
    fn from(spec: &ScheduleSpec) -> Self {
        let rule = match spec.trigger {
            Trigger::Every(length) => Rule::Every(length),
            Trigger::Cron(expression) => Rule::Cron(expression.to_owned()),
        };
        Self { rule, timezone: spec.timezone.map(str::to_owned) }
    }
}

impl std::fmt::Display for Timing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.rule {
            Rule::Every(length) => write!(f, "every {length:?}"),
            Rule::Cron(expression) => f.write_str(expression),
        }
    }
}
