//! Sends task events to subscribers and observers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};

use super::observers::Observers;
use crate::model::{
    AttemptOutcome, EventKind, FastMap, NewTask, Tags, TaskEvent, TaskEventKind, TaskId, TaskRecord,
};
use crate::seam::{Instant, Seam};
use crate::store::Claimed;

/// Sends task events to subscribers and observers.
#[derive(Debug)]
pub(crate) struct Events {
    seam: Seam,
    subscribers: broadcast::Sender<TaskEvent>,
    /// Each subscriber holds a clone, so the reference count shows whether there is a subscriber. This is checked for every
    /// task, and the channel would take a lock for it.
    listening: Arc<()>,
    observers: Observers,
    /// The number of parts of the engine that may still send events about what they store: see [`Announcing`].
    announcing: AtomicUsize,
    all_announced: Notify,
    /// Adds in flight, not announced to subscribers yet: a run may start before the add is answered.
    unannounced: Mutex<FastMap<TaskId, ()>>,
    /// The name and the queue of the task added last. The next task often has the same, and shares them.
    last_added: Mutex<(Arc<str>, Arc<str>)>,
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

    pub(crate) fn new(seam: Seam, observers: Observers) -> Self {
        Self {
            seam,
            subscribers: broadcast::channel(Self::CAPACITY).0,
            listening: Arc::default(),
            observers,
            announcing: AtomicUsize::new(0),
            all_announced: Notify::new(),
            unannounced: Mutex::default(),
            last_added: Mutex::default(),
        }
    }

    pub(crate) fn subscribe(&self) -> Subscriber {
        let _listening = self.listening.clone();
        Subscriber { events: self.subscribers.subscribe(), _listening }
    }

    fn has_subscribers(&self) -> bool {
        Arc::strong_count(&self.listening) > 1
    }

    /// Whether there is a subscriber, or an observer that wants any event.
    pub(crate) fn has_listeners(&self) -> bool {
        self.observers.want_some() || self.has_subscribers()
    }

    /// Whether a subscriber or an observer wants events of this kind.
    pub(crate) fn want(&self, kind: EventKind) -> bool {
        self.observers.want(kind) || self.has_subscribers()
    }

    /// Sends an event of this kind, if a subscriber or an observer wants it. `make` gets the time.
    pub(crate) fn send(&self, kind: EventKind, make: impl FnOnce(SystemTime) -> TaskEvent) {
        if self.want(kind) {
            let event = make(self.seam.now());
            if self.has_subscribers() {
                // The only possible error is that no subscriber is left.
                let _ = self.subscribers.send(event.clone());
            }
            self.observers.put(event);
        }
    }

    /// Announces tasks that are about to be added. Returns whether a subscriber or an observer wants added events; if so, the
    /// caller must call [`added`](Self::added) for each task.
    pub(crate) fn adding(&self, ids: impl Iterator<Item = TaskId>) -> bool {
        let listening = self.want(EventKind::Added);
        if listening {
            self.unannounced.lock().extend(ids.map(|id| (id, ())));
        }
        listening
    }

    /// Completes an announced add. Sends the added event if `task` is given, which means that a task was added.
    pub(crate) fn added(&self, id: TaskId, task: Option<&NewTask>) {
        // Locked until the event is sent, so that the run's started event comes after it.
        let mut unannounced = self.unannounced.lock();
        if unannounced.remove(&id).is_some()
            && let Some(task) = task
        {
            self.of_new(id, task, TaskEventKind::Added);
        }
    }

    /// Sends an event of a task that has no record yet.
    pub(crate) fn of_new(&self, id: TaskId, task: &NewTask, kind: TaskEventKind) {
        self.send(kind.kind(), |at| {
            let (name, queue) = self.shared(task);
            let mut event = TaskEvent::at(at, id, name, kind);
            event.queue = queue;
            event.tags = Tags::from(&task.tags);
            event
        });
    }

    /// The name and the queue of a task, shared with the last event if they are equal.
    fn shared(&self, task: &NewTask) -> (Arc<str>, Arc<str>) {
        let mut last = self.last_added.lock();
        if *last.0 != *task.name {
            last.0 = Arc::from(&*task.name);
        }
        if *last.1 != *task.queue {
            last.1 = Arc::from(&*task.queue);
        }
        last.clone()
    }

    /// Sends the started event of an attempt. If the add has not been answered yet, its added event is sent first.
    pub(crate) fn started(&self, task: &Claimed, tags: &Tags) {
        if !(self.want(EventKind::Started) || self.want(EventKind::Added)) {
            return;
        }
        let event = |at, kind| {
            let mut event = TaskEvent::at(at, task.run.id, task.name.clone(), kind);
            (event.queue, event.tags) = (task.queue.clone(), tags.clone());
            event
        };
        let is_unannounced = self.unannounced.lock().remove(&task.run.id).is_some();
        if is_unannounced {
            self.send(EventKind::Added, |at| event(at, TaskEventKind::Added));
        }
        self.send(EventKind::Started, |at| {
            let attempt = task.attempt;
            let mut started = event(at, TaskEventKind::Started { attempt });
            started.attempt = attempt;
            started
        });
    }

    /// Sends the event of a task whose record was read. A lost event names the number of the attempt that was lost.
    pub(crate) fn of_record(&self, record: &TaskRecord, kind: TaskEventKind) {
        let lost = match kind {
            TaskEventKind::Lost => record.attempts.iter().rfind(|it| it.outcome == AttemptOutcome::Lost),
            _ => None,
        };
        self.send(kind.kind(), |at| {
            let mut event = TaskEvent::at(at, record.id, Arc::from(&*record.name), kind);
            event.queue = Arc::from(&*record.queue);
            event.attempt = lost.map_or(record.attempt, |lost| lost.number);
            event.tags = Tags::from(&record.tags);
            event
        });
    }

    /// Call this before storing something that events report. A [`flush`](Self::flush) waits until the returned value has
    /// been dropped.
    pub(crate) fn announcing(&self) -> Announcing<'_> {
        self.announcing.fetch_add(1, Ordering::SeqCst);
        Announcing(self)
    }

    /// Waits until the observers have received all events, but no longer than until `by`.
    pub(crate) async fn flush(&self, by: Instant) {
        if self.observers.want_some() {
            let all_told = async {
                loop {
                    let told = self.all_announced.notified();
                    if self.announcing.load(Ordering::SeqCst) == 0 {
                        return;
                    }
                    told.await;
                }
            };
            let _ = self.seam.timeout_at(by, all_told).await;
        }
        self.observers.flush(by).await;
    }
}

/// While this exists, a part of the engine is about to send events.
#[derive(Debug)]
pub(crate) struct Announcing<'a>(&'a Events);

impl Drop for Announcing<'_> {
    fn drop(&mut self) {
        if self.0.announcing.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.all_announced.notify_waiters();
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.observers.close();
    }
}
