//! Queues: what may be asked of one, and what is in it.

use serde::Serialize;

/// The limits of one queue.
///
/// ```
/// use taskflow::{QueueConfig, TaskManager};
///
/// let builder = TaskManager::builder()
///     .queue("reports", QueueConfig::new().concurrency(2).max_size(1_000));
/// # drop(builder);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueueConfig {
    /// At most so many of its tasks run at once in one process; `None` is no limit but the manager's own.
    pub concurrency: Option<usize>,
    /// At most so many of its tasks wait for their first attempt; a further add is refused with
    /// [`AddError::QueueFull`](crate::AddError::QueueFull). Retries are never refused. `None` is no limit.
    pub max_size: Option<usize>,
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

    /// At most `n` tasks of this queue wait for their first attempt, over all processes.
    #[must_use]
    pub fn max_size(mut self, n: usize) -> Self {
        self.max_size = Some(n);
        self
    }
}

/// One queue as [`TaskManager::queues`](crate::TaskManager::queues) shows it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Its name.
    pub name: String,
    /// How many of its tasks may run at once in this process.
    pub concurrency: Option<usize>,
    /// How many of its tasks may wait for their first attempt.
    pub max_size: Option<usize>,
    /// Whether it is paused: nothing of it is started by any process until it is resumed.
    pub paused: bool,
    /// Pending tasks: waiting, scheduled and retrying.
    pub pending: u64,
    /// Running tasks, over all processes.
    pub running: u64,
    /// Ended tasks whose records are still kept.
    pub finished: u64,
}

impl QueueInfo {
    /// An empty queue of that name without limits.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, concurrency: None, max_size: None, paused: false, pending: 0, running: 0, finished: 0 }
    }
}
