//! This process in the store, from before it joins until after it has left.
//!
//! The lease thread starts first and leaves last, on a runtime of its own: so it does not matter whether the future that
//! starts a manager is dropped half-way, whether the manager is shut down, or whether its runtime ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::core::{Core, answered};
use super::lease;
use super::runner::Runner;
use crate::model::{Error, StoreError, StoreErrorKind};

/// How long the store is waited for as this process leaves it.
const LEAVE: Duration = Duration::from_secs(2);

/// Where this process is between joining and having left.
#[derive(Debug)]
pub(crate) struct Presence {
    /// Fires when the store has answered the join, or nobody waits for that any more.
    join_over: CancellationToken,
    /// Whether the store may know this process.
    may_be_known: AtomicBool,
    /// When the shutdown that has begun is over at the latest.
    ends_by: watch::Sender<Option<Instant>>,
    /// Fires when the shutdown has said how everything ended.
    shut_down: CancellationToken,
    /// Fires when the store has been told that this process is gone, or cannot be told.
    left: CancellationToken,
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

/// A manager that is being started. Unless it comes to be, everything it began ends with this.
#[derive(Debug)]
pub(crate) struct Starting {
    core: Arc<Core>,
    has_started: bool,
}

impl Starting {
    /// Begins: the lease thread is there before anything is in the store.
    pub(crate) fn begin(core: Arc<Core>, runner: Option<Arc<Runner>>) -> Result<Self, Error> {
        lease::keep(core.clone(), runner)?;
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

/// Tells the store that this process is gone. A join that is under way comes first.
pub(super) async fn leave(core: &Core) {
    core.close();
    core.over.cancel();
    let _ = timeout(LEAVE, core.presence.join_over()).await;
    if core.presence.may_be_known.load(Ordering::Acquire)
        && !matches!(timeout(LEAVE, answered(core.store.leave(core.instance.id))).await, Ok(Ok(())))
    {
        tracing::warn!("the store could not be told that this process ends; its lease will end");
    }
    core.presence.left.cancel();
}
