//! Requests to stop a run, and their reasons.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::sync::Notify;

/// Why a run is asked to stop. The first reason counts, except that a lost lease replaces any other reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StopReason {
    /// Its task was cancelled.
    Cancel = 1,
    /// It exceeded its timeout.
    Timeout = 2,
    /// The process shuts down.
    Shutdown = 3,
    /// Its lease cannot be renewed and is about to expire, or other processes may start its task because they may not see that
    /// this process is alive.
    LeaseEnding = 4,
    /// The store says that this process no longer holds the run's lease.
    Lost = 5,
}

/// The stop request of a run. It is a part of the run's context, so it needs no allocation of its own.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    /// The [`StopReason`] as a number; 0 while there is none.
    reason: AtomicU8,
    /// Whether the run has no time to clean up. A cancel and a shutdown leave time; all other reasons do not.
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
            // The first reason is kept.
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

    /// Whether this process no longer holds the run's lease.
    pub(crate) fn is_lost(&self) -> bool {
        self.reason.load(Ordering::Acquire) == StopReason::Lost as u8
    }

    /// Whether the run has no time to clean up.
    pub(crate) fn is_at_once(&self) -> bool {
        self.at_once.load(Ordering::Acquire)
    }

    /// Waits until the run has no time to clean up.
    pub(crate) async fn at_once(&self) {
        loop {
            // Registered before the check, so that no request in between is missed.
            let asked = self.asked.notified();
            if self.is_at_once() {
                return;
            }
            asked.await;
        }
    }

    /// Waits until this process no longer holds the run's lease.
    pub(crate) async fn lost(&self) {
        loop {
            // Registered before the check, so that no request in between is missed.
            let asked = self.asked.notified();
            if self.is_lost() {
                return;
            }
            asked.await;
        }
    }

    /// Waits until the run is asked to stop.
    pub(crate) async fn asked(&self) {
        // Registered before the check, so that no request in between is missed.
        let asked = self.asked.notified();
        if !self.is_asked() {
            asked.await;
        }
    }
}
