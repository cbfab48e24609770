//! The thread that passes events to the observers, and the ring buffer from which it takes them.

use std::any::type_name;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;

use super::panics;
use crate::model::{EventKind, TaskEvent, TaskEventKind};
use crate::observe::{Interest, Observer};
use crate::seam::{Instant, Seam};

/// How many events may wait for the observers, and how many bytes of their errors and log lines.
const CAPACITY: usize = 4096;
const CAPACITY_BYTES: usize = 16 << 20;

/// How many events the thread takes under one lock, and after how many of those bytes it stops. A lock for each event would
/// cost the tasks more than the event itself.
const TAKEN: usize = 64;
const TAKEN_BYTES: usize = 64 << 10;

/// How long the thread rests once it has delivered everything. New events do not wake it meanwhile: a wake-up for each event
/// would cost the tasks more than the event itself.
const REST: Duration = Duration::from_millis(5);

/// The observers of this process.
#[derive(Clone, Debug)]
pub(crate) struct Observers(Arc<Shared>);

/// An observer. Once it has panicked, it gets no more events.
pub(crate) struct Plugged {
    observer: Box<dyn Observer>,
    type_name: &'static str,
    interest: Interest,
    unplugged: AtomicBool,
}

struct Shared {
    seam: Seam,
    observers: Vec<Plugged>,
    /// The bits of the kinds that an observer wants.
    wanted: AtomicU32,
    dropped: AtomicU64,
    ring: Mutex<Ring>,
    /// Notified when an event comes while the thread does not rest, and when the thread should end.
    wake: Condvar,
    /// Notified when every event has been delivered.
    idle: Notify,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<TaskEvent>,
    /// The bytes of their errors and log lines.
    bytes: usize,
    /// Whether the thread lives. It starts with the first event.
    has_thread: bool,
    /// Whether the thread has events to deliver, or is delivering one.
    is_busy: bool,
    /// Whether the thread rests. It then soon looks for events without being woken.
    rests: bool,
    /// Whether the thread ends when no event is left.
    is_closed: bool,
}

impl Ring {
    fn pop(&mut self) -> Option<TaskEvent> {
        let event = self.events.pop_front()?;
        self.bytes -= bytes(&event);
        Some(event)
    }

    /// Takes the events to deliver before the lock is taken again. It takes only a few, since the ring cannot drop events that
    /// were taken.
    fn pop_some(&mut self, events: &mut Vec<TaskEvent>) {
        let mut length = 0;
        while events.len() < TAKEN
            && length < TAKEN_BYTES
            && let Some(event) = self.pop()
        {
            length += bytes(&event);
            events.push(event);
        }
    }
}

/// The length of the text of an event.
fn bytes(event: &TaskEvent) -> usize {
    match &event.kind {
        TaskEventKind::Rejected { error }
        | TaskEventKind::Retrying { error, .. }
        | TaskEventKind::Failed { error } => error.len(),
        TaskEventKind::Log { message, .. } => message.len(),
        _ => 0,
    }
}

impl Plugged {
    pub(crate) fn new<O: Observer>(observer: O) -> Self {
        let interest = observer.interest();
        Self {
            observer: Box::new(observer),
            type_name: type_name::<O>(),
            interest,
            unplugged: AtomicBool::new(false),
        }
    }

    fn is_plugged(&self) -> bool {
        !self.unplugged.load(Ordering::Acquire)
    }

    /// Runs code of the observer. After a panic it gets no more events.
    fn call(&self, shared: &Shared, code: impl FnOnce(&dyn Observer)) {
        if let Err(panic) = panics::catch(|| code(&*self.observer)) {
            self.unplugged.store(true, Ordering::Release);
            shared.wanted.store(shared.bits(), Ordering::Release);
            // The log may be what panicked.
            let _ = panics::catch(|| {
                tracing::error!(observer = self.type_name, "an observer {panic}; it gets no more events");
            });
        }
    }
}

impl Shared {
    fn plugged(&self) -> impl Iterator<Item = &Plugged> {
        self.observers.iter().filter(|it| it.is_plugged())
    }

    fn bits(&self) -> u32 {
        self.plugged().fold(0, |bits, it| bits | it.interest.bits())
    }

    /// Delivers events until the ring is empty and closed.
    fn deliver(&self) {
        let (mut has_written, mut has_rested) = (false, false);
        let mut taken = Vec::new();
        let mut ring = self.ring.lock();
        loop {
            ring.pop_some(&mut taken);
            if !taken.is_empty() {
                MutexGuard::unlocked(&mut ring, || taken.drain(..).for_each(|event| self.tell(&event)));
                (has_written, has_rested) = (true, false);
            } else if has_written {
                MutexGuard::unlocked(&mut ring, || {
                    self.plugged().for_each(|it| it.call(self, |observer| observer.flush()));
                });
                has_written = false;
            } else {
                ring.is_busy = false;
                self.idle.notify_waiters();
                if ring.is_closed {
                    ring.has_thread = false;
                    return;
                }
                if has_rested {
                    self.wake.wait(&mut ring);
                } else {
                    ring.rests = true;
                    self.wake.wait_for(&mut ring, REST);
                    (ring.rests, has_rested) = (false, true);
                }
            }
        }
    }

    fn tell(&self, event: &TaskEvent) {
        for plugged in self.plugged().filter(|it| it.interest.wants(event)) {
            plugged.call(self, |observer| observer.on_event(event));
        }
    }
}

impl Observers {
    pub(crate) fn new(seam: Seam, observers: Vec<Plugged>) -> Self {
        let shared = Shared {
            seam,
            observers,
            wanted: AtomicU32::new(0),
            dropped: AtomicU64::new(0),
            ring: Mutex::default(),
            wake: Condvar::new(),
            idle: Notify::new(),
        };
        shared.wanted.store(shared.bits(), Ordering::Release);
        Self(Arc::new(shared))
    }

    /// Whether an observer wants events of any kind.
    pub(super) fn want_some(&self) -> bool {
        self.0.wanted.load(Ordering::Acquire) != 0
    }

    /// Whether an observer may want an event of this kind.
    pub(super) fn want(&self, kind: EventKind) -> bool {
        self.0.wanted.load(Ordering::Acquire) & kind.bit() != 0
    }

    /// Puts an event into the ring, if an observer wants it.
    pub(super) fn put(&self, event: TaskEvent) {
        let shared = &self.0;
        if !shared.plugged().any(|it| it.interest.wants(&event)) {
            return;
        }
        let mut ring = shared.ring.lock();
        ring.bytes += bytes(&event);
        ring.events.push_back(event);
        while ring.events.len() > CAPACITY || (ring.bytes > CAPACITY_BYTES && ring.events.len() > 1) {
            ring.pop();
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        ring.is_busy = true;
        if ring.has_thread {
            if !ring.rests {
                shared.wake.notify_one();
            }
            return;
        }
        ring.has_thread = true;
        drop(ring);
        let delivering = shared.clone();
        let started = shared.seam.thread("taskflow-observers", move || delivering.deliver());
        if let Err(error) = started {
            // The next event tries again; until then the ring keeps what it has room for.
            shared.ring.lock().has_thread = false;
            tracing::error!(%error, "no thread for observers could be started; the limit on threads or the memory may be used up");
        }
    }

    /// How many events were dropped because the observers were too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until every event has been delivered, but no longer than until `by`; then the thread ends, as soon as it has
    /// delivered the rest.
    pub(super) async fn flush(&self, by: Instant) {
        if self.0.seam.timeout_at(by, self.delivered()).await.is_err() {
            let left = self.0.ring.lock().events.len();
            tracing::warn!(
                left,
                "observers were too slow for the shutdown; they get the rest if the process lives on"
            );
        }
        self.close();
    }

    async fn delivered(&self) {
        loop {
            let idle = self.0.idle.notified();
            if !self.0.ring.lock().is_busy {
                return;
            }
            idle.await;
        }
    }

    /// Lets the thread end when no event is left.
    pub(super) fn close(&self) {
        self.0.ring.lock().is_closed = true;
        self.0.wake.notify_one();
    }
}

impl fmt::Debug for Plugged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers")
            .field("observers", &self.observers)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::model::TaskId;

    /// It waits at each event until the test sends.
    struct Slow(Mutex<mpsc::Receiver<()>>);

    impl Observer for Slow {
        fn on_event(&self, _: &TaskEvent) {
            let _ = self.0.lock().recv();
        }
    }

    #[test]
    fn long_texts_do_not_fill_the_memory() {
        let (go_on, wait) = mpsc::channel();
        let seam = Seam::default();
        let observers = Observers::new(seam.clone(), vec![Plugged::new(Slow(Mutex::new(wait)))]);
        let event = |length: usize| {
            let kind = TaskEventKind::Failed { error: "x".repeat(length) };
            TaskEvent::at(seam.now(), TaskId::new(), Arc::from("task"), kind)
        };
        for _ in 0..40 {
            observers.put(event(1 << 20));
            assert!(observers.0.ring.lock().bytes <= CAPACITY_BYTES);
        }
        // One may be with the observer; the latest are kept.
        assert!((23..=24).contains(&observers.dropped()), "{}", observers.dropped());
        observers.put(event(2 * CAPACITY_BYTES));
        assert_eq!(
            observers.0.ring.lock().events.len(),
            1,
            "the latest is kept even if it is too long by itself"
        );
        drop(go_on);
    }
}
