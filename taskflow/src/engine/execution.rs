//! Runs one claimed task, from decoding its stored arguments to its result.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::blocking::BlockingPool;
use super::body_end::{BodyEnd, limit, within};
use super::core::Core;
use super::middleware;
use super::run::{Admitted, Ended, Ran};
use super::runs::StopReason;
use super::slots::Permit;
use super::spans;
use crate::model::{TaskMiddleware, time};
use crate::observe::CellId;
use crate::seam::{Instant, Seam};
use crate::store::{Claimed, Finish, FinishKind};
use crate::task::{BlockingBody, BoxFuture, Prepare, RunTask, TaskContext, TaskOutcome, UnsentReport};

/// Starts a task. When its body has ended, calls `then` with the end of the run and the time the body took.
pub(super) fn begin(
    core: &Arc<Core>,
    pool: &BlockingPool,
    admitted: Admitted,
    permit: Permit,
    then: impl FnOnce(Ended, Duration) + Send + 'static,
) {
    let Admitted { task, descriptor, context, cell, .. } = admitted;
    if let Some(timeout) = task.policy.timeout {
        context.set_timeout(core.seam.now(), timeout);
    }
    core.runs.begin();
    core.events.started(&task, context.shared_tags());
    spans::begin(core, &context, &task);
    let own = descriptor.config().middleware;
    let executing = Executing { core: core.clone(), context, cell };
    match descriptor.run() {
        RunTask::Async(prepare) => core.spawn(run(executing, own, prepare, task, permit, then)),
        RunTask::Blocking(prepare) => {
            core.spawn(run_blocking(executing, own, pool.clone(), prepare, task, permit, then))
        }
    };
}

/// A running body. Dropping this marks the body as ended, also if the runtime is dropped with the body.
struct Executing {
    core: Arc<Core>,
    context: TaskContext,
    cell: CellId,
}

impl Executing {
    /// Counts the run. Returns the time at which it starts.
    fn started(&self, task: &Claimed) -> Instant {
        let now = self.core.seam.instant();
        let due = task.scheduled_for.map(time::to_micros);
        // How long the later attempts have been due is not known here.
        let is_first = task.attempt == 1 && task.snoozes == 0;
        self.core.meter.started(self.cell, task.run.id, due, is_first, now.into_std());
        now
    }

    /// Whether middleware is around this run.
    fn is_wrapped(&self, own: &[TaskMiddleware]) -> bool {
        !self.core.middleware.is_empty() || !own.is_empty()
    }

    fn end_body(&self) {
        if self.context.end_body() {
            self.core.runs.executed();
        }
    }
}

impl Drop for Executing {
    fn drop(&mut self) {
        self.end_body();
    }
}

/// Runs an async task and hands its end to `then`.
#[expect(clippy::manual_async_fn, reason = "an async fn stores its arguments twice in each run's future")]
fn run(
    executing: Executing,
    own: &'static [TaskMiddleware],
    prepare: Prepare<BoxFuture<'static, TaskOutcome>>,
    mut task: Claimed,
    permit: Permit,
    then: impl FnOnce(Ended, Duration) + Send,
) -> impl Future<Output = ()> + Send {
    async move {
        let since = executing.started(&task);
        let unopened = open(&executing.core, &mut task).await;
        let is_ours = unopened.is_err();
        let kind = match unopened {
            Err(kind) => Some(kind),
            Ok(()) if executing.is_wrapped(own) => {
                // In boxes: otherwise runs without middleware reserve memory for it, too. Small allocations are faster than one
                // large one.
                let Executing { core, context, .. } = &executing;
                let body = Box::pin(body(&executing, prepare, &task, since));
                Box::pin(middleware::around(core, context, own, &task, since, body)).await
            }
            Ok(()) => body(&executing, prepare, &task, since).await.finish(&task, &executing.context),
        };
        executing.end_body();
        let took = executing.core.seam.since(since);
        let words = executing.context.final_report().await;
        let (kind, words) = executing.core.sealed(&task, kind, words, is_ours);
        spans::end(&executing.context, kind.as_ref());
        then(ended(task, &executing.context, executing.cell, permit, kind, (words, took)), took);
    }
}

/// Prepares an async body and drives it to its end.
async fn body(
    executing: &Executing,
    prepare: Prepare<BoxFuture<'static, TaskOutcome>>,
    task: &Claimed,
    since: Instant,
) -> BodyEnd {
    match prepared(prepare, &executing.context, task) {
        #[cfg(feature = "testing")]
        Ok(body) => drive(executing.core.staged.body(&task.name, body), executing, task, since).await,
        #[cfg(not(feature = "testing"))]
        Ok(body) => drive(body, executing, task, since).await,
        Err(end) => end,
    }
}

/// Runs a synchronous task on a thread of the pool, waits for it, and hands its end to `then`.
async fn run_blocking(
    executing: Executing,
    own: &'static [TaskMiddleware],
    pool: BlockingPool,
    prepare: Prepare<BlockingBody>,
    mut task: Claimed,
    permit: Permit,
    then: impl FnOnce(Ended, Duration) + Send,
) {
    let (context, cell, since) = (executing.context.clone(), executing.cell, executing.started(&task));
    let core = executing.core.clone();
    let unopened = open(&core, &mut task).await;
    let is_ours = unopened.is_err();
    let kind = if let Err(kind) = unopened {
        drop(executing);
        Some(kind)
    } else if executing.is_wrapped(own) {
        // The middleware and the thread share it: the run ends when both are over.
        let (executing, thread) = (Arc::new(executing), Thread::default());
        let running = (since, (executing.clone(), thread.begin()));
        let body = Box::pin(blocking_body(&core, &pool, prepare, &context, &task, running));
        let kind = Box::pin(middleware::around(&core, &context, own, &task, since, body)).await;
        // A middleware may have dropped the future of the body. The body then goes on in its thread.
        thread.is_over().await;
        kind
    } else {
        blocking_body(&core, &pool, prepare, &context, &task, (since, executing))
            .await
            .finish(&task, &context)
    };
    let took = core.seam.since(since);
    let words = context.final_report().await;
    let (kind, words) = core.sealed(&task, kind, words, is_ours);
    spans::end(&context, kind.as_ref());
    then(ended(task, &context, cell, permit, kind, (words, took)), took);
}

/// Prepares a synchronous body and waits until its thread has run it. `running` is dropped when the body has returned.
async fn blocking_body(
    core: &Core,
    pool: &BlockingPool,
    prepare: Prepare<BlockingBody>,
    context: &TaskContext,
    task: &Claimed,
    (since, running): (Instant, impl Send + 'static),
) -> BodyEnd {
    match prepared(prepare, context, task) {
        #[cfg(feature = "testing")]
        Ok(body) => {
            let body = core.staged.blocking(&task.name, context, body);
            attend(&core.seam, pool, body, context, task, (since, running)).await
        }
        #[cfg(not(feature = "testing"))]
        Ok(body) => attend(&core.seam, pool, body, context, task, (since, running)).await,
        Err(end) => end,
    }
}

/// Shows whether a thread still runs a synchronous body.
#[derive(Default)]
struct Thread(CancellationToken);

impl Thread {
    /// The body counts as over once the returned guard has been dropped.
    fn begin(&self) -> DropGuard {
        self.0.clone().drop_guard()
    }

    async fn is_over(&self) {
        self.0.cancelled().await;
    }
}

/// Opens sealed arguments. An error is the end of the run.
async fn open(core: &Core, task: &mut Claimed) -> Result<(), FinishKind> {
    if core.must_open(task) {
        // In a box: this is rare, and otherwise every run would reserve memory for it.
        task.args = Box::pin(core.opened(task)).await?;
    }
    Ok(())
}

/// The end of a run, with the progress and log lines that have not been stored yet.
fn ended(
    task: Claimed,
    context: &TaskContext,
    cell: CellId,
    permit: Permit,
    kind: Option<FinishKind>,
    (words, took): (UnsentReport, Duration),
) -> Ended {
    let finish = kind.map(|kind| {
        let mut finish = Finish::new(task.run, kind);
        (finish.progress, finish.lines) = (words.progress, words.lines);
        finish.lines_before = Some(words.lines_before);
        finish
    });
    let tags = context.shared_tags().clone();
    let ran = Ran { queue: task.queue, attempt: task.attempt, took: Some(took), tags };
    Ended { run: task.run, name: task.name, ran, cell, permit, finish }
}

/// Prepares the body with its arguments. If that fails, returns how the body ends.
fn prepared<B>(prepare: Prepare<B>, context: &TaskContext, task: &Claimed) -> Result<B, BodyEnd> {
    match within(context, || prepare(context, &task.args)) {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(error.into()),
        Err(panic) => Err(BodyEnd::Panicked(panic)),
    }
}

/// Drives an async body: polls it until it is ready, or until it must stop and its time to clean up is over; then drops
/// it.
async fn drive(
    mut body: BoxFuture<'static, TaskOutcome>,
    executing: &Executing,
    task: &Claimed,
    since: Instant,
) -> BodyEnd {
    let (context, seam) = (&executing.context, &executing.core.seam);
    let mut polled = poll_fn(|cx| {
        if context.stop().is_lost() {
            // It must do nothing more: it is dropped at the end of this function.
            return Poll::Pending;
        }
        match within(context, || body.as_mut().poll(cx)) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    });
    let mut ended = tokio::select! {
        biased;
        ended = &mut polled => Some(ended),
        () = context.stop().asked() => None,
        () = limit(seam, task, since) => {
            context.stop().ask(StopReason::Timeout);
            None
        }
    };
    let grace = executing.core.settings.cancel_grace;
    if ended.is_none() && context.listens() && !context.stop().is_at_once() && !grace.is_zero() {
        // In a box: this is rare, and otherwise every run would reserve memory for it.
        ended = Box::pin(clean_up(seam, &mut polled, context, task, since, grace)).await;
    }
    match ended {
        // It returned because it was asked to.
        Some(ended) if context.noticed_stop() => {
            if let Err(panic) = ended {
                let panic = executing.core.for_log(&task.name, &panic);
                tracing::warn!(task = %task.run.id, name = %task.name, "{panic} (after the task was asked to stop)");
            }
            BodyEnd::CutShort
        }
        Some(Ok(outcome)) => BodyEnd::Returned(outcome),
        Some(Err(panic)) => BodyEnd::Panicked(panic),
        None => {
            // Dropping runs the task's destructors, which are its code too. A body that has ended has already run them.
            if let Err(panic) = within(context, || drop(body)) {
                let panic = executing.core.for_log(&task.name, &panic);
                tracing::warn!(task = %task.run.id, name = %task.name, "{panic} (while the task was being dropped)");
            }
            BodyEnd::CutShort
        }
    }
}

/// Polls a body that was asked to stop and checks for such requests, for as long as it may clean up: until `grace` or its
/// timeout ends, or it must stop at once. `None` means that it must be dropped.
async fn clean_up<T>(
    seam: &Seam,
    body: impl Future<Output = T>,
    context: &TaskContext,
    task: &Claimed,
    since: Instant,
    grace: Duration,
) -> Option<T> {
    let mut by = seam.in_time(grace);
    if let Some(timeout) = task.policy.timeout
        && let Some(limit) = since.checked_add(timeout)
    {
        by = by.min(limit);
    }
    tokio::select! {
        biased;
        ended = body => Some(ended),
        () = context.stop().at_once() => None,
        () = seam.sleep_until(by) => None,
    }
}

/// Runs a synchronous body on a thread of the pool, asks it to stop at its timeout, and waits until it returns.
async fn attend(
    seam: &Seam,
    pool: &BlockingPool,
    body: BlockingBody,
    context: &TaskContext,
    task: &Claimed,
    (since, running): (Instant, impl Send + 'static),
) -> BodyEnd {
    let its_context = context.clone();
    let mut returns = pool.run(move || {
        let returned = within(&its_context, body);
        drop(its_context);
        // Dropped on the thread, which goes on even if this future is dropped.
        drop(running);
        returned
    });
    let ended = tokio::select! {
        biased;
        ended = &mut returns => ended,
        () = limit(seam, task, since) => {
            context.stop().ask(StopReason::Timeout);
            tracing::warn!(
                task = %task.run.id, name = %task.name,
                "timed out; asked to stop, and keeps its slot until it returns"
            );
            returns.await
        }
    };
    let noticed = context.noticed_stop();
    match context.stop().reason() {
        Some(StopReason::Lost) => return BodyEnd::Lost,
        _ if ended.is_err() => {
            tracing::warn!(
                task = %task.run.id, name = %task.name,
                "no thread could be started for a synchronous task: it goes back to the queue without having started"
            );
            return BodyEnd::NoThread;
        }
        Some(StopReason::Timeout) => return BodyEnd::CutShort,
        // It returned because it was asked to.
        Some(_) if noticed => return BodyEnd::CutShort,
        _ => {}
    }
    match ended {
        Ok(Ok(outcome)) => BodyEnd::Returned(outcome),
        Ok(Err(panic)) => BodyEnd::Panicked(panic),
        Err(_) => BodyEnd::NoThread,
    }
}
