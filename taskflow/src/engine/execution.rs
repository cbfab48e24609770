//! One claimed task, from its stored arguments to how it ended.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::panics;
use super::pause::in_time;
use super::retry;
use super::runner::{Ended, Runner};
use super::runs::{Live, StopReason};
use super::slots::Seat;
use crate::model::AttemptOutcome;
use crate::store::{Claimed, Finish, FinishKind};
use crate::task::{
    BlockingBody, BoxFuture, ContextParts, Descriptor, LastWords, Prepare, Registered, RunError, RunTask,
    Steering, TaskContext, TaskOutcome,
};

/// How long a synchronous task waits for which no thread could be started.
const NO_THREAD: Duration = Duration::from_secs(1);

/// A claimed task of this program that has not begun.
#[derive(Debug)]
pub(crate) struct Admitted {
    task: Claimed,
    descriptor: &'static Descriptor,
    context: TaskContext,
    expires: Option<Instant>,
}

impl Admitted {
    pub(crate) fn new(runner: &Runner, known: &Registered, mut task: Claimed) -> Self {
        let context = TaskContext::new(ContextParts {
            id: task.run.id,
            name: known.key,
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            tags: std::mem::take(&mut task.tags),
            scheduled_for: task.scheduled_for,
            surroundings: runner.surroundings.clone(),
            // The line that says so itself goes beyond the limit.
            log_room: TaskContext::MAX_LOG_LINES
                .checked_sub(task.log_lines)
                .zip(TaskContext::MAX_LOG_BYTES.checked_sub(task.log_bytes)),
        });
        let expires = task.expires_in.map(in_time);
        Self { task, descriptor: known.task, context, expires }
    }

    /// Its queue, and whether it is synchronous.
    pub(crate) fn kind(&self) -> (&str, bool) {
        (&self.task.queue, self.descriptor.is_blocking())
    }

    /// What the runs of this process know of it.
    pub(crate) fn live(&self) -> Live {
        Live::new(
            self.task.run,
            self.context.clone(),
            self.descriptor.is_blocking(),
            self.task.may_run_again(),
        )
    }

    /// Its run ends before its body begins: it goes back to the queue as if nothing had claimed it, unless it was
    /// cancelled or lost meanwhile.
    pub(crate) fn turned_away(self, seat: Seat) -> Ended {
        self.context.end_body();
        let kind = match self.context.stop().reason() {
            Some(StopReason::Lost) => None,
            // Of one that was cancelled meanwhile this is the end.
            _ => Some(FinishKind::GiveBack { delay: Duration::ZERO, outcome: None }),
        };
        let run = self.task.run;
        Ended { run, name: self.task.name, seat, finish: kind.map(|kind| Finish::new(run, kind)) }
    }

    /// Whether it has been asked to stop before it began, or its time to begin is over.
    pub(crate) fn may_not_begin(&self) -> bool {
        self.context.stop().is_asked() || self.expires.is_some_and(|at| at <= Instant::now())
    }
}

/// Begins a task.
pub(crate) fn begin(runner: Arc<Runner>, admitted: Admitted, seat: Seat) {
    let Admitted { task, descriptor, context, .. } = admitted;
    if let Some(timeout) = task.policy.timeout {
        context.set_timeout(timeout);
    }
    runner.core.runs.begin();
    runner.core.events.started(task.run.id, &task.name, task.attempt);
    let runtime = runner.core.runtime.clone();
    let executing = Executing { runner, context };
    match descriptor.run() {
        RunTask::Async(prepare) => runtime.spawn(run(executing, prepare, task, seat)),
        RunTask::Blocking(prepare) => runtime.spawn(run_blocking(executing, prepare, task, seat)),
    };
}

/// A body that is under way: until it is over, or gone with the runtime that would have gone on with it.
struct Executing {
    runner: Arc<Runner>,
    context: TaskContext,
}

impl Executing {
    fn end_body(&self) {
        if self.context.end_body() {
            self.runner.core.runs.executed();
        }
    }
}

impl Drop for Executing {
    fn drop(&mut self) {
        self.end_body();
    }
}

/// Runs an async task and hands its end to the dispatcher.
#[expect(clippy::manual_async_fn, reason = "an async function holds what it is given twice, for each run")]
fn run(
    executing: Executing,
    prepare: Prepare<BoxFuture<'static, TaskOutcome>>,
    task: Claimed,
    seat: Seat,
) -> impl Future<Output = ()> + Send {
    async move {
        let since = Instant::now();
        let kind = match prepared(prepare, &executing.context, &task) {
            Ok(body) => drive(body, &executing, &task, since).await,
            Err(kind) => Some(kind),
        };
        executing.end_body();
        let words = executing.context.last_words().await;
        conclude(&executing.runner, task, seat, kind, words, since);
    }
}

/// Attends a synchronous task on its thread and hands its end to the dispatcher.
async fn run_blocking(executing: Executing, prepare: Prepare<BlockingBody>, task: Claimed, seat: Seat) {
    let (runner, context, since) = (executing.runner.clone(), executing.context.clone(), Instant::now());
    let kind = match prepared(prepare, &context, &task) {
        Ok(body) => attend(&runner, body, &context, &task, executing).await,
        Err(kind) => {
            drop(executing);
            Some(kind)
        }
    };
    let words = context.last_words().await;
    conclude(&runner, task, seat, kind, words, since);
}

/// Hands the end of a run, with what it has said and nobody has stored, to the dispatcher.
fn conclude(
    runner: &Arc<Runner>,
    task: Claimed,
    seat: Seat,
    kind: Option<FinishKind>,
    words: LastWords,
    since: Instant,
) {
    let finish = kind.map(|kind| {
        let mut finish = Finish::new(task.run, kind);
        (finish.progress, finish.lines) = words;
        finish
    });
    runner.end(Ended { run: task.run, name: task.name, seat, finish }, since.elapsed());
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
    let grace = executing.runner.core.settings.cancel_grace;
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
    runner: &Runner,
    body: BlockingBody,
    context: &TaskContext,
    task: &Claimed,
    executing: Executing,
) -> Option<FinishKind> {
    let mut returns = runner.pool.run(move || {
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
