//! The counters that a process keeps of its tasks.

use crate::model::TaskSource;

/// A counter of a cell: the counts of one task name in one queue. Its number is its position in
/// [`Values`](super::meter::Values).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Counter {
    /// A task that the program added.
    Added,
    /// A task that a request added.
    Requested,
    /// A task that a tick of a schedule added.
    Ticked,
    Started,
    Succeeded,
    Failed,
    Retried,
    Snoozed,
    Cancelled,
    HandedBack,
    Interrupted,
    Lost,
    Panicked,
    TimedOut,
    Rejected,
    /// An attempt that failed, and neither panicked nor timed out.
    Errored,
}

impl Counter {
    /// The counter of an added task with this source.
    pub(crate) fn added(source: TaskSource) -> Self {
        match source {
            TaskSource::Manager => Self::Added,
            TaskSource::Request => Self::Requested,
            TaskSource::Schedule => Self::Ticked,
        }
    }
}

/// The values of a label, each with its counter.
#[cfg(any(feature = "api", feature = "metrics"))]
pub(crate) type Words<const N: usize> = [(Counter, &'static str); N];

/// The sources of added tasks.
#[cfg(any(feature = "api", feature = "metrics"))]
pub(crate) const SOURCES: Words<3> =
    [(Counter::Added, "manager"), (Counter::Requested, "request"), (Counter::Ticked, "schedule")];

/// The outcomes of attempts.
#[cfg(any(feature = "api", feature = "metrics"))]
pub(crate) const OUTCOMES: Words<9> = [
    (Counter::Succeeded, "success"),
    (Counter::Errored, "failed"),
    (Counter::Panicked, "panicked"),
    (Counter::TimedOut, "timed_out"),
    (Counter::Cancelled, "cancelled"),
    (Counter::Snoozed, "snoozed"),
    (Counter::HandedBack, "handed_back"),
    (Counter::Interrupted, "interrupted"),
    (Counter::Lost, "lost"),
];

/// The statuses of ended tasks.
#[cfg(any(feature = "api", feature = "metrics"))]
pub(crate) const STATUSES: Words<3> =
    [(Counter::Succeeded, "success"), (Counter::Failed, "failed"), (Counter::Cancelled, "cancelled")];
