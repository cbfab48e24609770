//! Pushes gauges to the recorder of the `metrics` crate: a recorder only receives values, it never asks for them.

use std::sync::Arc;
use std::time::Duration;

use super::lifecycle::WeakManager;
use crate::engine::core::Core;
use crate::observe::{Pushed, has_recorder};

/// The shortest pause between two pushes.
const MIN_PAUSE: Duration = Duration::from_secs(15);

/// After a push, the pause lasts at least this many times as long as the push took, so that a slow store is not read all the
/// time.
const REST_FACTOR: u32 = 20;

/// Pushes while a recorder is installed, pausing at least 15 s after each push, until the manager has ended.
pub(super) async fn push(core: Arc<Core>, manager: WeakManager) {
    let mut pushed = Pushed::default();
    loop {
        let began = core.seam.instant();
        if has_recorder() {
            let Some(tasks) = manager.upgrade() else { return };
            pushed.push(&tasks.families().await);
        }
        let rest = MIN_PAUSE.max(core.seam.since(began) * REST_FACTOR);
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            () = core.seam.pause(rest) => {}
        }
    }
}
