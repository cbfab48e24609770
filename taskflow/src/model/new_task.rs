//! A task to add.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;

use super::{
    AddError, RetryPolicy, TaskId, TaskRecord, TaskSource, TaskStatus, TraceContext, limits, sealed, time,
};

/// A task to add, without its Rust type. [`add_all`](crate::TaskManager::add_all) takes it to add tasks of different kinds at
/// once, and stores receive it to insert it.
///
/// Make one from a task call, or from an add that has not been awaited, with
/// [`into_new_task`](crate::task::IntoNewTask::into_new_task).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewTask {
    /// Its id. It is chosen before the add, so that an add can be repeated after a lost answer without adding the task twice.
    pub id: TaskId,
    /// The name it is registered under.
    pub name: Cow<'static, str>,
    /// Its queue.
    pub queue: Cow<'static, str>,
    /// Its priority: higher values run first.
    pub priority: i16,
    /// Its arguments as a JSON object keyed by parameter name, or the error of writing them. An argument nests at most 127 arrays
    /// and objects. An object that begins with `{"$tf"`, as sealed arguments do, is refused.
    pub args: Result<Arc<str>, AddError>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// If a task with this name and key is pending, running or succeeded, the add returns that task and adds none.
    pub idempotency_key: Option<String>,
    /// If a task with this name and key waits for its first attempt, the new task replaces it.
    pub run_key: Option<String>,
    /// When its first attempt is due.
    pub when: When,
    /// The task is not started after this instant; it ends as cancelled.
    pub expires_at: Option<SystemTime>,
    /// Its queue may limit how many tasks with the same concurrency key run at once.
    pub concurrency_key: Option<String>,
    /// How often and when it is retried.
    pub policy: Cow<'static, RetryPolicy>,
    /// Whether it starts at once if this process has a free slot, before any waiting task.
    pub eager: bool,
    /// What adds the task.
    pub source: TaskSource,
    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
    /// The arguments as a task call wrote them, or as they were sealed. While `args` is this same `Arc`, they need not be checked
    /// again.
    pub(crate) written: Option<Arc<str>>,
}

/// When a task is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// Immediately.
    #[default]
    Now,
    /// This long after the task was stored, by the store's clock.
    In(Duration),
    /// At this instant.
    At(SystemTime),
}

impl NewTask {
    /// The most tags of a task.
    pub const MAX_TAGS: usize = limits::TAGS;
    /// The longest payload, in bytes of JSON.
    pub const MAX_PAYLOAD: usize = limits::PAYLOAD;
    /// The most tasks of one [`add_all`](crate::TaskManager::add_all). They are stored in one transaction, and other writes may
    /// have to wait until it ends.
    pub const MAX_AT_ONCE: usize = limits::TASKS_AT_ONCE;
    /// The longest name, key, tag name, tag value and queue name, in bytes of UTF-8. In keys and tags a NUL counts as four bytes
    /// and the character `␀` as six: their escaped size in a store that cannot keep a NUL in text.
    pub const MAX_WORD: usize = limits::WORD;

    /// A task with this name, these arguments and the default options.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, args: Result<Arc<str>, AddError>) -> Self {
        Self {
            id: TaskId::new(),
            name: name.into(),
            queue: Cow::Borrowed("default"),
            priority: 0,
            args,
            tags: BTreeMap::new(),
            idempotency_key: None,
            run_key: None,
            when: When::Now,
            expires_at: None,
            concurrency_key: None,
            policy: Cow::Borrowed(&RetryPolicy::DEFAULT),
            eager: false,
            source: TaskSource::Manager,
            trace: None,
            written: None,
        }
    }

    /// The task of a call. Its arguments were written as a JSON object that is known to be readable.
    pub(crate) fn of_call(name: &'static str, args: Result<Arc<str>, AddError>) -> Self {
        let written = args.as_ref().ok().cloned();
        Self { written, ..Self::new(name, args) }
    }

    /// The record of this task if it is added at `now` and waits for its first attempt. A store of your own can begin with this
    /// record.
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use taskflow::{NewTask, TaskStatus};
    ///
    /// let record = NewTask::new("send_email", Ok(r#"{"to":"ada"}"#.into())).record(SystemTime::now());
    /// assert_eq!((record.status, record.attempt, record.max_attempts), (TaskStatus::Pending, 0, 1));
    /// ```
    #[must_use]
    pub fn record(&self, now: SystemTime) -> TaskRecord {
        let scheduled_for = match self.when {
            When::Now => None,
            When::In(delay) => {
                Some(time::from_micros(time::to_micros(now).saturating_add(time::micros(delay))))
            }
            When::At(at) => Some(at),
        };
        // Arguments that are not JSON have been refused before.
        let args = self.args.as_deref().ok().and_then(|args| RawValue::from_string(args.to_owned()).ok());
        TaskRecord {
            id: self.id,
            name: self.name.clone().into_owned(),
            queue: self.queue.clone().into_owned(),
            status: TaskStatus::Pending,
            priority: self.priority,
            args: args.unwrap_or_else(|| RawValue::NULL.to_owned()),
            tags: self.tags.clone(),
            idempotency_key: self.idempotency_key.clone(),
            run_key: self.run_key.clone(),
            concurrency_key: self.concurrency_key.clone(),
            source: self.source,
            trace: self.trace.clone(),
            attempt: 0,
            max_attempts: self.policy.max_attempts(),
            attempts: Vec::new(),
            created_at: now,
            run_at: scheduled_for.unwrap_or(now),
            scheduled_for,
            expires_at: self.expires_at,
            timeout: self.policy.timeout,
            snoozes: 0,
            started_at: None,
            finished_at: None,
            error: None,
            result: None,
            progress: None,
            cancel_requested: false,
        }
    }

    /// Checks every limit and returns the arguments.
    pub(crate) fn check(&self) -> Result<&Arc<str>, AddError> {
        let args = self.args.as_ref().map_err(Clone::clone)?;
        let size = |field, actual, limit| {
            limits::size(actual, limit).map_err(|refused| refused.in_add(field, &actual))
        };
        let word = |field, text: &str| limits::word(text).map_err(|refused| refused.in_add(field, &text));
        let name = |field, text: &str| limits::name(text).map_err(|refused| refused.in_add(field, &text));
        let longest = if sealed::is_sealed(args) { limits::SEALED_PAYLOAD } else { limits::PAYLOAD };
        size("payload", args.len(), longest)?;
        if !self.written.as_ref().is_some_and(|written| Arc::ptr_eq(written, args)) {
            let checked = sealed::refuse(args).and_then(|()| limits::arguments(args));
            checked.map_err(|message| AddError::Option { option: "args", message })?;
        }
        name("name", &self.name)?;
        name("queue", &self.queue)?;
        size("tags", self.tags.len(), limits::TAGS)?;
        for (key, value) in &self.tags {
            word("tag name", key)?;
            word("tag value", value)?;
        }
        let keys = [
            ("idempotency key", &self.idempotency_key),
            ("run key", &self.run_key),
            ("concurrency key", &self.concurrency_key),
        ];
        for (field, key) in keys {
            key.as_deref().map_or(Ok(()), |key| word(field, key))?;
        }
        if let Some(key) = &self.concurrency_key {
            let words = [&*self.name, &*self.queue, key].map(limits::kept_length);
            size("name, queue and concurrency key together", words.iter().sum(), limits::KEYED_WORDS)?;
        }
        match self.when {
            When::Now => {}
            When::In(delay) => {
                limits::length(delay).map_err(|refused| refused.in_add("run_in", &delay))?;
            }
            When::At(at) => instant("run_at", at)?,
        }
        self.expires_at.map_or(Ok(()), |at| instant("expires_at", at))?;
        self.policy.check()?;
        Ok(args)
    }
}

fn instant(field: &'static str, at: SystemTime) -> Result<(), AddError> {
    limits::instant(at).map_err(|refused| refused.in_add(field, &time::rfc3339(at)))
}
