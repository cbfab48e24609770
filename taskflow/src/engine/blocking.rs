//! The threads on which synchronous tasks run.
//!
//! They are plain threads, not threads of the runtime. A runtime that is dropped waits for its own threads, but a task that
//! ignores the request to stop must not keep `main` from returning.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::seam::Seam;

/// A pool of threads for synchronous bodies. Threads start when needed, up to a limit, and end after 10 s without work.
#[derive(Clone, Debug)]
pub(crate) struct BlockingPool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    limit: usize,
    seam: Seam,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Box<dyn FnOnce() + Send>>,
    threads: usize,
    idle: usize,
}

impl BlockingPool {
    const KEEP_IDLE: Duration = Duration::from_secs(10);

    pub(crate) fn new(limit: usize, seam: Seam) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), limit, seam }))
    }

    /// Runs `body` on a thread. `body` must not panic. The receiver gets an error if no thread runs and none could be started.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, receiver) = oneshot::channel();
        let mut state = self.0.state.lock();
        state.waiting.push_back(Box::new(move || {
            // If the receiver was dropped, the answer is not needed.
            let _ = answer.send(body());
        }));
        if state.idle >= state.waiting.len() || state.threads >= self.0.limit {
            self.0.work.notify_one();
        } else {
            state.threads += 1;
            drop(state);
            self.spawn();
        }
        receiver
    }

    fn spawn(&self) {
        let shared = self.0.clone();
        let spawned = self.0.seam.thread("taskflow-blocking", move || work(&shared));
        if let Err(error) = spawned {
            let mut state = self.0.state.lock();
            state.threads -= 1;
            if state.threads == 0 {
                // No thread is left to run these bodies: their tasks go back to the queue.
                tracing::error!(
                    %error,
                    "the system could not start a thread for synchronous tasks; the limit on threads or the memory may be used up"
                );
                state.waiting.clear();
            }
        }
    }
}

fn work(shared: &Shared) {
    let mut state = shared.state.lock();
    loop {
        if let Some(body) = state.waiting.pop_front() {
            drop(state);
            body();
            state = shared.state.lock();
            continue;
        }
        state.idle += 1;
        let timed_out = shared.work.wait_for(&mut state, BlockingPool::KEEP_IDLE).timed_out();
        state.idle -= 1;
        if timed_out && state.waiting.is_empty() {
            state.threads -= 1;
            return;
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("BlockingPool").field("threads", &state.threads).field("idle", &state.idle).finish()
    }
}
