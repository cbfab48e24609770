//! `TestTasks`: a store, a clock and workers that a test controls.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a task is named by its function, which is passed by value everywhere"
)]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;

use super::Moment;
use super::added::{AssertAdded, decoded, records_of};
use super::faulty::FaultyStore;
use super::gated::{GatedStore, Mode};
use super::process::Processes;
use super::ran::{self, Drain, Drained, Ran};
use crate::engine::staged::Staged;
use crate::manager::{TaskManager, TaskManagerBuilder};
use crate::model::{Error, LogLine, TaskId, TaskRecord, TaskStatus};
use crate::seam::{Seam, TestClock, World};
use crate::store::{MemoryStore, Store};
use crate::task::{Task, TaskFn};

/// How long a test waits, in real time, for bodies that wait for something else than its clock.
const PATIENCE: Duration = Duration::from_secs(10);

/// A step of the configuration. It is applied to every process of the test.
type Configure = Arc<dyn Fn(TaskManagerBuilder) -> TaskManagerBuilder + Send + Sync>;

/// A store, a clock and workers that a test controls.
///
/// In the default mode nothing runs by itself: a test says what runs ([`run`](Self::run), [`drain`](Self::drain)) and how
/// time passes ([`advance`](Self::advance)). Adds go through [`manager`](Self::manager), which is what the program under test
/// gets. A run is as in production: the arguments are encoded and decoded, leases are renewed, retries wait. These differ: the
/// store is in memory, time passes only when the test says so, the test decides when tasks are claimed, and, unless
/// [`configure`](TestTasksBuilder::configure) changes it, a worker has 256 slots and prefetches nothing. Two values share
/// nothing, so tests can run in parallel.
///
/// ```standalone_crate
/// use taskflow::testing::TestTasks;
///
/// #[taskflow::task(retries = 3, delay = "1m", jitter = 0.0)]
/// async fn send_email(to: String, subject: String) -> Result<(), String> {
///     let _ = (to, subject);
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let t = TestTasks::new().only(["send_email"]).start().await;
/// t.manager().add_task(send_email, ("ada@example.com".into(), "Welcome".into())).await?;
///
/// let mail = t.assert_added(send_email).with(|(to, _)| to == "ada@example.com").once();
/// t.fail_next(send_email, "no route to host".to_owned());
/// assert_eq!(t.drain().await.retrying, 1);
/// t.advance("1m").await; // the retry runs
/// assert!(t.ran(&mail).is_success());
/// # Ok(())
/// # }
/// ```
pub struct TestTasks {
    pub(super) clock: Arc<TestClock>,
    pub(super) store: GatedStore,
    pub(super) faulty: FaultyStore,
    pub(super) staged: Arc<Staged>,
    pub(super) manager: TaskManager,
    own: Arc<World>,
    pub(super) workers: Arc<Processes>,
    configure: Vec<Configure>,
    patience: Duration,
}

/// Builds a [`TestTasks`].
#[must_use]
pub struct TestTasksBuilder {
    mode: Mode,
    start: Option<SystemTime>,
    configure: Vec<Configure>,
    patience: Duration,
    around: Option<Around>,
}

/// The options of a process of the test, without its store.
fn builder(configure: &[Configure]) -> TaskManagerBuilder {
    let builder = TaskManager::builder().max_concurrent_tasks(256).prefetch(0);
    configure.iter().fold(builder, |builder, step| step(builder))
}

/// Puts a store around another.
type Around = Box<dyn Fn(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync>;

impl fmt::Debug for TestTasksBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestTasksBuilder").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl TestTasksBuilder {
    /// Runs each due task once before its add returns. The task is stored first, so look-ups work.
    pub fn inline(mut self) -> Self {
        self.mode = Mode::Inline;
        self
    }

    /// Tasks run as soon as they are due, as in production. The clock still stands until the test moves it.
    pub fn live(mut self) -> Self {
        self.mode = Mode::Live;
        self
    }

    /// Gives all tasks a value for their `State<T>`.
    pub fn state<T: Clone + Send + Sync + 'static>(self, value: T) -> Self {
        self.configure(move |builder| builder.state(value.clone()))
    }

    /// Runs only the tasks of these names; the states of others are then not needed.
    pub fn only<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        self.configure(move |builder| builder.only(names.clone()))
    }

    /// Sets any option of the manager. The closure is called for each process of the test.
    pub fn configure(
        mut self,
        configure: impl Fn(TaskManagerBuilder) -> TaskManagerBuilder + Send + Sync + 'static,
    ) -> Self {
        self.configure.push(Arc::new(configure));
        self
    }

    /// The instant at which the clock of the test begins. Default: the start of this second.
    pub fn starts_at(mut self, moment: impl Moment) -> Self {
        self.start = Some(moment.moment());
        self
    }

    /// Wraps the store in another one. Faults apply to a call before it reaches this wrapper.
    pub fn around(
        mut self,
        around: impl Fn(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync + 'static,
    ) -> Self {
        self.around = Some(Box::new(around));
        self
    }

    /// How long to wait, in real time, for bodies that wait for something else than the clock, such as a socket. Default: 10 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Checks that the tasks of this program can start with these options, and starts nothing: each task has its state and its
    /// queue, no two have the same name, the names of [`only`](Self::only) and of `run_queues` exist, and each option has a
    /// valid value. The compiler has already checked cron expressions and time zones.
    ///
    /// Pass the options of the program, so that a test finds the mistakes that would make a deployment fail:
    ///
    /// ```standalone_crate
    /// use taskflow::testing::TestTasks;
    /// use taskflow::{QueueConfig, State, TaskManagerBuilder};
    ///
    /// #[taskflow::task(queue = "reports")]
    /// async fn weekly_report(url: State<String>) {
    ///     let _ = url;
    /// }
    ///
    /// /// What `main` uses too.
    /// fn tasks(builder: TaskManagerBuilder) -> TaskManagerBuilder {
    ///     builder.state("https://shop.example".to_owned()).queue("reports", QueueConfig::new())
    /// }
    ///
    /// # fn main() {
    /// TestTasks::new().configure(tasks).check();
    /// # }
    /// ```
    ///
    /// # Panics
    /// If [`TaskManagerBuilder::start`] would refuse something. The message lists everything that is wrong.
    #[track_caller]
    pub fn check(self) {
        let wrong = builder(&self.configure).wrong();
        let lines: String = wrong.iter().map(|error| format!("\n  - {error}")).collect();
        assert!(wrong.is_empty(), "the tasks of this program cannot start:{lines}");
    }

    /// Starts a worker.
    ///
    /// # Panics
    /// If [`TaskManagerBuilder::start`] refuses the configuration.
    pub async fn start(self) -> TestTasks {
        match self.try_start().await {
            Ok(tasks) => tasks,
            Err(error) => panic!("the tasks cannot start: {error}"),
        }
    }

    /// Like [`start`](Self::start), for tests of the configuration.
    ///
    /// # Errors
    /// Those of [`TaskManagerBuilder::start`].
    pub async fn try_start(self) -> Result<TestTasks, Error> {
        let start = self.start.unwrap_or_else(|| {
            let now = Seam::default().now();
            let part = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
            now - Duration::from_nanos(part.into())
        });
        let clock = TestClock::new(start);
        let workers = Arc::new(Processes::default());
        let memory = MemoryStore::in_test(Seam::of(World::new(clock.clone())));
        let store = GatedStore::new(memory, self.mode, workers.clone());
        let inner: Arc<dyn Store> = Arc::new(store.clone());
        let inner = match &self.around {
            Some(around) => around(inner),
            None => inner,
        };
        let own = World::new(clock.clone());
        let faulty = FaultyStore::within(inner, Seam::of(own.clone()));
        let staged = Arc::new(Staged::default());
        let builder = builder(&self.configure).store(faulty.clone());
        let builder = builder.in_test(Seam::of(own.clone()), staged.clone());
        let manager = builder.connect().await?;
        let (configure, patience) = (self.configure, self.patience);
        let tasks = TestTasks { clock, store, faulty, staged, manager, own, workers, configure, patience };
        tasks.start_worker().await?;
        tasks.clock.quiet().await;
        Ok(tasks)
    }
}

impl TestTasks {
    /// Tasks under a test, to be configured and started.
    #[expect(clippy::new_ret_no_self, reason = "a test configures what it starts")]
    pub fn new() -> TestTasksBuilder {
        TestTasksBuilder {
            mode: Mode::Manual,
            start: None,
            configure: Vec::new(),
            patience: PATIENCE,
            around: None,
        }
    }

    /// The manager for the program under test: it adds, reads and controls. Tasks run in separate workers.
    #[must_use]
    pub fn manager(&self) -> &TaskManager {
        &self.manager
    }

    pub(super) async fn start_worker(&self) -> Result<(), Error> {
        let world = World::new(self.clock.clone());
        let builder = builder(&self.configure).store(self.faulty.clone());
        let manager = builder.in_test(Seam::of(world.clone()), self.staged.clone()).start().await?;
        self.workers.add(world, manager);
        Ok(())
    }

    // What was added.

    /// Begins an assertion about the added tasks of this type. Its last call, such as
    /// [`once`](AssertAdded::once), checks it.
    pub fn assert_added<P, T: Task>(&self, task: impl TaskFn<P, Task = T>) -> AssertAdded<'_, T> {
        let _ = task;
        AssertAdded::new(&self.store.memory, &self.manager)
    }

    /// Asserts that no task of this type was added.
    ///
    /// # Panics
    /// If one was.
    #[track_caller]
    pub fn refute_added<P, T: Task>(&self, task: impl TaskFn<P, Task = T>) {
        self.assert_added(task).times(0);
    }

    /// The arguments of all added tasks of this type, in the order of their adds.
    ///
    /// # Panics
    /// If the stored arguments of one do not decode.
    #[track_caller]
    pub fn added<P, T: Task>(&self, task: impl TaskFn<P, Task = T>) -> Vec<T::Args> {
        let _ = task;
        records_of::<T>(&self.store.memory, &self.manager).iter().map(decoded::<T>).collect()
    }

    /// All records as they are stored, in the order of their adds.
    #[must_use]
    pub fn records(&self) -> Vec<TaskRecord> {
        self.store.memory.records()
    }

    pub(super) fn set_attempt(&self, id: TaskId, attempt: u32) {
        self.store.memory.set_attempt(id, attempt);
    }

    /// The record of a task.
    ///
    /// # Panics
    /// If there is none: it was deleted or pruned.
    #[must_use]
    #[track_caller]
    pub fn record(&self, task: impl Into<TaskId>) -> TaskRecord {
        let id = task.into();
        match self.records().into_iter().find(|record| record.id == id) {
            Some(record) => record,
            None => panic!("there is no task {id}: it was deleted or is past its retention"),
        }
    }

    /// The task as it is now, with the outcome of its last attempt.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn ran(&self, task: impl Into<TaskId>) -> Ran {
        Ran { record: self.manager.opened(self.record(task)) }
    }

    /// The log lines of a task.
    pub async fn logs(&self, task: impl Into<TaskId>) -> Vec<LogLine> {
        // The memory store does not fail.
        self.store.memory.logs(task.into()).await.ok().flatten().unwrap_or_default()
    }

    /// The value that a task returned.
    ///
    /// # Panics
    /// If there is no such task, or if it has not succeeded or has returned something else.
    #[must_use]
    #[track_caller]
    pub fn result<V: DeserializeOwned>(&self, task: impl Into<TaskId>) -> V {
        ran::result(&self.manager.opened(self.record(task)))
    }

    // Running.

    /// Runs one attempt of a task now, whatever its time, its queue and its limits say: claim, decoding, body, result.
    ///
    /// # Panics
    /// If there is no such task, if it is not pending, if no worker knows its name or has a free slot, or if the attempt does
    /// not end in time.
    pub async fn run(&self, task: impl Into<TaskId>) -> Ran {
        let id = task.into();
        let before = self.record(id);
        assert!(
            before.status == TaskStatus::Pending,
            "`{}` cannot run: it is {}, and only a pending task can",
            before.name,
            before.status
        );
        let attempts = self.store.memory.open_attempts(id);
        self.store.want(id);
        self.workers.wake();
        self.clock.quiet().await;
        assert!(
            !self.store.unwant(id),
            "`{}` did not start: no worker of this test has the task, or none has a free slot",
            before.name
        );
        while self.store.memory.open_attempts(id) == attempts {
            assert!(
                self.next_quiet().await,
                "`{}` did not end within {:?}; let it go on, or move the clock to its timeout",
                before.name,
                self.patience
            );
        }
        self.clock.quiet().await;
        Ran { record: self.manager.opened(self.record(id)) }
    }

    /// Runs all due tasks, and the due tasks that these add.
    ///
    /// # Panics
    /// If a body does not end in time, unless the test itself [holds](Self::hold_next) it.
    pub async fn drain(&self) -> Drained {
        self.drain_with(Drain::new()).await
    }

    /// Like [`drain`](Self::drain), with a limit, or with the tasks that are due later.
    ///
    /// # Panics
    /// As [`drain`](Self::drain).
    pub async fn drain_with(&self, drain: Drain) -> Drained {
        self.store.open(drain.limit);
        self.run_due(true).await;
        while drain.scheduled && self.store.drained().started < drain.limit {
            let pending = |record: &TaskRecord| record.status == TaskStatus::Pending;
            if !self.records().iter().any(pending) {
                break;
            }
            let Some(step) = self.store.memory.next_event().filter(|step| !step.is_zero()) else { break };
            self.pass(step).await;
        }
        self.store.close()
    }

    /// Runs due tasks until none is left. `must_end`: panics if a body does not end.
    pub(super) async fn run_due(&self, must_end: bool) {
        loop {
            let before = self.store.drained().started;
            if must_end || !self.store.is_live() {
                // Nothing else tells the workers that the gate has opened. In live mode they find due tasks by themselves.
                self.workers.wake();
            }
            self.clock.quiet().await;
            while self.workers.runs() > self.staged.parked() {
                if !self.next_quiet().await {
                    assert!(!must_end, "{}", self.still_running());
                    return;
                }
                self.clock.quiet().await;
            }
            if self.store.drained().started == before {
                return;
            }
        }
    }

    fn still_running(&self) -> String {
        let running = self.records().into_iter().filter(|record| record.status == TaskStatus::Running);
        let names: Vec<_> = running.map(|record| format!("`{}`", record.name)).collect();
        format!("after {:?} these still run: {}", self.patience, names.join(", "))
    }

    /// Waits until the engine has worked and is idle again. `false` if that does not happen in time.
    async fn next_quiet(&self) -> bool {
        if self.patience.is_zero() {
            return false;
        }
        Seam::default().timeout(self.patience, self.clock.next_quiet()).await.is_ok()
    }

    /// Returns a [`Spy`], which waits until a task of this type has ended.
    pub fn spy<P, T: Task>(&self, task: impl TaskFn<P, Task = T>) -> Spy<'_, T> {
        let _ = task;
        Spy { tasks: self, task: std::marker::PhantomData }
    }
}

impl Drop for TestTasks {
    fn drop(&mut self) {
        self.workers.kill_all();
        self.own.kill();
    }
}

impl fmt::Debug for TestTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestTasks")
            .field("clock", &self.clock)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Waits until a task of one type has ended. See [`TestTasks::spy`].
pub struct Spy<'t, T> {
    tasks: &'t TestTasks,
    task: std::marker::PhantomData<fn() -> T>,
}

impl<T: Task> Spy<'_, T> {
    /// Waits until a task of this type with such arguments has ended. Answers the one that was added first. A task that has
    /// already ended counts.
    ///
    /// # Panics
    /// If there is none, and the store does not change within the [patience](TestTasksBuilder::patience).
    pub async fn ended(&self, with: impl Fn(&T::Args) -> bool) -> Ran {
        let t = self.tasks;
        let mut changes = t.store.memory.changes();
        loop {
            let ended = |record: &TaskRecord| record.status.is_final() && with(&decoded::<T>(record));
            if let Some(record) =
                records_of::<T>(&t.store.memory, &t.manager).into_iter().find(|record| ended(record))
            {
                return Ran { record };
            }
            if Seam::default().timeout(t.patience, changes.changed()).await.is_err() {
                let name = T::DESCRIPTOR.config().name;
                panic!("no `{name}` with such arguments has ended within {:?}", t.patience);
            }
        }
    }
}

impl<T: Task> fmt::Debug for Spy<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spy").field(&T::DESCRIPTOR.config().name).finish()
    }
}
