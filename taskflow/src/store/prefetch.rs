//! Which attempts of a task may be prefetched, as a number that a database stores.

use crate::model::RetryPolicy;

/// The column value for the attempts of a task that may be prefetched, see [`RetryPolicy::may_prefetch`].
pub(super) fn prefetch(policy: &RetryPolicy) -> Prefetch {
    match policy {
        _ if policy.max_lost_runs <= 1 => Prefetch::Never,
        _ if policy.requeue_on_interrupt => Prefetch::Always,
        _ => Prefetch::BeforeLast,
    }
}

/// Which attempts of a task may be prefetched, unless its last run was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefetch {
    Never = 0,
    /// All but the last.
    BeforeLast = 1,
    Always = 2,
}
