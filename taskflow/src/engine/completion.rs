//! What happens once the results of runs have been stored: permits are released, and subscribers and waiting callers are
//! notified.

use std::sync::Arc;
use std::time::Duration;

use super::run::{Ended, permits};
use super::tally::Ends;
use super::worker::Worker;
use crate::model::{AttemptOutcome, EventKind, TaskEventKind, TaskStatus};
use crate::observe::{CellId, Counter, Meter};
use crate::store::{Finish, FinishKind, Finished, TaskEnd};

/// Counts how these runs ended. This comes before the runs are removed, so that a shutdown which waits for their removal
/// counts them.
pub(super) fn count(worker: &Worker, batch: &[Ended], finishes: &[Finish], finished: &[Finished]) {
    let mut ends = Ends::default();
    for ((ended, finish), finished) in batch.iter().zip(finishes).zip(finished) {
        if let Finished::Applied(status) | Finished::Repeated(status) = *finished {
            ends.count(&finish.kind);
            meter(&worker.core.meter, ended.cell, &finish.kind, status);
        }
    }
    worker.tally.add(ends);
}

/// Counts one end in the meter. Nothing is counted of a run that goes back without having begun.
fn meter(meter: &Meter, cell: CellId, kind: &FinishKind, status: TaskStatus) {
    let counter = match (kind, status) {
        (FinishKind::GiveBack { outcome: None, .. }, _) => return,
        (_, TaskStatus::Success) | (FinishKind::Success { .. }, _) => Counter::Succeeded,
        (_, TaskStatus::Cancelled) => Counter::Cancelled,
        (FinishKind::GiveBack { outcome: Some(AttemptOutcome::Snoozed), .. }, _) => Counter::Snoozed,
        (_, TaskStatus::Interrupted) => Counter::Interrupted,
        (FinishKind::GiveBack { .. }, _) => Counter::HandedBack,
        (FinishKind::Retry { .. }, _) => Counter::Retried,
        (FinishKind::End { .. }, _) => Counter::Failed,
    };
    let cause = match kind {
        FinishKind::Retry { outcome, .. } | FinishKind::End { outcome, .. }
            if matches!(counter, Counter::Retried | Counter::Failed) =>
        {
            Some(match outcome {
                AttemptOutcome::Panicked => Counter::Panicked,
                AttemptOutcome::TimedOut => Counter::TimedOut,
                _ => Counter::Errored,
            })
        }
        _ => None,
    };
    meter.ended(cell, counter, cause);
}

/// Removes these runs and releases their permits.
pub(super) fn leave(worker: &Worker, batch: &mut [Ended]) {
    worker.slots.leave(permits(batch));
    worker.core.runs.end(batch.iter().map(|ended| ended.run));
}

/// Notifies subscribers and waiting callers of each result. Returns the time until the first of these tasks is due again.
pub(super) fn complete(
    worker: &Worker,
    batch: &[Ended],
    finishes: &[Finish],
    finished: &[Finished],
) -> Option<Duration> {
    let mut next: Option<Duration> = None;
    for ((ended, finish), finished) in batch.iter().zip(finishes).zip(finished) {
        // A task that goes back without having started has sent no started event.
        let began = !matches!(finish.kind, FinishKind::GiveBack { outcome: None, .. });
        // `Repeated`: it was applied before, but the answer was lost and nothing was notified.
        let (Finished::Applied(status) | Finished::Repeated(status)) = *finished else {
            if began {
                worker.core.health.stale_write();
                tracing::warn!(
                    task = %ended.run.id, name = %ended.name,
                    "a run ended after its lease was lost; its outcome is dropped"
                );
            }
            continue;
        };
        if let (TaskStatus::Pending, FinishKind::Retry { delay, .. } | FinishKind::GiveBack { delay, .. }) =
            (status, &finish.kind)
        {
            next = Some(next.map_or(*delay, |next| next.min(*delay)));
        }
        if worker.core.events.has_listeners() && (began || status.is_final()) {
            tell(worker, ended, finish, status);
        }
    }
    if let Some(mut ends) = worker.core.waiters.ends() {
        for (finish, finished) in finishes.iter().zip(finished) {
            if let Finished::Applied(status) | Finished::Repeated(status) = *finished
                && status.is_final()
            {
                ends.ended(finish.run.id, end(&finish.kind, status));
            }
        }
    }
    next
}

/// Sends the events of an end: the log lines that were stored with it, and the end itself.
fn tell(worker: &Worker, ended: &Ended, finish: &Finish, status: TaskStatus) {
    let events = &worker.core.events;
    let make = |at, kind| ended.ran.event(at, ended.run.id, ended.name.clone(), kind);
    for line in &finish.lines {
        events.send(EventKind::Log, |_| ended.ran.line(ended.run.id, ended.name.clone(), line));
    }
    let kind = event(&finish.kind, status);
    events.send(kind.kind(), |at| {
        let mut event = make(at, kind);
        event.duration = ended.ran.took;
        event
    });
}

/// The result for waiting callers, if the finish contains all of it.
fn end(kind: &FinishKind, status: TaskStatus) -> Option<impl FnOnce() -> TaskEnd> {
    let (result, error) = match kind {
        FinishKind::Success { result } if status == TaskStatus::Success => (Some(result), None),
        FinishKind::End { status: asked, error, .. } if status == *asked => (None, Some(error)),
        // The task ended with another status, for example because it was cancelled meanwhile.
        _ => return None,
    };
    Some(move || TaskEnd::of(status, result.map(|json| Arc::from(&**json)), error.cloned()))
}

fn event(kind: &FinishKind, status: TaskStatus) -> TaskEventKind {
    match (kind, status) {
        (_, TaskStatus::Success) | (FinishKind::Success { .. }, _) => TaskEventKind::Succeeded,
        (_, TaskStatus::Cancelled) => TaskEventKind::Cancelled,
        (_, TaskStatus::Interrupted) => TaskEventKind::Interrupted,
        (FinishKind::Retry { delay, error, .. }, _) => {
            TaskEventKind::Retrying { error: error.clone(), delay: *delay }
        }
        (FinishKind::GiveBack { delay, outcome: Some(AttemptOutcome::Snoozed) }, _) => {
            TaskEventKind::Snoozed { delay: *delay }
        }
        (FinishKind::GiveBack { .. }, _) => TaskEventKind::HandedBack,
        (FinishKind::End { error, .. }, _) => TaskEventKind::Failed { error: error.clone() },
    }
}

/// Stores each result alone, after an error that one result may have caused or because the store is full, so that a refused
/// result does not hold up the others. A result that caused such an error is replaced by a failure that gives the reason. If
/// even that cannot be stored, the lease of the run ends and the task is recovered. Stops at an error of the whole store.
pub(super) async fn one_by_one(worker: &Worker, batch: &mut Vec<Ended>) {
    let mut at = 0;
    // Each stays in the batch until its result has been stored, so that a panic loses none.
    while let Some(Ended { run, finish, .. }) = batch.get(at) {
        let (run, Some(finish)) = (*run, finish.clone()) else {
            at += 1;
            continue;
        };
        let mut finish = Arc::new(vec![finish]);
        let mut answer = worker.core.call("a finish", worker.core.store.finish(finish.clone())).await;
        if let Err(error) = &answer
            && error.is_about_one_row()
        {
            let failure = FinishKind::End {
                status: TaskStatus::Failed,
                outcome: AttemptOutcome::Failed,
                error: format!("its outcome could not be stored: {error}"),
            };
            finish = Arc::new(vec![Finish::new(run, failure)]);
            answer = worker.core.call("a finish", worker.core.store.finish(finish.clone())).await;
        }
        match answer {
            Ok(finished) => {
                let mut ended = batch.remove(at);
                count(worker, std::slice::from_ref(&ended), &finish, &finished);
                leave(worker, std::slice::from_mut(&mut ended));
                complete(worker, std::slice::from_ref(&ended), &finish, &finished);
            }
            Err(error) if !error.is_about_one_row() => return,
            Err(error) => {
                batch[at].finish = None;
                at += 1;
                tracing::error!(
                    task = %run.id, %error,
                    "the outcome of this run cannot be stored; the task is recovered when its lease ends"
                );
            }
        }
    }
}
