//! What a manager is told before it starts.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::TaskManager;
use super::provided::OwnManager;
use crate::engine::blocking::BlockingPool;
use crate::engine::core::{Core, Settings};
use crate::engine::joining::Starting;
use crate::engine::queue_limits::Queues;
use crate::engine::queue_watch;
use crate::engine::slots::Slots;
use crate::engine::supervision::supervise;
use crate::engine::worker::Worker;
use crate::engine::{
    end_reader, listener, panics, prune, recovery, reporter, schedule, unknown_tasks, viewer,
};
use crate::model::{Error, InstanceInfo, QueueConfig, StoreError, StoreErrorKind, TaskStatus, limits};
use crate::store::{IntoStore, Retention, StoreSource};
use crate::task::{Registry, States};

/// A [`TaskManager`] that is being configured. Ends in [`start`](Self::start), in a process that runs tasks, or in
/// [`connect`](Self::connect), in one that only adds and administers.
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
    store: Option<StoreSource>,
    states: States,
    queues: HashMap<String, QueueConfig>,
    max_concurrent_tasks: usize,
    max_blocking_threads: Option<usize>,
    prefetch: Option<usize>,
    lease: Duration,
    retention: Duration,
    retention_of: Vec<(TaskStatus, Duration)>,
    add_timeout: Duration,
    cancel_grace: Duration,
    only: Option<Vec<String>>,
    run_queues: Option<Vec<String>>,
    schedules: bool,
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
        }
    }
}

impl TaskManager {
    /// A manager that is to be configured: its store, what tasks need, its queues.
    pub fn builder() -> TaskManagerBuilder {
        TaskManagerBuilder::default()
    }
}

impl TaskManagerBuilder {
    /// Where tasks are kept: a URL, or a store. Without this, in this process's memory. [`start`](Self::start) and
    /// [`connect`](Self::connect) open it, and say what is wrong with it.
    pub fn store(mut self, store: impl IntoStore) -> Self {
        self.store = Some(store.into_source());
        self
    }

    /// A value that tasks take as [`State<T>`](crate::State), cloned for each run. One for each type; a second of the
    /// same type replaces the first.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// A queue and its limits. The queue `default` is there without being named. A task or an add that names a queue
    /// nobody configured is an error.
    pub fn queue(mut self, name: impl Into<String>, config: QueueConfig) -> Self {
        self.queues.insert(name.into(), config);
        self
    }

    /// How many tasks run at once in this process, of all queues together: 64 unless told.
    pub fn max_concurrent_tasks(mut self, n: usize) -> Self {
        self.max_concurrent_tasks = n;
        self
    }

    /// How many of those may be synchronous, each on a thread of its own: as many as tasks, unless told.
    pub fn max_blocking_threads(mut self, n: usize) -> Self {
        self.max_blocking_threads = Some(n);
        self
    }

    /// How many tasks this process may claim before it has a slot for them; by default 7 for each slot, and 448 at most.
    ///
    /// While the store is told how some tasks ended, the next already run: prefetching keeps slots busy when tasks are
    /// shorter than a round trip. Only tasks that may run twice are prefetched: with `requeue_on_interrupt`, or with
    /// attempts left after this one (`retries`). A task that may not run twice is claimed only for a free slot and begins
    /// at once, so that after a crash `interrupted` means that it may have begun.
    ///
    /// A process prefetches only as much as starts within a few round trips: nothing when tasks take longer than 20 ms,
    /// and nothing from queues with limits. No task is passed over: where the next in the order of priority and age may
    /// not be prefetched, it is claimed with the next free slot, and what comes after it later. What finds no slot within
    /// 100 ms, or before its queue is paused or given a limit, goes back to the store. A task of higher priority that is
    /// added meanwhile comes after what is already here.
    ///
    /// With 0, a slot is free only when the end of what ran in it is stored.
    pub fn prefetch(mut self, n: usize) -> Self {
        self.prefetch = Some(n);
        self
    }

    /// How long a claim is good without being renewed, which happens every third of it: 10 s unless told, 30 ms at the
    /// least. It is how long the work of a machine that died waits; a process that died is noticed sooner (at once on SQLite,
    /// within 3 s on PostgreSQL and Redis). How long a task takes does not matter.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long the records of ended tasks are kept. Default 7 days; up to a century, or [`Duration::MAX`] for no limit.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// How long the records of tasks that ended in this status are kept, instead of [`retention`](Self::retention): failures
    /// for a quarter of a year, cancelled tasks for an hour. Up to a century, or [`Duration::MAX`] for no limit.
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
    /// A status in which no task has ended, such as `Pending`, is an error of the start. Set twice for one status, the last
    /// counts.
    pub fn retention_of(mut self, status: TaskStatus, retention: Duration) -> Self {
        self.retention_of.push((status, retention));
        self
    }

    /// How long an add waits for a store that is away, or for room, before it fails. Default 5 s; up to a century, or
    /// [`Duration::MAX`] for no limit.
    ///
    /// It is how long an add waits for its write to begin and to be repeated. While the store is at work on the write itself,
    /// the add waits longer, in proportion to the size of that write: 1 ms for each task in it and 1 s for each 4 MiB. So an
    /// [`add_all`](TaskManager::add_all) of 100,000 tasks of 1 KB may take two minutes, and is not given up after 5 s while a
    /// healthy store still writes it. When the time is over, the error says what is known: [`AddError::Store`] means that
    /// nothing was stored, [`AddError::Unknown`] that the store has not answered yet.
    ///
    /// Adds that wait to be written take 64 MiB at most. A further add waits for room, as long as this.
    ///
    /// [`AddError::Store`]: crate::AddError::Store
    /// [`AddError::Unknown`]: crate::AddError::Unknown
    pub fn add_timeout(mut self, timeout: Duration) -> Self {
        self.add_timeout = timeout;
        self
    }

    /// How long an async task that listens may clean up after a cancel, and after the deadline of a shutdown, before it is
    /// dropped: default 5 s. A task listens once it has awaited [`TaskContext::cancelled`](crate::TaskContext::cancelled) or
    /// asked [`is_cancelled`](crate::TaskContext::is_cancelled); any other is dropped at once, and with 0 all are.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = grace;
        self
    }

    /// Runs just these tasks here, of all that are registered. A name that is not registered is an error of the start.
    pub fn only<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.only = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Runs just the tasks of these queues here; others can be added to all the same.
    pub fn run_queues<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.run_queues = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Whether the schedules of this program, and those that were added at run time by any, tick in this process: they do
    /// unless told. Each tick happens once over all processes, however many tick.
    pub fn schedules(mut self, tick: bool) -> Self {
        self.schedules = tick;
        self
    }

    /// Starts to run tasks in this process: those that wait in the store, and those that will be added. The log names
    /// the registered ones.
    ///
    /// # Errors
    /// When a store cannot be opened or a limit is invalid; and, before anything runs, when the tasks of this
    /// program do not fit: none registered, two of one name, a state nobody gave, a queue nobody configured. After an
    /// error, and when this future is dropped, nothing of it stays: no thread, no connection, no instance in the store.
    pub async fn start(mut self) -> Result<TaskManager, Error> {
        let mut registry = Registry::collect()?;
        if registry.is_empty() {
            return Err(Error::NoTasks { version: env!("CARGO_PKG_VERSION") });
        }
        if let Some(only) = &self.only {
            registry.keep_only(only)?;
        }
        let own = OwnManager::default();
        let mut states = std::mem::take(&mut self.states);
        if !states.contains::<TaskManager>() {
            own.offer(&mut states);
        }
        registry.check_states(&states)?;
        self.check_queues_of(&registry)?;
        let slots = self.slots()?;
        let threads = self.threads();

        let ticking: Vec<_> =
            registry.tasks().into_iter().filter(|task| self.schedules && task.schedule().is_some()).collect();
        let names = ticking.iter().map(|task| task.config().name.to_owned()).collect();
        panics::remember_places();
        let core = self.core(true, names).await?;
        let worker = Worker::new(core.clone(), registry, states, slots, BlockingPool::new(threads));
        let starting = Starting::begin(core.clone(), Some(worker.clone()))?;
        let starting = join(starting, &core).await?;
        log_start(&core, &worker.registry);
        queue_watch::apply(&core, &worker);
        // What a process that died here left behind is the first thing to look for.
        if let Err(error) = recovery::recover(&core).await {
            tracing::warn!(%error, "lost runs could not be looked for at start; the next look comes soon");
        }
        let manager = TaskManager::new(core.clone(), Some(worker.clone()));
        starting.started();
        // Before anything runs: the first task may take it.
        own.set(&manager);
        manager.dispatch(&worker);
        watch_others(&core, Some(&worker));
        spawn(&core, "the reporter", {
            let worker = worker.clone();
            move || reporter::report(worker.clone())
        });
        spawn(&core, "the pruning", {
            let core = core.clone();
            move || prune::prune(core.clone())
        });
        spawn(&core, "the look for unknown tasks", {
            let core = core.clone();
            move || unknown_tasks::warn(core.clone())
        });
        if self.schedules {
            spawn(&core, "the schedules", move || schedule::keep_ticking(worker.clone(), ticking.clone()));
        }
        Ok(manager)
    }

    /// Connects to the store without running tasks: to add, to look, and to act. Runs that other processes lost are moved on
    /// all the same, so that whoever waits for them here hears of their end.
    ///
    /// Where the store refuses to be written to (a full disk, a read-only file or server, a user who may only read), the
    /// manager looks: everything can be read, everything else fails with the store's error, and
    /// [`health`](TaskManager::health) says so. It is let in as soon as the store lets it write.
    ///
    /// # Errors
    /// When a store cannot be opened or a limit is invalid. After an error, and when this future is dropped, nothing of it
    /// stays: no thread, no connection, no instance in the store.
    pub async fn connect(mut self) -> Result<TaskManager, Error> {
        panics::remember_places();
        let core = self.core(false, Vec::new()).await?;
        let starting = Starting::begin(core.clone(), None)?;
        let starting = join(starting, &core).await?;
        let manager = TaskManager::new(core.clone(), None);
        starting.started();
        watch_others(&core, None);
        if core.only_looks() {
            core.runtime.spawn(viewer::join_later(core.clone()));
        }
        Ok(manager)
    }

    /// What every part shares, with the store opened.
    async fn core(&mut self, runs: bool, schedules: Vec<String>) -> Result<Arc<Core>, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        if panics::catch(|| drop(tokio::time::sleep(Duration::ZERO))).is_err() {
            return Err(Error::NoRuntime);
        }
        self.check_words_and_lengths()?;
        let retention = self.retentions()?;
        let source = self.store.take().unwrap_or_else(|| "memory:".into_source());
        // A file is opened by blocking, and closed by whoever opened it if nobody waits any more.
        let opened = runtime.spawn_blocking(|| source.open()).await;
        let ended = |_| {
            StoreError::new(
                StoreErrorKind::Unavailable,
                "it could not be opened: the program panicked or ends",
            )
        };
        let store = opened.map_err(ended)??;
        let settings = Settings {
            lease: self.lease,
            retention,
            add_timeout: self.add_timeout,
            cancel_grace: self.cancel_grace,
        };
        let queues = Queues::new(std::mem::take(&mut self.queues));
        let mut instance = InstanceInfo::of_this_process(runs);
        instance.schedules = schedules;
        Ok(Arc::new(Core::new(store, instance, settings, queues, runtime)))
    }

    /// Whether every name and every length is within its limits.
    fn check_words_and_lengths(&self) -> Result<(), Error> {
        for (name, config) in &self.queues {
            limits::name(name).map_err(|refused| refused.in_config("queue", name))?;
            config.check()?;
        }
        let lengths = [
            ("lease", self.lease),
            ("retention", self.retention),
            ("add_timeout", self.add_timeout),
            ("cancel_grace", self.cancel_grace),
        ];
        for (option, length) in lengths {
            limits::length_or_ever(length).map_err(|refused| refused.in_config(option, &length))?;
        }
        if self.lease < limits::LEASE_MIN {
            let message = "a lease shorter than 30ms cannot be renewed in time";
            return Err(Error::Config { option: "lease", value: format!("{:?}", self.lease), message });
        }
        Ok(())
    }

    /// How long tasks of each status are kept.
    fn retentions(&self) -> Result<Retention, Error> {
        self.retention_of.iter().try_fold(Retention::new(self.retention), |retention, (status, length)| {
            limits::length_or_ever(*length).map_err(|refused| refused.in_config("retention_of", length))?;
            retention.with(*status, *length)
        })
    }

    fn check_queues_of(&self, registry: &Registry) -> Result<(), Error> {
        for task in registry.tasks() {
            self.check_queue(task.config().queue, Some(task.config().name))?;
        }
        Ok(())
    }

    fn check_queue(&self, queue: &str, task: Option<&str>) -> Result<(), Error> {
        if self.queues.contains_key(queue) {
            return Ok(());
        }
        let suggestion = crate::model::error::closest(queue, self.queues.keys().map(String::as_str));
        Err(Error::UnknownQueue { queue: queue.to_owned(), suggestion, task: task.map(str::to_owned) })
    }

    fn slots<T: Send + 'static>(&self) -> Result<Slots<T>, Error> {
        if self.max_concurrent_tasks == 0 {
            let message = "nothing would ever run; use `.connect()` in a process that runs no tasks";
            return Err(Error::Config { option: "max_concurrent_tasks", value: "0".to_owned(), message });
        }
        if self.max_blocking_threads == Some(0) {
            let message = "synchronous tasks would never run; leave them out with `.only([..])`";
            return Err(Error::Config { option: "max_blocking_threads", value: "0".to_owned(), message });
        }
        let mut queues = Vec::new();
        let run: Vec<&String> = match &self.run_queues {
            Some(names) => names.iter().collect(),
            None => self.queues.keys().collect(),
        };
        // Once each: a queue that is named twice has one limit.
        for name in run.into_iter().collect::<BTreeSet<_>>() {
            self.check_queue(name, None)?;
            queues.push((Arc::from(name.as_str()), self.queues[name].concurrency));
        }
        let prefetch = self.prefetch.unwrap_or(self.max_concurrent_tasks.saturating_mul(7).min(448));
        Ok(Slots::new(self.max_concurrent_tasks, self.threads(), prefetch, queues))
    }

    fn threads(&self) -> usize {
        self.max_blocking_threads.unwrap_or(self.max_concurrent_tasks).min(self.max_concurrent_tasks)
    }
}

/// Makes this process known to the store, and asks what holds there; after an error it has left again.
async fn join(starting: Starting, core: &Core) -> Result<Starting, Error> {
    let joined = async {
        match starting.join().await {
            Err(Error::Store(error)) if !core.instance.runs => {
                core.look_only(viewer::can_look(&*core.store, error).await?);
            }
            joined => joined?,
        }
        // What was asked of the queues before this start holds from the first claim on.
        Ok(queue_watch::refresh(core, None).await?)
    };
    match joined.await {
        Ok(()) => Ok(starting),
        Err(error) => {
            starting.give_up().await;
            Err(error)
        }
    }
}

/// What every process looks for, whether or not it runs tasks.
fn watch_others(core: &Arc<Core>, worker: Option<&Arc<Worker>>) {
    let with = |core: &Arc<Core>| (core.clone(), worker.cloned());
    let parts = with(core);
    spawn(core, "the listener", move || listener::listen(parts.0.clone(), parts.1.clone()));
    let parts = with(core);
    spawn(core, "the watch of the queues", move || queue_watch::watch(parts.0.clone(), parts.1.clone()));
    let waited_for = core.clone();
    spawn(core, "the reader of ends", move || end_reader::read(waited_for.clone()));
    let parts = with(core);
    spawn(core, "the recovery", move || recovery::watch(parts.0.clone(), parts.1.clone()));
}

/// Starts a part of the engine, which begins again after a panic.
fn spawn<F: Future<Output = ()> + Send + 'static>(
    core: &Arc<Core>,
    part: &'static str,
    start: impl FnMut() -> F + Send + 'static,
) {
    core.runtime.spawn(supervise(core.clone(), part, start));
}

fn log_start(core: &Core, registry: &Registry) {
    let tasks: Vec<_> = registry.tasks().iter().map(|task| task.config().name).collect();
    tracing::info!(
        store = %core.store.location(),
        instance = %core.instance.id,
        tasks = ?tasks,
        "taskflow {} runs {} tasks",
        core.instance.version,
        tasks.len(),
    );
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
