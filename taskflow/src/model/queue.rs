//! Queues: their limits and their statistics.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, limits, time};

/// The limits of one queue: how many of its tasks run, start and wait.
///
/// Limits given to [`TaskManagerBuilder::queue`](crate::TaskManagerBuilder::queue) are the defaults of that program. Limits
/// given to [`TaskManager::set_queue`](crate::TaskManager::set_queue) are stored and apply to all processes; they override the
/// defaults until [`reset_queue`](crate::TaskManager::reset_queue).
///
/// ```
/// use std::time::Duration;
/// use taskflow::{QueueConfig, TaskManager};
///
/// let builder = TaskManager::builder()
///     .queue("reports", QueueConfig::new().concurrency(2).max_size(1_000))
///     .queue("mail", QueueConfig::new().global_concurrency(10).rate_limit(100, Duration::from_secs(60)));
/// # drop(builder);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct QueueConfig {
    /// The most tasks of this queue that run at once in one process; `None` leaves only the manager's own limit.
    pub concurrency: Option<usize>,
    /// The most tasks of this queue that run at once over all processes; `None` is no limit.
    pub global_concurrency: Option<usize>,
    /// The most tasks with the same [concurrency key](crate::AddTask::concurrency_key) that run at once over all processes;
    /// `None` is no limit.
    pub key_concurrency: Option<usize>,
    /// The most tasks of this queue that start in any period of a given length, over all processes; `None` is no limit.
    pub rate_limit: Option<RateLimit>,
    /// The most tasks of this queue that wait for their first attempt. Beyond it an add fails with
    /// [`AddError::QueueFull`](crate::AddError::QueueFull). Retries are never refused. `None` is no limit.
    pub max_size: Option<usize>,
    /// Whether an add that fails because the queue is full leaves a record with status
    /// [`Rejected`](crate::TaskStatus::Rejected), which can be retried by hand.
    pub record_rejected: bool,
}

/// How often tasks of a queue may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RateLimit {
    /// The most starts...
    pub starts: usize,
    /// ...in any period of this length.
    #[serde(with = "time::seconds")]
    pub per: Duration,
}

impl RateLimit {
    /// The shortest period: 10 ms. The longest is a century.
    pub const MIN_PER: Duration = Duration::from_millis(10);

    /// At most `starts` starts in any period of length `per`.
    #[must_use]
    pub fn new(starts: usize, per: Duration) -> Self {
        Self { starts, per }
    }
}

impl QueueConfig {
    /// No limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// At most `n` tasks of this queue run at once in one process. With 0 this process runs none of them.
    #[must_use]
    pub fn concurrency(mut self, n: usize) -> Self {
        self.concurrency = Some(n);
        self
    }

    /// At most `n` tasks of this queue run at once over all processes.
    #[must_use]
    pub fn global_concurrency(mut self, n: usize) -> Self {
        self.global_concurrency = Some(n);
        self
    }

    /// At most `n` tasks with the same [concurrency key](crate::AddTask::concurrency_key) run at once over all processes. The
    /// limit does not affect tasks without a key, and a key with many waiting tasks does not delay other keys.
    #[must_use]
    pub fn key_concurrency(mut self, n: usize) -> Self {
        self.key_concurrency = Some(n);
        self
    }

    /// At most `n` tasks of this queue start in any period of length `per` (at least 10 ms), over all processes. Every attempt
    /// counts as a start. Start times are recorded with a resolution of a hundredth of `per`, so a task may wait up to that much
    /// longer than necessary. No task starts too early.
    #[must_use]
    pub fn rate_limit(mut self, n: usize, per: Duration) -> Self {
        self.rate_limit = Some(RateLimit::new(n, per));
        self
    }

    /// At most `n` tasks of this queue wait for their first attempt, over all processes.
    #[must_use]
    pub fn max_size(mut self, n: usize) -> Self {
        self.max_size = Some(n);
        self
    }

    /// Whether an add that fails because the queue is full leaves a record that can be retried by hand. An add of several
    /// tasks at once leaves none.
    #[must_use]
    pub fn record_rejected(mut self, record: bool) -> Self {
        self.record_rejected = record;
        self
    }

    /// Checks the limits. Every count is valid, so only the rate limit's period can be wrong.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Some(RateLimit { per, .. }) = self.rate_limit else { return Ok(()) };
        let refuse = |refused: limits::Refused| refused.in_config("rate_limit", &per);
        if per < RateLimit::MIN_PER {
            return Err(refuse(limits::Refused::Invalid("the shortest period is 10 ms")));
        }
        limits::length(per).map_err(refuse)
    }
}

/// The source of a queue's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitsFrom {
    /// No limits are stored, and no program that runs configures the queue.
    #[default]
    Nobody,
    /// The builder of this program, or if it does not configure the queue, the builder of the program that started last.
    Program,
    /// [`set_queue`](crate::TaskManager::set_queue): the limits are stored and apply to all processes.
    Store,
}

impl fmt::Display for LimitsFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
            Self::Program => "program",
            Self::Store => "store",
        })
    }
}

/// One queue as [`TaskManager::queues`](crate::TaskManager::queues) shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Its name.
    pub name: String,
    /// The most of its tasks that may run at once in one process.
    pub concurrency: Option<usize>,
    /// The most of its tasks that may run at once over all processes.
    pub global_concurrency: Option<usize>,
    /// The most tasks with the same concurrency key that may run at once over all processes.
    pub key_concurrency: Option<usize>,
    /// How often its tasks may start, over all processes.
    pub rate_limit: Option<RateLimit>,
    /// The most of its tasks that may wait for their first attempt.
    pub max_size: Option<usize>,
    /// Whether an add that fails because the queue is full leaves a record.
    pub record_rejected: bool,
    /// The source of these limits.
    pub limits_from: LimitsFrom,
    /// How many live processes run its tasks. With 0 its tasks wait until a process that runs them is started.
    pub served_by: usize,
    /// Whether the queue is paused: no process starts its tasks until it is resumed.
    pub paused: bool,
    /// Pending tasks: waiting, scheduled and retrying.
    pub pending: u64,
    /// The pending tasks that are not due yet.
    pub scheduled: u64,
    /// Running tasks, over all processes.
    pub running: u64,
    /// Ended tasks whose records are still kept.
    pub finished: u64,
    /// All tasks refused so far because the queue was full; each task of a refused batch counts.
    pub rejected: u64,
    /// Age of the oldest waiting task: the time since it was added or became due, whichever is later. Of each priority only the
    /// first task in order is considered. `None` if no task waits.
    #[serde(with = "time::seconds_option")]
    pub oldest_waiting: Option<Duration>,
    /// Tasks that ended within the last minute, counted up to [`MAX_COUNTED`](Self::MAX_COUNTED).
    pub finished_last_minute: u64,
}

impl QueueInfo {
    /// The upper limit of [`finished_last_minute`](Self::finished_last_minute). It keeps the query fast.
    pub const MAX_COUNTED: u64 = 100_000;

    /// An empty queue with this name and no limits.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            name,
            concurrency: None,
            global_concurrency: None,
            key_concurrency: None,
            rate_limit: None,
            max_size: None,
            record_rejected: false,
            limits_from: LimitsFrom::Nobody,
            served_by: 0,
            paused: false,
            pending: 0,
            scheduled: 0,
            running: 0,
            finished: 0,
            rejected: 0,
            oldest_waiting: None,
            finished_last_minute: 0,
        }
    }

    /// Pending tasks that are due: `pending - scheduled`.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.pending.saturating_sub(self.scheduled)
    }

    /// Whether the queue probably refuses adds: at least [`max_size`](Self::max_size) tasks are pending. The limit counts only
    /// tasks that wait for their first attempt, so a queue with many retries may still take some.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.max_size.is_some_and(|size| self.pending >= size as u64)
    }

    /// The limits, as a [`QueueConfig`].
    #[must_use]
    pub fn config(&self) -> QueueConfig {
        QueueConfig {
            concurrency: self.concurrency,
            global_concurrency: self.global_concurrency,
            key_concurrency: self.key_concurrency,
            rate_limit: self.rate_limit,
            max_size: self.max_size,
            record_rejected: self.record_rejected,
        }
    }

    /// Sets the limits to show and their source.
    pub(crate) fn show_limits(&mut self, config: &QueueConfig, from: LimitsFrom) {
        self.concurrency = config.concurrency;
        self.global_concurrency = config.global_concurrency;
        self.key_concurrency = config.key_concurrency;
        self.rate_limit = config.rate_limit;
        self.max_size = config.max_size;
        self.record_rejected = config.record_rejected;
        self.limits_from = from;
    }
}
