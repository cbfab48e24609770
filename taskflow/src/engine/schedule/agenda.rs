//! When each schedule is next due, in order of time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

/// The due times of the schedules, at most one for each schedule name.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    places: BTreeSet<(SystemTime, Arc<str>)>,
}

impl Agenda {
    pub(super) fn add(&mut self, at: SystemTime, name: Arc<str>) {
        self.places.insert((at, name));
    }

    pub(super) fn remove(&mut self, at: SystemTime, name: &Arc<str>) {
        self.places.remove(&(at, name.clone()));
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<SystemTime> {
        self.places.first().map(|(at, _)| *at)
    }

    /// Takes the first schedule that is due at `now`.
    pub(super) fn pop_due(&mut self, now: SystemTime) -> Option<Arc<str>> {
        if self.next()? > now {
            return None;
        }
        self.places.pop_first().map(|(_, name)| name)
    }
}
