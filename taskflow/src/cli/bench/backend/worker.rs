//! The loop of a *floor*, the baseline that does the same work hand-written on the raw driver of a database: finish the
//! tasks that ran, claim more, run them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::slots::Slots;
use crate::cli::bench::failure::Result;
use crate::cli::bench::work::{Payload, RUNS};

/// The payload as JSON, as the floor stores it.
pub(super) fn to_json(payload: &Payload) -> Result<String> {
    Ok(serde_json::to_string(payload)?)
}

/// Runs a task: decodes the payload and counts the run.
fn run(payload: &str) -> Result<()> {
    let payload: Payload = serde_json::from_str(payload)?;
    RUNS.note(payload.user_id);
    Ok(())
}

/// The connection that finishes and claims, or a handle to it.
pub(super) trait Turns: Send + 'static {
    type Id: Send + 'static;

    /// Finishes these tasks and claims more, in one transaction if the store can.
    fn turn(
        &mut self,
        finished: Vec<Self::Id>,
    ) -> impl Future<Output = Result<Vec<(Self::Id, String)>>> + Send;

    /// Waits until there may be work again.
    fn idle(&mut self) -> impl Future<Output = ()> + Send;
}

/// The state that the adding and the running half of a floor share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    slots: usize,
    pub(super) added: AtomicU64,
    finished: AtomicU64,
    failure: Mutex<Option<String>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    pub(super) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self { slots, ..Self::default() })
    }

    /// Works until it is stopped, or until a turn or a task fails: then [`unfinished`](Self::unfinished) returns that error.
    pub(super) fn work(self: &Arc<Self>, turns: impl Turns) {
        let shared = Arc::clone(self);
        let worker = tokio::spawn(async move {
            let Err(failure) = shared.take_turns(turns).await;
            *shared.failure.lock() = Some(failure.to_string());
        });
        *self.worker.lock() = Some(worker);
    }

    async fn take_turns(&self, mut turns: impl Turns) -> Result<std::convert::Infallible> {
        let mut slots = Slots::new(self.slots);
        let mut finished = Vec::new();
        loop {
            let count = finished.len() as u64;
            let claimed = turns.turn(std::mem::take(&mut finished)).await?;
            self.finished.fetch_add(count, Ordering::Release);
            if claimed.is_empty() && count == 0 {
                turns.idle().await;
            }
            for (id, payload) in claimed {
                slots.start(async move { run(&payload).map(|()| id) }).await?;
            }
            finished = slots.ended().await?;
        }
    }

    pub(super) fn unfinished(&self) -> Result<u64> {
        match self.failure.lock().as_ref() {
            Some(failure) => Err(format!("the floor failed: {failure}").into()),
            None => {
                Ok(self.added.load(Ordering::Acquire).wrapping_sub(self.finished.load(Ordering::Acquire)))
            }
        }
    }

    pub(super) async fn stop(&self) {
        let worker = self.worker.lock().take();
        if let Some(worker) = worker {
            worker.abort();
            // The error only says that the worker was aborted.
            let _ = worker.await;
        }
    }
}
