//! The release of what was held back.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

use super::core::Core;
use super::pause::Backoff;
use super::runner::Runner;
use crate::store::{Release, Run, Verdict};

/// Ends holds. Those of one moment go together, and a store that is away is tried until it answers: the leases of the
/// holds are renewed meanwhile.
#[derive(Debug)]
pub(crate) struct Releaser {
    core: Arc<Core>,
    runner: Option<Arc<Runner>>,
    gate: Mutex<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    waiting: Vec<Release>,
    writing: bool,
}

impl Releaser {
    pub(crate) fn new(core: Arc<Core>, runner: Option<Arc<Runner>>) -> Arc<Self> {
        Arc::new(Self { core, runner, gate: Mutex::default() })
    }

    /// Ends these holds.
    pub(crate) fn release(self: &Arc<Self>, holds: Vec<Run>, verdict: &Verdict) {
        if holds.is_empty() {
            return;
        }
        let mut gate = self.gate.lock();
        gate.waiting.extend(holds.into_iter().map(|hold| Release::new(hold, verdict.clone())));
        if !mem::replace(&mut gate.writing, true) {
            drop(gate);
            self.core.runtime.spawn(self.clone().write());
        }
    }

    async fn write(self: Arc<Self>) {
        let mut backoff = Backoff::new();
        loop {
            let releases = {
                let mut gate = self.gate.lock();
                if gate.waiting.is_empty() {
                    gate.writing = false;
                    return;
                }
                Arc::new(mem::take(&mut gate.waiting))
            };
            match self.core.call("a release", self.core.store.release(releases.clone())).await {
                Ok(applied) => {
                    backoff = Backoff::new();
                    self.settle(&releases, &applied).await;
                }
                Err(_) if self.core.over.is_cancelled() => return,
                Err(_) => {
                    tokio::time::sleep(backoff.delay()).await;
                    let mut gate = self.gate.lock();
                    let later = mem::replace(&mut gate.waiting, releases.to_vec());
                    gate.waiting.extend(later);
                }
            }
        }
    }

    async fn settle(&self, releases: &[Release], applied: &[bool]) {
        for (release, applied) in releases.iter().zip(applied) {
            self.core.holds.end(release.hold);
            if !applied {
                // The process stood still past the lease: others have taken the task as released.
                self.core.health.stale_write();
            } else if let Verdict::Cancel { .. } = release.verdict {
                self.core.tell_cancelled(release.hold.id).await;
            }
        }
        if let Some(runner) = &self.runner {
            runner.may_have_work();
        }
    }
}
