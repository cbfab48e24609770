//! How a run is asked to stop, and why.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// Why a run is asked to stop. The first reason counts, except that a lost lease outweighs all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StopReason {
    /// Its task was cancelled.
    Cancel = 1,
    /// It took too long.
    Timeout = 2,
    /// The process ends.
    Shutdown = 3,
    /// The lease cannot be renewed and is about to end.
    LeaseEnding = 4,
    /// The store says that the run is no longer ours.
    Lost = 5,
}

/// Whether a run has been asked to stop. Part of its context, so that it costs nothing of its own.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    /// The number of the reason; 0 while there is none.
    reason: AtomicU8,
    asked: Notify,
}

impl Stop {
    pub(crate) fn ask(&self, reason: StopReason) {
        if reason == StopReason::Lost {
            self.reason.store(reason as u8, Ordering::Release);
        } else {
            // Whoever asked first is the reason.
            let _ = self.reason.compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Relaxed);
        }
        self.asked.notify_waiters();
    }

    pub(crate) fn reason(&self) -> Option<StopReason> {
        use StopReason::{Cancel, LeaseEnding, Lost, Shutdown, Timeout};
        let reason = self.reason.load(Ordering::Acquire);
        [Cancel, Timeout, Shutdown, LeaseEnding, Lost].into_iter().find(|it| *it as u8 == reason)
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.reason.load(Ordering::Acquire) != 0
    }

    /// Ends when the run has been asked.
    pub(crate) async fn asked(&self) {
        // Before the look, so that nothing asked in between is missed.
        let asked = self.asked.notified();
        if !self.is_asked() {
            asked.await;
        }
    }
}
