//! The order in which schedules were defined and removed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::store::ScheduleChanges;

/// The log of changes. Each name is in it once, at its latest change.
#[derive(Debug, Default)]
pub(super) struct ScheduleLog {
    version: u64,
    names: BTreeMap<u64, String>,
    versions: HashMap<String, u64>,
    removed: VecDeque<u64>,
}

impl ScheduleLog {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Records a change.
    pub(super) fn changed(&mut self, name: &str, is_removal: bool) {
        self.version += 1;
        if let Some(before) = self.versions.insert(name.to_owned(), self.version) {
            self.names.remove(&before);
        }
        self.names.insert(self.version, name.to_owned());
        if is_removal {
            self.removed.push_back(self.version);
        }
        while self.removed.len() > ScheduleChanges::MAX_REMOVED {
            // A schedule that was defined again has a later entry, which stays.
            if let Some(name) = self.removed.pop_front().and_then(|version| self.names.remove(&version)) {
                self.versions.remove(&name);
            }
        }
    }

    /// The changes after that version, oldest first.
    pub(super) fn since(&self, version: u64) -> impl Iterator<Item = (u64, &str)> {
        self.names.range(version.saturating_add(1)..).map(|(version, name)| (*version, &**name))
    }
}
