//! Decides which answers of a store show that it accepts writes.

use crate::model::{CancelOutcome, Error, TaskId};
use crate::store::{Claims, Finished, Fired, Inserted, Recovered, Refusal, ReleasedTurn, Renewed};

/// The answer to a call that may write. A store that refuses writes (full disk, replica, `maxmemory`) still answers such
/// a call if there is nothing to write.
pub(crate) trait Written {
    /// Whether something was written.
    fn is_written(&self) -> bool;

    /// How many tasks the answer is about.
    fn rows(&self) -> usize {
        usize::from(self.is_written())
    }
}

/// Calls that always write.
impl Written for () {
    fn is_written(&self) -> bool {
        true
    }
}

/// Every renewal writes the time at which the instance was last seen.
impl Written for Renewed {
    fn is_written(&self) -> bool {
        true
    }
}

impl Written for Claims {
    fn is_written(&self) -> bool {
        !self.tasks.is_empty()
    }

    fn rows(&self) -> usize {
        self.tasks.len()
    }
}

impl Written for Finished {
    fn is_written(&self) -> bool {
        // A repeated finish was written before, and its answer was lost.
        matches!(self, Self::Applied(_) | Self::Repeated(_))
    }
}

impl Written for (Vec<Finished>, Claims) {
    fn is_written(&self) -> bool {
        self.0.is_written() || self.1.is_written()
    }

    fn rows(&self) -> usize {
        self.0.len() + self.1.rows()
    }
}

impl Written for ReleasedTurn {
    fn is_written(&self) -> bool {
        self.0.is_written() || self.1.is_written() || self.2.is_written()
    }

    fn rows(&self) -> usize {
        self.0.rows() + self.1.len() + self.2.rows()
    }
}

impl Written for Recovered {
    fn is_written(&self) -> bool {
        true
    }
}

impl Written for Fired {
    fn is_written(&self) -> bool {
        !matches!(self, Self::Early { .. } | Self::Before | Self::Superseded)
    }
}

impl Written for CancelOutcome {
    fn is_written(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Requested)
    }
}

/// The id of a task that was changed.
impl Written for TaskId {
    fn is_written(&self) -> bool {
        true
    }
}

/// Whether a write was applied.
impl Written for bool {
    fn is_written(&self) -> bool {
        *self
    }
}

/// The number of rows that a write changed.
impl Written for usize {
    fn is_written(&self) -> bool {
        *self > 0
    }
}

/// The outcome of a manual retry.
impl Written for Result<(), Error> {
    fn is_written(&self) -> bool {
        self.is_ok()
    }
}

/// The outcome of inserting a group.
impl Written for Result<Vec<Inserted>, Refusal> {
    fn is_written(&self) -> bool {
        self.as_ref().is_ok_and(|inserted| inserted.iter().any(|one| one.kind.is_new()))
    }

    fn rows(&self) -> usize {
        self.as_ref().map_or(1, Vec::len)
    }
}

impl<T: Written> Written for Vec<T> {
    fn is_written(&self) -> bool {
        self.iter().any(Written::is_written)
    }

    fn rows(&self) -> usize {
        self.iter().map(Written::rows).sum()
    }
}
