//! Tasks that are stored and held: they wait until their holder says what becomes of them.

use std::collections::HashMap;
use std::fmt;

use parking_lot::Mutex;

use crate::model::{TaskId, TaskSource};
use crate::store::RunRef;

/// What holds tasks back, and says later what becomes of them.
pub(crate) trait HoldOwner: fmt::Debug + Send + Sync {
    /// What the records say.
    fn source(&self) -> TaskSource;
    /// Whether adds are still held back.
    fn holds(&self) -> bool;
    /// These are held now, and released by the holder; by nobody else, also if whoever added has given up waiting.
    fn held(&self, holds: Vec<RunRef>);
    /// The caller waits for this task now: if it is held, it runs, whatever becomes of the others.
    fn release(&self, id: TaskId);
}

/// The holds of this process. Their leases are renewed with those of its runs.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<HashMap<TaskId, Hold>>);

#[derive(Debug)]
struct Hold {
    run: RunRef,
    /// What becomes of it is known, and on its way to the store.
    is_decided: bool,
}

impl Holds {
    pub(crate) fn begin(&self, hold: RunRef) {
        self.0.lock().insert(hold.id, Hold { run: hold, is_decided: false });
    }

    pub(crate) fn end(&self, hold: RunRef) {
        self.0.lock().remove(&hold.id);
    }

    pub(crate) fn all(&self) -> Vec<RunRef> {
        self.0.lock().values().map(|hold| hold.run).collect()
    }

    /// What becomes of these is known.
    pub(super) fn decide(&self, holds: &[RunRef]) {
        let mut all = self.0.lock();
        for hold in holds {
            if let Some(hold) = all.get_mut(&hold.id).filter(|held| held.run == *hold) {
                hold.is_decided = true;
            }
        }
    }

    /// Those that nobody has decided on.
    pub(super) fn undecided(&self) -> Vec<RunRef> {
        self.0.lock().values().filter(|hold| !hold.is_decided).map(|hold| hold.run).collect()
    }
}
