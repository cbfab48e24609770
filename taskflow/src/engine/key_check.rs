//! When the process starts, warns of waiting tasks that it could not open.

use std::sync::Arc;

use super::core::Core;
use crate::model::{TaskFilter, TaskStatus, sealed};
use crate::task::Registry;

/// How many of the newest waiting tasks are checked.
const LOOKED_AT: usize = 100;

/// How many of them one read brings: only a few, since their arguments may be long.
const AT_ONCE: usize = 10;

/// Reads the newest pending tasks once, and logs how many of them are sealed with a key that this process lacks.
pub(crate) async fn warn(core: Arc<Core>) {
    // Tasks of other programs are skipped: those programs have their own keys.
    let Ok(registry) = Registry::collect() else { return };
    let mut filter = TaskFilter::new().status(TaskStatus::Pending).limit(AT_ONCE);
    let mut count = 0;
    for _ in 0..LOOKED_AT / AT_ONCE {
        let Ok(page) = core.read("a read", core.store.list(filter.clone())).await else { return };
        let known = page.items.iter().filter(|task| registry.get(&task.name).is_some());
        for task in known.filter(|task| !core.has_key_of(task.args.get())) {
            count += 1;
            core.health.missing_key(sealed::key_of(task.args.get()).unwrap_or_default());
        }
        let Some(next) = page.next else { break };
        filter = filter.after(next);
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
