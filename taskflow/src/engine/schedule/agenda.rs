//! When each schedule is to be looked at, first to last.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

/// One place for each name.
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

    /// The first instant.
    pub(super) fn next(&self) -> Option<SystemTime> {
        self.places.first().map(|(at, _)| *at)
    }

    /// Takes the first whose time has come.
    pub(super) fn pop_due(&mut self, now: SystemTime) -> Option<Arc<str>> {
        if self.next()? > now {
            return None;
        }
        self.places.pop_first().map(|(_, name)| name)
    }
}
