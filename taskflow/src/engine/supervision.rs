//! Restarts parts of the engine after a panic, in the engine itself or in code of the program, such as a log layer.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::panics::caught;
use super::store_backoff::Backoff;
use crate::seam::Instant;

/// A part that ran this long before it panicked is restarted after the shortest delay.
const STABLE: Duration = Duration::from_secs(60);

/// Runs a part of the engine to its end. A panic is logged and shown in the health, and the part is restarted unless the
/// manager has ended.
pub(crate) async fn supervise<F: Future<Output = ()>>(
    core: Arc<Core>,
    part: &'static str,
    mut start: impl FnMut() -> F,
) {
    let mut restarts = Restarts::new(&core);
    while let Err(panic) = caught(start()).await {
        restarts.after(&core, part, &panic).await;
        if core.over.is_cancelled() {
            return;
        }
    }
}

/// Handles the time between a panic and the restart.
#[derive(Debug)]
pub(crate) struct Restarts {
    backoff: Backoff,
    since: Instant,
}

impl Restarts {
    pub(crate) fn new(core: &Core) -> Self {
        Self { backoff: Backoff::new(), since: core.seam.instant() }
    }

    /// Records a panic, and waits before the restart.
    pub(crate) async fn after(&mut self, core: &Core, part: &'static str, panic: &str) {
        core.health.restarted(part, panic);
        if core.seam.since(self.since) > STABLE {
            self.backoff = Backoff::new();
        }
        core.seam.sleep(self.backoff.delay()).await;
        self.since = core.seam.instant();
    }
}
