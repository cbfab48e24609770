//! Tracks leases that the store granted late, in answer to a claim or an add, and that no renewal covers yet.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::seam::Instant;

/// When the oldest late lease that no renewal covers was requested. Leases that the store grants promptly are not tracked: a
/// lease is given up a fifth of its length before it ends, and the store took less time than that to grant them.
#[derive(Debug, Default)]
pub(crate) struct Late {
    asked: Mutex<Asked>,
    /// Notified when a renewal should come soon.
    pub(super) soon: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// The oldest request among the leases that came since the last renewal began.
    new: Option<Instant>,
    /// The oldest request among the leases that the renewal in flight covers. It stays if the renewal fails.
    in_renewal: Option<Instant>,
}

impl Asked {
    fn oldest(self) -> Option<Instant> {
        [self.new, self.in_renewal].into_iter().flatten().min()
    }
}

/// Whether a lease that is this old when it is granted should be renewed sooner than at the next regular renewal.
pub(super) fn is_late(age: Duration, lease: Duration) -> bool {
    age > lease / 10
}

impl Late {
    /// Records a lease that was requested at `asked` and has come now. Its run is already registered, so the next renewal covers
    /// it.
    pub(super) fn came(&self, asked: Instant) {
        let mut all = self.asked.lock();
        all.new = Some(all.new.map_or(asked, |new| new.min(asked)));
        drop(all);
        self.soon.notify_one();
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.asked.lock().oldest()
    }

    /// Records that a renewal begins. It covers all runs that are registered by now.
    pub(super) fn begin_renewal(&self) {
        let mut all = self.asked.lock();
        *all = Asked { new: None, in_renewal: all.oldest() };
    }

    /// Records that the renewal has succeeded.
    pub(super) fn renewed(&self) {
        self.asked.lock().in_renewal = None;
    }
}
