//! One claimed task, from its stored arguments to how it ended.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::backoff::in_time;
use super::blocking::BlockingPool;
use super::core::Core;
use super::panics;
use super::retry;
use super::run::{Admitted, Ended};
use super::runs::StopReason;
use super::slots::Permit;
use crate::model::AttemptOutcome;
use crate::store::{Claimed, Finish, FinishKind};
use crate::task::{
    BlockingBody, BoxFuture, FinalReport, Prepare, RunError, RunTask, Steering, TaskContext, TaskOutcome,
};

/// How long a synchronous task waits for which no thread could be started.
const NO_THREAD: Duration = Duration::from_secs(1);

/// Begins a task. When its body is over, `then` takes the end of the run, and how long it took.
pub(super) fn begin(
    core: &Arc<Core>,
    pool: &BlockingPool,
    admitted: Admitted,
    permit: Permit,
    then: impl FnOnce(Ended, Duration) + Send + 'static,
) {
    let Admitted { task, descriptor, context, .. } = admitted;
    if let Some(timeout) = task.policy.timeout {
        context.set_timeout(timeout);
    }
    core.runs.begin();
    core.events.started(task.run.id, &task.name, task.attempt);
    let executing = Executing { core: core.clone(), context };
    match descriptor.run() {
        RunTask::Async(prepare) => core.runtime.spawn(run(executing, prepare, task, permit, then)),
        RunTask::Blocking(prepare) => {
            core.runtime.spawn(run_blocking(executing, pool.clone(), prepare, task, permit, then))
        }
    };
}

/// A body that is under way: until it is over, or gone with the runtime that would have gone on with it.
struct Executing {
    core: Arc<Core>,
    context: TaskContext,
}

impl Executing {
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

/// Runs an async task and hands its end over.
#[expect(clippy::manual_async_fn, reason = "an async function holds what it is given twice, for each run")]
fn run(
    executing: Executing,
    prepare: Prepare<BoxFuture<'static, TaskOutcome>>,
    task: Claimed,
    permit: Permit,
    then: impl FnOnce(Ended, Duration) + Send,
) -> impl Future<Output = ()> + Send {
    async move {
        let since = Instant::now();
        let kind = match prepared(prepare, &executing.context, &task) {
            Ok(body) => drive(body, &executing, &task, since).await,
            Err(kind) => Some(kind),
        };
        executing.end_body();
        let words = executing.context.final_report().await;
        then(ended(task, permit, kind, words), since.elapsed());
    }
}

/// Attends a synchronous task on its thread and hands its end over.
async fn run_blocking(
    executing: Executing,
    pool: BlockingPool,
    prepare: Prepare<BlockingBody>,
    task: Claimed,
    permit: Permit,
    then: impl FnOnce(Ended, Duration) + Send,
) {
    let (context, since) = (executing.context.clone(), Instant::now());
    let kind = match prepared(prepare, &context, &task) {
        Ok(body) => attend(&pool, body, &context, &task, executing).await,
        Err(kind) => {
            drop(executing);
            Some(kind)
        }
    };
    let words = context.final_report().await;
    then(ended(task, permit, kind, words), since.elapsed());
}

/// The end of a run, with what it has said and nobody has stored.
fn ended(task: Claimed, permit: Permit, kind: Option<FinishKind>, words: FinalReport) -> Ended {
    let finish = kind.map(|kind| {
        let mut finish = Finish::new(task.run, kind);
        (finish.progress, finish.lines) = words;
        finish
    });
    Ended { run: task.run, name: task.name, permit, finish }
}

/// Runs code of the task's; a panic is its text.
fn within<T>(context: &TaskContext, code: impl FnOnce() -> T) -> Result<T, String> {
    panics::catch(|| context.clone().sync_scope(code))
}

/// The body with its arguments, or how a run ends that cannot begin.
fn prepared<B>(prepare: Prepare<B>, context: &TaskContext, task: &Claimed) -> Result<B, FinishKind> {
    match within(context, || prepare(context, &task.args)) {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(not_begun(task, error)),
        Err(panic) => Err(panicked(task, panic)),
    }
}

/// An async body: polled until it is ready, and dropped when it is to stop and has had its time to clean up. `None`: the
/// run was lost.
async fn drive(
    mut body: BoxFuture<'static, TaskOutcome>,
    executing: &Executing,
    task: &Claimed,
    since: Instant,
) -> Option<FinishKind> {
    let context = &executing.context;
    let mut polled = poll_fn(|cx| {
        if context.stop().is_lost() {
            // It does nothing more: whoever waits beside it drops it.
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
        () = limit(task) => {
            context.stop().ask(StopReason::Timeout);
            None
        }
    };
    let grace = executing.core.settings.cancel_grace;
    if ended.is_none() && context.listens() && !context.stop().is_at_once() && !grace.is_zero() {
        // In a box, since this is rare and every run would hold its place.
        ended = Box::pin(clean_up(&mut polled, context, task, since, grace)).await;
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
            // Dropping runs the task's destructors, which are its code too. A body that is over has run them.
            if let Err(panic) = within(context, || drop(body)) {
                tracing::warn!(task = %task.run.id, name = %task.name, "{panic} (while the task was being dropped)");
            }
            cut_short(task, context)
        }
    }
}

/// A body that was asked to stop and listens: polled for as long as it may clean up, which its timeout shortens. `None`:
/// it is to be dropped.
async fn clean_up<T>(
    body: impl Future<Output = T>,
    context: &TaskContext,
    task: &Claimed,
    since: Instant,
    grace: Duration,
) -> Option<T> {
    let mut by = in_time(grace);
    if let Some(timeout) = task.policy.timeout
        && let Some(limit) = since.checked_add(timeout)
    {
        by = by.min(limit);
    }
    tokio::select! {
        biased;
        ended = body => Some(ended),
        () = context.stop().at_once() => None,
        () = tokio::time::sleep_until(by) => None,
    }
}

/// A synchronous body: run on a thread of the pool, asked to stop, and waited for. `None`: the run was lost.
async fn attend(
    pool: &BlockingPool,
    body: BlockingBody,
    context: &TaskContext,
    task: &Claimed,
    executing: Executing,
) -> Option<FinishKind> {
    let mut returns = pool.run(move || {
        let returned = within(&executing.context, body);
        // Here, since the thread goes on where this future is dropped.
        drop(executing);
        returned
    });
    let ended = tokio::select! {
        biased;
        ended = &mut returns => ended,
        () = limit(task) => {
            context.stop().ask(StopReason::Timeout);
            tracing::warn!(task = %task.run.id, name = %task.name, "timed out; asked to stop, its slot is kept");
            returns.await
        }
    };
    let noticed = context.noticed_stop();
    match context.stop().reason() {
        Some(StopReason::Lost) => return None,
        _ if ended.is_err() => {
            tracing::warn!(
                task = %task.run.id, name = %task.name,
                "it goes back to the queue without having begun: no thread could be started for it"
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

/// Ends when the task has taken as long as it may. Most have no limit, and nothing of the clock with it.
async fn limit(task: &Claimed) {
    let sleep: Option<Pin<Box<Sleep>>> = task.policy.timeout.map(|limit| Box::pin(tokio::time::sleep(limit)));
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
        // No attempt would go better. The arguments stay as they are, for a program that can read them.
        RunError::Arguments(error) => retry::after_refusal(error),
        RunError::Injection(error) => {
            retry::after_failure(task, AttemptOutcome::Failed, error, Steering::Policy)
        }
    }
}
