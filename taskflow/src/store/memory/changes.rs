//! Tells listeners that something has changed, in the order in which they began to listen: a test that is repeated does the same
//! again. The `watch` of tokio wakes its receivers in a random order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Changes {
    number: AtomicU64,
    changed: Notify,
}

impl Changes {
    /// Something has changed.
    pub(super) fn tell(&self) {
        self.number.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Listens to changes from now on. It keeps no store alive.
    pub(super) fn listen(self: &Arc<Self>) -> Listener {
        Listener { seen: self.number.load(Ordering::Acquire), changes: self.clone() }
    }
}

/// Listens to changes.
#[derive(Debug)]
pub(crate) struct Listener {
    changes: Arc<Changes>,
    seen: u64,
}

impl Listener {
    /// Waits for changes since the last call.
    pub(crate) async fn changed(&mut self) {
        loop {
            let changed = self.changes.changed.notified();
            tokio::pin!(changed);
            // Before the look: a change after it is not missed.
            changed.as_mut().enable();
            let number = self.changes.number.load(Ordering::Acquire);
            if std::mem::replace(&mut self.seen, number) != number {
                return;
            }
            changed.await;
        }
    }
}
