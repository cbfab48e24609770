//! When a schedule ticks, whichever way it was said.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::task::schedule::{ScheduleSpec, Trigger};

/// When a schedule ticks: a [`Cron`](crate::Cron) or an [`Every`](crate::Every).
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
