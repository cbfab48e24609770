//! A process that the store does not let write: it looks, until it is let in.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::jittered;
use super::core::Core;
use crate::model::{StoreError, StoreErrorKind};
use crate::store::Store;

/// How long the store may take to show that it can be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to ask whether it can be written to.
const EVERY: Duration = Duration::from_secs(2);

/// The error with which a store refused a process that may look all the same; otherwise why it may not.
pub(crate) async fn can_look(store: &dyn Store, refused: StoreError) -> Result<StoreError, StoreError> {
    if matches!(refused.kind(), StoreErrorKind::NotAStore | StoreErrorKind::NewerSchema) {
        return Err(refused);
    }
    match tokio::time::timeout(PATIENCE, store.queue_states()).await {
        Ok(Ok(_)) => Ok(refused),
        // There is nothing to look at, which says more than that it cannot be made.
        Ok(Err(error)) if error.kind() == StoreErrorKind::NotAStore => Err(error),
        _ => Err(refused),
    }
}

/// Joins the store as soon as it lets this process write.
pub(crate) async fn join_later(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.over.cancelled() => return,
            () = tokio::time::sleep(jittered(EVERY)) => {}
        }
        if core.call("to make this process known", core.store.join(&core.instance)).await.is_ok() {
            core.has_joined();
            return;
        }
    }
}
