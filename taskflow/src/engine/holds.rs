//! Adds that are held back until a response has been sent.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::model::TaskId;
use crate::store::Run;

/// The holds of this process, whose leases are renewed with those of its runs.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<HashMap<TaskId, Run>>);

impl Holds {
    pub(crate) fn begin(&self, hold: Run) {
        self.0.lock().insert(hold.id, hold);
    }

    pub(crate) fn end(&self, hold: Run) {
        self.0.lock().remove(&hold.id);
    }

    pub(crate) fn all(&self) -> Vec<Run> {
        self.0.lock().values().copied().collect()
    }
}
