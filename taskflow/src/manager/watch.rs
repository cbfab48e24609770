//! Watches of single tasks: streams of their status, progress and log lines.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, stream};
use tokio::sync::watch;

use super::TaskManager;
use crate::engine::watching::{self, Seen};
use crate::model::{Progress, StatusUpdate, TaskId, TaskUpdate};

impl TaskManager {
    /// Watches one task: a stream of its status, its progress and its log lines, whichever process runs it. It begins with
    /// the current status and all lines so far. It ends after the final status, which comes after the last log line; when
    /// there is no such task; and when this manager shuts down.
    ///
    /// ```
    /// use futures_util::StreamExt;
    /// use taskflow::{TaskId, TaskManager, model::TaskUpdate};
    ///
    /// # async fn demo(tasks: TaskManager, id: TaskId) {
    /// let mut watch = tasks.watch(id);
    /// while let Some(update) = watch.next().await {
    ///     match update {
    ///         TaskUpdate::Status(it) => println!("{}", it.status),
    ///         TaskUpdate::Progress(it) => println!("{:.0} %: {}", it.fraction * 100.0, it.message),
    ///         TaskUpdate::Log(line) => println!("{}", line.message),
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// Changes made by this process arrive at once, all others within about half a second, or later while the store is slow:
    /// after each read the watch pauses for 20 times as long as the read took, but for at most 5 s. All watches of one task in
    /// a process share the reads. A watch that is polled late sees the latest status and progress, and misses no log line.
    ///
    /// If the store cannot be read, the watch does not end: it yields [`TaskUpdate::Unavailable`] and keeps trying.
    pub fn watch(&self, id: TaskId) -> Watch {
        let told = WatchState::new(watching::watch(&self.0.core, id));
        Watch { id, updates: Box::pin(stream::unfold(told, WatchState::next)) }
    }
}

/// A watch of one task, see [`TaskManager::watch`].
#[must_use = "a watch tells nothing until it is polled"]
pub struct Watch {
    id: TaskId,
    updates: Pin<Box<dyn Stream<Item = TaskUpdate> + Send>>,
}

impl Stream for Watch {
    type Item = TaskUpdate;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TaskUpdate>> {
        self.updates.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a watch has yielded so far, and what it yields next.
struct WatchState {
    seen: watch::Receiver<Seen>,
    /// The updates to yield next. They come from one read.
    updates: VecDeque<TaskUpdate>,
    status: Option<StatusUpdate>,
    progress: Option<Progress>,
    lines: usize,
    is_failing: bool,
    is_over: bool,
}

impl WatchState {
    fn new(seen: watch::Receiver<Seen>) -> Self {
        Self {
            seen,
            updates: VecDeque::new(),
            status: None,
            progress: None,
            lines: 0,
            is_failing: false,
            is_over: false,
        }
    }

    async fn next(mut self) -> Option<(TaskUpdate, Self)> {
        loop {
            if let Some(update) = self.updates.pop_front() {
                return Some((update, self));
            }
            if self.is_over || self.seen.changed().await.is_err() {
                return None;
            }
            let seen = self.seen.borrow_and_update().clone();
            self.compare(seen);
        }
    }

    /// Makes an update for everything that has changed.
    fn compare(&mut self, seen: Seen) {
        if seen.is_gone {
            self.is_over = true;
            return self.updates.push_back(TaskUpdate::Gone);
        }
        if let Some(error) = seen.error {
            if !std::mem::replace(&mut self.is_failing, true) {
                self.updates.push_back(TaskUpdate::Unavailable { error });
            }
            return;
        }
        self.is_failing = false;
        let status = seen.status.filter(|status| self.status.as_ref() != Some(status));
        if let Some(status) = &status {
            self.is_over = status.status.is_final();
            self.status = Some(status.clone());
        }
        let mut status = status.map(TaskUpdate::Status);
        if !self.is_over {
            self.updates.extend(status.take());
        }
        if self.progress != seen.progress {
            self.progress.clone_from(&seen.progress);
            self.updates.extend(seen.progress.map(TaskUpdate::Progress));
        }
        self.updates.extend(seen.lines.iter().skip(self.lines).cloned().map(TaskUpdate::Log));
        self.lines = self.lines.max(seen.lines.len());
        // The final status is the last update.
        self.updates.extend(status);
    }
}
