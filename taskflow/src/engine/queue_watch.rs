//! Applies the limits and pauses of queues that the store holds to this process.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::jittered;
use super::core::Core;
use super::worker::Worker;
use crate::model::StoreError;
use crate::store::SharedLimits;

/// How often the store is asked. What another process was told holds here well within a second.
const LOOK: Duration = Duration::from_millis(500);

/// Keeps the limits of this process those of the store, until it is over.
pub(crate) async fn watch(core: Arc<Core>, worker: Option<Arc<Worker>>) {
    loop {
        tokio::select! {
            () = core.over.cancelled() => return,
            () = tokio::time::sleep(jittered(LOOK)) => {}
        }
        // The error is in the health; what held goes on to hold.
        let _ = refresh(&core, worker.as_deref()).await;
    }
}

/// Asks the store what holds, and applies it.
pub(crate) async fn refresh(core: &Core, worker: Option<&Worker>) -> Result<(), StoreError> {
    let stored = core.read("a look at the queues", core.store.queue_states()).await?;
    if core.queues.learn(stored)
        && let Some(worker) = worker
    {
        apply(core, worker);
    }
    Ok(())
}

/// Gives the slots the limits that hold.
pub(crate) fn apply(core: &Core, worker: &Worker) {
    core.queues.each(|name, config| {
        worker.slots.set_limit(name, config.concurrency, SharedLimits::of(config).any());
    });
    // It was claimed while other limits held, or before a pause.
    worker.give_back_waiting(true);
    // One that was resumed, or may take more.
    worker.may_have_work();
}
