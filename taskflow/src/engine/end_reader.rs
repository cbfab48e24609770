//! Reads the results of tasks that callers wait for. One reader asks the store for many of these tasks at once, in rounds. A
//! round begins when a caller begins to wait, when a task is known to have ended but its result must be read, when the store
//! sends a hint, and about twice a second.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::waiters::Times;
use crate::seam::{Instant, Seam};

/// How often every task that callers wait for is read without a hint.
const POLL: Duration = Duration::from_millis(500);

/// After a round of all tasks, the next hint waits this many times as long as the round took, but at most until the next
/// poll. So reads for hints take at most a fiftieth of the time, regardless of the number of tasks.
const REST: u32 = 50;

/// The most tasks in one read.
const AT_ONCE: usize = 500;

/// Reads results for waiting callers until the process ends.
pub(crate) async fn read(core: Arc<Core>) {
    let waiters = &core.waiters;
    let mut times = Times { hint_from: core.seam.instant(), poll_at: core.seam.instant() + POLL };
    loop {
        // Callers that begin to wait at the same moment share the round.
        core.seam.yield_now().await;
        let round = match waiters.next(&times, core.seam.instant()) {
            Ok(round) => round,
            Err(next) => {
                tokio::select! {
                    biased;
                    () = core.over.cancelled() => return,
                    () = waiters.wake.notified() => {}
                    () = until(&core.seam, next) => {}
                }
                continue;
            }
        };
        let began = core.seam.instant();
        for ids in round.ids.chunks(AT_ONCE) {
            let ends = core.read("a read of task ends", core.store.ends(ids.to_vec())).await;
            // The health has the error; the next poll reads again.
            for (id, end) in ids.iter().zip(ends.unwrap_or_default()) {
                waiters.deliver(*id, end, Some(round.number));
            }
        }
        if round.is_full {
            let now = core.seam.instant();
            times = Times { hint_from: now + ((now - began) * REST).min(POLL), poll_at: now + POLL };
        }
    }
}

async fn until(seam: &Seam, instant: Option<Instant>) {
    match instant {
        Some(instant) => seam.pause_until(instant).await,
        None => std::future::pending().await,
    }
}
