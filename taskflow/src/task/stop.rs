//! How a run is asked to stop, and why.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

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
    /// Whether there is no time to clean up: not after a cancel or at a shutdown, but after all else.
    at_once: AtomicBool,
    asked: Notify,
}

impl Stop {
    pub(crate) fn ask(&self, reason: StopReason) {
        if !matches!(reason, StopReason::Cancel | StopReason::Shutdown) {
            self.at_once.store(true, Ordering::Release);
        }
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

    /// Whether the run is no longer ours.
    pub(crate) fn is_lost(&self) -> bool {
        self.reason.load(Ordering::Acquire) == StopReason::Lost as u8
    }

    /// Whether there is no time to clean up.
    pub(crate) fn is_at_once(&self) -> bool {
        self.at_once.load(Ordering::Acquire)
    }

    /// Ends when there is no time to clean up.
    pub(crate) async fn at_once(&self) {
        loop {
            // Before the look, so that nothing asked in between is missed.
            let asked = self.asked.notified();
            if self.is_at_once() {
                return;
            }
            asked.await;
        }
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
