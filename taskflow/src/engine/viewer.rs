//! A process whose join the store has refused. It only reads until the store accepts its join.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::store_backoff::jittered;
use crate::model::{StoreError, StoreErrorKind};

/// How long the store may take to show that it can be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to try the join again.
const EVERY: Duration = Duration::from_secs(2);

/// Returns `Ok` with the store's error if this process may still read, and otherwise `Err` with the reason why not.
pub(crate) async fn can_read(core: &Core, refused: StoreError) -> Result<StoreError, StoreError> {
    if matches!(refused.kind(), StoreErrorKind::NotAStore | StoreErrorKind::NewerSchema) {
        return Err(refused);
    }
    match core.seam.timeout(PATIENCE, core.store.queue_states()).await {
        Ok(Ok(_)) => Ok(refused),
        // There is no store to read. This error says more than the refused join.
        Ok(Err(error)) if error.kind() == StoreErrorKind::NotAStore => Err(error),
        _ => Err(refused),
    }
}

/// Joins the store as soon as it lets this process write.
pub(crate) async fn join_later(core: Arc<Core>) {
    loop {
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            () = core.seam.pause(jittered(EVERY)) => {}
        }
        if core.call("the join", core.store.join(&core.instance)).await.is_ok() {
            core.has_joined();
            return;
        }
    }
}
