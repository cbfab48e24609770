//! The task that taskflow and the floors run, and the count of its runs.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use taskflow::TaskContext;
use tokio::sync::Notify;

/// A measurement that takes longer than this fails.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The arguments of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Payload {
    pub(super) user_id: u64,
    pub(super) email: String,
}

impl Payload {
    /// The payload of the task with this number.
    pub(super) fn of(number: u64) -> Self {
        Self { user_id: number, email: format!("user-{number}@example.com") }
    }
}

/// The task of the bench: it only counts its run. It may run again after a lost run, like the tasks of most systems.
#[taskflow::task(name = "taskflow_bench", retries = 1)]
pub(super) async fn no_op(user_id: u64, email: String) {
    let _ = email;
    RUNS.note(user_id);
}

/// The same, but it may not run twice and is therefore not prefetched.
#[taskflow::task(name = "taskflow_bench_once")]
pub(super) async fn no_op_once(user_id: u64, email: String) {
    let _ = email;
    RUNS.note(user_id);
}

/// The same, but its first attempt fails and the second follows at once.
#[taskflow::task(name = "taskflow_bench_failing", retries = 1, delay = "0s")]
pub(super) async fn no_op_failing(user_id: u64, email: String) -> Result<(), &'static str> {
    let _ = email;
    if TaskContext::current().is_some_and(|context| context.attempt() == 1) {
        return Err("the first attempt fails");
    }
    RUNS.note(user_id);
    Ok(())
}

/// The runs of the current measurement. It is a static, so that counting a run costs both sides almost nothing.
pub(super) static RUNS: Runs = Runs::new();

/// Counts the runs of each task.
#[derive(Debug)]
pub(super) struct Runs {
    tasks: RwLock<Vec<Noted>>,
    noted: AtomicUsize,
    /// Runs of tasks that do not belong to this measurement.
    strays: AtomicUsize,
    last: Notify,
}

#[derive(Debug, Default)]
struct Noted {
    runs: AtomicU32,
    /// The last start, as a time of [`nanos_now`].
    started: AtomicU64,
}

impl Runs {
    const fn new() -> Self {
        Self {
            tasks: RwLock::new(Vec::new()),
            noted: AtomicUsize::new(0),
            strays: AtomicUsize::new(0),
            last: Notify::const_new(),
        }
    }

    /// Expects one run of each task from 0 to `tasks` - 1.
    pub(super) fn expect(&self, tasks: u64) {
        let mut noted = self.tasks.write();
        noted.clear();
        noted.resize_with(usize::try_from(tasks).unwrap_or(usize::MAX), Noted::default);
        self.noted.store(0, Ordering::SeqCst);
        self.strays.store(0, Ordering::SeqCst);
    }

    pub(super) fn note(&self, number: u64) {
        let tasks = self.tasks.read();
        let Some(task) = usize::try_from(number).ok().and_then(|number| tasks.get(number)) else {
            self.strays.fetch_add(1, Ordering::Relaxed);
            return;
        };
        task.runs.fetch_add(1, Ordering::Relaxed);
        task.started.store(nanos_now(), Ordering::Relaxed);
        if self.noted.fetch_add(1, Ordering::AcqRel) + 1 >= tasks.len() {
            self.last.notify_one();
        }
    }

    /// Waits until all expected runs have been counted.
    pub(super) async fn all_noted(&self) -> super::Result<()> {
        let expected = self.tasks.read().len();
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        while self.noted.load(Ordering::Acquire) < expected {
            if tokio::time::timeout_at(deadline, self.last.notified()).await.is_err() {
                let noted = self.noted.load(Ordering::Acquire);
                return Err(format!("after {TIMEOUT:?} only {noted} of {expected} tasks have run").into());
            }
        }
        Ok(())
    }

    /// Fails unless each task ran exactly once: otherwise the measurement is invalid.
    pub(super) fn check(&self) -> super::Result<()> {
        let tasks = self.tasks.read();
        let runs = |task: &Noted| task.runs.load(Ordering::SeqCst);
        let never = tasks.iter().filter(|task| runs(task) == 0).count();
        let again = tasks.iter().filter(|task| runs(task) > 1).count();
        let strays = self.strays.load(Ordering::SeqCst);
        if never + again + strays == 0 {
            return Ok(());
        }
        Err(format!(
            "each of {} tasks must run exactly once, but {never} never ran, {again} ran more than once, and \
             there were {strays} runs of other tasks",
            tasks.len()
        )
        .into())
    }

    /// The start of the last run of a task, as a time of [`nanos_now`].
    pub(super) fn started(&self, number: usize) -> u64 {
        self.tasks.read().get(number).map_or(0, |task| task.started.load(Ordering::SeqCst))
    }
}

/// Nanoseconds of a monotonic clock.
pub(super) fn nanos_now() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
