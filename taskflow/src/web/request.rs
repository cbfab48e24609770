//! The tasks of one request.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::holds::HoldOwner;
use crate::manager::TaskManager;
use crate::model::{TaskId, TaskSource};
use crate::store::{HoldOutcome, RunRef};

/// The tasks of one request, held until it is known how it ended.
#[derive(Debug)]
pub(super) struct RequestTasks {
    pub(super) manager: TaskManager,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// The response is on its way; these are held.
    Open(Vec<RunRef>),
    /// It has been sent, or never will be; what comes late shares its verdict.
    Over(HoldOutcome),
}

impl RequestTasks {
    pub(super) fn new(manager: TaskManager) -> Arc<Self> {
        Arc::new(Self { manager, state: Mutex::new(State::Open(Vec::new())) })
    }

    /// The request is over. The first verdict counts.
    pub(super) fn end(&self, outcome: HoldOutcome) {
        let mut state = self.state.lock();
        if let State::Open(holds) = &mut *state {
            let holds = mem::take(holds);
            self.manager.releaser().release(holds, &outcome);
            *state = State::Over(outcome);
        }
    }
}

impl HoldOwner for RequestTasks {
    fn source(&self) -> TaskSource {
        TaskSource::Request
    }

    fn holds(&self) -> bool {
        matches!(*self.state.lock(), State::Open(_))
    }

    fn release(&self, id: TaskId) {
        if let State::Open(held) = &mut *self.state.lock() {
            let released = held.extract_if(.., |hold| hold.id == id).collect();
            self.manager.releaser().release(released, &HoldOutcome::Run);
        }
    }

    fn held(&self, mut holds: Vec<RunRef>) {
        match &mut *self.state.lock() {
            State::Open(held) => held.append(&mut holds),
            State::Over(outcome) => self.manager.releaser().release(holds, outcome),
        }
    }
}

/// Ends the request's tasks, whatever becomes of the response.
#[derive(Debug)]
pub(super) struct EndGuard {
    tasks: Option<Arc<RequestTasks>>,
}

impl EndGuard {
    pub(super) fn new(tasks: Arc<RequestTasks>) -> Self {
        Self { tasks: Some(tasks) }
    }

    pub(super) fn end(&mut self, outcome: HoldOutcome) {
        if let Some(tasks) = self.tasks.take() {
            tasks.end(outcome);
        }
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        // Dropped before its end: the handler panicked; or the client went away or a timeout cut in, and what was
        // accepted runs.
        self.end(if std::thread::panicking() {
            HoldOutcome::Cancel { reason: "the handler that added it panicked".to_owned() }
        } else {
            HoldOutcome::Run
        });
    }
}
