//! An observer that keeps events in memory, for tests.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Interest, Observer};
use crate::model::TaskEvent;

/// Keeps events in memory, for tests. Clones share the events.
///
/// ```standalone_crate
/// use taskflow::TaskManager;
/// use taskflow::observe::{EventKind, MemoryObserver};
///
/// #[taskflow::task]
/// async fn ping() {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let seen = MemoryObserver::new();
/// let tasks = TaskManager::builder().observer(seen.clone()).start().await?;
/// let handle = tasks.add(ping()).await?;
///
/// let event = seen.wait_for(|event| event.kind.kind() == EventKind::Succeeded).await;
/// assert_eq!((event.id, event.attempt, &*event.queue), (handle.id(), 1, "default"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryObserver {
    kept: Arc<Kept>,
    interest: Interest,
}

#[derive(Debug, Default)]
struct Kept {
    events: Mutex<Vec<TaskEvent>>,
    more: Notify,
}

impl MemoryObserver {
    /// Keeps all events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the events that it keeps. Default: all.
    #[must_use]
    pub fn interest(mut self, interest: Interest) -> Self {
        self.interest = interest;
        self
    }

    /// The events so far, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<TaskEvent> {
        self.kept.events.lock().clone()
    }

    /// Forgets the events so far.
    pub fn clear(&self) {
        self.kept.events.lock().clear();
    }

    /// Returns the first event, of those so far and those to come, that satisfies `is_it`. It waits without a time limit: put a
    /// timeout around it.
    pub async fn wait_for(&self, mut is_it: impl FnMut(&TaskEvent) -> bool) -> TaskEvent {
        let mut found = None;
        self.wait_until(|events| {
            found = events.iter().find(|event| is_it(event)).cloned();
            found.is_some()
        })
        .await;
        found.expect("the wait ends when it is found")
    }

    /// Waits until the list of all events so far, oldest first, satisfies `is_so`.
    pub async fn wait_until(&self, mut is_so: impl FnMut(&[TaskEvent]) -> bool) {
        loop {
            // Registered before the check, so that no event in between is missed.
            let more = self.kept.more.notified();
            if is_so(&self.kept.events.lock()) {
                return;
            }
            more.await;
        }
    }
}

impl Observer for MemoryObserver {
    fn on_event(&self, event: &TaskEvent) {
        self.kept.events.lock().push(event.clone());
        self.kept.more.notify_waiters();
    }

    fn interest(&self) -> Interest {
        self.interest.clone()
    }
}
