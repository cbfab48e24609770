//! Signs of life: how others notice early that a process died.
//!
//! A process that runs tasks shows something that ends with it: a lock of a database session, a subscription. While it is
//! there the process lives. Where it is gone, the process is dead or has lost a connection, and nobody can tell which. So
//! both wait: the process shows its sign again within [`SHOW_AGAIN`], and when it could not for [`LIVENESS_GRACE`] it stops what
//! others may start. Others see no sign for [`SILENCE`] before they start it.
//!
//! The verdict concerns only runs that may be repeated. Everything else waits for the end of its lease.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::Stream;

/// A process that has lost its sign tries so often to show it again.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) const SHOW_AGAIN: Duration = Duration::from_millis(200);

/// A process whose sign has been gone for so long stops what others may start.
pub(crate) const LIVENESS_GRACE: Duration = Duration::from_secs(2);

/// A process without a sign for so long is taken for dead. It is longer than [`LIVENESS_GRACE`], so that what was stopped has
/// ended.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) const SILENCE: Duration = Duration::from_millis(2500);

/// What a store says of the sign of life of this process. See [`Store::show_life`](super::Store::show_life).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// Others see it; or the store has seen to it that nobody takes this process for dead before its leases end.
    Visible,
    /// Others may not have seen it since that instant.
    Gone {
        /// When it was last known to be there.
        since: Instant,
    },
}

/// What becomes of a sign of life, for as long as it is asked for.
pub type LivenessStream = Pin<Box<dyn Stream<Item = Liveness> + Send>>;
