//! One claimed task, from its stored arguments to how it ended.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use super::panics;
use super::retry;
use super::runner::{Ended, Runner};
use super::runs::{Executing, Stop, StopReason};
use super::slots::Seat;
use crate::model::AttemptOutcome;
use crate::store::{Claimed, Finish, FinishKind};
use crate::task::{
    BoxFuture, ContextParts, Descriptor, RunError, RunTask, Steering, TaskContext, TaskOutcome,
};

/// Runs a claimed task and hands its end to the dispatcher.
pub(crate) async fn execute(
    runner: Arc<Runner>,
    task: Claimed,
    descriptor: &'static Descriptor,
    stop: Stop,
    seat: Seat,
    executing: Executing,
) {
    let context = context(&runner, &task, &stop);
    let mut executing = Some(executing);
    let kind = match descriptor.run() {
        RunTask::Async(prepare) => {
            match panics::catch(|| context.clone().sync_scope(|| prepare(&context, &task.args))) {
                Ok(Ok(body)) => drive(body, &context, &task, &stop).await,
                Ok(Err(error)) => Some(not_begun(&task, error)),
                Err(panic) => Some(panicked(&task, panic)),
            }
        }
        RunTask::Blocking(prepare) => {
            match panics::catch(|| context.clone().sync_scope(|| prepare(&context, &task.args))) {
                Ok(Ok(body)) => attend(&runner, body, &context, &task, &stop, executing.take()).await,
                Ok(Err(error)) => Some(not_begun(&task, error)),
                Err(panic) => Some(panicked(&task, panic)),
            }
        }
    };
    drop(executing);
    let (progress, lines) = context.last_words().await;
    let finish = kind.map(|kind| {
        let mut finish = Finish::new(task.run, kind);
        (finish.progress, finish.lines) = (progress, lines);
        finish
    });
    runner.end(Ended { run: task.run, name: task.name, seat, finish });
}

fn context(runner: &Runner, task: &Claimed, stop: &Stop) -> TaskContext {
    TaskContext::new(ContextParts {
        id: task.run.id,
        name: task.name.clone(),
        attempt: task.attempt,
        max_attempts: task.max_attempts,
        tags: task.tags.clone(),
        deadline: task.policy.timeout.and_then(|timeout| SystemTime::now().checked_add(timeout)),
        scheduled_for: task.scheduled_for,
        cancel: stop.token().clone(),
        states: runner.states.clone(),
        outbox: runner.outbox.clone(),
        // The line that says so itself goes beyond the limit.
        log_room: TaskContext::MAX_LOG_LINES
            .checked_sub(task.log_lines)
            .zip(TaskContext::MAX_LOG_BYTES.checked_sub(task.log_bytes)),
    })
}

/// An async body: polled until it is ready, and dropped when it is to stop. `None`: the run was lost.
async fn drive(
    mut body: BoxFuture<'static, TaskOutcome>,
    context: &TaskContext,
    task: &Claimed,
    stop: &Stop,
) -> Option<FinishKind> {
    let poll = poll_fn(|cx| {
        let polled = panics::catch(|| context.clone().sync_scope(|| body.as_mut().poll(cx)));
        match polled {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    });
    let ended = tokio::select! {
        biased;
        ended = poll => Some(ended),
        () = stop.token().cancelled() => None,
        () = timeout(task.policy.timeout) => {
            stop.ask(StopReason::Timeout);
            None
        }
    };
    // Dropping runs the task's destructors, which are its code too.
    let dropped = panics::catch(|| context.clone().sync_scope(|| drop(body)));
    if let Err(panic) = dropped {
        tracing::warn!(task = %task.run.id, name = %task.name, "{panic} (while the task was being dropped)");
    }
    match ended {
        Some(Ok(outcome)) => Some(returned(task, outcome)),
        Some(Err(panic)) => Some(panicked(task, panic)),
        None => cut_short(task, stop),
    }
}

/// A synchronous body: run on a thread of the pool, asked to stop, and waited for. `None`: the run was lost.
async fn attend(
    runner: &Runner,
    body: Box<dyn FnOnce() -> TaskOutcome + Send>,
    context: &TaskContext,
    task: &Claimed,
    stop: &Stop,
    executing: Option<Executing>,
) -> Option<FinishKind> {
    let scope = context.clone();
    let mut returns = runner.pool.run(move || {
        let returned = panics::catch(|| scope.sync_scope(body));
        // Here, since the thread goes on where this future is dropped.
        drop(executing);
        returned
    });
    let ended = tokio::select! {
        biased;
        ended = &mut returns => ended,
        () = timeout(task.policy.timeout) => {
            stop.ask(StopReason::Timeout);
            tracing::warn!(task = %task.run.id, name = %task.name, "timed out; asked to stop, its slot is kept");
            returns.await
        }
    };
    let noticed = context.noticed_stop();
    match stop.reason() {
        Some(StopReason::Lost) => return None,
        Some(StopReason::Timeout) => return cut_short(task, stop),
        // It returned because it was asked to.
        Some(_) if noticed => return cut_short(task, stop),
        _ => {}
    }
    match ended {
        Ok(Ok(outcome)) => Some(returned(task, outcome)),
        Ok(Err(panic)) => Some(panicked(task, panic)),
        // The pool drops a body only when the process is ending.
        Err(_) => Some(retry::after_interruption(task, "by a shutdown")),
    }
}

async fn timeout(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn cut_short(task: &Claimed, stop: &Stop) -> Option<FinishKind> {
    match stop.reason() {
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
