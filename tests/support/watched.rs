//! A store that counts its calls, and can keep the ticks of schedules waiting.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taskflow::Store;
use tokio::sync::watch;

use crate::wrapper::Wrapper;

/// Another store, watched.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) store: Wrapper,
    calls: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    ticks_wait: Arc<watch::Sender<bool>>,
}

impl Watched {
    pub(crate) fn new(inner: impl Store) -> Self {
        let calls: Arc<Mutex<BTreeMap<&'static str, u64>>> = Arc::default();
        let ticks_wait = Arc::new(watch::Sender::new(false));
        let (counted, waits) = (calls.clone(), ticks_wait.clone());
        let store = Wrapper::new(Arc::new(inner), move |call| {
            *counted.lock().unwrap().entry(call).or_default() += 1;
            let waits = waits.clone();
            Box::pin(async move {
                if call == "fire" {
                    let _ = waits.subscribe().wait_for(|wait| !wait).await;
                }
                Ok(())
            })
        });
        Self { store, calls, ticks_wait }
    }

    /// How often each call was made since the last time, for those that were.
    pub(crate) fn take_calls(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// No tick is answered for that long.
    pub(crate) async fn keep_ticks_waiting(&self, length: Duration) {
        self.ticks_wait.send_replace(true);
        tokio::time::sleep(length).await;
        self.ticks_wait.send_replace(false);
    }
}
