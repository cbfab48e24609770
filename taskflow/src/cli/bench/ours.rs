//! Taskflow's side of the bench.

use std::sync::Arc;
use std::time::Duration;

use taskflow::{Store, TaskManager, TaskManagerBuilder};
use tokio::task::JoinSet;

use super::Result;
use super::figure::Sample;
use super::observed;
use super::options::{BenchTask, Load, Scenario};
use super::queue::Queue;
use super::scenario::{BULK, add_in_bulk, drain};
use super::work::{Payload, no_op, no_op_failing, no_op_once};

/// A store that was empty when the measurement began. It can be opened several times.
#[derive(Clone)]
pub(super) struct Place(Arc<dyn Fn() -> Opened + Send + Sync>);

type Opened = Result<Arc<dyn Store>, taskflow::Error>;

impl Place {
    pub(super) fn new(open: impl Fn() -> Opened + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    /// A store with its tables.
    pub(super) async fn migrated(&self) -> Result<Arc<dyn Store>> {
        let store = self.0()?;
        store.migrate().await?;
        Ok(store)
    }
}

/// How long a manager may take to shut down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// The queue that all tasks of the bench wait in.
const QUEUE: &str = "default";

/// A manager on a store.
#[derive(Clone)]
pub(super) struct Ours {
    place: Place,
    slots: usize,
    manager: TaskManager,
    /// Further managers, which add and run tasks as other processes would.
    others: Arc<[TaskManager]>,
    /// Tasks that are not due before the bench is over.
    later: u64,
    task: BenchTask,
    is_observed: bool,
}

impl Ours {
    /// Opens a store for adds.
    pub(super) async fn open(place: Place, slots: usize) -> Result<Self> {
        drop(place.migrated().await?);
        let manager = builder(&place, slots)?.connect().await?;
        let others = Arc::default();
        Ok(Self { place, slots, manager, others, later: 0, task: BenchTask::Repeatable, is_observed: false })
    }

    /// The same, but it adds this kind of task.
    pub(super) fn of(self, task: BenchTask) -> Self {
        Self { task, ..self }
    }

    /// The same, but with middleware and an observer where it runs tasks.
    pub(super) fn observed(self, is_observed: bool) -> Self {
        Self { is_observed, ..self }
    }

    /// Opens the same store again, for adds.
    pub(super) async fn reopen(self) -> Result<Self> {
        self.manager.shutdown(SHUTDOWN_TIMEOUT).await?;
        let manager = builder(&self.place, self.slots)?.connect().await?;
        Ok(Self { manager, ..self })
    }

    /// Starts further managers, so that there are `instances` in all. Each has its own store and connections.
    pub(super) async fn with_instances(self, instances: u64) -> Result<Self> {
        let mut others = Vec::new();
        for _ in 1..instances {
            others.push(builder(&self.place, self.slots)?.start().await?);
        }
        Ok(Self { others: others.into(), ..self })
    }

    /// The manager that adds this task: each in turn.
    fn adder(&self, payload: &Payload) -> &TaskManager {
        let number = payload.user_id % (self.others.len() as u64 + 1);
        number.checked_sub(1).map_or(&self.manager, |number| &self.others[number as usize])
    }

    /// Adds tasks of high priority that are due tomorrow.
    pub(super) async fn add_later(self, tasks: u64) -> Result<Self> {
        let tomorrow = Duration::from_secs(24 * 3600);
        let mut added = 0;
        while added < tasks {
            let end = (added + BULK).min(tasks);
            let later = (added..end)
                .map(Payload::of)
                .map(|it| self.manager.add(no_op(it.user_id, it.email)).priority(1_000).run_in(tomorrow));
            self.manager.add_all(later).await?;
            added = end;
        }
        Ok(Self { later: self.later + tasks, ..self })
    }

    /// Starts to run tasks, and to delete ended tasks at once.
    pub(super) async fn prune(self) -> Result<Self> {
        self.manager.shutdown(SHUTDOWN_TIMEOUT).await?;
        let manager = builder(&self.place, self.slots)?.retention(Duration::ZERO).start().await?;
        Ok(Self { manager, ..self })
    }

    /// Runs no more tasks until [`run`](Queue::run).
    pub(super) async fn pause(&self) -> Result<()> {
        Ok(self.manager.pause_queue(QUEUE).await?)
    }

    pub(super) fn manager(&self) -> &TaskManager {
        &self.manager
    }
}

/// How many callers wait beside a drain.
const WAITERS: u64 = 1_000;

/// Drains tasks beside others that are due tomorrow. If `is_awaited`, callers wait for those meanwhile.
pub(super) async fn drain_awaited(ours: Ours, load: &Load, is_awaited: bool) -> Result<Vec<Sample>> {
    add_in_bulk(&ours, load.tasks).await?;
    let mut ours = ours.prepare().await?;
    let tomorrow = Duration::from_secs(24 * 3600);
    let later = (0..WAITERS).map(Payload::of);
    let later = later.map(|it| ours.manager.add(no_op(it.user_id, it.email)).run_in(tomorrow));
    let handles = ours.manager.add_all(later.collect::<Vec<_>>()).await?;
    ours.later += WAITERS;
    let mut waiting = JoinSet::new();
    if is_awaited {
        for handle in handles {
            waiting.spawn(async move { handle.wait().await });
        }
        // Time for each caller to begin to wait.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = drain(&ours, load.tasks).await?;
    waiting.shutdown().await;
    ours.close().await?;
    Ok(vec![Sample::rate(Scenario::DrainAwaited.name(), load.tasks, took)])
}

fn builder(place: &Place, slots: usize) -> Result<TaskManagerBuilder> {
    Ok(TaskManager::builder().store(place.0()?).max_concurrent_tasks(slots))
}

impl Queue for Ours {
    async fn add(&self, payload: Payload) -> Result<()> {
        let (manager, arguments) = (self.adder(&payload), (payload.user_id, payload.email));
        match self.task {
            BenchTask::Repeatable => drop(manager.add_task(no_op, arguments).await?),
            BenchTask::Once => drop(manager.add_task(no_op_once, arguments).await?),
            BenchTask::FailsOnce => drop(manager.add_task(no_op_failing, arguments).await?),
        }
        Ok(())
    }

    async fn add_all(&self, payloads: Vec<Payload>) -> Result<()> {
        let payloads = payloads.into_iter().map(|payload| (payload.user_id, payload.email));
        match self.task {
            BenchTask::Repeatable => {
                self.manager.add_all(payloads.map(|(user_id, email)| no_op(user_id, email))).await?;
            }
            BenchTask::Once => {
                self.manager.add_all(payloads.map(|(user_id, email)| no_op_once(user_id, email))).await?;
            }
            BenchTask::FailsOnce => {
                self.manager.add_all(payloads.map(|(user_id, email)| no_op_failing(user_id, email))).await?;
            }
        }
        Ok(())
    }

    /// Starts a new manager, as another process would, while the queue is paused.
    async fn prepare(self) -> Result<Self> {
        self.pause().await?;
        let builder = builder(&self.place, self.slots)?;
        let builder = if self.is_observed { observed::listens(builder) } else { builder };
        let manager = builder.start().await?;
        self.manager.shutdown(SHUTDOWN_TIMEOUT).await?;
        Ok(Self { manager, ..self })
    }

    async fn run(&self) -> Result<()> {
        self.manager.resume_queue(QUEUE).await?;
        Ok(())
    }

    async fn unfinished(&self) -> Result<u64> {
        Ok(self.manager.counts().await?.unfinished().saturating_sub(self.later))
    }

    async fn close(self) -> Result<()> {
        let managers = std::iter::once(&self.manager).chain(&*self.others);
        futures_util::future::try_join_all(managers.map(|it| it.shutdown(SHUTDOWN_TIMEOUT))).await?;
        Ok(())
    }
}
