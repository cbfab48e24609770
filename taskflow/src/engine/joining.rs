//! The start of a process: first the lease thread, then the join.
//!
//! The lease thread starts first and ends last, on a runtime of its own. So it leaves the store in every case: when the future
//! that starts the manager is dropped half-way, when the manager is shut down, and when its runtime ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::Core;
use super::guarded::answered;
use super::lease;
use super::worker::Worker;
use crate::model::{Error, StoreError, StoreErrorKind};

/// A manager that is being started. If it is dropped before [`started`](Self::started), everything it began ends.
#[derive(Debug)]
pub(crate) struct Starting {
    core: Arc<Core>,
    has_started: bool,
}

impl Starting {
    /// Starts the lease thread, before anything is in the store.
    pub(crate) fn begin(core: Arc<Core>, worker: Option<Arc<Worker>>) -> Result<Self, Error> {
        lease::keep(core.clone(), worker)?;
        let starting = Self { core, has_started: false };
        tether(&starting.core);
        Ok(starting)
    }

    /// Registers this process with the store.
    pub(crate) async fn join(&self) -> Result<(), Error> {
        // In a separate task, so that a join in flight is not dropped with the future that requested it and the leave can
        // wait for it.
        let joining = Joining(self.core.clone());
        let joined = self.core.spawn(async move { joining.join().await });
        let ended =
            |_| StoreError::new(StoreErrorKind::Unknown, "the runtime ended while this process joined");
        Ok(joined.await.map_err(ended)??)
    }

    /// Completes the start: from now on only a shutdown ends what was begun.
    pub(crate) fn started(mut self) {
        self.has_started = true;
    }

    /// Gives up the start: leaves the store, and waits for that.
    pub(crate) async fn give_up(self) {
        let core = self.core.clone();
        drop(self);
        core.presence.left().await;
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.has_started {
            self.core.close();
            self.core.over.cancel();
        }
    }
}

/// A join in flight. Dropping it marks the join as over, however it ends, even with its runtime.
struct Joining(Arc<Core>);

impl Joining {
    async fn join(self) -> Result<(), StoreError> {
        let core = &self.0;
        core.presence.may_be_known.store(true, Ordering::Release);
        let answer = answered(core.store.join(&core.instance)).await;
        if answer.as_ref().is_err_and(|error| error.kind() != StoreErrorKind::Unknown) {
            core.presence.may_be_known.store(false, Ordering::Release);
        } else if core.presence.left.is_cancelled() {
            // The lease thread gave up waiting for this answer and has left already, so this process leaves again.
            let _ = answered(core.store.leave(core.instance.id)).await;
        }
        answer
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        self.0.presence.join_over.cancel();
    }
}

/// A value that the runtime holds as long as it lives.
struct Tether(Arc<Core>);

impl Drop for Tether {
    fn drop(&mut self) {
        if !self.0.over.is_cancelled() {
            self.0.close();
            self.0.orphaned.cancel();
        }
    }
}

/// Notifies `core` when its runtime is dropped without a shutdown, as at the end of every `#[tokio::test]`.
fn tether(core: &Arc<Core>) {
    let tether = Tether(core.clone());
    core.spawn(async move { tether.0.over.cancelled().await });
}
