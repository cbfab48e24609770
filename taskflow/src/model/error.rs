//! What can go wrong, and what to do about it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{TaskId, TaskStatus};

/// What can go wrong outside an add: building, starting, reading, acting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is not the id of a task. Ids are UUIDs, as [`TaskHandle`](crate::TaskHandle) displays them.
    #[error("`{text}` is not a task id: a task id is a UUID such as 0197c7a8-2f5e-7cc0-8a4f-4d1f0a6b2f10")]
    NotATaskId {
        /// The text.
        text: String,
    },
    /// Two tasks, or a task and an alias, are registered under one name. Raised by `start` and `connect`.
    #[error(
        "two tasks are named `{name}`: {first} and {second}; give one of them another with `#[task(name = \"..\")]`"
    )]
    DuplicateTask {
        /// The name.
        name: String,
        /// Where one is defined.
        first: String,
        /// Where the other is defined.
        second: String,
    },
    /// A process that should run tasks has none. Raised by `start`.
    #[error(
        "no tasks are registered: mention the crate that defines them, for example `use my_tasks as _;`, \
         or call `.connect()` in a process that only adds (taskflow {version})"
    )]
    NoTasks {
        /// The version of taskflow whose registry is empty: two versions in one program have two registries.
        version: &'static str,
    },
    /// A registered task takes a `State<T>` that nobody gave. Raised by `start`.
    #[error("task `{task}` needs `State<{type_name}>`: give it with `TaskManager::builder().state(..)`")]
    MissingState {
        /// The task.
        task: String,
        /// The type of the state.
        type_name: &'static str,
    },
    /// A task names a queue that was not configured, or a queue that is not known was asked for.
    #[error("{}", unknown_queue(.queue, .suggestion.as_deref(), .task.as_deref()))]
    UnknownQueue {
        /// The queue.
        queue: String,
        /// A configured queue of a similar name.
        suggestion: Option<String>,
        /// The task that names it.
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
        /// What is wrong with it, and what would be right.
        message: String,
    },
    /// An option of the builder has a value that cannot be meant.
    #[error("`{option}` cannot be {value}: {message}")]
    Config {
        /// The option.
        option: &'static str,
        /// The value.
        value: String,
        /// What would be right.
        message: &'static str,
    },
    /// A cron expression, an interval or a time zone cannot be meant.
    #[error("`{text}` is not valid in a schedule: {message}")]
    Timing {
        /// What was given.
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
    /// A schedule that is added at run time has the name of one that this program declares with `#[schedule]`, which
    /// cannot be replaced or removed: give it another with [`named`](crate::manager::AddSchedule::named).
    #[error(
        "the schedule `{name}` is declared by this program with `#[schedule]`; name this one with `.named(\"..\")`"
    )]
    ScheduleDeclared {
        /// The name.
        name: String,
    },
    /// The task of a schedule cannot be added.
    #[error(transparent)]
    Add(#[from] AddError),
    /// There is no record of this task: it never existed, was deleted, or was pruned after its retention.
    #[error("there is no task {id}: it was never added here, or its record was deleted or pruned")]
    NotFound {
        /// The id.
        id: TaskId,
    },
    /// [`retry`](crate::TaskManager::retry) takes what failed, was interrupted, cancelled or rejected; this did not.
    #[error(
        "task {id} is {status}: only one that failed, was interrupted, cancelled or rejected can be retried"
    )]
    NotRetryable {
        /// The task.
        id: TaskId,
        /// What it is.
        status: TaskStatus,
    },
    /// [`delete`](crate::TaskManager::delete) takes a task that has ended; this one waits or runs.
    #[error("task {id} is {status} and cannot be deleted: cancel it first, or wait until it ends")]
    NotFinished {
        /// The task.
        id: TaskId,
        /// What it is.
        status: TaskStatus,
    },
    /// [`retry`](crate::TaskManager::retry) of a task whose idempotency key another task has taken meanwhile.
    #[error("task {id} cannot be retried: task {holder} now holds its idempotency key")]
    KeyTaken {
        /// The task.
        id: TaskId,
        /// Who holds the key.
        holder: TaskId,
    },
    /// A verb that acts on many was given a filter without a condition.
    #[error("this filter has no condition and would act on every task; say so with `TaskFilter::all()`")]
    EmptyFilter,
    /// The manager has been shut down.
    #[error("this task manager has been shut down")]
    ShutDown,
    /// Called outside a tokio runtime.
    #[error("taskflow runs on tokio: call this inside a tokio runtime, for example under `#[tokio::main]`")]
    NoRuntime,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// Whether the same call may succeed later.
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
    /// As many tasks of the queue as its `max_size` allows wait for their first attempt. Try later, or refuse the
    /// caller too: this is a 429 in axum.
    #[error("queue `{queue}` is full: {max_size} tasks wait in it")]
    QueueFull {
        /// The queue.
        queue: String,
        /// Its limit.
        max_size: usize,
    },
    /// The queue of this add was never configured with [`queue`](crate::TaskManagerBuilder::queue).
    #[error("{}", unknown_queue(.queue, .suggestion.as_deref(), None))]
    UnknownQueue {
        /// The queue.
        queue: String,
        /// A configured queue of a similar name.
        suggestion: Option<String>,
    },
    /// An argument cannot be written as JSON: a NaN, an infinity, a map whose keys are not text, an error of the
    /// type's own `Serialize`.
    #[error("argument `{argument}` of task `{task}` cannot be stored: {message}")]
    Argument {
        /// The task.
        task: &'static str,
        /// The parameter.
        argument: &'static str,
        /// Why.
        message: String,
    },
    /// Something of this task is larger than is kept. Store large data elsewhere and pass where it is.
    #[error("`{what}` of this add is too large: {actual}, and the limit is {limit}")]
    TooLarge {
        /// What: `payload`, `name`, `queue`, a key, `tag name` or `tag value`, in bytes; the number of `tags`, or of `tasks`
        /// in one `add_all`.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// What it would have been.
        actual: usize,
    },
    /// An option of this add is invalid: out of its limits, or not possible here.
    #[error("`{option}` of this add cannot be used: {message}")]
    Option {
        /// The option.
        option: &'static str,
        /// Why, and what would be right.
        message: String,
    },
    /// The manager has been shut down, or the process it belongs to is ending.
    #[error("this task manager has been shut down: nothing can be added through it")]
    ShutDown,
    /// The store failed, and the task was not stored.
    #[error("the task was not stored: {0}")]
    Store(#[from] StoreError),
    /// The store's answer was lost and did not come until `add_timeout`: the task may be stored, under this id. Look
    /// it up with [`get`](crate::TaskManager::get), or add it again with an idempotency key.
    #[error("task {id} may or may not be stored: {source}")]
    Unknown {
        /// The id it has if it is stored.
        id: TaskId,
        /// What the store said last.
        source: StoreError,
    },
}

impl AddError {
    /// Whether the same add may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::QueueFull { .. } | Self::Unknown { .. } => true,
            Self::Store(error) => error.is_transient(),
            _ => false,
        }
    }
}

/// An error of a store. Cheap to clone: one failed write answers everyone who waited for it.
#[derive(Clone)]
pub struct StoreError(Arc<StoreErrorInner>);

struct StoreErrorInner {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What sort of thing went wrong in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It cannot be reached or is busy. The same call may succeed later, and nothing of this one was stored.
    Unavailable,
    /// The answer was lost: what the call asked for may have happened.
    Unknown,
    /// No room is left where it keeps its data. The same call may succeed later.
    Full,
    /// It was written by a newer taskflow. Update this program.
    NewerSchema,
    /// It is not a store, or it is damaged.
    NotAStore,
    /// It refuses: a missing right, a read-only file.
    Denied,
    /// Anything else: a bug of the store.
    Other,
}

impl StoreError {
    /// An error of that kind, with a message that names the thing and the remedy.
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(StoreErrorInner { kind, message: message.into(), source: None }))
    }

    /// The same with its cause, which the message must not repeat.
    #[must_use]
    pub fn with_source(
        kind: StoreErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(StoreErrorInner { kind, message: message.into(), source: Some(source.into()) }))
    }

    /// What sort of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.0.kind, StoreErrorKind::Unavailable | StoreErrorKind::Unknown | StoreErrorKind::Full)
    }

    /// Whether it may be about what was to be written, and not about the store as a whole, which may be mended.
    pub(crate) fn is_about_one_row(&self) -> bool {
        self.0.kind == StoreErrorKind::Other
    }
}

/// Readable where a `main` that failed prints it.
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

/// Why a task that was waited for gave no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.describe())]
pub struct TaskFailure {
    id: TaskId,
    status: TaskStatus,
    kind: FailureKind,
    message: String,
}

/// What kept a task that was waited for from giving its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// It ended other than well. Its [`message`](TaskFailure::message) is the error of its record.
    Ended,
    /// It succeeded, and its value does not decode as the type asked for. Ask for the type that the task returns.
    Undecodable,
    /// Its record was deleted or pruned before its end was read, so nobody can tell how it ended. Keep records for longer
    /// ([`TaskManagerBuilder::retention`](crate::TaskManagerBuilder::retention)).
    Gone,
    /// The manager was shut down while the task had not ended. The task goes on in another process, or when this program
    /// starts again.
    ShutDown,
}

impl TaskFailure {
    /// The failure of a task that ended so.
    pub(crate) fn new(id: TaskId, status: TaskStatus, kind: FailureKind, message: impl Into<String>) -> Self {
        Self { id, status, kind, message: message.into() }
    }

    fn describe(&self) -> String {
        let Self { id, status, message, .. } = self;
        match self.kind {
            FailureKind::Ended | FailureKind::Undecodable => format!("task {id} is {status}: {message}"),
            FailureKind::Gone | FailureKind::ShutDown => {
                format!("the end of task {id} is not known (last seen {status}): {message}")
            }
        }
    }

    /// The task.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// What kept it from giving its value.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// How it ended: [`TaskStatus::Success`] if its value does not decode as the type asked for. Of a task whose end is not
    /// known ([`FailureKind::Gone`], [`FailureKind::ShutDown`]) the last status that was seen, `Pending` if none was.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        self.status
    }

    /// The error the task left.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn unknown_queue(queue: &str, suggestion: Option<&str>, task: Option<&str>) -> String {
    let asked_by = task.map(|task| format!(", which task `{task}` asks for,")).unwrap_or_default();
    let remedy = match suggestion {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("add `.queue(\"{}\", QueueConfig::new())` to the builder", queue.escape_default()),
    };
    format!("queue `{queue}`{asked_by} is not configured; {remedy}")
}

/// The candidate that is most likely what `word` was meant to be.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 1 + candidate.chars().count().min(word.chars().count()) / 4)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (Damerau's restricted distance).
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
    fn a_slip_of_the_hand_finds_its_word_and_a_stranger_finds_none() {
        assert_eq!(closest("emial", ["email", "reports"]).as_deref(), Some("email"));
        assert_eq!(closest("report", ["email", "reports"]).as_deref(), Some("reports"));
        assert_eq!(closest("payments", ["email", "reports"]), None);
    }
}
