//! `Timing`: the common form of the rules by which a schedule ticks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::task::schedule::{ScheduleSpec, Trigger};

/// The rule by which a schedule ticks. Make it from a [`Cron`](crate::Cron) or an [`Every`](crate::Every).
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
    /// The JSON text that a store keeps.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers can be written as JSON")
    }

    /// Parses a text that [`text`](Self::text) wrote; `None` for a rule that only a newer version knows.
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
