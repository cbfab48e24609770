//! Runs middleware around the body of an attempt. The timeout, requests to stop and panics apply to the middleware as
//! they do to the body.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::body_end::{BodyEnd, cut_short, limit, timed_out, within};
use super::core::Core;
use super::panics;
use super::retry;
use super::runs::StopReason;
use crate::model::{AttemptOutcome, Next, Run, RunOutcome, TaskMiddleware};
use crate::seam::Instant;
use crate::store::{Claimed, FinishKind};
use crate::task::{BoxFuture, Steering, TaskContext, TaskOutcome};

/// How long middleware may at least go on after a stop has ended the body. It gets no time if the lease is ending or lost.
const GRACE_AFTER_STOP: Duration = Duration::from_millis(250);

/// What is known of the body while the middleware runs.
#[derive(Default)]
struct Inside {
    has_begun: AtomicBool,
    is_over: AtomicBool,
    /// Notified when the body is over.
    over: Notify,
    /// Whether the body ended by itself.
    has_ended_itself: AtomicBool,
    /// How the run ends, if the middleware cannot change it.
    decided: Mutex<Option<Option<FinishKind>>>,
}

/// Marks the body as over when it has returned or is dropped.
struct Over<'a>(&'a Inside);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
        self.0.over.notify_waiters();
    }
}

/// Runs the middleware and the body inside. Returns how the run ends; `None` means it was lost.
pub(super) async fn around(
    core: &Core,
    context: &TaskContext,
    own: &'static [TaskMiddleware],
    task: &Claimed,
    since: Instant,
    body: BoxFuture<'_, BodyEnd>,
) -> Option<FinishKind> {
    let inside = Inside::default();
    let run = Run {
        id: task.run.id,
        name: task.name.clone(),
        queue: task.queue.clone(),
        attempt: task.attempt,
        max_attempts: task.max_attempts,
        tags: context.shared_tags().clone(),
        args: task.args.clone(),
        extensions: context.extensions().clone(),
    };
    let body = Box::pin(inside.attend(body, context, task));
    let mut chain = Next::new(&run, &core.middleware, own, body, panics::text).run();
    let ended = {
        let polled = poll_fn(|cx| {
            if context.stop().is_lost() {
                // It must do nothing more: it is dropped below.
                return Poll::Pending;
            }
            match within(context, || chain.as_mut().poll(cx)) {
                Ok(poll) => poll,
                // Only a destructor inside the chain gets here: the chain catches every other panic.
                Err(panic) => {
                    Poll::Ready(RunOutcome::failed(AttemptOutcome::Panicked, panic, Steering::Policy))
                }
            }
        });
        tokio::select! {
            biased;
            ended = polled => Some(ended),
            () = must_end(core, context, task, since, &inside) => None,
        }
    };
    // Dropping runs destructors of the middleware, which are code of the user too.
    if let Err(panic) = within(context, || drop(chain)) {
        let panic = core.for_log(&task.name, &panic);
        tracing::warn!(task = %task.run.id, name = %task.name, "{panic} (while its middleware was being dropped)");
    }
    if context.stop().is_lost() {
        return None;
    }
    if let Some(decided) = inside.decided.lock().take() {
        return decided;
    }
    let is_stopped = context.stop().reason().is_some_and(|reason| reason != StopReason::Timeout);
    match ended {
        Some(outcome) if inside.has_ended_itself.load(Ordering::Acquire) || !is_stopped => {
            Some(finish(task, outcome))
        }
        _ => cut_short(task, context),
    }
}

impl Inside {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Resolves when the body is over.
    async fn over(&self) {
        // A notification that comes before the first poll is not missed.
        let over = self.over.notified();
        if !self.is_over() {
            over.await;
        }
    }

    /// Runs the body, and describes its end to the middleware.
    async fn attend(
        &self,
        body: BoxFuture<'_, BodyEnd>,
        context: &TaskContext,
        task: &Claimed,
    ) -> RunOutcome {
        let end = if context.stop().is_asked() {
            BodyEnd::CutShort
        } else {
            self.has_begun.store(true, Ordering::Release);
            let _over = Over(self);
            body.await
        };
        match end {
            BodyEnd::Returned(outcome) => {
                self.has_ended_itself.store(true, Ordering::Release);
                match outcome {
                    TaskOutcome::Success { result } => RunOutcome::succeeded(result),
                    TaskOutcome::Failure { error, steering } => {
                        RunOutcome::failed(AttemptOutcome::Failed, error, steering)
                    }
                }
            }
            BodyEnd::Panicked(panic) => {
                self.has_ended_itself.store(true, Ordering::Release);
                RunOutcome::failed(AttemptOutcome::Panicked, panic, Steering::Policy)
            }
            BodyEnd::CutShort if context.stop().reason() == Some(StopReason::Timeout) => {
                RunOutcome::failed(AttemptOutcome::TimedOut, timed_out(task), Steering::Policy)
            }
            end => {
                let finish = end.finish(task, context);
                let outcome = outcome_of(finish.as_ref());
                *self.decided.lock() = Some(finish);
                outcome
            }
        }
    }
}

/// The outcome that middleware receives for an end that it cannot change.
fn outcome_of(finish: Option<&FinishKind>) -> RunOutcome {
    let (outcome, error) = match finish {
        Some(FinishKind::End { outcome, error, .. } | FinishKind::Retry { outcome, error, .. }) => {
            (*outcome, error.clone())
        }
        Some(FinishKind::GiveBack { outcome, .. }) => {
            let outcome = outcome.unwrap_or(AttemptOutcome::HandedBack);
            (outcome, "the task goes back to the queue".to_owned())
        }
        Some(FinishKind::Success { .. }) | None => (AttemptOutcome::Lost, "its lease was lost".to_owned()),
    };
    RunOutcome::failed(outcome, error, Steering::Policy)
}

/// How a run ends with this outcome.
fn finish(task: &Claimed, outcome: RunOutcome) -> FinishKind {
    let (outcome, text, steering) = outcome.into_parts();
    match outcome {
        AttemptOutcome::Success => FinishKind::Success { result: text },
        outcome => {
            let outcome = match outcome {
                AttemptOutcome::Panicked | AttemptOutcome::TimedOut => outcome,
                _ => AttemptOutcome::Failed,
            };
            retry::after_failure(task, outcome, text.into(), steering)
        }
    }
}

/// Asks the run to stop at its timeout. Resolves when the middleware must be dropped: some time after a stop, or without that
/// time if the lease is ending, but not while the body is still running; at once if the lease is lost.
async fn must_end(core: &Core, context: &TaskContext, task: &Claimed, since: Instant, inside: &Inside) {
    let (seam, stop) = (&core.seam, context.stop());
    let last_words = async || {
        let is_lease_ending = || stop.reason() == Some(StopReason::LeaseEnding);
        if !is_lease_ending() {
            seam.sleep(core.settings.cancel_grace.max(GRACE_AFTER_STOP)).await;
        }
        if inside.has_begun.load(Ordering::Acquire) && !inside.is_over() {
            inside.over().await;
            if !is_lease_ending() {
                seam.sleep(GRACE_AFTER_STOP).await;
            }
        }
    };
    let stopped = async {
        tokio::select! {
            biased;
            () = stop.asked() => {}
            () = limit(seam, task, since) => stop.ask(StopReason::Timeout),
        }
        // In a box: this is rare, and otherwise every run would reserve memory for it.
        Box::pin(last_words()).await;
    };
    tokio::select! {
        biased;
        () = stopped => {}
        () = stop.lost() => {}
    }
}
