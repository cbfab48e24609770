//! What a process counts of its tasks.

/// What a cell counts. The values are positions in [`Values`](super::meter::Values).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Counter {
    Added,
    Started,
    Succeeded,
    Failed,
    Retried,
    Snoozed,
    Cancelled,
    Interrupted,
    Lost,
    Panicked,
    TimedOut,
    Rejected,
    /// An attempt that failed, and neither panicked nor timed out.
    Errored,
}
