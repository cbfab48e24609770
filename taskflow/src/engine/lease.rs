//! Renews leases on a separate thread with its own runtime, so that no lease is lost while tasks block every thread of the main
//! runtime. The same thread shows other processes that this one is alive.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::Core;
use super::guarded::answered;
use super::panics::caught;
use super::runs::StopReason;
use super::shutdown;
use super::store_backoff::jittered;
use super::supervision::Restarts;
use super::worker::Worker;
use crate::model::{Error, StoreError, StoreErrorKind};
use crate::seam::Instant;
use crate::store::liveness::LIVENESS_GRACE;
use crate::store::{Liveness, Renewal};

/// How long each step of leaving the store may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts the lease thread. It renews the leases of this process from its join until its end, and then leaves the store.
pub(crate) fn keep(core: Arc<Core>, worker: Option<Arc<Worker>>) -> Result<(), Error> {
    let (seam, runtime) = (core.seam.clone(), core.runtime.clone());
    let work = async move { stay(&core, worker.as_deref()).await };
    seam.drive_apart(&runtime, "taskflow-lease", work).map_err(|_| Error::Config {
        option: "lease",
        value: "kept".to_owned(),
        message: "the system could not start the thread that renews leases",
    })
}

async fn stay(core: &Core, worker: Option<&Worker>) {
    tokio::select! {
        biased;
        () = core.over.cancelled() => {}
        () = core.presence.join_over() => {
            let mut restarts = Restarts::new(core);
            let mut known = Known { renewed: core.seam.instant(), gone: None };
            while let Err(panic) = caught(renew_until_over(core, worker, &mut known)).await {
                restarts.after(core, "the lease thread", &panic).await;
            }
        }
    }
    leave(core).await;
}

/// Leaves the store. A join in flight comes first.
async fn leave(core: &Core) {
    core.close();
    core.over.cancel();
    let _ = core.seam.timeout(LEAVE_TIMEOUT, core.presence.join_over()).await;
    if core.presence.may_be_known.load(Ordering::Acquire)
        && !matches!(
            core.seam.timeout(LEAVE_TIMEOUT, answered(core.store.leave(core.instance.id))).await,
            Ok(Ok(()))
        )
    {
        tracing::warn!(
            "this process could not leave the store; other processes may consider it alive until its lease ends"
        );
    }
    core.presence.left.cancel();
}

/// State that survives a panic. Without it this process would trust leases that other processes have seen end.
struct Known {
    /// When the last successful renewal was requested.
    renewed: Instant,
    /// Since when other processes cannot see that this one is alive.
    gone: Option<Instant>,
}

async fn renew_until_over(core: &Core, worker: Option<&Worker>, known: &mut Known) {
    tokio::select! {
        biased;
        () = renew(core, worker, &mut known.renewed) => {}
        () = show_life(core, worker, &mut known.gone) => {}
    }
}

/// Shows other processes that this one is alive. When that fails for longer than [`LIVENESS_GRACE`], stops claiming and stops
/// the runs whose tasks other processes may start. A process that runs no tasks has nothing to stop. A process that the store
/// has refused must show nothing: it never leaves, so nobody would remove what it showed. Never returns.
async fn show_life(core: &Core, worker: Option<&Worker>, gone: &mut Option<Instant>) {
    let is_known = core.presence.may_be_known.load(Ordering::Acquire);
    let Some(worker) = worker.filter(|_| is_known) else { return std::future::pending().await };
    let mut changes = core.store.show_life(core.instance.id);
    let (mut in_doubt, mut is_over) = (false, false);
    loop {
        let patience =
            gone.map(|since| (since + LIVENESS_GRACE).saturating_duration_since(core.seam.instant()));
        tokio::select! {
            biased;
            change = poll_fn(|cx| changes.as_mut().poll_next(cx)), if !is_over => match change {
                Some(Liveness::Visible) => {
                    (*gone, in_doubt) = (None, false);
                    core.runs.doubt_repeatable(false);
                    worker.doubt_liveness(false);
                }
                Some(Liveness::Gone { since }) => *gone = Some(gone.unwrap_or_else(|| Instant::from_std(since))),
                None => is_over = true,
            },
            () = core.seam.sleep(patience.unwrap_or_default()), if gone.is_some() && !in_doubt => {
                in_doubt = true;
                // Before the log line: it may panic.
                worker.doubt_liveness(true);
                core.runs.doubt_repeatable(true);
                tracing::warn!(
                    "the connection that shows other processes that this one is alive is lost: runs whose tasks may run again \
                     are stopped, and nothing is claimed until the connection is back"
                );
            }
            else => return std::future::pending().await,
        }
    }
}

async fn renew(core: &Core, worker: Option<&Worker>, renewed: &mut Instant) {
    let lease = core.settings.lease;
    // After a panic the last renewal may be further in the past.
    let mut skipped = core.seam.skipped();
    let mut wait = (lease / 3).min(lease_left(core, *renewed));
    // Whether the last renewal succeeded, but had waited so long, together with all other writers, that its lease was used up.
    let mut has_waited_together = false;
    loop {
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            () = shutdown::forsaken(core) => return,
            () = core.late.soon.notified() => {}
            () = core.seam.pause_renewals(jittered(wait)) => {}
        }
        let before = std::mem::replace(&mut skipped, core.seam.skipped());
        *renewed += skipped - before;
        if lease_left(core, *renewed).is_zero() && !has_waited_together {
            stop_runs(core, worker);
        }
        let asked = core.seam.instant();
        core.late.begin_renewal();
        let mut leases = core.runs.all();
        leases.extend(core.holds.all());
        let renewal = Renewal::new(core.instance.id, lease, leases);
        let renewal = core.call("a renewal", core.store.renew(renewal));
        let answered = async {
            if core.store.capabilities().waits_together {
                return Ok(renewal.await);
            }
            // A store that does not answer counts as one that refuses.
            let left = lease_left(core, *renewed);
            core.seam.timeout(left.max(lease / 10), renewal).await
        };
        let answer = tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            answer = answered => answer,
        };
        match answer {
            Ok(Ok(answer)) => {
                *renewed = asked;
                core.late.renewed();
                // The leases count from the request of the renewal.
                wait = (lease / 3).saturating_sub(core.seam.since(asked)).max(lease / 20);
                // It is not known when the store wrote it, so the next renewal decides whether the leases still hold.
                has_waited_together =
                    core.store.capabilities().waits_together && lease_left(core, *renewed).is_zero();
                for run in answer.lost {
                    // A run that ended during the renewal is not lost. For a hold, its release reports the loss.
                    if core.runs.lose(run) {
                        core.health.lost_lease();
                    }
                    core.holds.end(run);
                }
                for run in answer.cancel {
                    core.runs.ask(run, StopReason::Cancel);
                }
                if let Some(worker) = worker {
                    worker.doubt_lease(false);
                }
            }
            refused => {
                has_waited_together = false;
                wait = lease / 20;
                if lease_left(core, *renewed).is_zero() {
                    stop_runs(core, worker);
                }
                if refused.is_err() {
                    let silent = StoreError::new(StoreErrorKind::Unavailable, "the store does not answer");
                    core.health.failed("a renewal", &silent);
                }
            }
        }
    }
}

/// How long the lease can still be relied on. It is given up at four fifths of its length, so that dropped runs have
/// stopped before another process may start their tasks.
fn lease_left(core: &Core, renewed: Instant) -> Duration {
    let since = core.late.oldest().map_or(renewed, |asked| asked.min(renewed));
    (core.settings.lease / 5 * 4).saturating_sub(core.seam.since(since))
}

fn stop_runs(core: &Core, worker: Option<&Worker>) {
    let Some(worker) = worker else { return };
    let may_claim = worker.may_claim();
    // Before the log line: it may panic.
    worker.doubt_lease(true);
    core.runs.ask_all(StopReason::LeaseEnding);
    if may_claim {
        tracing::warn!(
            "the leases of this process were not renewed in time: its runs are stopped; nothing is claimed until a renewal succeeds"
        );
    }
}
