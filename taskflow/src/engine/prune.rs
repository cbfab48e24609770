//! Records past their retention, deleted in bounded batches.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::jittered;
use super::core::Core;

const EVERY: Duration = Duration::from_secs(60);
const BATCH: usize = 500;

/// Prunes at once, then each minute, until the process is over.
pub(crate) async fn prune(core: Arc<Core>) {
    loop {
        // The error is in the health; the next minute comes anyway.
        while let Ok(BATCH..) = core.call("pruning", core.store.prune(core.settings.retention, BATCH)).await {
            // Others write between two batches.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::select! {
            () = core.over.cancelled() => return,
            () = tokio::time::sleep(jittered(EVERY)) => {}
        }
    }
}
