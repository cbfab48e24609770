//! The builder of a [`TaskManager`], and its start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::TaskManager;
use super::provided::OwnManager;
use super::starting::{could_not_be_opened, join, log_start, spawn, watch_others};
use crate::engine::blocking::BlockingPool;
use crate::engine::catalogue::{self, Catalogue, DeclaredQueue};
use crate::engine::core::{Core, Settings};
use crate::engine::hooks::Hooks;
use crate::engine::joining::Starting;
use crate::engine::queue_limits::Queues;
use crate::engine::queue_watch;
use crate::engine::sealing::Sealing;
use crate::engine::slots::Slots;
use crate::engine::worker::Worker;
use crate::engine::{panics, prune, recovery, reporter, schedule, unknown_tasks, viewer};
use crate::model::{Error, InstanceInfo, QueueConfig, TaskStatus, limits};
use crate::observe::TraceSettings;
use crate::seam::Seam;
use crate::store::{IntoStore, Retention, StoreSource};
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
    store: Option<StoreSource>,
    pub(super) states: States,
    pub(super) queues: HashMap<String, QueueConfig>,
    pub(super) max_concurrent_tasks: usize,
    pub(super) max_blocking_threads: Option<usize>,
    prefetch: Option<usize>,
    pub(super) lease: Duration,
    pub(super) retention: Duration,
    pub(super) retention_of: Vec<(TaskStatus, Duration)>,
    pub(super) add_timeout: Duration,
    pub(super) cancel_grace: Duration,
    pub(super) only: Option<Vec<String>>,
    pub(super) run_queues: Option<Vec<String>>,
    schedules: bool,
    stats: bool,
    pub(super) hooks: Hooks,
    pub(super) trace: TraceSettings,
    #[cfg(any(feature = "api", feature = "metrics"))]
    pub(super) store_gauges: bool,
    seam: Seam,
    #[cfg(feature = "encryption")]
    pub(super) encrypt: Option<crate::crypt::Encrypt>,
    #[cfg(feature = "testing")]
    staged: Arc<crate::engine::staged::Staged>,
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

    /// How many tasks run at once in this process, in all queues together. Default 64.
    pub fn max_concurrent_tasks(mut self, n: usize) -> Self {
        self.max_concurrent_tasks = n;
        self
    }

    /// How many of the running tasks may be synchronous, each on its own thread. Default: `max_concurrent_tasks`.
    pub fn max_blocking_threads(mut self, n: usize) -> Self {
        self.max_blocking_threads = Some(n);
        self
    }

    /// How many tasks this process may claim before it has slots for them. Default 7 for each slot, at most 448.
    ///
    /// Prefetching keeps slots busy when tasks are shorter than a round trip: the next tasks run while the results of the
    /// last ones are being stored. Only tasks that may run twice are prefetched: tasks with `requeue_on_interrupt`, or with
    /// attempts left after this one (`retries`). A task that may not run twice is claimed only for a free slot and begins
    /// at once. So after a crash, `interrupted` means that the task may have begun.
    ///
    /// A process prefetches only as many tasks as start within a few round trips: none when tasks take longer than 20 ms,
    /// and none from queues with limits. Prefetching keeps the order of priority and age: if the next task may not be
    /// prefetched, it is claimed for the next free slot, and the tasks behind it later. A prefetched task goes back to the
    /// store if it finds no slot within 100 ms, or if its queue is paused or gets a limit. A task of higher priority added
    /// meanwhile runs after the tasks that are already prefetched.
    ///
    /// With 0, a slot becomes free only when its task's result has been stored.
    pub fn prefetch(mut self, n: usize) -> Self {
        self.prefetch = Some(n);
        self
    }

    /// How long a claim is valid without renewal. The process renews it every third of this duration. Default 10 s, at least
    /// 30 ms; up to a century, or [`Duration::MAX`] for no limit.
    ///
    /// When a machine dies, its tasks wait this long before others run them. A dead process is noticed sooner (at once on
    /// SQLite, within 3 s on PostgreSQL and Redis). A task may run for longer than its lease.
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
    /// [`start`](Self::start) refuses a status that is not final, such as `Pending`. The last setting for a status wins.
    pub fn retention_of(mut self, status: TaskStatus, retention: Duration) -> Self {
        self.retention_of.push((status, retention));
        self
    }

    /// How long an add waits for an unreachable store, or for room in the write buffer, before it fails. Default 5 s; up to
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

    /// How long an async task may clean up after a cancel, or after the timeout of a shutdown, before it is dropped.
    /// Default 5 s. Only a task that listens gets this time: one that has awaited
    /// [`TaskContext::cancelled`](crate::TaskContext::cancelled) or called
    /// [`is_cancelled`](crate::TaskContext::is_cancelled). Any other is dropped at once; with 0 all are.
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

    /// Runs only tasks of these queues in this process. It can still add tasks to the other queues.
    pub fn run_queues<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.run_queues = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Whether schedules tick in this process: those that this program declares, and those that any program added at run
    /// time. Default `true`. Each tick happens once, however many processes tick.
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

    /// Starts to run tasks in this process: those that wait in the store, and those added later. It logs the names of the
    /// registered tasks.
    ///
    /// # Errors
    /// When the store cannot be opened or a limit is invalid; and, before any task runs, when the tasks of this program are
    /// inconsistent: none is registered, two have one name, a state was not provided, or a queue is not configured. An
    /// error, or dropping this future, leaves nothing behind: no thread, no connection, no instance in the store.
    pub async fn start(mut self) -> Result<TaskManager, Error> {
        let own = OwnManager::default();
        let (registry, wrong) = self.collect(&own);
        if let Some(first) = wrong.into_iter().next() {
            return Err(first);
        }
        let states = std::mem::take(&mut self.states);
        let slots = self.slots()?;
        let threads = self.threads();

        let ticking: Vec<_> =
            registry.tasks().into_iter().filter(|task| self.schedules && task.schedule().is_some()).collect();
        let names = ticking.iter().map(|task| task.config().name.to_owned()).collect();
        panics::remember_places();
        let known = Catalogue::new(&registry.tasks(), self.declared_queues(), &ticking);
        let core = self.core(true, names).await?;
        core.catalogues.set_own(known);
        let worker =
            Worker::new(core.clone(), registry, states, slots, BlockingPool::new(threads, core.seam.clone()));
        let starting = Starting::begin(core.clone(), Some(worker.clone()))?;
        let starting = join(starting, &core).await?;
        log_start(&core, &worker.registry);
        queue_watch::apply(&core, &worker);
        // First recover the runs of a process that died on this machine.
        if let Err(error) = recovery::recover(&core).await {
            tracing::warn!(%error, "could not recover lost runs at start; it is tried again soon");
        }
        let manager = TaskManager::new(core.clone(), Some(worker.clone()));
        starting.started();
        // Set it before any task runs: the first task may take it.
        own.set(&manager);
        manager.dispatch(&worker);
        watch_others(&manager, Some(&worker));
        spawn(&core, "the reporter", {
            let worker = worker.clone();
            move || reporter::report(worker.clone())
        });
        spawn(&core, "the pruning", {
            let core = core.clone();
            move || prune::prune(core.clone())
        });
        spawn(&core, "the catalogue", {
            let core = core.clone();
            move || catalogue::keep(core.clone())
        });
        spawn(&core, "the check for unknown tasks", {
            let core = core.clone();
            move || unknown_tasks::warn(core.clone())
        });
        if self.schedules {
            spawn(&core, "the schedules", move || schedule::keep_ticking(worker.clone(), ticking.clone()));
        }
        Ok(manager)
    }

    /// Makes the store, or brings its tables up to date, and does nothing else: for a deployment that migrates before its
    /// processes start. Any number of processes may do so at once. [`start`](Self::start) does the same by itself.
    ///
    /// ```
    /// # async fn demo() -> Result<(), taskflow::Error> {
    /// taskflow::TaskManager::builder().store("sqlite://tasks.db").migrate().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the store cannot be opened or refuses, or was made by a newer version.
    pub async fn migrate(mut self) -> Result<(), Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let source = self.store.take().unwrap_or_else(|| "memory:".into_source());
        let opened = self.seam.spawn_blocking(&runtime, || source.open()).await;
        let store = opened.map_err(|_| could_not_be_opened())??;
        Ok(store.migrate().await?)
    }

    /// Whether [`migrate`](Self::migrate) would change something: whether there is no store yet, or one with older tables. It
    /// changes nothing itself.
    ///
    /// # Errors
    /// Where `migrate` would refuse: the store cannot be opened, was made by a newer version, or is none.
    pub async fn would_migrate(mut self) -> Result<bool, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let source = self.store.take().unwrap_or_else(|| "memory:".into_source());
        let opened = self.seam.spawn_blocking(&runtime, || source.open_existing()).await;
        let checked = match opened.map_err(|_| could_not_be_opened())? {
            Ok(store) => store.check().await.map_err(Error::from),
            Err(error) => Err(error),
        };
        match checked {
            Ok(()) => Ok(false),
            Err(Error::Store(error)) if error.is_missing() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Puts the manager into the surroundings of a test.
    #[cfg(feature = "testing")]
    pub(crate) fn in_test(mut self, seam: Seam, staged: Arc<crate::engine::staged::Staged>) -> Self {
        (self.seam, self.staged) = (seam, staged);
        self
    }

    /// Connects to the store without running tasks: to add, read and control them. The process still recovers runs that
    /// other processes lost, so that callers waiting for them here get their results.
    ///
    /// It neither makes a store nor changes its tables: only [`start`](Self::start) and [`migrate`](Self::migrate) do.
    ///
    /// If the store refuses writes (a full disk, a read-only file or server, a user with read permission only), the manager
    /// is read-only: reads work, everything else fails with the store's error, and [`health`](TaskManager::health) shows
    /// it. The manager becomes writable as soon as the store accepts writes.
    ///
    /// # Errors
    /// When the store cannot be opened, when nobody has made one there yet, or when a limit is invalid. An error, or dropping
    /// this future, leaves nothing behind: no thread, no connection, no instance in the store.
    pub async fn connect(mut self) -> Result<TaskManager, Error> {
        panics::remember_places();
        let core = self.core(false, Vec::new()).await?;
        let starting = Starting::begin(core.clone(), None)?;
        let starting = join(starting, &core).await?;
        let manager = TaskManager::new(core.clone(), None);
        starting.started();
        watch_others(&manager, None);
        if core.only_looks() {
            core.spawn(viewer::join_later(core.clone()));
        }
        Ok(manager)
    }

    /// Connects to the store without registering this process in it: to look, and to act now and then, as the `taskflow`
    /// command does. Others do not see the process among the [instances](TaskManager::instances), and it does nothing in the store
    /// but what its caller asks for: it recovers no lost runs, writes no statistics, and neither makes nor changes a schema. A
    /// dashboard on it is whole, and adds also to queues that only other programs configure. [`TaskManager::watch`] works; a [`TaskHandle::wait`](crate::TaskHandle::wait) does not end before the manager shuts down.
    ///
    /// # Errors
    /// When the store cannot be opened or read, or a limit is invalid.
    pub async fn view(mut self) -> Result<TaskManager, Error> {
        panics::remember_places();
        self.stats = false;
        let core = self.core(false, Vec::new()).await?;
        core.presence.stays_outside();
        core.health.reads_suffice();
        core.read("the look at the schema", core.store.check()).await?;
        let manager = TaskManager::new(core.clone(), None);
        queue_watch::refresh(&core, None).await?;
        Ok(manager)
    }

    /// Opens the store and builds the core that all parts of the engine share.
    async fn core(&mut self, runs: bool, schedules: Vec<String>) -> Result<Arc<Core>, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let seam = self.seam.clone();
        if panics::catch(|| drop(seam.sleep(Duration::ZERO))).is_err() {
            return Err(Error::NoRuntime);
        }
        self.words_and_lengths().collect::<Result<(), _>>()?;
        let retention = self.retentions()?;
        let source = self.store.take().unwrap_or_else(|| "memory:".into_source());
        // Opening a file blocks, so do it on a blocking thread. If this future is dropped, that thread closes the file.
        let open = move || if runs { source.open() } else { source.open_existing() };
        let opened = seam.spawn_blocking(&runtime, open).await;
        let store = opened.map_err(|_| could_not_be_opened())??;
        let settings = Settings {
            lease: self.lease,
            retention,
            add_timeout: self.add_timeout,
            cancel_grace: self.cancel_grace,
            stats: self.stats,
            trace: self.trace.clone(),
            #[cfg(any(feature = "api", feature = "metrics"))]
            store_gauges: self.store_gauges,
        };
        let queues = Queues::new(std::mem::take(&mut self.queues));
        let mut instance = InstanceInfo::of_this_process(runs);
        instance.schedules = schedules;
        let sealing = Sealing::new(
            #[cfg(feature = "encryption")]
            self.encrypt.take(),
        );
        Ok(Arc::new(Core::new(
            store,
            instance,
            settings,
            queues,
            (std::mem::take(&mut self.hooks), sealing),
            (seam, runtime),
            #[cfg(feature = "testing")]
            self.staged.clone(),
        )))
    }

    /// How long tasks of each status are kept.
    pub(super) fn retentions(&self) -> Result<Retention, Error> {
        self.retention_of.iter().try_fold(Retention::new(self.retention), |retention, (status, length)| {
            limits::length_or_ever(*length).map_err(|refused| refused.in_config("retention_of", length))?;
            retention.with(*status, *length)
        })
    }

    /// The queues of this program, and which of them this process serves.
    fn declared_queues(&self) -> BTreeMap<String, DeclaredQueue> {
        let is_served = |name: &String| self.run_queues.as_ref().is_none_or(|run| run.contains(name));
        let declared = |(name, config): (&String, &QueueConfig)| {
            (name.clone(), DeclaredQueue { config: config.clone(), is_served: is_served(name) })
        };
        self.queues.iter().map(declared).collect()
    }

    fn slots<T: Send + 'static>(&self) -> Result<Slots<T>, Error> {
        self.numbers_and_served().collect::<Result<(), _>>()?;
        let mut queues = Vec::new();
        let run: Vec<&String> = match &self.run_queues {
            Some(names) => names.iter().collect(),
            None => self.queues.keys().collect(),
        };
        // Deduplicate: a queue named twice still has one limit.
        for name in run.into_iter().collect::<BTreeSet<_>>() {
            queues.push((Arc::from(name.as_str()), self.queues[name].concurrency));
        }
        let prefetch = self.prefetch.unwrap_or(self.max_concurrent_tasks.saturating_mul(7).min(448));
        Ok(Slots::new(self.max_concurrent_tasks, self.threads(), prefetch, queues, self.seam.clone()))
    }

    fn threads(&self) -> usize {
        self.max_blocking_threads.unwrap_or(self.max_concurrent_tasks).min(self.max_concurrent_tasks)
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
