//! The public error types. Each message names the affected thing and the remedy.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{TaskId, TaskStatus};

/// An error of any call except an add: building or starting a manager, reading tasks, changing tasks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a task id. Task ids are UUIDs, as [`TaskHandle`](crate::TaskHandle) displays them.
    #[error("`{text}` is not a task id: a task id is a UUID such as 0197c7a8-2f5e-7cc0-8a4f-4d1f0a6b2f10")]
    NotATaskId {
        /// The text.
        text: String,
    },
    /// Two tasks, or a task and an alias, are registered under one name. `start` and `connect` return it.
    #[error(
        "two tasks are named `{name}`: {first} and {second}; rename one of them with `#[task(name = \"..\")]`"
    )]
    DuplicateTask {
        /// The name.
        name: String,
        /// Where the first task is defined.
        first: String,
        /// Where the second task is defined.
        second: String,
    },
    /// A process that should run tasks has none registered. `start` returns it.
    #[error(
        "no tasks are registered: mention the crate that defines them, for example `use my_tasks as _;`, \
         or call `.connect()` in a process that only adds (taskflow {version})"
    )]
    NoTasks {
        /// The version of taskflow with the empty registry. Two versions in one program have two registries.
        version: &'static str,
    },
    /// A registered task takes a `State<T>` that the builder does not provide. `start` returns it.
    #[error("task `{task}` needs `State<{type_name}>`: provide it with `TaskManager::builder().state(..)`")]
    MissingState {
        /// The task.
        task: String,
        /// The type of the state.
        type_name: &'static str,
    },
    /// A task names a queue that is not configured, or a call names an unknown queue.
    #[error("{}", unknown_queue(.queue, .suggestion.as_deref(), .task.as_deref()))]
    UnknownQueue {
        /// The queue.
        queue: String,
        /// A configured queue of a similar name.
        suggestion: Option<String>,
        /// The task that names the queue, if a task does.
        task: Option<String>,
    },
    /// [`only`](crate::TaskManagerBuilder::only) names a task that is not registered.
    #[error("`only` names the task `{name}`, which is not registered{}", did_you_mean(.suggestion.as_deref()))]
    UnknownTask {
        /// The name.
        name: String,
        /// A registered task of a similar name.
        suggestion: Option<String>,
    },
    /// The store's URL cannot be used.
    #[error("the store URL `{url}` cannot be used: {message}")]
    StoreUrl {
        /// The URL, without its password.
        url: String,
        /// What is wrong with the URL, and what is valid.
        message: String,
    },
    /// An option of the builder or of a queue has an invalid value.
    #[error("`{option}` cannot be {value}: {message}")]
    Config {
        /// The option.
        option: &'static str,
        /// The value.
        value: String,
        /// What is valid.
        message: &'static str,
    },
    /// A cron expression, an interval or a time zone is invalid.
    #[error("`{text}` is not valid in a schedule: {message}")]
    Timing {
        /// The invalid text or duration.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// No schedule has this name, in this program or in the store.
    #[error("there is no schedule `{name}`{}", did_you_mean(.suggestion.as_deref()))]
    UnknownSchedule {
        /// The name.
        name: String,
        /// A schedule of a similar name.
        suggestion: Option<String>,
    },
    /// A schedule added at run time has the name of a schedule that this program declares with `#[schedule]`. A declared
    /// schedule cannot be replaced or removed: choose another name with [`named`](crate::manager::AddSchedule::named).
    #[error(
        "the schedule `{name}` is declared by this program with `#[schedule]`; name this one with `.named(\"..\")`"
    )]
    ScheduleDeclared {
        /// The name.
        name: String,
    },
    /// The task of a schedule was not added.
    #[error(transparent)]
    Add(#[from] AddError),
    /// There is no record of this task: it never existed, was deleted, or was pruned after its retention.
    #[error("there is no task {id}: it was never added here, or its record was deleted or pruned")]
    NotFound {
        /// The id.
        id: TaskId,
    },
    /// [`retry`](crate::TaskManager::retry) was called for a task that is not failed, interrupted, cancelled or rejected.
    #[error("task {id} is {status}: only a failed, interrupted, cancelled or rejected task can be retried")]
    NotRetryable {
        /// The task.
        id: TaskId,
        /// Its status.
        status: TaskStatus,
    },
    /// [`delete`](crate::TaskManager::delete) was called for a task that has not ended: it waits or runs.
    #[error("task {id} is {status} and cannot be deleted: cancel it first, or wait until it ends")]
    NotFinished {
        /// The task.
        id: TaskId,
        /// Its status.
        status: TaskStatus,
    },
    /// [`retry`](crate::TaskManager::retry) was called for a task, but another task now holds its idempotency key.
    #[error("task {id} cannot be retried: task {holder} now holds its idempotency key")]
    KeyTaken {
        /// The task.
        id: TaskId,
        /// The task that holds the key.
        holder: TaskId,
    },
    /// A method that changes many tasks got a filter without a condition.
    #[error(
        "this filter has no condition and would change every task; use `TaskFilter::all()` if you mean that"
    )]
    EmptyFilter,
    /// The manager has been shut down.
    #[error("this task manager has been shut down")]
    ShutDown,
    /// The call was made outside a tokio runtime.
    #[error("taskflow runs on tokio: call this inside a tokio runtime, for example under `#[tokio::main]`")]
    NoRuntime,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// Whether the same call may succeed if it is made again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Add(error) => error.is_transient(),
            _ => false,
        }
    }
}

/// Why a task was not added.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// The queue already has `max_size` tasks that wait for their first attempt. Try again later, or refuse the caller:
    /// with axum this error becomes a 429 response.
    #[error("queue `{queue}` is full: {max_size} tasks wait in it")]
    QueueFull {
        /// The queue.
        queue: String,
        /// Its limit.
        max_size: usize,
    },
    /// The queue of this add is not configured. Configure it with [`queue`](crate::TaskManagerBuilder::queue).
    #[error("{}", unknown_queue(.queue, .suggestion.as_deref(), None))]
    UnknownQueue {
        /// The queue.
        queue: String,
        /// A configured queue of a similar name.
        suggestion: Option<String>,
    },
    /// An argument cannot be stored as JSON: it contains NaN, an infinity or a map with keys that are not text, it nests too
    /// deep, or its type's `Serialize` returned an error.
    #[error("argument `{argument}` of task `{task}` cannot be stored: {message}")]
    Argument {
        /// The task.
        task: &'static str,
        /// The parameter.
        argument: &'static str,
        /// Why it cannot be stored.
        message: String,
    },
    /// A part of this add is larger than its limit. Store large data elsewhere, and pass its location as the argument.
    #[error("`{what}` of this add is too large: {actual}, and the limit is {limit}")]
    TooLarge {
        /// The part: `payload`, `name`, `queue`, a key, `tag name` or `tag value`, in bytes; or the number of `tags`, or of
        /// `tasks` in one `add_all`.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// The actual size or number.
        actual: usize,
    },
    /// An option of this add is invalid: its value is outside its limits, or it cannot be used in this call.
    #[error("`{option}` of this add cannot be used: {message}")]
    Option {
        /// The option.
        option: &'static str,
        /// Why it is invalid, and what is valid.
        message: String,
    },
    /// A hook on adds ([`OnAdd`](crate::observe::OnAdd)) refused the task. Make this error with [`refused`](Self::refused).
    #[error("the add was refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// A hook on adds panicked, so the task was not added. This is a bug of the hook.
    #[error("the hook on adds `{hook}` {message}; the task was not added")]
    Hook {
        /// The type of the hook.
        hook: &'static str,
        /// The message and the place of the panic.
        message: String,
    },
    /// The manager has been shut down, or its process is ending.
    #[error("this task manager has been shut down: nothing can be added through it")]
    ShutDown,
    /// The store failed, and the task was not stored.
    #[error("the task was not stored: {0}")]
    Store(#[from] StoreError),
    /// The store's answer was lost and did not arrive before `add_timeout` expired. The task may be stored, under this id. Look
    /// it up with [`get`](crate::TaskManager::get), or add it again with an idempotency key.
    #[error("task {id} may or may not be stored: {source}")]
    Unknown {
        /// The id of the task, if it is stored.
        id: TaskId,
        /// The store's last error.
        source: StoreError,
    },
}

impl AddError {
    /// The refusal of an add by a hook ([`OnAdd`](crate::observe::OnAdd)), with its reason.
    pub fn refused(reason: impl fmt::Display) -> Self {
        Self::Refused { reason: reason.to_string() }
    }

    /// Whether the same add may succeed if it is made again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::QueueFull { .. } | Self::Unknown { .. } => true,
            Self::Store(error) => error.is_transient(),
            _ => false,
        }
    }
}

/// An error of a store. It is cheap to clone, because one failed write is returned to every caller that waited for it.
#[derive(Clone)]
pub struct StoreError(Arc<StoreErrorInner>);

struct StoreErrorInner {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    is_missing: bool,
}

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached or is busy. The call stored nothing; the same call may succeed later.
    Unavailable,
    /// The store's answer was lost. The call may or may not have taken effect.
    Unknown,
    /// The store has no space left for its data. The same call may succeed later.
    Full,
    /// A newer version of taskflow wrote the store. Update this program.
    NewerSchema,
    /// The file or database is not a taskflow store, or it is damaged.
    NotAStore,
    /// The store refuses access: a missing permission, a read-only file.
    Denied,
    /// The store does not offer this call.
    Unsupported,
    /// Any other error: a bug in the store.
    Other,
}

impl StoreErrorKind {
    /// The word used in spans.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Full => "full",
            Self::NewerSchema => "newer_schema",
            Self::NotAStore => "not_a_store",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Other => "other",
        }
    }
}

impl StoreError {
    /// An error of this kind. The message should name the affected thing and the remedy.
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(StoreErrorInner { kind, message: message.into(), source: None, is_missing: false }))
    }

    /// The error of a place where there is no store yet, and where a migration makes one. Its kind is
    /// [`NotAStore`](StoreErrorKind::NotAStore).
    #[must_use]
    pub fn missing(message: impl Into<String>) -> Self {
        let (kind, message) = (StoreErrorKind::NotAStore, message.into());
        Self(Arc::new(StoreErrorInner { kind, message, source: None, is_missing: true }))
    }

    /// Whether there is no store yet, and a [migration](crate::TaskManagerBuilder::migrate) makes one.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.0.is_missing
    }

    /// An error of this kind with a cause. The message must not repeat the text of the cause.
    #[must_use]
    pub fn with_source(
        kind: StoreErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let (message, source) = (message.into(), Some(source.into()));
        Self(Arc::new(StoreErrorInner { kind, message, source, is_missing: false }))
    }

    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed if it is made again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.0.kind, StoreErrorKind::Unavailable | StoreErrorKind::Unknown | StoreErrorKind::Full)
    }

    /// Whether a single row of the write may have caused the error, rather than a recoverable problem of the whole store.
    pub(crate) fn is_about_one_row(&self) -> bool {
        self.0.kind == StoreErrorKind::Other
    }
}

/// Formatted for people, because a `main` that returns an error prints it with `Debug`.
impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        let source = self.0.source.as_ref().map(ToString::to_string);
        match source.filter(|source| !self.0.message.contains(source)) {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Why [`wait`](crate::TaskHandle::wait) returned no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.describe())]
pub struct TaskFailure {
    id: TaskId,
    status: TaskStatus,
    kind: FailureKind,
    message: String,
}

/// The kind of a [`TaskFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The task ended without success. The [`message`](TaskFailure::message) is the error of its record.
    Ended,
    /// The task succeeded, but its value does not decode as the requested type. Request the type that the task returns.
    Undecodable,
    /// The task has ended, but its value or its error is sealed, and this process cannot open it: it lacks the key, or the
    /// value was changed. The [`message`](TaskFailure::message) says which.
    Sealed,
    /// The record was deleted or pruned before the outcome was read, so the outcome is not known. Keep records for longer with
    /// [`TaskManagerBuilder::retention`](crate::TaskManagerBuilder::retention).
    Gone,
    /// The manager was shut down before the task ended. The task continues in another process, or when this program starts
    /// again.
    ShutDown,
}

impl TaskFailure {
    /// A failure with the last known status of the task.
    pub(crate) fn new(id: TaskId, status: TaskStatus, kind: FailureKind, message: impl Into<String>) -> Self {
        Self { id, status, kind, message: message.into() }
    }

    fn describe(&self) -> String {
        let Self { id, status, message, .. } = self;
        match self.kind {
            FailureKind::Ended | FailureKind::Undecodable | FailureKind::Sealed => {
                format!("task {id} is {status}: {message}")
            }
            FailureKind::Gone | FailureKind::ShutDown => {
                format!("the outcome of task {id} is not known (last seen {status}): {message}")
            }
        }
    }

    /// The task.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Why there is no value.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The final status of the task: [`TaskStatus::Success`] if its value does not decode as the requested type. If the outcome
    /// is not known ([`FailureKind::Gone`], [`FailureKind::ShutDown`]), the last status that was seen, or `Pending` if none was.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        self.status
    }

    /// The error of the task, or why its value or its outcome is not available.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn unknown_queue(queue: &str, suggestion: Option<&str>, task: Option<&str>) -> String {
    let used_by = task.map(|task| format!(", which task `{task}` uses,")).unwrap_or_default();
    let remedy = match suggestion {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("add `.queue(\"{}\", QueueConfig::new())` to the builder", queue.escape_default()),
    };
    format!("queue `{queue}`{used_by} is not configured; {remedy}")
}

/// The candidate most similar to `word`, if one is similar enough to be a typo of it.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 1 + candidate.chars().count().min(word.chars().count()) / 4)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// The number of insertions, deletions, replacements and swaps of neighbours between two words (restricted Damerau distance).
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let replace = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word_and_an_unrelated_word_finds_none() {
        assert_eq!(closest("emial", ["email", "reports"]).as_deref(), Some("email"));
        assert_eq!(closest("report", ["email", "reports"]).as_deref(), Some("reports"));
        assert_eq!(closest("payments", ["email", "reports"]), None);
    }
}
