//! Updates this process's queue limits and pauses from the store.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::store_backoff::jittered;
use super::worker::Worker;
use crate::model::StoreError;
use crate::store::SharedLimits;

/// How often the store is read. A change made through another process applies here well within a second.
const POLL: Duration = Duration::from_millis(500);

/// Updates the limits of this process from the store until the process ends.
pub(crate) async fn watch(core: Arc<Core>, worker: Option<Arc<Worker>>) {
    loop {
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            () = core.seam.pause(jittered(POLL)) => {}
        }
        // The health has the error; the previous limits stay in force.
        let _ = refresh(&core, worker.as_deref()).await;
    }
}

/// Reads the limits from the store, and applies them.
pub(crate) async fn refresh(core: &Core, worker: Option<&Worker>) -> Result<(), StoreError> {
    let stored = core.read("a read of the queues", core.store.queue_states()).await?;
    if core.queues.learn(stored)
        && let Some(worker) = worker
    {
        apply(core, worker);
    }
    Ok(())
}

/// Applies the current limits to the slots.
pub(crate) fn apply(core: &Core, worker: &Worker) {
    let mut limits = Vec::new();
    core.queues.each(|name, config| {
        limits.push((name.to_owned(), config.concurrency, SharedLimits::of(config)));
    });
    worker.slots.set_limits(&limits);
    // These tasks were claimed under other limits, or before a pause.
    worker.give_back_waiting(true);
    // A queue may have been resumed, or its limit raised.
    worker.may_have_work();
}
