//! The catalogues that this process has: its own, and those that it has read from the store. A catalogue describes what one
//! program knows (its tasks, queues and schedules; see `content.rs`).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::content::Catalogue;

/// The catalogues that this process has: its own, and those that it has read from the store.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Set by a process that runs tasks.
    own: OnceLock<Arc<Catalogue>>,
    read: Mutex<HashMap<String, Arc<Catalogue>>>,
}

impl Known {
    /// Sets what this process itself knows. Only the first call counts.
    pub(crate) fn set_own(&self, own: Catalogue) {
        let _ = self.own.set(Arc::new(own));
    }

    pub(crate) fn own(&self) -> Option<&Arc<Catalogue>> {
        self.own.get()
    }

    pub(super) fn get(&self, hash: &str) -> Option<Arc<Catalogue>> {
        self.read.lock().get(hash).cloned()
    }

    pub(super) fn put(&self, hash: String, catalogue: Arc<Catalogue>) {
        self.read.lock().insert(hash, catalogue);
    }

    /// Forgets those that no live process has, so that catalogues of earlier deployments do not pile up in memory.
    pub(super) fn keep_only(&self, is_live: impl Fn(&str) -> bool) {
        self.read.lock().retain(|hash, _| is_live(hash));
    }
}
