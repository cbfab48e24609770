//! The state of this process in the store, from joining to having left. [`joining`](super::joining) begins it, and
//! [`lease`](super::lease) ends it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::seam::{Instant, Seam};

/// The state of this process between joining the store and having left it.
#[derive(Debug)]
pub(crate) struct Presence {
    /// Cancelled when the store has answered the join, or nothing waits for that answer any more.
    pub(super) join_over: CancellationToken,
    /// Whether this process may be registered in the store.
    pub(super) may_be_known: AtomicBool,
    /// The latest end of the shutdown, once one has begun.
    ends_by: watch::Sender<Option<Instant>>,
    is_outside: AtomicBool,
    /// Cancelled when the shutdown has returned its report.
    shut_down: CancellationToken,
    /// Cancelled when this process has left the store, or could not.
    pub(super) left: CancellationToken,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            join_over: CancellationToken::new(),
            may_be_known: AtomicBool::new(false),
            ends_by: watch::Sender::new(None),
            is_outside: AtomicBool::new(false),
            shut_down: CancellationToken::new(),
            left: CancellationToken::new(),
        }
    }
}

impl Presence {
    /// Records that this process is never registered in the store, so that there is nothing to leave.
    pub(crate) fn stays_outside(&self) {
        self.is_outside.store(true, Ordering::Release);
        self.join_over.cancel();
        self.left.cancel();
    }

    /// Whether this process is never registered in the store.
    pub(crate) fn is_outside(&self) -> bool {
        self.is_outside.load(Ordering::Acquire)
    }

    /// Records that the store has accepted this process, which it had refused before.
    pub(super) fn is_known(&self) {
        self.may_be_known.store(true, Ordering::Release);
    }

    /// Waits until the join is over.
    pub(super) async fn join_over(&self) {
        self.join_over.cancelled().await;
    }

    /// Waits until this process has left the store, or could not.
    pub(crate) async fn left(&self) {
        self.left.cancelled().await;
    }

    /// Records that a shutdown has begun, and its latest end. Only the first call counts.
    pub(crate) fn ends_by(&self, instant: Instant) {
        self.ends_by.send_if_modified(|by| by.is_none().then(|| *by = Some(instant)).is_some());
    }

    /// Records that the shutdown has returned its report.
    pub(super) fn is_shut_down(&self) {
        self.shut_down.cancel();
    }

    /// Resolves when a shutdown is not over in time because its runtime makes no progress.
    pub(super) async fn overdue(&self, seam: &Seam) {
        let mut ends_by = self.ends_by.subscribe();
        let by = match ends_by.wait_for(Option::is_some).await {
            Ok(by) => *by,
            Err(_) => None,
        };
        let Some(by) = by else { return std::future::pending().await };
        tokio::select! {
            biased;
            () = self.shut_down.cancelled() => std::future::pending().await,
            () = seam.sleep_until(by) => {}
        }
    }
}
