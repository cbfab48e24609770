//! The record of a task: everything the store knows of it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Attempt, TaskId, TaskPhase, TaskStatus, time};

/// Everything the store knows of one task. In JSON, instants are RFC 3339 and lengths are seconds; arguments and the result are
/// kept as they are, so a record is read from a text by `serde_json` only.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskRecord {
    /// Its identity.
    pub id: TaskId,
    /// The name it is registered under.
    pub name: String,
    /// The queue it waits in.
    pub queue: String,
    /// Where in its life it is.
    pub status: TaskStatus,
    /// Higher runs first.
    pub priority: i16,
    /// Its arguments: a JSON object keyed by parameter name.
    pub args: Box<RawValue>,
    /// The labels it was added with.
    pub tags: BTreeMap<String, String>,
    /// The key that keeps it from being added twice.
    pub idempotency_key: Option<String>,
    /// The key by which it can be replaced or cancelled while it waits.
    pub run_key: Option<String>,
    /// The key of which its queue may limit how many tasks run at once.
    pub concurrency_key: Option<String>,
    /// What added it.
    pub source: TaskSource,
    /// The number of its current or last counted attempt; 0 before the first.
    pub attempt: u32,
    /// The number of its last possible attempt.
    pub max_attempts: u32,
    /// Its runs, oldest first, with the one under way last.
    pub attempts: Vec<Attempt>,
    /// When it was added.
    #[serde(with = "time::rfc3339_serde")]
    pub created_at: SystemTime,
    /// When its next attempt is or was due.
    #[serde(with = "time::rfc3339_serde")]
    pub run_at: SystemTime,
    /// The instant it was meant for: the `run_at` of the add, or the tick of its schedule. Retries do not change it.
    #[serde(with = "time::rfc3339_option")]
    pub scheduled_for: Option<SystemTime>,
    /// After this instant it is not started any more.
    #[serde(with = "time::rfc3339_option")]
    pub expires_at: Option<SystemTime>,
    /// How long one attempt may take.
    #[serde(with = "time::seconds_option")]
    pub timeout: Option<Duration>,
    /// How often it has asked to be run later since it was added or retried by hand; see
    /// [`TaskError::snooze`](crate::TaskError::snooze).
    pub snoozes: u32,
    /// When its last attempt began.
    #[serde(with = "time::rfc3339_option")]
    pub started_at: Option<SystemTime>,
    /// When it ended.
    #[serde(with = "time::rfc3339_option")]
    pub finished_at: Option<SystemTime>,
    /// Why its last attempt failed, or why it ended as it did. Of a longer error 64 KiB are kept.
    pub error: Option<String>,
    /// What it returned, as JSON; `null` for a task that returns nothing.
    pub result: Option<Box<RawValue>>,
    /// How far it says it is.
    pub progress: Option<Progress>,
    /// Whether its running attempt has been asked to stop.
    pub cancel_requested: bool,
}

impl TaskRecord {
    /// A finer view of its status at this moment.
    #[must_use]
    pub fn phase(&self) -> TaskPhase {
        let ends = |timeout| self.started_at.and_then(|at| at.checked_add(timeout));
        // An end beyond every clock never comes.
        let is_over = |timeout| ends(timeout).is_some_and(|end| end < SystemTime::now());
        match self.status {
            TaskStatus::Running if self.timeout.is_some_and(is_over) => TaskPhase::Overrunning,
            TaskStatus::Running => TaskPhase::Running,
            TaskStatus::Pending if self.run_at <= SystemTime::now() => TaskPhase::Waiting,
            TaskStatus::Pending if self.attempt == 0 => TaskPhase::Scheduled,
            TaskStatus::Pending => TaskPhase::Retrying,
            _ => TaskPhase::Ended,
        }
    }
}

impl PartialEq for TaskRecord {
    /// Arguments and results are equal if their texts are.
    fn eq(&self, other: &Self) -> bool {
        macro_rules! all_equal {
            ($($field:ident)*) => {{
                // Names every field, so that none can be forgotten.
                let Self { args, result, $($field),* } = self;
                let text = |json: &Option<Box<RawValue>>| json.as_ref().map(|json| json.get().to_owned());
                args.get() == other.args.get() && text(result) == text(&other.result) $(&& *$field == other.$field)*
            }};
        }
        all_equal!(
            id name queue status priority tags idempotency_key run_key concurrency_key source attempt max_attempts attempts
            created_at run_at scheduled_for expires_at timeout snoozes started_at finished_at error progress cancel_requested
        )
    }
}

/// How far a running task says it is. See [`TaskContext::progress`](crate::TaskContext::progress).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f32,
    /// What it is doing.
    pub message: String,
}

impl Progress {
    /// A fraction from 0 to 1 (values outside are moved to the nearest, NaN to 0) and what is being done.
    #[must_use]
    pub fn new(fraction: f32, message: String) -> Self {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        Self { fraction, message }
    }
}

/// What added a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskSource {
    /// A call of the manager.
    #[default]
    Manager,
    /// A web request, through `BackgroundTasks`.
    Request,
    /// A tick of its schedule.
    Schedule,
}

impl TaskSource {
    /// The word used in JSON and stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Request => "request",
            Self::Schedule => "schedule",
        }
    }

    /// The source whose word this is; an unknown word is the manager's.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        [Self::Request, Self::Schedule].into_iter().find(|it| it.as_str() == word).unwrap_or_default()
    }
}

/// How many tasks there are of each status. Counting costs the same whatever the numbers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[expect(missing_docs, reason = "a number for each status, named as it")]
pub struct Counts {
    pub pending: u64,
    pub running: u64,
    pub success: u64,
    pub failed: u64,
    pub interrupted: u64,
    pub cancelled: u64,
    pub rejected: u64,
}

impl Counts {
    /// The number for one status.
    #[must_use]
    pub fn get(&self, status: TaskStatus) -> u64 {
        match status {
            TaskStatus::Pending => self.pending,
            TaskStatus::Running => self.running,
            TaskStatus::Success => self.success,
            TaskStatus::Failed => self.failed,
            TaskStatus::Interrupted => self.interrupted,
            TaskStatus::Cancelled => self.cancelled,
            TaskStatus::Rejected => self.rejected,
        }
    }

    /// The place of the number for one status.
    pub fn get_mut(&mut self, status: TaskStatus) -> &mut u64 {
        match status {
            TaskStatus::Pending => &mut self.pending,
            TaskStatus::Running => &mut self.running,
            TaskStatus::Success => &mut self.success,
            TaskStatus::Failed => &mut self.failed,
            TaskStatus::Interrupted => &mut self.interrupted,
            TaskStatus::Cancelled => &mut self.cancelled,
            TaskStatus::Rejected => &mut self.rejected,
        }
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.pending + self.running
    }

    /// All records.
    #[must_use]
    pub fn total(&self) -> u64 {
        TaskStatus::ALL.into_iter().map(|status| self.get(status)).sum()
    }
}

/// What [`TaskManager::cancel`](crate::TaskManager::cancel) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CancelOutcome {
    /// It was pending; it is cancelled and will never run.
    Cancelled,
    /// It is running; it has been asked to stop.
    Requested,
    /// It had ended before.
    AlreadyFinished,
    /// There is no such task.
    NotFound,
}
