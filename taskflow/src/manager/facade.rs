//! Pushes gauges to the recorder of the facade `metrics`, which asks for nothing by itself.

use std::sync::Arc;
use std::time::Duration;

use super::lifecycle::WeakManager;
use crate::engine::core::Core;
use crate::observe::{Pushed, is_heard};

/// How often gauges are pushed.
const EVERY: Duration = Duration::from_secs(15);

/// How many times as long as a push took to rest after it, so that a slow store is not read all the time.
const DUTY: u32 = 20;

/// Pushes every 15 s, from the start until the process ends, while a recorder is installed.
pub(super) async fn push(core: Arc<Core>, manager: WeakManager) {
    let mut pushed = Pushed::default();
    loop {
        let began = core.seam.instant();
        if is_heard() {
            let Some(tasks) = manager.upgrade() else { return };
            pushed.push(&tasks.families().await);
        }
        let rest = EVERY.max(core.seam.since(began) * DUTY);
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            () = core.seam.pause(rest) => {}
        }
    }
}
