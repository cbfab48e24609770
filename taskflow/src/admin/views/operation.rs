use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::TaskRow;
use crate::admin::{Operation, OperationState, Preview, Verb, grammar};
use crate::model::{TaskId, time};

#[derive(Debug, Serialize)]
struct Matching {
    n: u64,
    exact: bool,
}

/// What an act on many tasks would do.
#[derive(Debug, Serialize)]
pub struct PreviewView<'a> {
    matching: Matching,
    #[serde(with = "time::rfc3339_serde")]
    frozen_at: SystemTime,
    sample: Vec<TaskRow<'a>>,
    by_name: &'a BTreeMap<String, u64>,
}

impl<'a> PreviewView<'a> {
    /// The view of a preview. The phases in its sample are those at `now`.
    #[must_use]
    pub fn of(preview: &'a Preview, now: SystemTime) -> Self {
        Self {
            matching: Matching { n: preview.matching, exact: preview.exact },
            frozen_at: preview.frozen_at,
            sample: preview.sample.iter().map(|record| TaskRow::of(record, now)).collect(),
            by_name: &preview.by_name,
        }
    }
}

/// An act on many tasks, and how far it is.
#[derive(Debug, Serialize)]
pub struct OperationView<'a> {
    id: TaskId,
    verb: Verb,
    state: OperationState,
    /// As the search box writes it; `null` if it acts on chosen ids.
    filter: Option<String>,
    #[serde(with = "time::rfc3339_serde")]
    frozen_at: SystemTime,
    acted: u64,
    skipped: u64,
    of: u64,
    of_exact: bool,
    /// Tasks per second.
    rate: f64,
    #[serde(with = "time::seconds_option")]
    left: Option<Duration>,
    actor: &'a str,
    reason: Option<&'a str>,
    /// The seconds over which a retry spreads the new runs; `null`: all at once.
    #[serde(with = "time::seconds_option")]
    spread: Option<Duration>,
    #[serde(with = "time::rfc3339_serde")]
    started_at: SystemTime,
    #[serde(with = "time::rfc3339_serde")]
    updated_at: SystemTime,
    error: Option<&'a str>,
}

impl<'a> OperationView<'a> {
    /// The view of this operation.
    #[must_use]
    pub fn of(operation: &'a Operation) -> Self {
        let words = operation.filter.iter().map(|(word, value)| (word.as_str(), value.as_str()));
        Self {
            id: operation.id,
            verb: operation.verb,
            state: operation.state,
            filter: Some(grammar::text(words)).filter(|words| !words.is_empty()),
            frozen_at: operation.frozen_at,
            acted: operation.acted,
            skipped: operation.skipped,
            of: operation.of,
            of_exact: operation.of_exact,
            rate: operation.rate(),
            left: operation.left(),
            actor: &operation.actor,
            reason: operation.reason.as_deref(),
            spread: operation.spread,
            started_at: operation.started_at,
            updated_at: operation.updated_at,
            error: operation.error.as_deref(),
        }
    }
}
