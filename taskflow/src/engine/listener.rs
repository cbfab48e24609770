//! What others did: hints of the store, and requests to stop.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::jittered;
use super::core::Core;
use super::runs::StopReason;
use super::worker::Worker;

/// Between two hints that are acted on. A hint on a quiet store is acted on at once.
const QUIET: Duration = Duration::from_millis(5);

/// A store that has stopped to give hints is asked for others after this.
const RELISTEN: Duration = Duration::from_secs(5);

/// How often requests to stop are looked for without a hint.
const LOOK: Duration = Duration::from_secs(1);

/// Listens until the process is over.
pub(crate) async fn listen(core: Arc<Core>, worker: Option<Arc<Worker>>) {
    let mut hints = core.store.listen();
    let mut relisten: Option<Instant> = None;
    loop {
        if relisten.take_if(|at| *at <= Instant::now()).is_some() {
            hints = core.store.listen();
        }
        let hinted = tokio::select! {
            () = core.over.cancelled() => return,
            hint = poll_fn(|cx| hints.as_mut().poll_next(cx)) => match hint {
                Some(_) => true,
                // A store may have nothing to say: the polls go on.
                None => {
                    hints = Box::pin(futures_util::stream::pending());
                    relisten = Some(Instant::now() + RELISTEN);
                    false
                }
            },
            () = tokio::time::sleep(jittered(LOOK)) => false,
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
        tokio::time::sleep(QUIET).await;
    }
}

async fn stop_the_cancelled(core: &Core) {
    if core.runs.is_empty() {
        return;
    }
    let asked = core.read("a look for cancels", core.store.asked_to_stop(core.instance.id)).await;
    for run in asked.unwrap_or_default() {
        core.runs.ask(run, StopReason::Cancel);
    }
}
