//! Tells subscribers what happens to tasks.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::model::{TaskEvent, TaskEventKind, TaskId};

/// Tells subscribers what happens.
#[derive(Debug)]
pub(crate) struct Events {
    subscribers: broadcast::Sender<TaskEvent>,
    /// Shared with each subscriber: whether there is one is asked for every task, and the channel would take a lock.
    listening: Arc<()>,
    /// Adds on their way, whose subscribers have not been told: a run may begin before the add is answered.
    untold: Mutex<HashSet<TaskId>>,
}

/// Hears what happens from when it was made on.
#[derive(Debug)]
pub(crate) struct Subscriber {
    events: broadcast::Receiver<TaskEvent>,
    _listening: Arc<()>,
}

impl Subscriber {
    /// The next event; `None` when there can be no more.
    pub(crate) async fn next(&mut self) -> Option<TaskEvent> {
        loop {
            match self.events.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "a subscriber is too slow"),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl Events {
    /// Events a subscriber may be behind before it misses some.
    const CAPACITY: usize = 4096;

    pub(crate) fn new() -> Self {
        Self {
            subscribers: broadcast::channel(Self::CAPACITY).0,
            listening: Arc::default(),
            untold: Mutex::default(),
        }
    }

    pub(crate) fn subscribe(&self) -> Subscriber {
        let _listening = self.listening.clone();
        Subscriber { events: self.subscribers.subscribe(), _listening }
    }

    pub(crate) fn has_subscribers(&self) -> bool {
        Arc::strong_count(&self.listening) > 1
    }

    /// Tells what happened, if anybody listens.
    pub(crate) fn send(&self, id: TaskId, name: &Arc<str>, kind: impl FnOnce() -> TaskEventKind) {
        if self.has_subscribers() {
            // The only error is that nobody listens any more.
            let _ = self.subscribers.send(TaskEvent::now(id, name.clone(), kind()));
        }
    }

    /// This task is about to be added. Answers whether anybody listens; then [`added`](Self::added) must follow.
    pub(crate) fn adding(&self, ids: impl Iterator<Item = TaskId>) -> bool {
        let listening = self.has_subscribers();
        if listening {
            self.untold.lock().extend(ids);
        }
        listening
    }

    /// What became of an add that was announced: `name`, if a task was added.
    pub(crate) fn added(&self, id: TaskId, name: Option<&str>) {
        if self.untold.lock().remove(&id)
            && let Some(name) = name
        {
            self.send_named(id, name, || TaskEventKind::Added);
        }
    }

    /// An attempt begins: of a task that has been added, whoever is told first.
    pub(crate) fn started(&self, id: TaskId, name: &Arc<str>, attempt: u32) {
        if self.has_subscribers() {
            self.added(id, Some(name));
            self.send(id, name, || TaskEventKind::Started { attempt });
        }
    }

    /// As [`send`](Self::send), where the name is not shared yet.
    pub(crate) fn send_named(&self, id: TaskId, name: &str, kind: impl FnOnce() -> TaskEventKind) {
        if self.has_subscribers() {
            self.send(id, &Arc::from(name), kind);
        }
    }
}
