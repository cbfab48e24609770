use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::admin::{Actor, Permission};
use crate::model::{TaskFilter, TaskId, TaskStatus, time};
use crate::store::DocumentWrite;

pub(super) const KIND: &str = "operation";

/// How long an operation is shown after its last change: 30 days.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The most ids of one selection.
pub(super) const MAX_IDS: usize = 1000;

/// What is done to many tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verb {
    /// Retry those that ended without success.
    Retry,
    /// Cancel those that have not ended.
    Cancel,
    /// Delete those that have ended.
    Delete,
}

impl Verb {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Delete => "delete",
        }
    }

    /// The permission that it needs.
    #[must_use]
    pub fn permission(self) -> Permission {
        match self {
            Self::Retry => Permission::Retry,
            Self::Cancel => Permission::Cancel,
            Self::Delete => Permission::DeleteMany,
        }
    }

    /// Whether it can act on a task of this status.
    #[must_use]
    pub fn applies_to(self, status: TaskStatus) -> bool {
        match self {
            Self::Retry => status.is_final() && status != TaskStatus::Success,
            Self::Cancel => !status.is_final(),
            Self::Delete => status.is_final(),
        }
    }
}

/// On which tasks to act.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per request, and a box would burden every caller"
)]
#[non_exhaustive]
pub enum Selection {
    /// The tasks that match. A filter without a condition is refused: for every task, pass [`TaskFilter::all`].
    Filter(TaskFilter),
    /// Exactly the tasks of these ids, at most 1,000.
    Ids(Vec<TaskId>),
}

/// The state of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OperationState {
    /// A process works on it.
    Running,
    /// Somebody has asked it to stop.
    Stopping,
    /// It has gone through all its tasks.
    Done,
    /// Somebody stopped it.
    Stopped,
    /// The store failed for more than a minute.
    Failed,
    /// Its runner has given no sign of life for 5 s: its process has died, stood still or did not reach the store.
    /// [`resume_operation`](crate::admin::Console::resume_operation) continues it.
    BrokenOff,
}

impl OperationState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::BrokenOff => "broken_off",
        }
    }

    /// Whether it is over: it changes no more unless somebody resumes it.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Running | Self::Stopping)
    }
}

/// An act on many tasks, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Operation {
    /// Its id: newer operations have greater ones. A version 7 UUID.
    pub id: TaskId,
    /// What it does.
    pub verb: Verb,
    /// Its state.
    pub state: OperationState,
    /// The filter, in the [words](crate::admin::grammar) of a query string. Empty if it acts on chosen ids.
    pub filter: Vec<(String, String)>,
    /// The chosen ids that are left.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ids: Vec<TaskId>,
    /// A filter leaves alone tasks that were added, or that ended, at this instant or later. Chosen ids are not compared with it.
    #[serde(with = "time::rfc3339_serde")]
    pub frozen_at: SystemTime,
    /// On how many tasks it has acted.
    pub acted: u64,
    /// How many tasks it could not act on, for example because they had changed meanwhile.
    pub skipped: u64,
    /// How many tasks it was to act on when it began; a lower bound if `of_exact` is false.
    pub of: u64,
    /// Whether `of` is exact.
    pub of_exact: bool,
    /// The name of the actor.
    pub actor: String,
    /// The reason that the actor gave.
    pub reason: Option<String>,
    /// The time over which a retry spreads the new runs; `None`: all at once.
    #[serde(with = "time::seconds_option", skip_serializing_if = "Option::is_none", default)]
    pub spread: Option<Duration>,
    /// When it began.
    #[serde(with = "time::rfc3339_serde")]
    pub started_at: SystemTime,
    /// When its state was last written.
    #[serde(with = "time::rfc3339_serde")]
    pub updated_at: SystemTime,
    /// The last error of the store.
    pub error: Option<String>,
    /// The key of its runner's [sign of life](super::liveness). Each resume makes a new one.
    pub(super) runner: TaskId,
    /// The last task that it has read; the next batch begins after it.
    pub(super) cursor: Option<TaskId>,
}

impl Operation {
    /// How many tasks it handles per second, skipped ones included, on average since it began.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let took = self.updated_at.duration_since(self.started_at).unwrap_or_default();
        (self.acted + self.skipped) as f64 / took.as_secs_f64().max(0.001)
    }

    /// How long it will still take at this rate; `None` unless it is running and `of` is exact.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let left = self.of.saturating_sub(self.acted + self.skipped);
        let is_known = self.state == OperationState::Running && self.of_exact && self.rate() > 0.0;
        is_known.then(|| Duration::try_from_secs_f64(left as f64 / self.rate()).unwrap_or(Duration::MAX))
    }

    /// Corrects the state: an operation without a live runner is broken off, or stopped if that was asked for.
    pub(super) fn seen_with(&mut self, lives: bool) {
        self.state = match self.state {
            OperationState::Running if !lives => OperationState::BrokenOff,
            OperationState::Stopping if !lives => OperationState::Stopped,
            state => state,
        };
    }

    pub(super) fn is_seen_by(&self, actor: &Actor) -> bool {
        actor.sees_all_queues() || actor.name() == self.actor
    }

    pub(super) fn write(&self) -> DocumentWrite {
        let value = serde_json::to_vec(self).expect("an operation has no map with keys that are not text");
        DocumentWrite::put(KIND, self.id.to_string(), value).expires_in(KEPT)
    }
}

/// Narrows the filter to tasks that existed at that instant and to which the verb applies.
pub(super) fn freeze(filter: TaskFilter, verb: Verb, at: SystemTime) -> TaskFilter {
    let mut filter = filter.frozen(at);
    let wanted = |status: &TaskStatus| {
        verb.applies_to(*status) && (filter.statuses.is_empty() || filter.statuses.contains(status))
    };
    let statuses: Vec<_> = TaskStatus::ALL.into_iter().filter(wanted).collect();
    if statuses.is_empty() {
        // It names statuses, and the verb applies to none of them: no queue has an empty name, so nothing matches.
        filter.queues = vec![String::new()];
    } else {
        filter.statuses = statuses;
    }
    filter.after = None;
    filter
}
