//! Listens for the actions of other processes: the store's hints, and requests to stop tasks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};

use super::core::Core;
use super::runs::StopReason;
use super::store_backoff::jittered;
use super::worker::Worker;
use crate::seam::Instant;
use crate::store::Hint;

/// The shortest time between two reactions to hints. A hint after a quiet time is acted on at once.
const HINT_INTERVAL: Duration = Duration::from_millis(5);

/// How many more hints, if they have already come, are handled together with the first.
const MORE_HINTS: usize = 2;

/// How long to wait before listening again after the store has ended its hints.
const RELISTEN: Duration = Duration::from_secs(5);

/// How often requests to stop are read without a hint.
const POLL: Duration = Duration::from_secs(1);

/// Listens until the process ends.
pub(crate) async fn listen(core: Arc<Core>, worker: Option<Arc<Worker>>) {
    let mut hints = core.store.listen();
    let mut relisten: Option<Instant> = None;
    let mut poll_at = core.seam.in_time(jittered(POLL));
    loop {
        if relisten.take_if(|at| *at <= core.seam.instant()).is_some() {
            hints = core.store.listen();
        }
        let mut heard = HeardHints::default();
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            hint = hints.next() => heard.note(hint),
            () = core.seam.pause_until(poll_at) => {}
        }
        for _ in 0..MORE_HINTS {
            if heard.has_ended {
                break;
            }
            let Some(hint) = hints.next().now_or_never() else { break };
            heard.note(hint);
        }
        if heard.has_ended {
            // The store may have no hints to give; the polls go on.
            hints = Box::pin(futures_util::stream::pending());
            relisten = Some(core.seam.instant() + RELISTEN);
        }
        heard.stop |= poll_at <= core.seam.instant();
        if heard.stop {
            poll_at = core.seam.in_time(jittered(POLL));
        }
        if heard.ends {
            core.waiters.anything_changed();
        }
        if let Some(worker) = &worker {
            if heard.work {
                worker.may_have_work();
            }
            if heard.stop {
                stop_the_cancelled(&core).await;
            }
        }
        core.seam.collect(HINT_INTERVAL).await;
    }
}

/// What hints say together.
#[derive(Debug, Default)]
struct HeardHints {
    work: bool,
    ends: bool,
    stop: bool,
    /// The stream of hints has ended.
    has_ended: bool,
}

impl HeardHints {
    fn note(&mut self, hint: Option<Hint>) {
        let Some(hint) = hint else {
            self.has_ended = true;
            return;
        };
        let is = |kind| hint == kind || hint == Hint::Changed;
        self.work |= is(Hint::Work);
        self.ends |= is(Hint::Ends);
        self.stop |= hint == Hint::Changed;
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
