//! Starts a manager, connects or views without running tasks, and migrates a store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::TaskManager;
use super::builder::TaskManagerBuilder;
#[cfg(feature = "metrics")]
use super::metrics_push;
use super::provided::OwnManager;
use crate::engine::blocking::BlockingPool;
use crate::engine::catalogue::{self, Catalogue, DeclaredQueue};
use crate::engine::core::{Core, Settings};
use crate::engine::joining::Starting;
use crate::engine::queue_limits::Queues;
use crate::engine::sealing::Sealing;
use crate::engine::slots::Slots;
use crate::engine::supervision::supervise;
use crate::engine::worker::Worker;
use crate::engine::{
    end_reader, listener, panics, prune, queue_watch, recovery, reporter, schedule, statistics,
    unknown_tasks, viewer,
};
use crate::model::{Error, InstanceInfo, QueueConfig, StoreError, StoreErrorKind, limits};
use crate::store::{IntoStore, Retention};
use crate::task::Registry;

impl TaskManagerBuilder {
    /// Starts to run tasks in this process: those that wait in the store, and those that are added later. It logs the names of
    /// the registered tasks.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside a tokio runtime; when the store cannot be opened or a limit is invalid; and, before any task
    /// runs, when the tasks of this program are inconsistent: none is registered, two have one name, [`only`](Self::only) names
    /// a task that is not registered, a state was not provided, or a queue is not configured. An error, or dropping this future,
    /// leaves nothing behind: no thread, no connection, no instance in the store.
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
        spawn_parts(&manager, Some(&worker));
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
    /// [`Error::NoRuntime`] outside a tokio runtime; and when the store cannot be opened, refuses the change, or was made by a
    /// newer version.
    pub async fn migrate(mut self) -> Result<(), Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let source = self.store.take().unwrap_or_else(|| "memory:".into_source());
        let opened = self.seam.spawn_blocking(&runtime, || source.open()).await;
        let store = opened.map_err(|_| could_not_be_opened())??;
        Ok(store.migrate().await?)
    }

    /// Whether [`migrate`](Self::migrate) would change something, because there is no store yet or its tables are older. It
    /// changes nothing itself.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside a tokio runtime; and when the store cannot be opened or read, was made by a newer version, or
    /// is not a taskflow store.
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

    /// Connects to the store without running tasks. Use it in a process that only adds, reads and controls them. The process
    /// still recovers runs that other processes lost, so that callers waiting for them here get their results.
    ///
    /// It neither makes a store nor changes its tables: only [`start`](Self::start) and [`migrate`](Self::migrate) do that.
    ///
    /// If the store refuses writes (a full disk, a read-only file or server, a user with read permission only), the manager
    /// is read-only: reads work, everything else fails with the store's error, and [`health`](TaskManager::health) shows
    /// it. The manager becomes writable as soon as the store accepts writes.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside a tokio runtime; and when the store cannot be opened, when there is no store yet or its
    /// tables are of another version, or when a limit is invalid. An error, or dropping this future, leaves nothing behind: no
    /// thread, no connection, no instance in the store.
    pub async fn connect(mut self) -> Result<TaskManager, Error> {
        panics::remember_places();
        let core = self.core(false, Vec::new()).await?;
        let starting = Starting::begin(core.clone(), None)?;
        let starting = join(starting, &core).await?;
        let manager = TaskManager::new(core.clone(), None);
        starting.started();
        spawn_parts(&manager, None);
        if core.is_read_only() {
            core.spawn(viewer::join_later(core.clone()));
        }
        Ok(manager)
    }

    /// Connects to the store without registering this process in it. Use it to read, and to act now and then, as the `taskflow`
    /// command does. The process is not among the [instances](TaskManager::instances), and it does nothing in the store by
    /// itself: it recovers no lost runs, writes no statistics, and neither makes nor changes a schema. A dashboard on it is
    /// complete, and can also add to queues that only other programs configure. [`TaskManager::watch`] works, but a
    /// [`TaskHandle::wait`](crate::TaskHandle::wait) does not end before the manager shuts down.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside a tokio runtime; and when the store cannot be opened or read, when there is no store yet or
    /// its tables are of another version, or when a limit is invalid.
    pub async fn view(mut self) -> Result<TaskManager, Error> {
        panics::remember_places();
        self.stats = false;
        let core = self.core(false, Vec::new()).await?;
        core.presence.stays_outside();
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
        self.check_names_and_durations().collect::<Result<(), _>>()?;
        let retention = self.retentions()?;
        let source = self.store.take().unwrap_or_else(|| "memory:".into_source());
        // Opening a file blocks, so it happens on a blocking thread. If this future is dropped, that thread closes the file.
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
        self.check_limits_and_queues().collect::<Result<(), _>>()?;
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

/// The error if the thread that opens a store ended without an answer.
fn could_not_be_opened() -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        "the store could not be opened: opening it panicked, or the runtime is shutting down",
    )
}

/// Registers this process with the store and reads the stored queue limits. After an error the process is unregistered again.
async fn join(starting: Starting, core: &Core) -> Result<Starting, Error> {
    let joined = async {
        match starting.join().await {
            Err(Error::Store(error)) if !core.instance.runs => {
                core.set_read_only(viewer::can_read(core, error).await?);
            }
            joined => joined?,
        }
        // Stored limits and pauses must apply from the first claim on.
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

/// Starts the parts of the engine that every process needs, whether or not it runs tasks.
fn spawn_parts(manager: &TaskManager, worker: Option<&Arc<Worker>>) {
    let core = &manager.0.core;
    let with = |core: &Arc<Core>| (core.clone(), worker.cloned());
    let parts = with(core);
    spawn(core, "the listener", move || listener::listen(parts.0.clone(), parts.1.clone()));
    let parts = with(core);
    spawn(core, "the queue watch", move || queue_watch::watch(parts.0.clone(), parts.1.clone()));
    let shared = core.clone();
    spawn(core, "the reader of results", move || end_reader::read(shared.clone()));
    if core.settings.stats {
        let shared = core.clone();
        spawn(core, "the statistics", move || statistics::keep(shared.clone()));
    }
    #[cfg(feature = "metrics")]
    {
        let (shared, manager) = (core.clone(), manager.downgrade());
        spawn(core, "the push of metrics", move || metrics_push::push(shared.clone(), manager.clone()));
    }
    #[cfg(feature = "encryption")]
    if worker.is_some() && core.has_keys() {
        let shared = core.clone();
        spawn(core, "the check for keys", move || crate::engine::key_check::warn(shared.clone()));
    }
    let parts = with(core);
    spawn(core, "the recovery", move || recovery::watch(parts.0.clone(), parts.1.clone()));
}

/// Starts a part of the engine under supervision: after a panic it is started again.
fn spawn<F: Future<Output = ()> + Send + 'static>(
    core: &Arc<Core>,
    part: &'static str,
    start: impl FnMut() -> F + Send + 'static,
) {
    core.spawn(supervise(core.clone(), part, start));
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
