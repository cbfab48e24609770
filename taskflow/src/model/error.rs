//! The public error types. Each message names the affected thing and the remedy.

use std::fmt;

use super::{StoreError, TaskId, TaskStatus};

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
    /// Two tasks, or a task and an alias, are registered under one name. `start` returns it, and so do the methods for schedules.
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
    /// An option of the builder, of a queue or of a filter for statistics is invalid or missing.
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
    /// There is no record of this task: the task never existed, or its record was deleted, or pruned after its retention.
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
    /// [`delete`](crate::TaskManager::delete) was called for a task that has not ended: it is pending or running.
    #[error("task {id} is {status} and cannot be deleted: cancel it first, or wait until it ends")]
    NotFinished {
        /// The task.
        id: TaskId,
        /// Its status.
        status: TaskStatus,
    },
    /// [`retry`](crate::TaskManager::retry) was called for a task whose idempotency key another task now holds.
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
    /// The manager has been shut down, or its runtime has ended.
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
    /// An argument cannot be stored as JSON, or could not be read back: it contains NaN, an infinity, `Some(None)`, `Some(())`
    /// or a map whose keys JSON cannot write as text, it nests more than 127 arrays and objects, or its type's `Serialize`
    /// returned an error.
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
        /// The part. Measured in bytes: `payload`, `name`, `queue`, `schedule name`, `idempotency key`, `run key`,
        /// `concurrency key`, `name, queue and concurrency key together`, `tag name` or `tag value`. Counted: `tags`, or the
        /// `tasks` of one `add_all`.
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
    /// The store did not answer before `add_timeout` expired, so the task may be stored, under this id. Look it up with
    /// [`get`](crate::TaskManager::get). If it has an idempotency key, you can also add it again with the same key.
    #[error("task {id} may or may not be stored: {source}")]
    Unknown {
        /// The id of the task, if it is stored.
        id: TaskId,
        /// The store's last error.
        source: StoreError,
    },
}

impl AddError {
    /// The error with which a hook ([`OnAdd`](crate::observe::OnAdd)) refuses an add, with its reason.
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
