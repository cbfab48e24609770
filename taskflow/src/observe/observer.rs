//! Observers: code that receives the events of tasks on a thread of its own, so it never delays a task.

use std::sync::Arc;

use super::Interest;
use crate::model::TaskEvent;

/// Receives the events of this process's tasks: adds, starts, ends, log lines. Give it to
/// [`.observer(..)`](crate::TaskManagerBuilder::observer).
///
/// ```
/// use taskflow::TaskEvent;
/// use taskflow::observe::{EventKind, Interest, Observer};
///
/// struct Pager;
///
/// impl Observer for Pager {
///     fn on_event(&self, event: &TaskEvent) {
///         eprintln!("{} {} failed: {}", event.name, event.id, event.error().unwrap_or_default());
///     }
///
///     fn interest(&self) -> Interest {
///         Interest::only([EventKind::Failed]).tasks(["charge", "refund"])
///     }
/// }
///
/// let builder = taskflow::TaskManager::builder().observer(Pager);
/// # drop(builder);
/// ```
///
/// All observers of a manager share one thread. Their events wait in a ring of at most 4,096 events and 16 MiB of text. A slow
/// observer delays the other observers, never a task. When the ring is full, the oldest event is dropped and counted
/// ([`Health::dropped_events`](crate::Health::dropped_events)). An observer that panics is named in the log and gets no more
/// events; the others continue. A shutdown waits until the ring is empty, but not beyond its own time limit.
///
/// To wait for single events in async code, use [`TaskManager::subscribe`](crate::TaskManager::subscribe).
pub trait Observer: Send + Sync + 'static {
    /// Called for each event that the observer wants, in the order in which they happened.
    fn on_event(&self, event: &TaskEvent);

    /// The events that the observer wants. Called once, when it is given to the builder. Default: all.
    fn interest(&self) -> Interest {
        Interest::ALL
    }

    /// Called when no event waits: write what you have buffered.
    fn flush(&self) {}
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn on_event(&self, event: &TaskEvent) {
        (**self).on_event(event);
    }

    fn interest(&self) -> Interest {
        (**self).interest()
    }

    fn flush(&self) {
        (**self).flush();
    }
}
