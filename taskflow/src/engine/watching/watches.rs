//! The tasks that this process watches.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::model::{LogLine, Progress, StatusUpdate, TaskId};

/// The last read state of a task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// `None` until it has been read.
    pub(crate) status: Option<StatusUpdate>,
    pub(crate) progress: Option<Progress>,
    /// All lines up to now.
    pub(crate) lines: Arc<Vec<LogLine>>,
    /// Why the last read failed, if it did.
    pub(crate) error: Option<String>,
    /// There is no such task.
    pub(crate) is_gone: bool,
}

impl Seen {
    /// Whether a watcher would see no difference. Lines are only added and never change, so their number is compared.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let rest = |it: &Self| (it.lines.len(), it.is_gone, it.error.is_some());
        self.status == other.status && self.progress == other.progress && rest(self) == rest(other)
    }
}

/// The tasks that this process watches.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tasks: HashMap<TaskId, Watched>,
    /// Whether a listener passes the events of this process on to the readers.
    is_listening: bool,
}

/// A task that is watched.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) seen: watch::Sender<Seen>,
    /// Notified when something has happened to the task in this process.
    pub(super) wake: Arc<Notify>,
}

impl Watches {
    /// Watches a task. Returns the task if nobody watched it before: then the caller must read it.
    pub(super) fn join(&self, id: TaskId) -> (watch::Receiver<Seen>, Option<Watched>) {
        let mut state = self.0.lock();
        if let Some(watched) = state.tasks.get(&id) {
            let mut seen = watched.seen.subscribe();
            // This watch has not seen the current state yet.
            seen.mark_changed();
            return (seen, None);
        }
        let (sender, receiver) = watch::channel(Seen::default());
        let watched = Watched { seen: sender, wake: Arc::default() };
        state.tasks.insert(id, watched.clone());
        (receiver, Some(watched))
    }

    /// Forgets the task if nobody watches it any more. Returns whether that is so.
    pub(super) fn leave_if_unwatched(&self, id: TaskId, watched: &Watched) -> bool {
        let mut state = self.0.lock();
        let is_over = watched.seen.receiver_count() == 0;
        if is_over {
            state.remove(id, watched);
        }
        is_over
    }

    /// Forgets the task: nobody reads it any more.
    pub(super) fn leave(&self, id: TaskId, watched: &Watched) {
        self.0.lock().remove(id, watched);
    }

    /// Whether the caller must begin to pass on events, because nobody does so yet.
    pub(super) fn begin_to_listen(&self) -> bool {
        let mut state = self.0.lock();
        !std::mem::replace(&mut state.is_listening, true)
    }

    /// Whether no task is watched. Then the caller passes on no more events.
    pub(super) fn end_if_idle(&self) -> bool {
        let mut state = self.0.lock();
        let is_idle = state.tasks.is_empty();
        state.is_listening = !is_idle;
        is_idle
    }

    /// Records that the caller passes on no more events.
    pub(super) fn stop_listening(&self) {
        self.0.lock().is_listening = false;
    }

    /// Wakes the reader of a task, because something has happened to the task in this process.
    pub(super) fn wake(&self, id: TaskId) {
        if let Some(watched) = self.0.lock().tasks.get(&id) {
            watched.wake.notify_one();
        }
    }
}

impl State {
    fn remove(&mut self, id: TaskId, watched: &Watched) {
        // Another reader may have begun meanwhile.
        if self.tasks.get(&id).is_some_and(|it| Arc::ptr_eq(&it.wake, &watched.wake)) {
            self.tasks.remove(&id);
        }
    }
}
