//! Listens for the actions of other processes: the store's hints, and requests to stop tasks.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::jittered;
use super::core::Core;
use super::runs::StopReason;
use super::worker::Worker;
use crate::seam::Instant;

/// The shortest time between two reactions to hints. A hint after a quiet time is acted on at once.
const HINT_INTERVAL: Duration = Duration::from_millis(5);

/// How long to wait before listening again after the store has ended its hints.
const RELISTEN: Duration = Duration::from_secs(5);

/// How often requests to stop are read without a hint.
const POLL: Duration = Duration::from_secs(1);

/// Listens until the process ends.
pub(crate) async fn listen(core: Arc<Core>, worker: Option<Arc<Worker>>) {
    let mut hints = core.store.listen();
    let mut relisten: Option<Instant> = None;
    loop {
        if relisten.take_if(|at| *at <= core.seam.instant()).is_some() {
            hints = core.store.listen();
        }
        let hinted = tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            hint = poll_fn(|cx| hints.as_mut().poll_next(cx)) => match hint {
                Some(_) => true,
                // The store may have no hints to give; the polls go on.
                None => {
                    hints = Box::pin(futures_util::stream::pending());
                    relisten = Some(core.seam.instant() + RELISTEN);
                    false
                }
            },
            () = core.seam.pause(jittered(POLL)) => false,
        };
        if hinted {
            core.waiters.anything_changed();
        }
        if let Some(worker) = &worker {
            if hinted {
                worker.may_have_work();
            }
            stop_the_cancelled(&core).await;
        }
        core.seam.collect(HINT_INTERVAL).await;
    }
}

async fn stop_the_cancelled(core: &Core) {
    if core.runs.is_empty() {
        return;
    }
    let asked = core.read("a read of stop requests", core.store.asked_to_stop(core.instance.id)).await;
    for run in asked.unwrap_or_default() {
        core.runs.ask(run, StopReason::Cancel);
    }
}
