//! The end of a process, in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::adder::Adder;
use super::backoff::in_time;
use super::core::Core;
use super::release::Releaser;
use super::runs::Runs;
use super::worker::Worker;
use crate::model::ShutdownReport;
use crate::store::HoldOutcome;

/// How long the ends of runs that were cut short may take to be written.
const WRITE: Duration = Duration::from_millis(1200);

/// How long adds and releases that were accepted may take to be written.
const DRAIN: Duration = Duration::from_millis(400);

/// How long the leave is waited for. With what else a shutdown waits for it is less than the 2 s that are promised.
const LEAVE: Duration = Duration::from_millis(300);

/// How long a synchronous task that never asks whether it is to stop is waited for after it was asked.
const STUBBORN: Duration = Duration::from_millis(250);

/// How much later than promised a shutdown is taken for one that nobody drives.
const OVERDUE: Duration = Duration::from_secs(3);

/// The parts of a manager that end in order.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) core: Arc<Core>,
    pub(crate) worker: Option<Arc<Worker>>,
    pub(crate) adder: Arc<Adder>,
    pub(crate) releaser: Arc<Releaser>,
}

impl Ending {
    /// Takes note that it begins, for the case that nobody drives it to its end.
    pub(crate) fn begin(&self, patience: Duration) {
        let longest = patience.saturating_add(self.core.settings.cancel_grace);
        self.core.presence.ends_by(in_time(longest.saturating_add(OVERDUE)));
    }

    /// Stops claiming, waits as long as `patience` for what runs, cuts the rest short, writes how everything ended and what
    /// was accepted, and leaves the store.
    pub(crate) async fn shut_down(self, patience: Duration) -> ShutdownReport {
        let core = &self.core;
        let longest = patience.saturating_add(core.settings.cancel_grace).saturating_add(WRITE + DRAIN);
        let drained_by = in_time(longest);
        let mut report = ShutdownReport::default();
        if let Some(worker) = &self.worker {
            let before = worker.tally.read();
            end_runs(core, worker, patience).await;
            let after = worker.tally.read();
            report.finished = after.finished - before.finished;
            report.handed_back = after.handed_back - before.handed_back;
            report.interrupted = after.interrupted - before.interrupted;
            (report.abandoned, report.unwritten) = core.runs.left();
        }
        core.close();
        self.drain(drained_by).await;
        if report.abandoned > 0 {
            tracing::warn!(
                abandoned = report.abandoned,
                "tasks ignore the request to stop; they keep their leases until they return"
            );
        }
        if report.unwritten > 0 {
            tracing::warn!(
                unwritten = report.unwritten,
                "the store could not be told how tasks ended; it is told if it answers while this process lives"
            );
        }
        if report.abandoned + report.unwritten > 0 {
            core.runtime.spawn(end_after_the_last(core.clone()));
        } else {
            core.over.cancel();
            let _ = timeout_at(Instant::now() + LEAVE, core.presence.left()).await;
        }
        core.presence.is_shut_down();
        report
    }

    /// Writes the adds that were accepted, then what became of holds: each as it was decided, the others run.
    async fn drain(&self, by: Instant) {
        let is_drained = timeout_at(by, self.adder.drained()).await.is_ok();
        drop(self.releaser.release(self.core.holds.undecided(), &HoldOutcome::Run));
        let is_drained = timeout_at(by, self.releaser.drained()).await.is_ok() && is_drained;
        if !is_drained {
            tracing::warn!(
                "not every add or release was written in time; it is if the store answers while this process lives"
            );
        }
    }
}

/// Waits for what runs, and asks the rest to stop.
async fn end_runs(core: &Core, worker: &Worker, patience: Duration) {
    let idle = || core.runs.until(|_| worker.is_idle());
    worker.stop();
    let _ = timeout_at(in_time(patience), idle()).await;
    core.runs.end_all();
    let asked = Instant::now();
    // What does not listen is dropped at once, unless it is synchronous; then it may yet begin to.
    let _ = timeout_at(asked + STUBBORN, idle()).await;
    let cleaned_up = in_time(core.settings.cancel_grace).max(asked);
    let _ = timeout_at(cleaned_up, core.runs.until(|_| worker.only_unaware_left())).await;
    let _ = timeout_at(cleaned_up + WRITE, core.runs.until(|_| worker.only_uncancellable_left())).await;
}

/// Keeps the leases until the last task that was abandoned has returned and every end is written, should the process
/// live that long.
async fn end_after_the_last(core: Arc<Core>) {
    core.runs.until(Runs::is_empty).await;
    core.over.cancel();
}

/// Ends when nobody else will end this manager: its runtime was dropped, or does not get on with the shutdown. Once no
/// body is under way its runs are lost, and nobody waits for a lease that this process would renew for ever.
pub(super) async fn forsaken(core: &Core) {
    tokio::select! {
        () = core.orphaned.cancelled() => {}
        () = core.presence.overdue() => core.runs.lose_suspended(),
    }
    core.close();
    core.runs.until(|runs| !runs.is_executing()).await;
}
