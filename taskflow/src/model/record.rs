//! The record of a task: everything the store knows about it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Attempt, TaskId, TaskPhase, TaskStatus, TraceContext, time};

/// Everything the store knows about one task. In JSON, instants are RFC 3339 and durations are seconds. Arguments and the
/// result are kept as raw JSON, so a record can be deserialized only by `serde_json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskRecord {
    /// Its id.
    pub id: TaskId,
    /// The name that the task was added under.
    pub name: String,
    /// Its queue.
    pub queue: String,
    /// Its status.
    pub status: TaskStatus,
    /// Its priority: higher values run first.
    pub priority: i16,
    /// Its arguments: a JSON object keyed by parameter name.
    pub args: Box<RawValue>,
    /// The tags it was added with.
    pub tags: BTreeMap<String, String>,
    /// The key that prevents a second task with the same name and key.
    pub idempotency_key: Option<String>,
    /// The key under which it can be replaced or cancelled while it waits.
    pub run_key: Option<String>,
    /// Its queue may limit how many tasks with the same concurrency key run at once.
    pub concurrency_key: Option<String>,
    /// What added the task.
    pub source: TaskSource,
    /// The trace that it was added in.
    #[serde(default)]
    pub trace: Option<TraceContext>,
    /// The number of its current or last counted attempt; 0 before the first.
    pub attempt: u32,
    /// The number of its last possible attempt.
    pub max_attempts: u32,
    /// Its runs, oldest first. The run in progress, if any, is last.
    pub attempts: Vec<Attempt>,
    /// When it was added.
    #[serde(with = "time::rfc3339_serde")]
    pub created_at: SystemTime,
    /// When its next attempt is due, or its last one was.
    #[serde(with = "time::rfc3339_serde")]
    pub run_at: SystemTime,
    /// The time that it was scheduled for, by `run_at` or `run_in` of the add or by its schedule. Retries do not change it.
    #[serde(with = "time::rfc3339_option")]
    pub scheduled_for: Option<SystemTime>,
    /// The task is not started after this instant.
    #[serde(with = "time::rfc3339_option")]
    pub expires_at: Option<SystemTime>,
    /// The most time that one attempt may take; `None` is no limit.
    #[serde(with = "time::seconds_option")]
    pub timeout: Option<Duration>,
    /// How often it has asked to run later, since it was added or retried by hand; see
    /// [`TaskError::snooze`](crate::TaskError::snooze).
    pub snoozes: u32,
    /// When its last attempt began.
    #[serde(with = "time::rfc3339_option")]
    pub started_at: Option<SystemTime>,
    /// When it ended.
    #[serde(with = "time::rfc3339_option")]
    pub finished_at: Option<SystemTime>,
    /// Why its last attempt failed, or why the task ended. An error is truncated to 64 KiB.
    pub error: Option<String>,
    /// The returned value as JSON; `null` for a task that returns nothing.
    pub result: Option<Box<RawValue>>,
    /// The progress it last reported.
    pub progress: Option<Progress>,
    /// Whether the running attempt has been asked to stop.
    pub cancel_requested: bool,
}

impl TaskRecord {
    /// Removes the parts that may be large.
    pub(crate) fn outline(&mut self) {
        self.args = RawValue::NULL.to_owned();
        (self.result, self.progress) = (None, None);
        self.attempts.clear();
    }

    /// A finer view of its status now, by the system's clock.
    #[must_use]
    pub fn phase(&self) -> TaskPhase {
        #[expect(clippy::disallowed_methods, reason = "a record has no clock of its own")]
        self.phase_at(SystemTime::now())
    }

    /// A finer view of its status at that moment.
    #[must_use]
    pub fn phase_at(&self, now: SystemTime) -> TaskPhase {
        let ends = |timeout| self.started_at.and_then(|at| at.checked_add(timeout));
        // A timeout that ends beyond `SystemTime`'s range is never reached.
        let is_over = |timeout| ends(timeout).is_some_and(|end| end < now);
        match self.status {
            TaskStatus::Running if self.timeout.is_some_and(is_over) => TaskPhase::Overrunning,
            TaskStatus::Running => TaskPhase::Running,
            TaskStatus::Pending if self.run_at <= now => TaskPhase::Waiting,
            TaskStatus::Pending if self.attempt == 0 => TaskPhase::Scheduled,
            TaskStatus::Pending => TaskPhase::Retrying,
            _ => TaskPhase::Ended,
        }
    }
}

impl PartialEq for TaskRecord {
    /// Arguments and results are compared as JSON text.
    fn eq(&self, other: &Self) -> bool {
        macro_rules! all_equal {
            ($($field:ident)*) => {{
                // Destructures every field, so that a new field cannot be forgotten.
                let Self { args, result, $($field),* } = self;
                let text = |json: &Option<Box<RawValue>>| json.as_ref().map(|json| json.get().to_owned());
                args.get() == other.args.get() && text(result) == text(&other.result) $(&& *$field == other.$field)*
            }};
        }
        all_equal!(
            id name queue status priority tags idempotency_key run_key concurrency_key source trace attempt max_attempts attempts
            created_at run_at scheduled_for expires_at timeout snoozes started_at finished_at error progress cancel_requested
        )
    }
}

/// The progress that a running task reports. See [`TaskContext::progress`](crate::TaskContext::progress).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// The part that is done, from 0 to 1.
    pub fraction: f32,
    /// What the task is doing.
    pub message: String,
}

impl Progress {
    /// A progress report. `fraction` is clamped to 0..=1 (NaN becomes 0); `message` says what the task is doing.
    #[must_use]
    pub fn new(fraction: f32, message: String) -> Self {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        Self { fraction, message }
    }
}

/// The source of a task: what added it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskSource {
    /// A call of a [`TaskManager`](crate::TaskManager) method.
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

    /// The source with this word; [`Manager`](Self::Manager) for an unknown word.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        [Self::Request, Self::Schedule].into_iter().find(|it| it.as_str() == word).unwrap_or_default()
    }
}

/// The number of tasks in each status. The cost of reading the counts does not depend on the number of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[expect(missing_docs, reason = "one number for each status, with the name of the status")]
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
    /// The number of tasks in one status.
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

    /// The mutable number of tasks in one status.
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

    /// The number of all records.
    #[must_use]
    pub fn total(&self) -> u64 {
        TaskStatus::ALL.into_iter().map(|status| self.get(status)).sum()
    }
}

/// The outcome of [`TaskManager::cancel`](crate::TaskManager::cancel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CancelOutcome {
    /// The task was pending. It is now cancelled and never runs.
    Cancelled,
    /// The task is running and has been asked to stop.
    Requested,
    /// The task had already ended.
    AlreadyFinished,
    /// There is no such task.
    NotFound,
}
