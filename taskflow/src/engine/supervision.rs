//! Parts of the engine that go on after a panic: of their own, or of what a program brings, such as a log layer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::core::Core;
use super::panics::caught;

/// A part that ran this long before it panicked begins again at once.
const SOUND: Duration = Duration::from_secs(60);

/// Runs a part of the engine to its end. After a panic it is logged, shown in the health, and started again.
pub(crate) async fn supervise<F: Future<Output = ()>>(
    core: Arc<Core>,
    part: &'static str,
    mut start: impl FnMut() -> F,
) {
    let mut restarts = Restarts::new();
    while let Err(panic) = caught(start()).await {
        restarts.after(&core, part, &panic).await;
        if core.over.is_cancelled() {
            return;
        }
    }
}

/// What is done between a panic and the next start.
#[derive(Debug)]
pub(crate) struct Restarts {
    backoff: Backoff,
    since: Instant,
}

impl Restarts {
    pub(crate) fn new() -> Self {
        Self { backoff: Backoff::new(), since: Instant::now() }
    }

    /// Takes note of a panic, and waits before the next start.
    pub(crate) async fn after(&mut self, core: &Core, part: &'static str, panic: &str) {
        core.health.restarted(part, panic);
        if self.since.elapsed() > SOUND {
            self.backoff = Backoff::new();
        }
        tokio::time::sleep(self.backoff.delay()).await;
        self.since = Instant::now();
    }
}
