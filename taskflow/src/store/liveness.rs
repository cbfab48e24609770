//! Liveness: how other processes notice early that a process died.
//!
//! A process that runs tasks shows that it is alive by something that disappears when it dies: a lock of a database
//! session, or a subscription. While that is there, the process is alive. When it is gone, the process is dead or has
//! lost its connection; nobody can know which. So both sides wait. The process tries to show its liveness again every
//! [`SHOW_AGAIN`]. If it has not succeeded for [`LIVENESS_GRACE`], it stops the runs that other processes may start.
//! The other processes wait for [`SILENCE`] before they start them.
//!
//! This applies only to runs that may be repeated. All other runs wait for the end of their lease.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::Stream;

/// How often a process that is no longer visible tries to show its liveness again.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) const SHOW_AGAIN: Duration = Duration::from_millis(200);

/// After this long without being visible, a process stops the runs that others may start.
pub(crate) const LIVENESS_GRACE: Duration = Duration::from_secs(2);

/// After this long without liveness, others consider a process dead. It is longer than [`LIVENESS_GRACE`], so that the
/// process has time to stop its runs before others start them.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) const SILENCE: Duration = Duration::from_millis(2500);

/// Whether other processes can see that this one is alive. See [`Store::show_life`](super::Store::show_life).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// Others see the liveness of this process, or the store ensures that nobody considers it dead before its leases
    /// end.
    Visible,
    /// Others may not have seen its liveness since that instant.
    Gone {
        /// When its liveness was last known to be visible.
        since: Instant,
    },
}

/// The changes of this process's visibility, see [`Store::show_life`](super::Store::show_life). It never ends.
pub type LivenessStream = Pin<Box<dyn Stream<Item = Liveness> + Send>>;
