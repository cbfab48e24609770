//! Adds that are held back until a response has been sent.

use std::collections::HashMap;
use std::fmt;

use parking_lot::Mutex;

use crate::model::{TaskId, TaskSource};
use crate::store::Run;

/// Who holds adds back: a web request.
pub(crate) trait Holder: fmt::Debug + Send + Sync {
    /// What the records say.
    fn source(&self) -> TaskSource;
    /// Whether adds are still held back.
    fn holds(&self) -> bool;
    /// These are held now, and released by the holder; by nobody else, also if whoever added has given up waiting.
    fn held(&self, holds: Vec<Run>);
}

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
