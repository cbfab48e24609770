//! Leases that no renewal covers because the store answered late: those of claims and adds that were in flight during it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::seam::Instant;

/// When the oldest lease that no renewal covers was asked for. Nobody keeps count of those that the store grants at once: the
/// margin of a lease is longer than that.
#[derive(Debug, Default)]
pub(crate) struct Late {
    asked: Mutex<Asked>,
    /// Notified when a renewal should come soon.
    pub(super) soon: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// Of the leases that came since the last renewal began.
    new: Option<Instant>,
    /// Of those that the renewal in flight covers. They stay if it fails.
    in_renewal: Option<Instant>,
}

impl Asked {
    fn oldest(self) -> Option<Instant> {
        [self.new, self.in_renewal].into_iter().flatten().min()
    }
}

/// Whether a lease of that age, when it comes, should be renewed before it is the turn of the others.
pub(super) fn is_late(age: Duration, lease: Duration) -> bool {
    age > lease / 10
}

impl Late {
    /// Notes a lease that was asked for then, and has come now. Its run is already one that a renewal covers.
    pub(super) fn came(&self, asked: Instant) {
        let mut all = self.asked.lock();
        all.new = Some(all.new.map_or(asked, |new| new.min(asked)));
        drop(all);
        self.soon.notify_one();
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.asked.lock().oldest()
    }

    /// A renewal begins, of all runs that are there from now on.
    pub(super) fn begin_renewal(&self) {
        let mut all = self.asked.lock();
        *all = Asked { new: None, in_renewal: all.oldest() };
    }

    /// The renewal has succeeded.
    pub(super) fn renewed(&self) {
        self.asked.lock().in_renewal = None;
    }
}
