//! Filters: which tasks a call reads or changes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{TaskId, TaskPhase, TaskRecord, TaskSource, TaskStatus, limits, lossless, time};

/// Selects tasks for [`list`](crate::TaskManager::list) and for the methods that change many tasks, newest first.
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
    /// Added before this instant, and not ended at it or later; see [`frozen`](Self::frozen).
    pub frozen_at: Option<SystemTime>,
    /// The most records of a page: 1 to [`MAX_LIMIT`](Self::MAX_LIMIT).
    pub limit: usize,
    /// Where the page begins; `None` for the first page.
    pub after: Option<Cursor>,
    /// Whether the filter explicitly selects every task; see [`all`](Self::all).
    pub everything: bool,
}

impl TaskFilter {
    /// The default page size.
    pub const DEFAULT_LIMIT: usize = 100;
    /// The largest page size.
    pub const MAX_LIMIT: usize = 1000;
    /// The most records that are examined for one page. If the page is not full by then, it holds the matches found so far,
    /// and its [`next`](Page::next) continues the search.
    pub const MAX_LOOKED_AT: usize = 20_000;

    /// A filter without conditions. It is enough to read every task; to *change* every task, use [`all`](Self::all).
    #[must_use]
    pub fn new() -> Self {
        Self { limit: Self::DEFAULT_LIMIT, ..Self::default() }
    }

    /// Explicitly every task. Methods that change many tasks refuse a filter that has no condition and was not made by `all`.
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
    /// It finds nothing in arguments that are [sealed](crate::TaskManagerBuilder#method.encrypt): use tags for what is searched.
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

    /// Only tasks that were there at `at` and have not ended since: added before `at`, and if they have ended, ended before
    /// `at`. With the instant at which an operator looked, an action reaches nothing that came later. This is no condition
    /// that makes a filter [deliberate](Self::is_deliberate).
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

    /// Continues after the page that returned this cursor as its [`Page::next`].
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Whether the filter has a condition, or was made by [`all`](Self::all).
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
            || !self.idempotency_keys.is_empty()
            || !self.sources.is_empty()
            || self.error.is_some()
            || !self.args.is_empty()
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
            || !self.idempotency_keys.is_empty()
            || !self.sources.is_empty()
            || self.error.is_some()
            || !self.args.is_empty()
            || self.finished_after.is_some()
            || self.finished_before.is_some()
            || self.frozen_at.is_some()
    }

    /// Whether the filter selects tasks by nothing but their status, or all of them.
    pub(crate) fn is_only_statuses(&self) -> bool {
        let without = Self {
            statuses: Vec::new(),
            limit: Self::DEFAULT_LIMIT,
            after: None,
            everything: false,
            ..self.clone()
        };
        without == Self::new()
    }

    /// Whether a record without its arguments, result, progress and attempts is enough to decide if it matches.
    pub(crate) fn is_told_by_outlines(&self) -> bool {
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

    /// Clamps the time bounds to the instants that a task can have, so that stores never see a time outside that range.
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
        let key = task.idempotency_key.as_ref();
        (self.phases.is_empty() || self.phases.contains(&task.phase_at(now)))
            && (self.idempotency_keys.is_empty()
                || key.is_some_and(|key| self.idempotency_keys.contains(key)))
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

/// The condition that an argument has a given value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ArgCondition {
    /// The name of the argument, or the path of a value inside it: `user_id`, `form.address.city`, `items.0`.
    pub path: String,
    /// The value as JSON; `None` if JSON cannot represent it. No argument matches `None`.
    pub json: Option<String>,
}

impl ArgCondition {
    /// The condition that the argument at `path` equals `value`.
    #[must_use]
    pub fn new(path: &str, value: impl Serialize) -> Self {
        let mut json = Vec::new();
        let json = lossless::write(&mut json, &value).ok().and_then(|()| String::from_utf8(json).ok());
        Self { path: path.to_owned(), json }
    }

    fn matches(&self, args: &str) -> bool {
        let found = self.path.split('.').try_fold(args, below);
        found.zip(self.json.as_deref()).is_some_and(|(found, json)| are_same(found, json))
    }
}

type List<'a> = Vec<&'a RawValue>;
type Object<'a> = BTreeMap<String, &'a RawValue>;

/// The value under a key of a JSON object, or at an index of a JSON list.
fn below<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    let found = if json.starts_with('[') {
        serde_json::from_str::<List<'a>>(json).ok()?.get(key.parse::<usize>().ok()?).copied()
    } else {
        serde_json::from_str::<Object<'a>>(json).ok()?.remove(key)
    };
    found.map(RawValue::get)
}

/// Whether two JSON texts represent the same value.
fn are_same(a: &str, b: &str) -> bool {
    fn read<'a, T: Deserialize<'a>>(a: &'a str, b: &'a str) -> Option<(T, T)> {
        Some((serde_json::from_str(a).ok()?, serde_json::from_str(b).ok()?))
    }
    let both_begin_with = |first| a.starts_with(first) && b.starts_with(first);
    let same = |(a, b): (&&RawValue, &&RawValue)| are_same(a.get(), b.get());
    if both_begin_with('[') {
        read::<List<'_>>(a, b).is_some_and(|(a, b)| a.len() == b.len() && a.iter().zip(&b).all(same))
    } else if both_begin_with('{') {
        read::<Object<'_>>(a, b)
            .is_some_and(|(a, b)| a.keys().eq(b.keys()) && a.values().zip(b.values()).all(same))
    } else if is_long_integer(a) || is_long_integer(b) {
        a == b
    } else {
        read::<serde_json::Value>(a, b).is_some_and(|(a, b)| a == b)
    }
}

/// Whether the text is an integer of more than 64 bits. `serde_json` would read it as the nearest float.
fn is_long_integer(json: &str) -> bool {
    let digits = json.strip_prefix('-').unwrap_or(json);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_integer && json.parse::<u64>().is_err() && json.parse::<i64>().is_err()
}

/// An opaque position between two pages. It stays valid as long as the records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(TaskId);

impl Cursor {
    /// The position after this task.
    #[must_use]
    pub fn after(id: TaskId) -> Self {
        Self(id)
    }

    /// The last task before this position.
    #[must_use]
    pub fn id(self) -> TaskId {
        self.0
    }
}

/// One page of a longer list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Pass this to [`TaskFilter::after`] to read the next page; `None` on the last page.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page with these items.
    #[must_use]
    pub fn new(items: Vec<T>, next: Option<Cursor>) -> Self {
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_argument_is_compared_as_it_is_stored() {
        assert!(ArgCondition::new("share", 0.1_f32).matches(r#"{"share":0.1}"#));
        assert!(!ArgCondition::new("share", 0.1_f32).matches(r#"{"share":0.2}"#));
    }

    #[test]
    fn a_value_that_json_cannot_represent_matches_no_argument() {
        let null = r#"{"share":null,"shares":[null]}"#;
        assert!(ArgCondition::new("share", None::<f64>).matches(null));
        assert!(ArgCondition::new("shares", [None::<f64>]).matches(null));
        for number in [f64::NAN, f64::INFINITY] {
            assert!(!ArgCondition::new("share", number).matches(null));
            assert!(!ArgCondition::new("share", Some(number)).matches(null));
            assert!(!ArgCondition::new("shares", [number]).matches(null));
        }
        assert!(!ArgCondition::new("share", Some(())).matches(null));
    }

    #[test]
    fn integers_of_any_size_are_compared_to_the_last_digit() {
        let args = |number: &dyn fmt::Display| format!(r#"{{"n":{number},"list":[{{"n":{number}}}]}}"#);
        for number in [u128::MAX, u128::from(u64::MAX) + 1, u128::from(u64::MAX)] {
            assert!(ArgCondition::new("n", number).matches(&args(&number)), "{number}");
            assert!(ArgCondition::new("list.0.n", number).matches(&args(&number)), "{number}");
            assert!(ArgCondition::new("list", [BTreeMap::from([("n", number)])]).matches(&args(&number)));
            assert!(!ArgCondition::new("n", number).matches(&args(&(number - 1))), "{number}");
            assert!(!ArgCondition::new("n", number - 1).matches(&args(&number)), "{number}");
            assert!(
                !ArgCondition::new("list", [BTreeMap::from([("n", number)])]).matches(&args(&(number - 1)))
            );
        }
        assert!(ArgCondition::new("n", i128::MIN).matches(&args(&i128::MIN)));
        assert!(!ArgCondition::new("n", i128::MIN + 1).matches(&args(&i128::MIN)));
        assert!(!ArgCondition::new("n", u128::MAX as f64).matches(&args(&u128::MAX)));
    }
}
