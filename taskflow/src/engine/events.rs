//! Who is told what happened: subscribers, and those who wait for the end of a task.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

use crate::model::{TaskEvent, TaskEventKind, TaskId};

/// Tells subscribers and waiters.
#[derive(Debug)]
pub(crate) struct Events {
    subscribers: broadcast::Sender<TaskEvent>,
    waiters: Mutex<HashMap<TaskId, Arc<Notify>>>,
}

impl Events {
    /// Events a subscriber may be behind before it misses some.
    const CAPACITY: usize = 4096;

    pub(crate) fn new() -> Self {
        Self { subscribers: broadcast::channel(Self::CAPACITY).0, waiters: Mutex::default() }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<TaskEvent> {
        self.subscribers.subscribe()
    }

    pub(crate) fn has_subscribers(&self) -> bool {
        self.subscribers.receiver_count() > 0
    }

    /// Tells what happened, if anybody listens.
    pub(crate) fn send(&self, id: TaskId, name: &Arc<str>, kind: impl FnOnce() -> TaskEventKind) {
        if self.has_subscribers() {
            // The only error is that nobody listens any more.
            let _ = self.subscribers.send(TaskEvent::now(id, name.clone(), kind()));
        }
    }

    /// The same where the name is not shared yet.
    pub(crate) fn send_named(&self, id: TaskId, name: &str, kind: impl FnOnce() -> TaskEventKind) {
        if self.has_subscribers() {
            self.send(id, &Arc::from(name), kind);
        }
    }

    /// What wakes those who wait for this task, and when anything changes in the store.
    pub(crate) fn waiter(&self, id: TaskId) -> Arc<Notify> {
        self.waiters.lock().entry(id).or_default().clone()
    }

    /// Whoever waited does so no longer.
    pub(crate) fn forget(&self, id: TaskId) {
        let mut waiters = self.waiters.lock();
        // One owner is the map, the other is the one that calls.
        if waiters.get(&id).is_some_and(|waiter| Arc::strong_count(waiter) <= 2) {
            waiters.remove(&id);
        }
    }

    /// This task has ended.
    pub(crate) fn ended(&self, id: TaskId) {
        if let Some(waiter) = self.waiters.lock().get(&id) {
            waiter.notify_waiters();
        }
    }

    /// Something changed in the store: whoever waits may look again.
    pub(crate) fn anything_changed(&self) {
        for waiter in self.waiters.lock().values() {
            waiter.notify_waiters();
        }
    }
}
