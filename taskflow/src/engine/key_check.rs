//! Warns at the start of tasks that this process could not open.

use std::sync::Arc;

use super::core::Core;
use crate::model::{TaskFilter, TaskStatus, sealed};

/// How many waiting tasks are looked at, the newest.
const LOOKED_AT: usize = 100;

/// Reads the newest waiting tasks once, and logs how many of them name a key that this process lacks.
pub(crate) async fn warn(core: Arc<Core>) {
    let filter = TaskFilter::new().status(TaskStatus::Pending).limit(LOOKED_AT);
    let Ok(page) = core.read("a read", core.store.list(filter)).await else { return };
    let mut count = 0;
    for task in page.items.iter().filter(|task| !core.has_key_of(task.args.get())) {
        count += 1;
        core.health.missing_key(sealed::key_of(task.args.get()).unwrap_or_default());
    }
    if count > 0 {
        let keys = core.health.show(0, 0).missing_keys;
        tracing::warn!(
            ?keys,
            "{count} of the newest {LOOKED_AT} waiting tasks are sealed with a key that is not in this process's key ring; \
             add it with `Keyring::also`, or their runs fail here"
        );
    }
}
