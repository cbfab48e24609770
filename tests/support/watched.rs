//! A store that counts its calls.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use taskflow::Store;

use crate::wrapper::Wrapper;

/// A wrapped store, and the counts of its calls.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) store: Wrapper,
    calls: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Watched {
    pub(crate) fn new(inner: impl Store) -> Self {
        let calls: Arc<Mutex<BTreeMap<&'static str, u64>>> = Arc::default();
        let counted = calls.clone();
        let store = Wrapper::new(Arc::new(inner), move |call| {
            *counted.lock().unwrap().entry(call).or_default() += 1;
            Box::pin(async { Ok(()) })
        });
        Self { store, calls }
    }

    /// How often each call was made since the last [`take_calls`](Self::take_calls). Calls that were not made are missing.
    pub(crate) fn take_calls(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}
