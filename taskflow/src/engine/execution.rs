//! Runs one claimed task, from decoding its stored arguments to its result.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::blocking::BlockingPool;
use super::core::Core;
use super::panics;
use super::retry;
use super::run::{Admitted, Ended};
use super::runs::StopReason;
use super::slots::Permit;
use crate::model::{AttemptOutcome, time};
use crate::observe::CellId;
use crate::seam::{Instant, Seam, Sleep};
use crate::store::{Claimed, Finish, FinishKind};
use crate::task::{
    BlockingBody, BoxFuture, Prepare, RunError, RunTask, Said, Steering, TaskContext, TaskOutcome,
};

/// The delay before a synchronous task is claimed again after no thread could be started for it.
const NO_THREAD: Duration = Duration::from_secs(1);

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
    core.events.started(task.run.id, &task.name, task.attempt);
    let executing = Executing { core: core.clone(), context, cell };
    match descriptor.run() {
        RunTask::Async(prepare) => core.spawn(run(executing, prepare, task, permit, then)),
        RunTask::Blocking(prepare) => {
            core.spawn(run_blocking(executing, pool.clone(), prepare, task, permit, then))
        }
    };
}

/// A running body. Dropping this ends it: when the body has ended, or when its runtime is dropped with the body.
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
#[expect(clippy::manual_async_fn, reason = "an async function holds what it is given twice, for each run")]
fn run(
    executing: Executing,
    prepare: Prepare<BoxFuture<'static, TaskOutcome>>,
    task: Claimed,
    permit: Permit,
    then: impl FnOnce(Ended, Duration) + Send,
) -> impl Future<Output = ()> + Send {
    async move {
        let since = executing.started(&task);
        let kind = match prepared(prepare, &executing.context, &task) {
            #[cfg(feature = "testing")]
            Ok(body) => drive(executing.core.staged.body(&task.name, body), &executing, &task, since).await,
            #[cfg(not(feature = "testing"))]
            Ok(body) => drive(body, &executing, &task, since).await,
            Err(kind) => Some(kind),
        };
        executing.end_body();
        let words = executing.context.final_report().await;
        let took = executing.core.seam.since(since);
        then(ended(task, executing.cell, permit, kind, words), took);
    }
}

/// Runs a synchronous task on a thread of the pool, waits for it, and hands its end to `then`.
async fn run_blocking(
    executing: Executing,
    pool: BlockingPool,
    prepare: Prepare<BlockingBody>,
    task: Claimed,
    permit: Permit,
    then: impl FnOnce(Ended, Duration) + Send,
) {
    let (context, cell, since) = (executing.context.clone(), executing.cell, executing.started(&task));
    let seam = executing.core.seam.clone();
    let kind = match prepared(prepare, &context, &task) {
        #[cfg(feature = "testing")]
        Ok(body) => {
            let body = executing.core.staged.blocking(&task.name, &context, body);
            attend(&pool, body, &context, &task, executing).await
        }
        #[cfg(not(feature = "testing"))]
        Ok(body) => attend(&pool, body, &context, &task, executing).await,
        Err(kind) => {
            drop(executing);
            Some(kind)
        }
    };
    let words = context.final_report().await;
    then(ended(task, cell, permit, kind, words), seam.since(since));
}

/// The end of a run, with the progress and log lines that have not been stored yet.
fn ended(task: Claimed, cell: CellId, permit: Permit, kind: Option<FinishKind>, words: Said) -> Ended {
    let finish = kind.map(|kind| {
        let mut finish = Finish::new(task.run, kind);
        (finish.progress, finish.lines) = (words.progress, words.lines);
        finish.lines_before = Some(words.lines_before);
        finish
    });
    Ended { run: task.run, name: task.name, cell, permit, finish }
}

/// Runs code of the task; a panic becomes an error with its text.
fn within<T>(context: &TaskContext, code: impl FnOnce() -> T) -> Result<T, String> {
    panics::catch(|| context.clone().sync_scope(code))
}

/// Prepares the body with its arguments. If that fails, returns how the run ends.
fn prepared<B>(prepare: Prepare<B>, context: &TaskContext, task: &Claimed) -> Result<B, FinishKind> {
    match within(context, || prepare(context, &task.args)) {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(not_begun(task, error)),
        Err(panic) => Err(panicked(task, panic)),
    }
}

/// Drives an async body: polls it until it is ready, or until it must stop and its time to clean up is over; then drops
/// it. `None` means the run was lost.
async fn drive(
    mut body: BoxFuture<'static, TaskOutcome>,
    executing: &Executing,
    task: &Claimed,
    since: Instant,
) -> Option<FinishKind> {
    let (context, seam) = (&executing.context, &executing.core.seam);
    let mut polled = poll_fn(|cx| {
        if context.stop().is_lost() {
            // It must do nothing more: the `select!` below drops it.
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
        () = limit(seam, task) => {
            context.stop().ask(StopReason::Timeout);
            None
        }
    };
    let grace = executing.core.settings.cancel_grace;
    if ended.is_none() && context.listens() && !context.stop().is_at_once() && !grace.is_zero() {
        // In a box: this is rare, and every run would reserve memory for it.
        ended = Box::pin(clean_up(seam, &mut polled, context, task, since, grace)).await;
    }
    match ended {
        // It returned because it was asked to.
        Some(ended) if context.noticed_stop() => {
            if let Err(panic) = ended {
                tracing::warn!(task = %task.run.id, name = %task.name, "{panic} (after the task was asked to stop)");
            }
            cut_short(task, context)
        }
        Some(Ok(outcome)) => Some(returned(task, outcome)),
        Some(Err(panic)) => Some(panicked(task, panic)),
        None => {
            // Dropping runs the task's destructors, which are its code too. A body that has ended has already run them.
            if let Err(panic) = within(context, || drop(body)) {
                tracing::warn!(task = %task.run.id, name = %task.name, "{panic} (while the task was being dropped)");
            }
            cut_short(task, context)
        }
    }
}

/// Polls a body that was asked to stop and watches for it, for as long as it may clean up: until `grace` or its timeout
/// ends. `None` means that it must be dropped.
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

/// Runs a synchronous body on a thread of the pool, asks it to stop at its timeout, and waits until it returns. `None`
/// means the run was lost.
async fn attend(
    pool: &BlockingPool,
    body: BlockingBody,
    context: &TaskContext,
    task: &Claimed,
    executing: Executing,
) -> Option<FinishKind> {
    let seam = &executing.core.seam.clone();
    let mut returns = pool.run(move || {
        let returned = within(&executing.context, body);
        // Dropped on the thread, which goes on even if this future is dropped.
        drop(executing);
        returned
    });
    let ended = tokio::select! {
        biased;
        ended = &mut returns => ended,
        () = limit(seam, task) => {
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
        Some(StopReason::Lost) => return None,
        _ if ended.is_err() => {
            tracing::warn!(
                task = %task.run.id, name = %task.name,
                "no thread could be started for a synchronous task: it goes back to the queue without having started"
            );
            return Some(FinishKind::GiveBack { delay: NO_THREAD, outcome: None });
        }
        Some(StopReason::Timeout) => return cut_short(task, context),
        // It returned because it was asked to.
        Some(_) if noticed => return cut_short(task, context),
        _ => {}
    }
    match ended {
        Ok(Ok(outcome)) => Some(returned(task, outcome)),
        Ok(Err(panic)) => Some(panicked(task, panic)),
        Err(_) => None,
    }
}

/// Resolves at the task's timeout. Most tasks have none, and then no timer is created.
async fn limit(seam: &Seam, task: &Claimed) {
    let sleep: Option<Pin<Box<Sleep>>> = task.policy.timeout.map(|limit| Box::pin(seam.sleep(limit)));
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

fn cut_short(task: &Claimed, context: &TaskContext) -> Option<FinishKind> {
    match context.stop().reason() {
        Some(StopReason::Lost) => None,
        Some(StopReason::Cancel) => Some(retry::after_cancel()),
        Some(StopReason::Timeout) => {
            let limit = task.policy.timeout.unwrap_or_default();
            let error = format!("timed out: it took longer than its timeout of {limit:?}");
            Some(retry::after_failure(task, AttemptOutcome::TimedOut, error, Steering::Policy))
        }
        Some(StopReason::LeaseEnding) => Some(retry::after_interruption(
            task,
            "because its lease could not be renewed: the store did not answer",
        )),
        Some(StopReason::Shutdown) | None => Some(retry::after_interruption(task, "by a shutdown")),
    }
}

fn returned(task: &Claimed, outcome: TaskOutcome) -> FinishKind {
    match outcome {
        TaskOutcome::Success { result } => FinishKind::Success { result },
        TaskOutcome::Failure { error, steering } => {
            retry::after_failure(task, AttemptOutcome::Failed, error, steering)
        }
    }
}

fn panicked(task: &Claimed, panic: String) -> FinishKind {
    retry::after_failure(task, AttemptOutcome::Panicked, panic, Steering::Policy)
}

fn not_begun(task: &Claimed, error: RunError) -> FinishKind {
    match error {
        // No further attempt would succeed. The stored arguments stay as they are, for a program that can decode them.
        RunError::Arguments(error) => retry::after_refusal(error),
        RunError::Injection(error) => {
            retry::after_failure(task, AttemptOutcome::Failed, error, Steering::Policy)
        }
    }
}
