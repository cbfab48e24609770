//! Queues: what may be asked of one, and what is in it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, limits, time};

/// The limits of one queue.
///
/// Where a program says them ([`TaskManagerBuilder::queue`](crate::TaskManagerBuilder::queue)) they are defaults; those
/// that [`TaskManager::set_queue`](crate::TaskManager::set_queue) stores hold for all processes, and beat them until
/// [`reset_queue`](crate::TaskManager::reset_queue).
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
    /// At most so many of its tasks run at once in one process; `None` is no limit but the manager's own.
    pub concurrency: Option<usize>,
    /// At most so many of its tasks run at once over all processes.
    pub global_concurrency: Option<usize>,
    /// At most so many tasks of one [concurrency key](crate::AddTask::concurrency_key) run at once over all processes.
    pub key_concurrency: Option<usize>,
    /// At most so many of its tasks start in any stretch of time of one length, over all processes.
    pub rate_limit: Option<RateLimit>,
    /// At most so many of its tasks wait for their first attempt; a further add is refused with
    /// [`AddError::QueueFull`](crate::AddError::QueueFull). Retries are never refused. `None` is no limit.
    pub max_size: Option<usize>,
    /// Whether an add that is refused because the queue is full leaves a record of status
    /// [`Rejected`](crate::TaskStatus::Rejected), which can be retried by hand.
    pub record_rejected: bool,
}

/// How often tasks of a queue may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RateLimit {
    /// So many starts at most...
    pub starts: usize,
    /// ...in any stretch of this length.
    #[serde(with = "time::seconds")]
    pub per: Duration,
}

impl RateLimit {
    /// The shortest stretch of time that a limit may count over. The longest is a century.
    pub const MIN_PER: Duration = Duration::from_millis(10);

    /// At most `starts` in any stretch of `per`.
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

    /// At most `n` tasks of this queue run at once in one process. 0 runs none here.
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

    /// At most `n` tasks of one [concurrency key](crate::AddTask::concurrency_key) run at once over all processes. Tasks
    /// without a key are not concerned, and a key that has many tasks waiting keeps no other from its turn.
    #[must_use]
    pub fn key_concurrency(mut self, n: usize) -> Self {
        self.key_concurrency = Some(n);
        self
    }

    /// At most `n` tasks of this queue start in any stretch of `per` (10 ms at the least), over all processes. Every
    /// attempt is a start. The starts of the last `per` are remembered to a hundredth of it, so a task may wait that much
    /// longer than it had to, and none starts too early.
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

    /// Whether an add that a full queue refuses leaves a record that can be retried by hand. Adds of several tasks at
    /// once leave none.
    #[must_use]
    pub fn record_rejected(mut self, record: bool) -> Self {
        self.record_rejected = record;
        self
    }

    /// Whether its limits are valid. Every count is.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Some(RateLimit { per, .. }) = self.rate_limit else { return Ok(()) };
        let refuse = |refused: limits::Refused| refused.in_config("rate_limit", &per);
        if per < RateLimit::MIN_PER {
            return Err(refuse(limits::Refused::Invalid("the time it counts over is 10 ms at the least")));
        }
        limits::length(per).map_err(refuse)
    }
}

/// Where the limits of a queue come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitsFrom {
    /// Nobody has set any: this program does not configure the queue.
    #[default]
    Nobody,
    /// This program's builder.
    Program,
    /// [`set_queue`](crate::TaskManager::set_queue): they are stored and hold for all processes.
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
    /// How many of its tasks may run at once in this process.
    pub concurrency: Option<usize>,
    /// How many of its tasks may run at once over all processes.
    pub global_concurrency: Option<usize>,
    /// How many tasks of one concurrency key may run at once.
    pub key_concurrency: Option<usize>,
    /// How often its tasks may start.
    pub rate_limit: Option<RateLimit>,
    /// How many of its tasks may wait for their first attempt.
    pub max_size: Option<usize>,
    /// Whether what it refuses leaves a record.
    pub record_rejected: bool,
    /// Where these limits come from.
    pub limits_from: LimitsFrom,
    /// Whether it is paused: nothing of it is started by any process until it is resumed.
    pub paused: bool,
    /// Pending tasks: waiting, scheduled and retrying.
    pub pending: u64,
    /// Those of them whose time has not come yet.
    pub scheduled: u64,
    /// Running tasks, over all processes.
    pub running: u64,
    /// Ended tasks whose records are still kept.
    pub finished: u64,
    /// Adds it has refused since it exists because it was full; each task of a refused batch counts.
    pub rejected: u64,
    /// How long the first in turn has been waiting, of whatever priority has waited longest, since it was added or, if that
    /// is later, due; `None` if none waits.
    #[serde(with = "time::seconds_option")]
    pub oldest_waiting: Option<Duration>,
    /// Tasks that ended within the last minute; counted up to [`MAX_COUNTED`](Self::MAX_COUNTED).
    pub finished_last_minute: u64,
}

impl QueueInfo {
    /// Of the tasks that ended in the last minute no more are counted, so that the answer is quick.
    pub const MAX_COUNTED: u64 = 100_000;

    /// An empty queue of that name without limits.
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

    /// Pending tasks that are due.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.pending.saturating_sub(self.scheduled)
    }

    /// Shows these limits.
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
