//! Filters: which tasks a call reads or changes.

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;

use super::{ArgCondition, Cursor, Order, TaskPhase, TaskRecord, TaskSource, TaskStatus, limits, time};

/// Selects tasks for [`list`](crate::TaskManager::list) and for the methods that change many tasks. Tasks come newest first
/// unless the filter has another [order](Self::order).
///
/// A task matches if it meets one condition of each kind that is given (for example one of the statuses and one of the names).
/// It must have all the given tags and argument values.
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
    /// Any of these statuses; empty matches all.
    pub statuses: Vec<TaskStatus>,
    /// Any of these task names; empty matches all.
    pub names: Vec<String>,
    /// Any of these queues; empty matches all.
    pub queues: Vec<String>,
    /// Any of these phases; empty matches all.
    pub phases: Vec<TaskPhase>,
    /// All of these tags.
    pub tags: Vec<(String, String)>,
    /// Any of these idempotency keys; empty matches all.
    pub idempotency_keys: Vec<String>,
    /// Any of these run keys; empty matches all.
    pub run_keys: Vec<String>,
    /// Any of these concurrency keys; empty matches all.
    pub concurrency_keys: Vec<String>,
    /// Any of these [traces](crate::model::TraceContext::trace_id); empty matches all.
    pub traces: Vec<String>,
    /// Any of these sources; empty matches all.
    pub sources: Vec<TaskSource>,
    /// A text that the error contains. The case of ASCII letters is ignored.
    pub error: Option<String>,
    /// All of these argument values.
    pub args: Vec<ArgCondition>,
    /// Added at this instant or later.
    pub created_after: Option<SystemTime>,
    /// Added before this instant.
    pub created_before: Option<SystemTime>,
    /// Ended at this instant or later.
    pub finished_after: Option<SystemTime>,
    /// Ended before this instant.
    pub finished_before: Option<SystemTime>,
    /// Added before this instant, and not ended at this instant or later; see [`frozen`](Self::frozen).
    pub frozen_at: Option<SystemTime>,
    /// The most records of a page: 1 to [`MAX_LIMIT`](Self::MAX_LIMIT).
    pub limit: usize,
    /// Where the page begins; `None` for the first page.
    pub after: Option<Cursor>,
    /// Which tasks come first; default the newest.
    pub order: Order,
    /// Whether the filter explicitly selects every task; see [`all`](Self::all).
    pub everything: bool,
}

impl TaskFilter {
    /// The default page size.
    pub const DEFAULT_LIMIT: usize = 100;
    /// The largest page size.
    pub const MAX_LIMIT: usize = 1000;
    /// The most records that are examined for one page. If the page is not full by then, it holds the matches found so far, and
    /// its [`next`](crate::model::Page::next) continues the search.
    pub const MAX_LOOKED_AT: usize = 20_000;

    /// A filter without conditions. It is enough to read every task; to *change* every task, use [`all`](Self::all).
    #[must_use]
    pub fn new() -> Self {
        Self { limit: Self::DEFAULT_LIMIT, ..Self::default() }
    }

    /// A filter that explicitly selects every task. Methods that change many tasks refuse any other filter without a condition.
    #[must_use]
    pub fn all() -> Self {
        Self { everything: true, ..Self::new() }
    }

    /// Tasks with this status. May be repeated: any of the statuses matches.
    #[must_use]
    pub fn status(mut self, status: TaskStatus) -> Self {
        self.statuses.push(status);
        self
    }

    /// Tasks with this name. May be repeated: any of the names matches.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Tasks in this queue. May be repeated: any of the queues matches.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queues.push(queue.into());
        self
    }

    /// Tasks in this phase, such as [`Scheduled`](TaskPhase::Scheduled) or [`Retrying`](TaskPhase::Retrying). May be
    /// repeated: any of the phases matches.
    #[must_use]
    pub fn phase(mut self, phase: TaskPhase) -> Self {
        self.phases.push(phase);
        self
    }

    /// Tasks added with this idempotency key. May be repeated: any of the keys matches.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_keys.push(key.into());
        self
    }

    /// Tasks added with this run key. May be repeated: any of the keys matches.
    #[must_use]
    pub fn run_key(mut self, key: impl Into<String>) -> Self {
        self.run_keys.push(key.into());
        self
    }

    /// Tasks added with this concurrency key. May be repeated: any of the keys matches.
    #[must_use]
    pub fn concurrency_key(mut self, key: impl Into<String>) -> Self {
        self.concurrency_keys.push(key.into());
        self
    }

    /// Tasks that belong to the trace with this id: 32 hexadecimal digits, see [`TraceContext`](crate::model::TraceContext).
    /// May be repeated: any of the traces matches.
    #[must_use]
    pub fn trace(mut self, trace_id: impl Into<String>) -> Self {
        self.traces.push(trace_id.into().to_ascii_lowercase());
        self
    }

    /// Tasks that this source added. May be repeated: any of the sources matches.
    #[must_use]
    pub fn source(mut self, source: TaskSource) -> Self {
        self.sources.push(source);
        self
    }

    /// Tasks with this text in their error. The case of ASCII letters is ignored.
    #[must_use]
    pub fn error_contains(mut self, text: impl Into<String>) -> Self {
        self.error = Some(text.into());
        self
    }

    /// Tasks with this argument value: `.arg("user_id", 42)`, or a value inside the argument:
    /// `.arg("form.address.city", "Ulm")`. A number in the path is an index into a list, starting at 0. May be repeated: all
    /// of the conditions must hold.
    ///
    /// A value that JSON cannot represent (NaN, an infinity) matches no task, because an add refuses it. Integers are compared
    /// exactly, up to 128 bits; an integer never equals a float.
    ///
    /// It finds nothing in arguments that are [sealed](crate::TaskManagerBuilder#method.encrypt): use tags for values to search
    /// for.
    #[must_use]
    pub fn arg(mut self, path: &str, value: impl Serialize) -> Self {
        self.args.push(ArgCondition::new(path, value));
        self
    }

    /// Tasks with this tag. May be repeated: a task must have all of the tags.
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

    /// Tasks that ended at `at` or later.
    #[must_use]
    pub fn finished_after(mut self, at: impl Into<SystemTime>) -> Self {
        self.finished_after = Some(at.into());
        self
    }

    /// Tasks that ended before `at`.
    #[must_use]
    pub fn finished_before(mut self, at: impl Into<SystemTime>) -> Self {
        self.finished_before = Some(at.into());
        self
    }

    /// Only tasks that existed at `at` and have not ended since: added before `at`, and if they have ended, ended before
    /// `at`. Pass the instant at which an operator looked: then an action touches no task that was added or ended at or after
    /// it. This alone does not count as a condition: see [`is_deliberate`](Self::is_deliberate).
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use taskflow::{TaskFilter, TaskStatus};
    ///
    /// let seen_at = SystemTime::now();
    /// let failed_until_then = TaskFilter::new().status(TaskStatus::Failed).frozen(seen_at);
    /// # assert_eq!(failed_until_then.frozen_at, Some(seen_at));
    /// ```
    #[must_use]
    pub fn frozen(mut self, at: impl Into<SystemTime>) -> Self {
        let at = at.into();
        self.frozen_at = Some(self.frozen_at.map_or(at, |earlier| earlier.min(at)));
        self
    }

    /// At most `n` records a page. `n` is clamped to 1..=[`MAX_LIMIT`](Self::MAX_LIMIT).
    #[must_use]
    pub fn limit(mut self, n: usize) -> Self {
        self.limit = n.clamp(1, Self::MAX_LIMIT);
        self
    }

    /// Lists the tasks in this order. Methods that change many tasks also change them in this order. This alone does not count
    /// as a condition: see [`is_deliberate`](Self::is_deliberate).
    ///
    /// ```
    /// use taskflow::{TaskFilter, TaskStatus, model::Order};
    ///
    /// let waits_longest = TaskFilter::new().status(TaskStatus::Pending).order(Order::Oldest).limit(1);
    /// # assert_eq!(waits_longest.order, Order::Oldest);
    /// ```
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Continues after the page that returned this cursor as its [`Page::next`](crate::model::Page::next). Both pages must have
    /// the same order.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Whether the filter has a condition, or was made by [`all`](Self::all). Methods that change many tasks refuse any other
    /// filter. [`frozen`](Self::frozen), [`order`](Self::order), [`limit`](Self::limit) and [`after`](Self::after) are not
    /// conditions.
    #[must_use]
    pub fn is_deliberate(&self) -> bool {
        self.everything
            || !self.statuses.is_empty()
            || !self.names.is_empty()
            || !self.queues.is_empty()
            || !self.tags.is_empty()
            || self.created_after.is_some()
            || self.created_before.is_some()
            || self.finished_after.is_some()
            || self.finished_before.is_some()
            || !self.phases.is_empty()
            || self.has_keys()
            || !self.sources.is_empty()
            || self.error.is_some()
            || !self.args.is_empty()
    }

    fn has_keys(&self) -> bool {
        !self.idempotency_keys.is_empty()
            || !self.run_keys.is_empty()
            || !self.concurrency_keys.is_empty()
            || !self.traces.is_empty()
    }

    /// Whether this task matches all conditions. `limit` and `after` are ignored.
    #[must_use]
    pub fn matches(&self, task: &TaskRecord) -> bool {
        #[expect(clippy::disallowed_methods, reason = "a filter has no clock of its own")]
        let now = SystemTime::now();
        self.matches_base(task) && self.matches_rest(task, now)
    }

    /// Whether this task matches the conditions that a store checks: status, name, queue, tags and creation time.
    #[must_use]
    pub fn matches_base(&self, task: &TaskRecord) -> bool {
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

    /// Whether the filter has conditions that stores do not check.
    pub(crate) fn has_rest(&self) -> bool {
        !self.phases.is_empty()
            || self.has_keys()
            || !self.sources.is_empty()
            || self.error.is_some()
            || !self.args.is_empty()
            || self.finished_after.is_some()
            || self.finished_before.is_some()
            || self.frozen_at.is_some()
    }

    /// Whether the filter has no conditions except statuses.
    pub(crate) fn is_only_statuses(&self) -> bool {
        let without = Self {
            statuses: Vec::new(),
            limit: Self::DEFAULT_LIMIT,
            after: None,
            order: Order::default(),
            everything: false,
            ..self.clone()
        };
        without == Self::new()
    }

    /// Whether a record without its arguments, result, progress and attempts is enough to decide if it matches.
    pub(crate) fn needs_only_outlines(&self) -> bool {
        self.args.is_empty()
    }

    /// The filter to send to a store when the engine checks the other conditions itself: the largest page, and only the
    /// statuses that the other conditions allow.
    pub(crate) fn narrowed(&self) -> Self {
        let of_phases = |status: TaskStatus| {
            self.phases.is_empty() || self.phases.iter().any(|phase| phase.may_be(status))
        };
        let ended = self.finished_after.is_some() || self.finished_before.is_some();
        let is_left = |status: &TaskStatus| {
            let asked = self.statuses.is_empty() || self.statuses.contains(status);
            asked && of_phases(*status) && (!ended || status.is_final())
        };
        let statuses: Vec<_> = TaskStatus::ALL.into_iter().filter(is_left).collect();
        let everything = statuses.len() == TaskStatus::ALL.len();
        Self {
            // If no status is left, the conditions contradict each other: no task passes `matches_rest`.
            statuses: if everything || statuses.is_empty() { self.statuses.clone() } else { statuses },
            created_before: self.frozen_at.into_iter().chain(self.created_before).min(),
            limit: Self::MAX_LIMIT,
            ..self.clone()
        }
    }

    /// Clamps the time bounds to [`limits::INSTANTS`], so that stores never see a time outside that range.
    pub(crate) fn within_limits(mut self) -> Self {
        let bounds = [
            &mut self.created_after,
            &mut self.created_before,
            &mut self.finished_after,
            &mut self.finished_before,
            &mut self.frozen_at,
        ];
        for bound in bounds.into_iter().flatten() {
            let (first, last) = (*limits::INSTANTS.start(), *limits::INSTANTS.end());
            *bound = (*bound).clamp(time::from_micros(first), time::from_micros(last));
        }
        self
    }

    /// Whether this task matches, at that moment, the conditions that stores do not check.
    pub(crate) fn matches_rest(&self, task: &TaskRecord, now: SystemTime) -> bool {
        let any = |wanted: &[String], text: Option<&String>| {
            wanted.is_empty() || text.is_some_and(|text| wanted.contains(text))
        };
        (self.phases.is_empty() || self.phases.contains(&task.phase_at(now)))
            && any(&self.idempotency_keys, task.idempotency_key.as_ref())
            && any(&self.run_keys, task.run_key.as_ref())
            && any(&self.concurrency_keys, task.concurrency_key.as_ref())
            && (self.traces.is_empty()
                || task.trace.as_ref().is_some_and(|trace| self.traces.contains(&trace.trace_id())))
            && (self.sources.is_empty() || self.sources.contains(&task.source))
            && self.error.as_ref().is_none_or(|text| task.error.as_ref().is_some_and(|it| holds(it, text)))
            && self.finished_after.is_none_or(|at| task.finished_at.is_some_and(|it| it >= at))
            && self.finished_before.is_none_or(|at| task.finished_at.is_some_and(|it| it < at))
            && self.frozen_at.is_none_or(|at| {
                task.created_at < at && task.finished_at.is_none_or(|ended_at| ended_at < at)
            })
            && self.args.iter().all(|condition| condition.matches(task.args.get()))
    }
}

/// Whether `text` contains `part`, ignoring the case of ASCII letters.
fn holds(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    part.is_empty() || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}
