//! Shuts a process down in order.

use std::sync::Arc;
use std::time::Duration;

use super::adder::Adder;
use super::core::Core;
use super::release::Releaser;
use super::runs::Runs;
use super::statistics;
use super::worker::Worker;
use crate::model::ShutdownReport;
use crate::seam::Instant;
use crate::store::HoldOutcome;

/// How long writing the results of interrupted runs may take.
const WRITE: Duration = Duration::from_millis(1200);

/// How long writing the accepted adds and releases may take.
const DRAIN: Duration = Duration::from_millis(400);

/// How long writing the last statistics may take.
const RECORD: Duration = Duration::from_millis(500);

/// How long writing the last statistics, and delivering the last events, may take even if no time is left.
const RECORD_LEAST: Duration = Duration::from_millis(50);

/// How long leaving the store may take. Beyond the patience and the cancel grace, all waits of a shutdown together stay below
/// the promised 2 s.
const LEAVE: Duration = Duration::from_millis(300);

/// How long a shutdown waits, after the request to stop, for a synchronous task that never asks whether it must stop.
const UNRESPONSIVE: Duration = Duration::from_millis(250);

/// A shutdown that takes this much longer than its patience and the cancel grace counts as one that nothing polls.
const OVERDUE: Duration = Duration::from_secs(3);

/// The parts of a manager that are shut down in order.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) core: Arc<Core>,
    pub(crate) worker: Option<Arc<Worker>>,
    pub(crate) adder: Arc<Adder>,
    pub(crate) releaser: Arc<Releaser>,
}

impl Ending {
    /// Records the latest end of the shutdown, in case nothing polls it to its end.
    pub(crate) fn begin(&self, patience: Duration) {
        let longest = patience.saturating_add(self.core.settings.cancel_grace);
        self.core.presence.ends_by(self.core.seam.in_time(longest.saturating_add(OVERDUE)));
    }

    /// Stops claiming, waits up to `patience` for running tasks, interrupts the rest, writes all results and accepted
    /// adds, and leaves the store.
    pub(crate) async fn shut_down(self, patience: Duration) -> ShutdownReport {
        let core = &self.core;
        let longest = patience.saturating_add(core.settings.cancel_grace).saturating_add(WRITE + DRAIN);
        let drained_by = core.seam.in_time(longest);
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
        let recorded_by =
            drained_by.min(core.seam.instant() + RECORD).max(core.seam.instant() + RECORD_LEAST);
        // Observers get all the time that is left. The results and adds that their events report have been stored by now.
        let events_by = drained_by.max(core.seam.instant() + RECORD_LEAST);
        let record = core.seam.timeout_at(recorded_by, statistics::flush(core));
        if tokio::join!(record, core.events.flush(events_by)).0.is_err() {
            tracing::debug!("the last statistics could not be written in time");
        }
        if report.abandoned > 0 {
            tracing::warn!(
                abandoned = report.abandoned,
                "tasks ignored the request to stop; they keep their leases until they return"
            );
        }
        if report.unwritten > 0 {
            tracing::warn!(
                unwritten = report.unwritten,
                "the results of tasks could not be written; they are written if the store answers before this process exits"
            );
        }
        if report.abandoned + report.unwritten > 0 {
            core.spawn(end_after_the_last(core.clone()));
        } else {
            core.over.cancel();
            let _ = core.seam.timeout_at(core.seam.instant() + LEAVE, core.presence.left()).await;
        }
        core.presence.is_shut_down();
        report
    }

    /// Writes the accepted adds, then ends all holds. A held task without a decision is released to run.
    async fn drain(&self, by: Instant) {
        let is_drained = self.core.seam.timeout_at(by, self.adder.drained()).await.is_ok();
        drop(self.releaser.release(self.core.holds.undecided(), &HoldOutcome::Run));
        let is_drained = self.core.seam.timeout_at(by, self.releaser.drained()).await.is_ok() && is_drained;
        if !is_drained {
            tracing::warn!(
                "some adds or releases were not written in time; they are written if the store answers before this process exits"
            );
        }
    }
}

/// Waits for running tasks, and then asks the rest to stop.
async fn end_runs(core: &Core, worker: &Worker, patience: Duration) {
    let idle = || core.runs.until(|_| worker.is_idle());
    worker.stop();
    let _ = core.seam.timeout_at(core.seam.in_time(patience), idle()).await;
    core.runs.end_all();
    let asked = core.seam.instant();
    // Async tasks that do not watch for the request are dropped at once. A synchronous one may still begin to watch.
    let _ = core.seam.timeout_at(asked + UNRESPONSIVE, idle()).await;
    let cleaned_up = core.seam.in_time(core.settings.cancel_grace).max(asked);
    let _ = core.seam.timeout_at(cleaned_up, core.runs.until(|_| worker.only_unaware_left())).await;
    let _ =
        core.seam.timeout_at(cleaned_up + WRITE, core.runs.until(|_| worker.only_uncancellable_left())).await;
}

/// Keeps the leases until the last abandoned task has returned and every result has been written, if the process lives
/// that long.
async fn end_after_the_last(core: Arc<Core>) {
    core.runs.until(Runs::is_empty).await;
    let _ = core.seam.timeout(RECORD, statistics::flush(&core)).await;
    core.over.cancel();
}

/// Waits until nothing else will end this manager, because its runtime was dropped or does not finish the shutdown, and then
/// until no body runs any more. The lease thread then ends, so that other processes recover the runs instead of waiting for
/// leases that are renewed forever.
pub(super) async fn forsaken(core: &Core) {
    tokio::select! {
        biased;
        () = core.orphaned.cancelled() => {}
        () = core.presence.overdue(&core.seam) => core.runs.lose_suspended(),
    }
    core.close();
    core.runs.until(|runs| !runs.is_executing()).await;
}
