//! Which tasks are meant.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{TaskId, TaskRecord, TaskStatus};

/// Which tasks are meant, newest first, for [`list`](crate::TaskManager::list) and the verbs that act on many.
///
/// Conditions of one kind are alternatives, conditions of different kinds must all hold; tags must all be there.
///
/// ```
/// use taskflow::{TaskFilter, TaskStatus};
///
/// let broken_mail = TaskFilter::new()
///     .status(TaskStatus::Failed)
///     .status(TaskStatus::Interrupted)
///     .name("send_email")
///     .limit(20);
/// # assert_eq!(broken_mail.limit, 20);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TaskFilter {
    /// Any of these statuses; none given means all.
    pub statuses: Vec<TaskStatus>,
    /// Any of these names.
    pub names: Vec<String>,
    /// Any of these queues.
    pub queues: Vec<String>,
    /// All of these tags.
    pub tags: Vec<(String, String)>,
    /// Added at this instant or later.
    pub created_after: Option<SystemTime>,
    /// Added before this instant.
    pub created_before: Option<SystemTime>,
    /// How many a page holds: 1 to [`MAX_LIMIT`](Self::MAX_LIMIT).
    pub limit: usize,
    /// Where the page begins.
    pub after: Option<Cursor>,
    /// Whether everything was asked for in so many words.
    pub everything: bool,
}

impl TaskFilter {
    /// The size of a page unless told.
    pub const DEFAULT_LIMIT: usize = 100;
    /// The greatest page.
    pub const MAX_LIMIT: usize = 1000;

    /// No condition yet. To *act* on everything say [`all`](Self::all); to read, this is enough.
    #[must_use]
    pub fn new() -> Self {
        Self { limit: Self::DEFAULT_LIMIT, ..Self::default() }
    }

    /// Every task, said aloud: the verbs that act on many refuse a filter without a condition otherwise.
    #[must_use]
    pub fn all() -> Self {
        Self { everything: true, ..Self::new() }
    }

    /// Tasks of this status. May be repeated.
    #[must_use]
    pub fn status(mut self, status: TaskStatus) -> Self {
        self.statuses.push(status);
        self
    }

    /// Tasks of this name. May be repeated.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Tasks of this queue. May be repeated.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queues.push(queue.into());
        self
    }

    /// Tasks with this tag. Repeated, all must be there.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.tags.push((key.into(), value.to_string()));
        self
    }

    /// Tasks added at `at` or later.
    #[must_use]
    pub fn created_after(mut self, at: impl Into<SystemTime>) -> Self {
        self.created_after = Some(at.into());
        self
    }

    /// Tasks added before `at`.
    #[must_use]
    pub fn created_before(mut self, at: impl Into<SystemTime>) -> Self {
        self.created_before = Some(at.into());
        self
    }

    /// At most `n` a page, from 1 to [`MAX_LIMIT`](Self::MAX_LIMIT); values outside are moved to the nearest.
    #[must_use]
    pub fn limit(mut self, n: usize) -> Self {
        self.limit = n.clamp(1, Self::MAX_LIMIT);
        self
    }

    /// The page after the one whose [`Page::next`] this is.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Whether it has a condition, or says that it means everything.
    #[must_use]
    pub fn is_deliberate(&self) -> bool {
        self.everything
            || !self.statuses.is_empty()
            || !self.names.is_empty()
            || !self.queues.is_empty()
            || !self.tags.is_empty()
            || self.created_after.is_some()
            || self.created_before.is_some()
    }

    /// Whether this task is meant. Stores that cannot ask their database use it; the page's bounds are not looked at.
    #[must_use]
    pub fn matches(&self, task: &TaskRecord) -> bool {
        fn any<T: PartialEq<U>, U>(wanted: &[T], it: &U) -> bool {
            wanted.is_empty() || wanted.iter().any(|one| one == it)
        }
        any(&self.statuses, &task.status)
            && any(&self.names, &task.name)
            && any(&self.queues, &task.queue)
            && self.tags.iter().all(|(key, value)| task.tags.get(key) == Some(value))
            && self.created_after.is_none_or(|at| task.created_at >= at)
            && self.created_before.is_none_or(|at| task.created_at < at)
    }
}

/// Where a page ends and the next begins: opaque, and good for as long as the records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(TaskId);

impl Cursor {
    /// The place after this task.
    #[must_use]
    pub fn after(id: TaskId) -> Self {
        Self(id)
    }

    /// The last task before this place.
    #[must_use]
    pub fn id(self) -> TaskId {
        self.0
    }
}

/// A part of a longer list.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Page<T> {
    /// What this page holds.
    pub items: Vec<T>,
    /// Give this to [`TaskFilter::after`] for the next page; `None` on the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page of these items.
    #[must_use]
    pub fn new(items: Vec<T>, next: Option<Cursor>) -> Self {
        Self { items, next }
    }
}
