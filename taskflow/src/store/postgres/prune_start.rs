//! Where a deletion of old tasks goes on after a batch.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::value;

/// Up to which end time tasks of each state are deleted. So the next batch does not step over their dead index entries
/// again. After the last batch it begins anew.
#[derive(Debug, Default)]
pub(super) struct PruneStart {
    last: Mutex<BTreeMap<i16, i64>>,
}

impl PruneStart {
    /// The start in each of these states; `None` is the beginning.
    pub(super) fn of(&self, states: &[i16]) -> Vec<Option<value::Instant>> {
        let last = self.last.lock();
        states.iter().map(|state| last.get(state).copied().map(value::Instant)).collect()
    }

    /// Notes that a task of this state was deleted, and when the task had ended.
    pub(super) fn deleted(&self, state: i16, ended_at: Option<value::Instant>) {
        let ended_at = ended_at.map_or(i64::MIN, |at| at.0);
        let mut last = self.last.lock();
        last.entry(state).and_modify(|last| *last = ended_at.max(*last)).or_insert(ended_at);
    }

    pub(super) fn reset(&self) {
        self.last.lock().clear();
    }
}
