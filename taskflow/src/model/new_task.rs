//! A task that is to be added.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{AddError, RetryPolicy, TaskId, TaskSource, limits, time};

/// A task that is to be added, whatever its kind: what [`add_all`](crate::TaskManager::add_all) takes where kinds are
/// mixed, and what a store is given to keep.
///
/// Made from a call or from an add that was not awaited, with
/// [`into_new_task`](crate::task::IntoNewTask::into_new_task).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewTask {
    /// Its identity, fixed here so that an add whose answer was lost can be repeated without adding twice.
    pub id: TaskId,
    /// The name it is registered under.
    pub name: Cow<'static, str>,
    /// The queue to wait in.
    pub queue: Cow<'static, str>,
    /// Higher runs first.
    pub priority: i16,
    /// Its arguments, a JSON object keyed by parameter name, or why they could not be written. An argument nests at most 127
    /// arrays and objects.
    pub args: Result<Arc<str>, AddError>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
    /// Another task of this name with this key that is pending, running or succeeded is taken instead.
    pub idempotency_key: Option<String>,
    /// A task of this name with this key that waits for its first attempt is replaced.
    pub run_key: Option<String>,
    /// When it is due.
    pub when: When,
    /// After this instant it is not started any more: it ends as cancelled.
    pub expires_at: Option<SystemTime>,
    /// Its queue may limit how many tasks of one such key run at once.
    pub concurrency_key: Option<String>,
    /// How often and when it may be tried again.
    pub policy: Cow<'static, RetryPolicy>,
    /// Whether it should take a free slot at once.
    pub eager: bool,
    /// What adds it.
    pub source: TaskSource,
    /// The arguments that a call has written: while `args` are these, they need no second look.
    pub(crate) written: Option<Arc<str>>,
}

/// When a task is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// At once.
    #[default]
    Now,
    /// So long after it was stored, by the store's clock.
    In(Duration),
    /// At this instant.
    At(SystemTime),
}

impl NewTask {
    /// The most tags a task may have.
    pub const MAX_TAGS: usize = limits::TAGS;
    /// The longest payload, in bytes of JSON.
    pub const MAX_PAYLOAD: usize = limits::PAYLOAD;
    /// The most tasks of one [`add_all`](crate::TaskManager::add_all): they are one transaction, and meanwhile nobody else
    /// can write.
    pub const MAX_AT_ONCE: usize = limits::TASKS_AT_ONCE;
    /// The longest name, key, tag name, tag value and queue name, in bytes. In keys and tags a NUL counts as four bytes and
    /// the sign `␀` as six, which is what they take where text has no NUL.
    pub const MAX_WORD: usize = limits::WORD;

    /// A task of that name with these arguments and no options.
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
            written: None,
        }
    }

    /// The task of a call, whose arguments have been written as an object that can be read back.
    pub(crate) fn of_call(name: &'static str, args: Result<Arc<str>, AddError>) -> Self {
        let written = args.as_ref().ok().cloned();
        Self { written, ..Self::new(name, args) }
    }

    /// Its arguments, once it is within every limit.
    pub(crate) fn check(&self) -> Result<&Arc<str>, AddError> {
        let args = self.args.as_ref().map_err(Clone::clone)?;
        let size = |field, actual, limit| {
            limits::size(actual, limit).map_err(|refused| refused.in_add(field, &actual))
        };
        let word = |field, text: &str| limits::word(text).map_err(|refused| refused.in_add(field, &text));
        let name = |field, text: &str| limits::name(text).map_err(|refused| refused.in_add(field, &text));
        size("payload", args.len(), limits::PAYLOAD)?;
        if !self.written.as_ref().is_some_and(|written| Arc::ptr_eq(written, args)) {
            limits::arguments(args).map_err(|message| AddError::Option { option: "args", message })?;
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
