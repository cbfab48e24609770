//! Held tasks: stored, and not claimable until their owner, a shutdown or a recovery releases them.

use std::collections::HashMap;
use std::fmt;

use parking_lot::Mutex;

use crate::model::{TaskId, TaskSource, TraceContext};
use crate::store::RunRef;

/// The owner of held tasks.
pub(crate) trait HoldOwner: fmt::Debug + Send + Sync {
    /// The source that the task records show.
    fn source(&self) -> TaskSource;
    /// The trace of the request whose handler adds them.
    fn trace(&self) -> Option<TraceContext>;
    /// Whether new adds are still held back.
    fn holds(&self) -> bool;
    /// Takes over tasks that are now held. The owner must end these holds, even if the caller that added the tasks has given
    /// up waiting.
    fn held(&self, holds: Vec<RunRef>);
    /// Releases this task, if it is held, because the caller waits for it now. It runs even if the other held tasks do not.
    fn release(&self, id: TaskId);
}

/// The held tasks of this process. Their leases are renewed with those of its runs.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<HashMap<TaskId, Hold>>);

#[derive(Debug)]
struct Hold {
    run: RunRef,
    /// Its outcome is decided and on its way to the store.
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

    /// Marks these holds as decided.
    pub(super) fn decide(&self, holds: &[RunRef]) {
        let mut all = self.0.lock();
        for hold in holds {
            if let Some(hold) = all.get_mut(&hold.id).filter(|held| held.run == *hold) {
                hold.is_decided = true;
            }
        }
    }

    /// The holds that are not decided yet.
    pub(super) fn undecided(&self) -> Vec<RunRef> {
        self.0.lock().values().filter(|hold| !hold.is_decided).map(|hold| hold.run).collect()
    }
}
