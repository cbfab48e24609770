//! Sends task events to subscribers.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::model::{TaskEvent, TaskEventKind, TaskId};
use crate::seam::Seam;

/// Sends task events to subscribers.
#[derive(Debug)]
pub(crate) struct Events {
    seam: Seam,
    subscribers: broadcast::Sender<TaskEvent>,
    /// Shared with each subscriber, so that its count shows whether there is one. This is checked for every task, and the
    /// channel would take a lock for it.
    listening: Arc<()>,
    /// Adds in flight, not announced to subscribers yet: a run may start before the add is answered.
    unannounced: Mutex<HashSet<TaskId>>,
}

/// Receives the events from its creation on.
#[derive(Debug)]
pub(crate) struct Subscriber {
    events: broadcast::Receiver<TaskEvent>,
    _listening: Arc<()>,
}

impl Subscriber {
    /// Waits for the next event; `None` when no more can come.
    pub(crate) async fn next(&mut self) -> Option<TaskEvent> {
        loop {
            match self.events.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a subscriber reads too slowly and missed events");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl Events {
    /// How many events a subscriber may be behind before it misses some.
    const CAPACITY: usize = 4096;

    pub(crate) fn new(seam: Seam) -> Self {
        Self {
            seam,
            subscribers: broadcast::channel(Self::CAPACITY).0,
            listening: Arc::default(),
            unannounced: Mutex::default(),
        }
    }

    pub(crate) fn subscribe(&self) -> Subscriber {
        let _listening = self.listening.clone();
        Subscriber { events: self.subscribers.subscribe(), _listening }
    }

    pub(crate) fn has_subscribers(&self) -> bool {
        Arc::strong_count(&self.listening) > 1
    }

    /// Sends an event, if there are subscribers.
    pub(crate) fn send(&self, id: TaskId, name: &Arc<str>, kind: impl FnOnce() -> TaskEventKind) {
        if self.has_subscribers() {
            // The only possible error is that no subscriber is left.
            let _ = self.subscribers.send(TaskEvent::at(self.seam.now(), id, name.clone(), kind()));
        }
    }

    /// Announces tasks that are about to be added. Returns whether there are subscribers; if so, the caller must call
    /// [`added`](Self::added) for each task.
    pub(crate) fn adding(&self, ids: impl Iterator<Item = TaskId>) -> bool {
        let listening = self.has_subscribers();
        if listening {
            self.unannounced.lock().extend(ids);
        }
        listening
    }

    /// Completes an announced add. Sends the added event if `name` is given, which means that a task was added.
    pub(crate) fn added(&self, id: TaskId, name: Option<&str>) {
        if self.unannounced.lock().remove(&id)
            && let Some(name) = name
        {
            self.send_named(id, name, || TaskEventKind::Added);
        }
    }

    /// Sends the started event of an attempt. If the add has not been answered yet, its added event is sent first.
    pub(crate) fn started(&self, id: TaskId, name: &Arc<str>, attempt: u32) {
        if self.has_subscribers() {
            self.added(id, Some(name));
            self.send(id, name, || TaskEventKind::Started { attempt });
        }
    }

    /// Like [`send`](Self::send), for a name that is not shared yet.
    pub(crate) fn send_named(&self, id: TaskId, name: &str, kind: impl FnOnce() -> TaskEventKind) {
        if self.has_subscribers() {
            self.send(id, &Arc::from(name), kind);
        }
    }
}
