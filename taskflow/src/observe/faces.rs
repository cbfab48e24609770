//! Counts the requests and open streams of the API and the dashboard of a process (its *faces*).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A request: its method and the path of its route, with parameters in braces; and the status of its answer.
type Answered = (&'static str, &'static str, u16);

/// The requests that the API and the dashboard of a process have answered, and the streams that they have open.
#[derive(Debug, Default)]
pub(crate) struct HttpUsage {
    answered: Mutex<BTreeMap<Answered, u64>>,
    viewers: AtomicUsize,
}

/// One open stream of events. It counts as open until this is dropped.
#[derive(Debug)]
pub(crate) struct Watching(Arc<HttpUsage>);

impl HttpUsage {
    /// Counts an answered request. `route` comes from the table of routes, so there are few different ones.
    pub(crate) fn answered(&self, method: &'static str, route: &'static str, status: u16) {
        *self.answered.lock().entry((method, route, status)).or_default() += 1;
    }

    /// Each kind of request with its count, in a fixed order.
    pub(crate) fn read(&self) -> Vec<(Answered, u64)> {
        self.answered.lock().iter().map(|(answered, count)| (*answered, *count)).collect()
    }

    /// Counts a stream as open until the returned value is dropped.
    pub(crate) fn watch(self: &Arc<Self>) -> Watching {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Watching(Arc::clone(self))
    }

    /// How many streams are open.
    pub(crate) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}
