//! The start of a process in the store: the lease thread, and then the join.
//!
//! The lease thread starts first and leaves last, on a runtime of its own: so it does not matter whether the future that
//! starts a manager is dropped half-way, whether the manager is shut down, or whether its runtime ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::Core;
use super::guarded::answered;
use super::lease;
use super::worker::Worker;
use crate::model::{Error, StoreError, StoreErrorKind};

/// A manager that is being started. Unless it comes to be, everything it began ends with this.
#[derive(Debug)]
pub(crate) struct Starting {
    core: Arc<Core>,
    has_started: bool,
}

impl Starting {
    /// Begins: the lease thread is there before anything is in the store.
    pub(crate) fn begin(core: Arc<Core>, worker: Option<Arc<Worker>>) -> Result<Self, Error> {
        lease::keep(core.clone(), worker)?;
        let starting = Self { core, has_started: false };
        tether(&starting.core);
        Ok(starting)
    }

    /// Makes this process known to the store.
    pub(crate) async fn join(&self) -> Result<(), Error> {
        // A task of its own: a join that is under way is not dropped with the future that asked for it, so that the
        // leave comes after it.
        let joining = Joining(self.core.clone());
        let joined = self.core.runtime.spawn(async move { joining.join().await });
        let ended =
            |_| StoreError::new(StoreErrorKind::Unknown, "the runtime ended while this process joined");
        Ok(joined.await.map_err(ended)??)
    }

    /// It is a manager now, and ends as managers do.
    pub(crate) fn started(mut self) {
        self.has_started = true;
    }

    /// It will be none: leaves, and waits for that.
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

/// A join that is under way. However it ends, and also with its runtime, it is over.
struct Joining(Arc<Core>);

impl Joining {
    async fn join(self) -> Result<(), StoreError> {
        let core = &self.0;
        core.presence.may_be_known.store(true, Ordering::Release);
        let answer = answered(core.store.join(&core.instance)).await;
        if answer.as_ref().is_err_and(|error| error.kind() != StoreErrorKind::Unknown) {
            core.presence.may_be_known.store(false, Ordering::Release);
        } else if core.presence.left.is_cancelled() {
            // Whoever left did not wait as long as the store took.
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

/// What the runtime holds as long as it lives.
struct Tether(Arc<Core>);

impl Drop for Tether {
    fn drop(&mut self) {
        if !self.0.over.is_cancelled() {
            self.0.orphaned.cancel();
        }
    }
}

/// Lets `core` know when its runtime is dropped without a shutdown, as it is at the end of every `#[tokio::test]`.
fn tether(core: &Arc<Core>) {
    let tether = Tether(core.clone());
    core.runtime.spawn(async move { tether.0.over.cancelled().await });
}
