//! What a running task knows of itself, and how it speaks.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{States, Stop};
use crate::model::{LogLevel, LogLine, NewTask, Progress, TaskId};

/// What a running task knows of itself, and how it speaks: taken as a parameter, or found with
/// [`current`](Self::current) from anywhere below.
///
/// ```
/// use taskflow::{LogLevel, TaskContext};
///
/// #[taskflow::task(retries = 2)]
/// async fn import(context: TaskContext, file: String) {
///     context.log(LogLevel::Info, format!("reading {file}, attempt {}", context.attempt()));
///     for percent in 0..100_u8 {
///         if context.is_cancelled() {
///             return;
///         }
///         context.progress(f32::from(percent) / 100.0, "reading");
///     }
/// }
/// # let _ = import;
/// ```
///
/// All of it is plain functions, so synchronous tasks have it too. What is logged is stored within a quarter of a
/// second, and with the end of the run at the latest.
#[derive(Clone)]
pub struct TaskContext(Arc<Inner>);

struct Inner {
    parts: ContextParts,
    deadline: OnceLock<SystemTime>,
    stop: Stop,
    pending: Mutex<PendingReport>,
    /// What was taken to be stored is stored, or was put back.
    reported: Notify,
    listens: AtomicBool,
    noticed_stop: AtomicBool,
    over: AtomicBool,
}

/// What the engine makes a context of.
pub(crate) struct ContextParts {
    pub(crate) id: TaskId,
    pub(crate) name: &'static str,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) scheduled_for: Option<SystemTime>,
    pub(crate) env: Arc<RunEnv>,
    /// Log lines, and bytes in them, that this run may still leave; `None` if an earlier one has been told that no more
    /// is kept.
    pub(crate) log_room: Option<(u32, u32)>,
}

/// What a run has said that is not stored yet.
#[derive(Debug, Default)]
pub(crate) struct PendingReport {
    pub(crate) progress: Option<Progress>,
    pub(crate) lines: Vec<LogLine>,
    used: (u32, u32),
    truncated: bool,
    announced: bool,
    reporting: bool,
    ended: bool,
}

/// What a run has said that is to be stored with its end.
pub(crate) type FinalReport = (Option<Progress>, Vec<LogLine>);

/// What all runs of a process share.
#[derive(Debug)]
pub(crate) struct RunEnv {
    pub(crate) states: States,
    pub(crate) report_queue: ReportQueue,
}

/// Where runs announce that they have said something.
#[derive(Debug, Default)]
pub(crate) struct ReportQueue {
    with_reports: Mutex<Vec<TaskContext>>,
    reported_something: Notify,
}

impl ReportQueue {
    /// Waits until somebody has spoken.
    pub(crate) async fn reported_something(&self) {
        self.reported_something.notified().await;
    }

    /// Those who have spoken since they were last asked.
    pub(crate) fn with_reports(&self) -> Vec<TaskContext> {
        mem::take(&mut self.with_reports.lock())
    }
}

tokio::task_local! {
    static CURRENT: TaskContext;
}

impl TaskContext {
    /// Log lines a task may leave, over all its attempts.
    pub const MAX_LOG_LINES: u32 = 1_000;
    /// Bytes of log messages a task may leave, over all its attempts.
    pub const MAX_LOG_BYTES: u32 = 256 * 1024;

    /// The context of a run that is about to begin.
    pub(crate) fn new(parts: ContextParts) -> Self {
        Self(Arc::new(Inner {
            parts,
            deadline: OnceLock::new(),
            stop: Stop::default(),
            pending: Mutex::default(),
            reported: Notify::new(),
            listens: AtomicBool::new(false),
            noticed_stop: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }))
    }

    /// The context of the task this code runs in; `None` outside of one, and in what a task has spawned.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Runs `body` as part of this task.
    pub(crate) fn sync_scope<T>(self, body: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, body)
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.0.parts.id
    }

    /// The name it was added under.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.parts.name
    }

    /// The number of this attempt: 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.parts.attempt
    }

    /// The number of the last possible attempt.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.0.parts.max_attempts
    }

    /// The labels it was added with.
    #[must_use]
    pub fn tags(&self) -> &BTreeMap<String, String> {
        &self.0.parts.tags
    }

    /// When this attempt times out, if it has a timeout.
    #[must_use]
    pub fn deadline(&self) -> Option<SystemTime> {
        self.0.deadline.get().copied()
    }

    /// The attempt begins now and may take so long.
    pub(crate) fn set_timeout(&self, timeout: Duration) {
        if let Some(deadline) = SystemTime::now().checked_add(timeout) {
            // It begins once.
            let _ = self.0.deadline.set(deadline);
        }
    }

    /// The instant the task was meant for: its `run_at`, or the tick of its schedule.
    #[must_use]
    pub fn scheduled_for(&self) -> Option<SystemTime> {
        self.0.parts.scheduled_for
    }

    /// Ends when this run is asked to stop: by a cancel, its timeout, a shutdown past its deadline, or the loss of its
    /// lease.
    ///
    /// An async task need not listen, it is dropped at its next await; what it spawned and synchronous code should. One that has awaited this, or asked
    /// [`is_cancelled`](Self::is_cancelled), before a cancel or a shutdown has
    /// [`cancel_grace`](crate::TaskManagerBuilder::cancel_grace) to clean up and return, and is dropped after that. A
    /// timeout, and a lease that ends or is lost, leave no time: then it is dropped at once all the same.
    ///
    /// A task that returns after it noticed a cancel is `cancelled`, whatever it returns. After a shutdown it goes back to
    /// the queue if it may run again, and is `interrupted` if not.
    ///
    /// ```
    /// use taskflow::TaskContext;
    ///
    /// #[taskflow::task]
    /// async fn record(context: TaskContext, path: String) -> Result<(), std::io::Error> {
    ///     tokio::select! {
    ///         written = write_everything(&path) => written,
    ///         () = context.cancelled() => std::fs::remove_file(&path),
    ///     }
    /// }
    /// # async fn write_everything(_: &str) -> Result<(), std::io::Error> { Ok(()) }
    /// # let _ = record;
    /// ```
    pub async fn cancelled(&self) {
        self.0.listens.store(true, Ordering::Release);
        self.0.stop.asked().await;
        self.0.noticed_stop.store(true, Ordering::Release);
    }

    /// Whether this run has been asked to stop. To ask is to listen, as [`cancelled`](Self::cancelled) says.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.listens.store(true, Ordering::Release);
        let cancelled = self.0.stop.is_asked();
        if cancelled {
            self.0.noticed_stop.store(true, Ordering::Release);
        }
        cancelled
    }

    /// Whether the task has ever asked whether it is to stop.
    pub(crate) fn listens(&self) -> bool {
        self.0.listens.load(Ordering::Acquire)
    }

    /// Whether the task has been told that it is to stop. One that returns after that returned because of it; one that
    /// never asked came to its own end.
    pub(crate) fn noticed_stop(&self) -> bool {
        self.0.noticed_stop.load(Ordering::Acquire)
    }

    /// How this run is asked to stop.
    pub(crate) fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// Its body is over; its end may not be durable yet. Answers whether nobody had said so.
    pub(crate) fn end_body(&self) -> bool {
        !self.0.over.swap(true, Ordering::AcqRel)
    }

    /// Whether its body is over.
    pub(crate) fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    /// Says how far the task is: from 0 to 1, and what it is doing. Only the latest is kept, and of its message the
    /// first 1,024 bytes.
    pub fn progress(&self, fraction: f32, message: impl Into<String>) {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(NewTask::MAX_WORD));
        self.say(|pending| pending.progress = Some(Progress::new(fraction, message)));
    }

    /// Leaves a line with the task, to be read with [`TaskManager::logs`](crate::TaskManager::logs).
    ///
    /// A task keeps at most [`MAX_LOG_LINES`](Self::MAX_LOG_LINES) lines and [`MAX_LOG_BYTES`](Self::MAX_LOG_BYTES)
    /// bytes, over all its attempts; then one line says that the rest was left out.
    pub fn log(&self, level: LogLevel, message: impl Into<String>) {
        let Some((most_lines, most_bytes)) = self.0.parts.log_room else { return };
        let (mut message, at, attempt) = (message.into(), SystemTime::now(), self.attempt());
        self.say(|pending| {
            if pending.truncated {
                return;
            }
            let (lines, bytes) = pending.used;
            let room = (most_bytes - bytes) as usize;
            let fits = message.len() <= room && lines < most_lines;
            if !fits {
                // What fits is kept, so that the sums of the stored lines tell a later attempt that no more does.
                message.truncate(message.floor_char_boundary(room));
            }
            if lines < most_lines && (fits || !message.is_empty()) {
                pending.used = (lines + 1, bytes + message.len() as u32);
                pending.lines.push(LogLine::new(at, level, message, attempt));
            }
            if !fits {
                pending.truncated = true;
                let note = "truncated: this task has logged as much as is kept".to_owned();
                pending.lines.push(LogLine::new(at, LogLevel::Warn, note, attempt));
            }
        });
    }

    fn say(&self, say: impl FnOnce(&mut PendingReport)) {
        let mut pending = self.0.pending.lock();
        say(&mut pending);
        let announced = mem::replace(&mut pending.announced, true);
        drop(pending);
        if !announced {
            let report_queue = &self.0.parts.env.report_queue;
            report_queue.with_reports.lock().push(self.clone());
            report_queue.reported_something.notify_one();
        }
    }

    /// What it has said since this was last asked, to be stored while it runs; [`reported`](Self::reported) must
    /// follow. Nothing once it has ended.
    pub(crate) fn begin_report(&self) -> Option<(Option<Progress>, Vec<LogLine>)> {
        let mut pending = self.0.pending.lock();
        pending.announced = false;
        if pending.ended || (pending.progress.is_none() && pending.lines.is_empty()) {
            return None;
        }
        pending.reporting = true;
        Some((pending.progress.take(), mem::take(&mut pending.lines)))
    }

    /// What was taken is stored; or it is not, and is put back before what was said since.
    pub(crate) fn reported(&self, not_stored: Option<(Option<Progress>, Vec<LogLine>)>) {
        if let Some((progress, mut lines)) = not_stored {
            self.say(|pending| {
                lines.append(&mut pending.lines);
                pending.lines = lines;
                pending.progress = pending.progress.take().or(progress);
            });
        }
        self.0.pending.lock().reporting = false;
        self.0.reported.notify_waiters();
    }

    /// What is to be stored with the end of the run: all that no report has stored. Waits for one that is under way,
    /// which would be stale after the end.
    pub(crate) async fn final_report(&self) -> FinalReport {
        loop {
            let reported = {
                let mut pending = self.0.pending.lock();
                if !pending.reporting {
                    pending.ended = true;
                    return (pending.progress.take(), mem::take(&mut pending.lines));
                }
                // Under the lock, so that the report cannot end unheard.
                self.0.reported.notified()
            };
            reported.await;
        }
    }

    pub(super) fn states(&self) -> &States {
        &self.0.parts.env.states
    }

    /// A value of the worker's, by type.
    pub(crate) fn provided<T: 'static>(&self) -> Option<T> {
        self.states().get()
    }
}

impl std::fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskContext")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
