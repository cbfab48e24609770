//! The context of a run: what a task can read about itself, and how it logs and reports progress.

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::Span;

use super::pending_report::{PendingReport, UnsentReport};
use super::{States, Stop};
use crate::model::{Extensions, LogLevel, LogLine, NewTask, Progress, Tags, TaskId, TraceContext};
use crate::seam::Seam;

/// The context of a running task: its id, attempt and deadline, methods to log and to report progress, and the request to
/// stop. Take it as a parameter of the task, or get it with [`current`](Self::current) in any function that the task calls.
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
/// All methods but [`cancelled`](Self::cancelled) are synchronous, so synchronous tasks can use them too. Log lines and progress
/// are stored within a quarter of a second, and with the outcome of the run at the latest.
#[derive(Clone)]
pub struct TaskContext(Arc<Inner>);

struct Inner {
    parts: ContextParts,
    deadline: OnceLock<SystemTime>,
    /// The values that middleware passes to the body.
    extensions: OnceLock<Extensions>,
    /// The span of this run, until the run ends, if a `tracing` subscriber records it.
    span: OnceLock<Box<Mutex<Span>>>,
    /// The ids of that span, if a [`Tracing`](crate::observe::Tracing) adapter knows them.
    trace: OnceLock<TraceContext>,
    stop: Stop,
    pending: Mutex<PendingReport>,
    /// Notified when a report has been stored or put back.
    reported: Notify,
    listens: AtomicBool,
    noticed_stop: AtomicBool,
    over: AtomicBool,
}

/// The parts from which the engine builds a context.
pub(crate) struct ContextParts {
    pub(crate) id: TaskId,
    pub(crate) name: &'static str,
    pub(crate) queue: Arc<str>,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) tags: Tags,
    pub(crate) scheduled_for: Option<SystemTime>,
    /// The trace in which the task was added.
    pub(crate) added_in: Option<TraceContext>,
    pub(crate) env: Arc<RunEnv>,
    /// The number of log lines and of message bytes that this run may still log; `None` if an earlier run has already logged
    /// the note that further lines are dropped.
    pub(crate) log_room: Option<(u32, u32)>,
    /// The number of log lines of earlier runs.
    pub(crate) log_lines: u32,
}

/// The environment that all runs of a process share.
#[derive(Debug)]
pub(crate) struct RunEnv {
    pub(crate) seam: Seam,
    pub(crate) states: States,
    pub(crate) report_queue: ReportQueue,
    /// Whether log lines are `tracing` events too.
    pub(crate) log_events: bool,
    /// The names of the tasks with sealed log lines. These lines are not sent as `tracing` events.
    pub(crate) sealed_logs: HashSet<&'static str>,
}

/// The queue of runs that have something to report.
#[derive(Debug, Default)]
pub(crate) struct ReportQueue {
    with_reports: Mutex<Vec<TaskContext>>,
    reported_something: Notify,
}

impl ReportQueue {
    /// Waits until a run has something to report.
    pub(crate) async fn reported_something(&self) {
        self.reported_something.notified().await;
    }

    /// Takes the runs that have something to report since the last call.
    pub(crate) fn with_reports(&self) -> Vec<TaskContext> {
        mem::take(&mut self.with_reports.lock())
    }
}

tokio::task_local! {
    static CURRENT: TaskContext;
}

impl TaskContext {
    /// The most log lines of a task, over all its attempts.
    pub const MAX_LOG_LINES: u32 = 1_000;
    /// The most bytes of log messages of a task, over all its attempts.
    pub const MAX_LOG_BYTES: u32 = 256 * 1024;

    /// The context of a run that is about to begin.
    pub(crate) fn new(parts: ContextParts) -> Self {
        Self(Arc::new(Inner {
            parts,
            deadline: OnceLock::new(),
            extensions: OnceLock::new(),
            span: OnceLock::new(),
            trace: OnceLock::new(),
            stop: Stop::default(),
            pending: Mutex::default(),
            reported: Notify::new(),
            listens: AtomicBool::new(false),
            noticed_stop: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }))
    }

    /// The context of the task that runs this code. `None` outside a task, and in threads or futures that a task has spawned.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Runs `body` as part of this task, in its context and its span. Code that already runs as part of it, such as a
    /// middleware, keeps its own current span.
    pub(crate) fn sync_scope<T>(&self, body: impl FnOnce() -> T) -> T {
        if CURRENT.try_with(|current| current.is_same_run(self)).unwrap_or(false) {
            return body();
        }
        match self.0.span.get() {
            None => CURRENT.sync_scope(self.clone(), body),
            Some(span) => {
                let span = span.lock().clone();
                span.in_scope(|| CURRENT.sync_scope(self.clone(), body))
            }
        }
    }

    /// Sets the span of an attempt that begins now.
    pub(crate) fn set_span(&self, span: Span) {
        // An attempt begins only once, so the cell is empty.
        let _ = self.0.span.set(Box::new(Mutex::new(span)));
    }

    /// Takes the span of this attempt, to end it.
    pub(crate) fn take_span(&self) -> Option<Span> {
        self.0.span.get().map(|span| mem::replace(&mut *span.lock(), Span::none()))
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.0.parts.id
    }

    /// The name that the task was added under.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.parts.name
    }

    /// The queue that the task ran from.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.0.parts.queue
    }

    /// The queue, as a shared pointer.
    pub(crate) fn shared_queue(&self) -> &Arc<str> {
        &self.0.parts.queue
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

    /// The tags that the task was added with.
    #[must_use]
    pub fn tags(&self) -> &BTreeMap<String, String> {
        &self.0.parts.tags
    }

    /// The tags, as a shared map.
    pub(crate) fn shared_tags(&self) -> &Tags {
        &self.0.parts.tags
    }

    /// The value of this type that a [`Middleware`](crate::observe::Middleware) has put into the
    /// [extensions](crate::observe::Run::extensions) of this run.
    #[must_use]
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.extensions.get()?.get()
    }

    /// The extensions, which only a run with middleware has.
    pub(crate) fn extensions(&self) -> &Extensions {
        self.0.extensions.get_or_init(Extensions::default)
    }

    /// When this attempt times out; `None` if it has no timeout.
    #[must_use]
    pub fn deadline(&self) -> Option<SystemTime> {
        self.0.deadline.get().copied()
    }

    /// Sets the deadline of an attempt that begins now.
    pub(crate) fn set_timeout(&self, now: SystemTime, timeout: Duration) {
        if let Some(deadline) = now.checked_add(timeout) {
            // An attempt begins only once, so the cell is empty.
            let _ = self.0.deadline.set(deadline);
        }
    }

    /// The time that the task was scheduled for, by `run_at` or `run_in` of the add or by its schedule; `None` if by neither.
    #[must_use]
    pub fn scheduled_for(&self) -> Option<SystemTime> {
        self.0.parts.scheduled_for
    }

    /// The trace that this run belongs to, for the headers of outgoing calls: the span of this attempt if a
    /// [`Tracing`](crate::observe::Tracing) is installed and records it, and otherwise the trace in which the task was added.
    /// `None` if there is neither. A task that this task adds is put into it automatically.
    ///
    /// ```
    /// # #[taskflow::task]
    /// # async fn notify(context: taskflow::TaskContext, url: String) {
    /// # let mut headers: Vec<(&str, String)> = Vec::new();
    /// if let Some(trace) = context.trace() {
    ///     headers.push(("traceparent", trace.traceparent()));
    ///     headers.extend(trace.tracestate().map(|state| ("tracestate", state.to_owned())));
    /// }
    /// # let _ = (url, headers);
    /// # }
    /// ```
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.0.trace.get().or(self.0.parts.added_in.as_ref()).cloned()
    }

    /// Sets the trace of an attempt that begins now.
    pub(crate) fn set_trace(&self, trace: TraceContext) {
        // An attempt begins only once, so the cell is empty.
        let _ = self.0.trace.set(trace);
    }

    /// Waits until this run is asked to stop: by a cancel request, by its timeout, by a shutdown whose own timeout has passed, or
    /// because its lease is lost or cannot be renewed, or other processes may no longer see that this one is alive.
    ///
    /// An async task need not wait for this: it is dropped at its next await. Synchronous code and anything that the task
    /// spawned should check. A task that awaited this method or called [`is_cancelled`](Self::is_cancelled) before a cancel or a
    /// shutdown has [`cancel_grace`](crate::TaskManagerBuilder::cancel_grace), but no longer than its timeout, to clean up and
    /// return; then it is dropped. In all other cases there is no grace: an async task is dropped at once.
    ///
    /// A task that returns after it noticed a cancel ends as `cancelled`, whatever it returns. After a shutdown it goes back to
    /// the queue if it may run again, and otherwise becomes `interrupted`.
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

    /// Whether this run has been asked to stop. Calling it gives the task the grace period of [`cancelled`](Self::cancelled).
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.listens.store(true, Ordering::Release);
        let cancelled = self.0.stop.is_asked();
        if cancelled {
            self.0.noticed_stop.store(true, Ordering::Release);
        }
        cancelled
    }

    /// Whether the task has ever checked for a request to stop.
    pub(crate) fn listens(&self) -> bool {
        self.0.listens.load(Ordering::Acquire)
    }

    /// Whether the task has noticed a request to stop. If it returns after that, the request made it return. If it never
    /// checked, it ended by itself.
    pub(crate) fn noticed_stop(&self) -> bool {
        self.0.noticed_stop.load(Ordering::Acquire)
    }

    /// Whether both are contexts of the same run.
    pub(crate) fn is_same_run(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The stop request of this run.
    pub(crate) fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// Marks the body as over; its outcome may not have been stored yet. Returns `true` on the first call.
    pub(crate) fn end_body(&self) -> bool {
        !self.0.over.swap(true, Ordering::AcqRel)
    }

    /// Whether the body is over.
    pub(crate) fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    /// Reports progress: a fraction from 0 to 1 (clamped), and what the task is doing. Only the latest report is kept, with at
    /// most the first 1,024 bytes of its message.
    pub fn progress(&self, fraction: f32, message: impl Into<String>) {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(NewTask::MAX_WORD));
        self.add_to_report(|pending| pending.progress = Some(Progress::new(fraction, message)));
    }

    /// Logs a line with the task. Read the lines with [`TaskManager::logs`](crate::TaskManager::logs).
    ///
    /// A task keeps at most [`MAX_LOG_LINES`](Self::MAX_LOG_LINES) lines and [`MAX_LOG_BYTES`](Self::MAX_LOG_BYTES)
    /// bytes of messages, over all its attempts. After that, one more line says that further lines are dropped.
    ///
    /// Each line is also a `tracing` event with the target `taskflow::log` and the id of the task, unless
    /// [`log_events`](crate::TaskManagerBuilder::log_events) is off or the log lines of this task are
    /// [sealed](crate::TaskManagerBuilder#method.encrypt).
    pub fn log(&self, level: LogLevel, message: impl Into<String>) {
        let message = message.into();
        let env = &self.0.parts.env;
        if env.log_events && !env.sealed_logs.contains(self.name()) {
            self.log_event(level, &message);
        }
        let Some(room) = self.0.parts.log_room else { return };
        let line = LogLine::new(env.seam.now(), level, message, self.attempt());
        self.add_to_report(|pending| pending.log(line, room));
    }

    fn log_event(&self, level: LogLevel, message: &str) {
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    target: "taskflow::log", tracing::Level::$level,
                    task = %self.id(), name = self.name(), attempt = self.attempt(), "{message}"
                )
            };
        }
        match level {
            LogLevel::Debug => event!(DEBUG),
            LogLevel::Info => event!(INFO),
            LogLevel::Warn => event!(WARN),
            LogLevel::Error => event!(ERROR),
        }
    }

    fn add_to_report(&self, add: impl FnOnce(&mut PendingReport)) {
        let mut pending = self.0.pending.lock();
        add(&mut pending);
        let is_new = pending.announce();
        drop(pending);
        if is_new {
            let report_queue = &self.0.parts.env.report_queue;
            report_queue.with_reports.lock().push(self.clone());
            report_queue.reported_something.notify_one();
        }
    }

    /// Takes the progress and log lines since the last report, to store them while the task runs. The caller must then call
    /// [`reported`](Self::reported). `None` if there is nothing to report, or the final report has been taken.
    pub(crate) fn begin_report(&self) -> Option<UnsentReport> {
        self.0.pending.lock().begin(self.0.parts.log_lines)
    }

    /// Ends a report. If it may not have been stored, its lines are put back, before the lines that were logged since.
    pub(crate) fn reported(&self, said: UnsentReport, is_stored: bool) {
        match is_stored {
            true => self.0.pending.lock().count_stored(&said),
            false => self.add_to_report(|pending| pending.put_back(said)),
        }
        self.0.pending.lock().end();
        self.0.reported.notify_waiters();
    }

    /// Takes everything that no report has stored, to store it with the outcome of the run. Waits for a report in progress
    /// first, because its write would be stale after the outcome is stored.
    pub(crate) async fn final_report(&self) -> UnsentReport {
        loop {
            let reported = {
                let mut pending = self.0.pending.lock();
                if let Some(said) = pending.take_last(self.0.parts.log_lines) {
                    return said;
                }
                // Registered under the lock, so that the end of the report cannot be missed.
                self.0.reported.notified()
            };
            reported.await;
        }
    }

    pub(super) fn states(&self) -> &States {
        &self.0.parts.env.states
    }

    /// A value that the worker provides, by type.
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
