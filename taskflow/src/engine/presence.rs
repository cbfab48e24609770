//! Where this process is between joining the store and having left it: [`joining`](super::joining) begins that, and
//! [`lease`](super::lease) ends it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where this process is between joining and having left.
#[derive(Debug)]
pub(crate) struct Presence {
    /// Fires when the store has answered the join, or nobody waits for that any more.
    pub(super) join_over: CancellationToken,
    /// Whether the store may know this process.
    pub(super) may_be_known: AtomicBool,
    /// When the shutdown that has begun is over at the latest.
    ends_by: watch::Sender<Option<Instant>>,
    /// Fires when the shutdown has said how everything ended.
    shut_down: CancellationToken,
    /// Fires when the store has been told that this process is gone, or cannot be told.
    pub(super) left: CancellationToken,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            join_over: CancellationToken::new(),
            may_be_known: AtomicBool::new(false),
            ends_by: watch::Sender::new(None),
            shut_down: CancellationToken::new(),
            left: CancellationToken::new(),
        }
    }
}

impl Presence {
    /// The store knows this process, whom it had refused before.
    pub(super) fn is_known(&self) {
        self.may_be_known.store(true, Ordering::Release);
    }

    /// Waits until the store has answered the join.
    pub(super) async fn join_over(&self) {
        self.join_over.cancelled().await;
    }

    /// Waits until this process has left the store, or cannot.
    pub(crate) async fn left(&self) {
        self.left.cancelled().await;
    }

    /// A shutdown begins that is over by then.
    pub(crate) fn ends_by(&self, instant: Instant) {
        self.ends_by.send_if_modified(|by| by.is_none().then(|| *by = Some(instant)).is_some());
    }

    /// The shutdown has said how everything ended.
    pub(super) fn is_shut_down(&self) {
        self.shut_down.cancel();
    }

    /// Ends when a shutdown that has begun is not over in time: nobody drives its runtime.
    pub(super) async fn overdue(&self) {
        let mut ends_by = self.ends_by.subscribe();
        let by = match ends_by.wait_for(Option::is_some).await {
            Ok(by) => *by,
            Err(_) => None,
        };
        let Some(by) = by else { return std::future::pending().await };
        tokio::select! {
            () = self.shut_down.cancelled() => std::future::pending().await,
            () = tokio::time::sleep_until(by) => {}
        }
    }
}
