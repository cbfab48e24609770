//! The builder of a [`TaskManager`]. Its methods that start or connect are in [`starting`](super::starting).

use std::collections::HashMap;
#[cfg(feature = "testing")]
use std::sync::Arc;
use std::time::Duration;

use super::TaskManager;
use crate::engine::hooks::Hooks;
use crate::model::{QueueConfig, TaskStatus};
use crate::observe::TraceSettings;
use crate::seam::Seam;
use crate::store::{IntoStore, StoreSource};
use crate::task::States;

/// Configures a [`TaskManager`]. Finish with [`start`](Self::start) in a process that runs tasks, or with
/// [`connect`](Self::connect) in a process that only adds and administers them.
///
/// ```standalone_crate
/// use std::time::Duration;
/// use taskflow::{QueueConfig, TaskManager};
///
/// # #[taskflow::task] async fn ping() {}
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), taskflow::Error> {
/// let tasks = TaskManager::builder()
///     .store("memory:")
///     .state(String::from("a resource every task may take as State<String>"))
///     .queue("reports", QueueConfig::new().concurrency(2))
///     .max_concurrent_tasks(32)
///     .lease(Duration::from_secs(10))
///     .start()
///     .await?;
/// # drop(tasks);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `start` or `connect`"]
pub struct TaskManagerBuilder {
    pub(super) store: Option<StoreSource>,
    pub(super) states: States,
    pub(super) queues: HashMap<String, QueueConfig>,
    pub(super) max_concurrent_tasks: usize,
    pub(super) max_blocking_threads: Option<usize>,
    pub(super) prefetch: Option<usize>,
    pub(super) lease: Duration,
    pub(super) retention: Duration,
    pub(super) retention_of: Vec<(TaskStatus, Duration)>,
    pub(super) add_timeout: Duration,
    pub(super) cancel_grace: Duration,
    pub(super) only: Option<Vec<String>>,
    pub(super) run_queues: Option<Vec<String>>,
    pub(super) schedules: bool,
    pub(super) stats: bool,
    pub(super) hooks: Hooks,
    pub(super) trace: TraceSettings,
    #[cfg(any(feature = "api", feature = "metrics"))]
    pub(super) store_gauges: bool,
    pub(super) seam: Seam,
    #[cfg(feature = "encryption")]
    pub(super) encrypt: Option<crate::crypt::Encrypt>,
    #[cfg(feature = "testing")]
    pub(super) staged: Arc<crate::engine::staged::Staged>,
}

impl Default for TaskManagerBuilder {
    fn default() -> Self {
        Self {
            store: None,
            states: States::default(),
            queues: HashMap::from([("default".to_owned(), QueueConfig::new())]),
            max_concurrent_tasks: 64,
            max_blocking_threads: None,
            prefetch: None,
            lease: Duration::from_secs(10),
            retention: Duration::from_secs(7 * 24 * 3600),
            retention_of: Vec::new(),
            add_timeout: Duration::from_secs(5),
            cancel_grace: Duration::from_secs(5),
            only: None,
            run_queues: None,
            schedules: true,
            stats: true,
            hooks: Hooks::default(),
            trace: TraceSettings::default(),
            #[cfg(any(feature = "api", feature = "metrics"))]
            store_gauges: true,
            seam: Seam::default(),
            #[cfg(feature = "encryption")]
            encrypt: None,
            #[cfg(feature = "testing")]
            staged: Arc::default(),
        }
    }
}

impl TaskManager {
    /// Begins to configure a manager: its store, its queues, and the state that tasks need.
    pub fn builder() -> TaskManagerBuilder {
        TaskManagerBuilder::default()
    }
}

impl TaskManagerBuilder {
    /// Sets the store: a URL or a store value. Default: this process's memory. [`start`](Self::start) and
    /// [`connect`](Self::connect) open the store, and return an error if that fails.
    pub fn store(mut self, store: impl IntoStore) -> Self {
        self.store = Some(store.into_source());
        self
    }

    /// Provides a value that tasks take as [`State<T>`](crate::State), cloned for each run. There is one value for each
    /// type; a second value of the same type replaces the first.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Configures a queue and its limits. The queue `default` always exists. A task or an add that names a queue which is
    /// not configured is an error.
    pub fn queue(mut self, name: impl Into<String>, config: QueueConfig) -> Self {
        self.queues.insert(name.into(), config);
        self
    }

    /// Sets how many tasks may run at once in this process, in all queues together. Default 64.
    pub fn max_concurrent_tasks(mut self, n: usize) -> Self {
        self.max_concurrent_tasks = n;
        self
    }

    /// Sets how many of the running tasks may be synchronous, each on its own thread. Default: `max_concurrent_tasks`.
    pub fn max_blocking_threads(mut self, n: usize) -> Self {
        self.max_blocking_threads = Some(n);
        self
    }

    /// Sets how many tasks this process may claim before it has free slots for them (*prefetch*). Default 7 for each slot, at
    /// most 448.
    ///
    /// Prefetching keeps slots busy when tasks are shorter than a round trip: the next tasks run while the results of the
    /// last ones are being stored. Only tasks that may run twice are prefetched: tasks with `requeue_on_interrupt`, or with
    /// attempts left after this one (`retries`). A task that may not run twice is claimed only for a free slot and begins
    /// at once. So after a crash, `interrupted` means that the task may have begun.
    ///
    /// A process prefetches only as many tasks as start within a few round trips: none while more than one task in eight takes
    /// longer than 20 ms, and none from queues with limits. Prefetching keeps the order of priority and age: if the next task may
    /// not be
    /// prefetched, it is claimed when a slot is free, and the tasks behind it after that. A prefetched task goes back to the
    /// store if it finds no slot within 100 ms, or if its queue is paused or gets a limit. A task of higher priority added
    /// meanwhile runs after the tasks that are already prefetched.
    ///
    /// With 0, a slot becomes free only when its task's result has been stored.
    pub fn prefetch(mut self, n: usize) -> Self {
        self.prefetch = Some(n);
        self
    }

    /// Sets how long a claim is valid without renewal. The process renews it every third of this duration. Default 10 s, at least
    /// 30 ms; up to a century, or [`Duration::MAX`] for no limit.
    ///
    /// When a machine dies, its tasks wait this long before other processes run them. If only the process dies, others notice
    /// sooner (at once on SQLite, within 3 s on PostgreSQL and Redis). A task may run for longer than its lease.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long the records of ended tasks are kept. Default 7 days; up to a century, or [`Duration::MAX`] for no limit.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Sets how long the records of tasks that ended in this status are kept, instead of [`retention`](Self::retention): for
    /// example, failures for a quarter of a year and cancelled tasks for an hour. Up to a century, or [`Duration::MAX`] for no
    /// limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use taskflow::{TaskManager, TaskStatus};
    ///
    /// const DAY: Duration = Duration::from_secs(24 * 3600);
    /// let builder = TaskManager::builder().retention(7 * DAY).retention_of(TaskStatus::Failed, 90 * DAY);
    /// # drop(builder);
    /// ```
    ///
    /// [`start`](Self::start) refuses a status that is not final, such as `Pending`. The last setting for a status wins.
    pub fn retention_of(mut self, status: TaskStatus, retention: Duration) -> Self {
        self.retention_of.push((status, retention));
        self
    }

    /// Sets how long an add waits for an unreachable store, or for room in the write buffer, before it fails. Default 5 s; up to
    /// a century, or [`Duration::MAX`] for no limit.
    ///
    /// The timeout covers the time until the write begins, and repeated writes. While the store works on the write itself,
    /// the add waits longer, in proportion to the size of the write: 1 ms for each task in it and 1 s for each 4 MiB. So an
    /// [`add_all`](TaskManager::add_all) of 100,000 tasks of 1 KB may take two minutes, and does not fail after 5 s while a
    /// healthy store still writes it. The error after a timeout says what is known: [`AddError::Store`] means that nothing
    /// was stored, [`AddError::Unknown`] that the store has not answered yet.
    ///
    /// The write buffer holds at most 64 MiB of adds. A further add waits for room, up to this timeout.
    ///
    /// [`AddError::Store`]: crate::AddError::Store
    /// [`AddError::Unknown`]: crate::AddError::Unknown
    pub fn add_timeout(mut self, timeout: Duration) -> Self {
        self.add_timeout = timeout;
        self
    }

    /// Sets how long an async task may clean up after a cancel, or after the timeout of a shutdown, before it is dropped.
    /// Default 5 s. Only a task that checks for the request gets this time: one that has awaited
    /// [`TaskContext::cancelled`](crate::TaskContext::cancelled) or called
    /// [`is_cancelled`](crate::TaskContext::is_cancelled). Any other is dropped at once; with 0 all are. The task's own timeout
    /// may end the time sooner. [Middleware](crate::observe::Middleware) has at least 250 ms.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = grace;
        self
    }

    /// Runs only these of the registered tasks in this process. A name that is not registered is an error of
    /// [`start`](Self::start).
    pub fn only<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.only = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Runs only tasks of these queues in this process. The process can still add tasks to the other queues.
    pub fn run_queues<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.run_queues = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Whether schedules tick in this process: those that this program declares, and those that any program added at run
    /// time. Default `true`. Each tick happens once, regardless of how many processes tick.
    pub fn schedules(mut self, tick: bool) -> Self {
        self.schedules = tick;
        self
    }

    /// Whether this process writes [statistics](TaskManager::stats): one small write every 10 s while tasks are added or
    /// run. Default `true`.
    pub fn stats(mut self, write: bool) -> Self {
        self.stats = write;
        self
    }

    /// Gives the manager the clock of a test, and the outcomes that the test prepares for bodies of tasks.
    #[cfg(feature = "testing")]
    pub(crate) fn in_test(mut self, seam: Seam, staged: Arc<crate::engine::staged::Staged>) -> Self {
        (self.seam, self.staged) = (seam, staged);
        self
    }
}

impl std::fmt::Debug for TaskManagerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskManagerBuilder")
            .field("store", &self.store)
            .field("queues", &self.queues)
            .field("max_concurrent_tasks", &self.max_concurrent_tasks)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
