//! Counts how runs have ended since the process started.

use parking_lot::Mutex;

use crate::model::{AttemptOutcome, TaskStatus};
use crate::store::FinishKind;

/// The counts of how runs have ended since the process started.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Ends>);

/// The number of ends of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    /// Runs that ended by themselves, timed out or were cancelled.
    pub(crate) finished: usize,
    /// Runs that were cut short or had not begun, and whose tasks went back to the queue.
    pub(crate) handed_back: usize,
    /// Runs that were cut short and whose tasks will not run again.
    pub(crate) interrupted: usize,
}

impl Tally {
    pub(crate) fn read(&self) -> Ends {
        *self.0.lock()
    }

    pub(super) fn add(&self, more: Ends) {
        let mut ends = self.0.lock();
        ends.finished += more.finished;
        ends.handed_back += more.handed_back;
        ends.interrupted += more.interrupted;
    }
}

impl Ends {
    pub(super) fn count(&mut self, finish: &FinishKind) {
        match finish {
            FinishKind::GiveBack { outcome: Some(AttemptOutcome::HandedBack) | None, .. } => {
                self.handed_back += 1
            }
            FinishKind::End { status: TaskStatus::Interrupted, .. } => self.interrupted += 1,
            _ => self.finished += 1,
        }
    }
}
