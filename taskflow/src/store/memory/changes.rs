//! Wakes listeners when something has changed, in the order in which they began to wait. So a repeated test does the same
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
    /// Wakes all listeners, because something has changed.
    pub(super) fn notify(&self) {
        self.number.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Listens to changes from now on. A listener does not keep the store alive.
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
    /// Waits until something has changed since the last call.
    pub(crate) async fn changed(&mut self) {
        loop {
            let changed = self.changes.changed.notified();
            tokio::pin!(changed);
            // Register before reading the number, so that no change after the reading is missed.
            changed.as_mut().enable();
            let number = self.changes.number.load(Ordering::Acquire);
            if std::mem::replace(&mut self.seen, number) != number {
                return;
            }
            changed.await;
        }
    }
}
