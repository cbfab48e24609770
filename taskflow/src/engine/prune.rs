//! Deletes finished tasks past their retention, in bounded batches.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::store_backoff::jittered;

const EVERY: Duration = Duration::from_secs(60);
const BATCH: usize = 500;

/// Prunes at once and then every minute, until the process ends.
pub(crate) async fn prune(core: Arc<Core>) {
    loop {
        // The health has the error; the next minute tries again.
        while let Ok(BATCH..) = core.call("pruning", core.store.prune(core.settings.retention, BATCH)).await {
            // Lets other writes run between two batches.
            core.seam.sleep(Duration::from_millis(10)).await;
        }
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            () = core.seam.pause(jittered(EVERY)) => {}
        }
    }
}
