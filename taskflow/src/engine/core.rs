//! What every part of the engine shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::events::Events;
use super::guarded::{answered, guarded};
use super::health::HealthMeter;
use super::holds::Holds;
use super::presence::Presence;
use super::queue_limits::Queues;
use super::runs::Runs;
use super::waiters::Waiters;
use super::written::Written;
use crate::model::{AddError, InstanceInfo, NewTask, StoreError, StoreErrorKind, TaskEventKind, TaskId};
use crate::store::{InsertTask, Retention, Start, Store, StoreFuture};

/// What every part of the engine shares, whether this process runs tasks or only adds them.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) instance: InstanceInfo,
    pub(crate) settings: Settings,
    pub(crate) queues: Queues,
    pub(crate) runtime: Handle,
    pub(crate) events: Events,
    pub(crate) waiters: Waiters,
    pub(crate) health: HealthMeter,
    pub(crate) runs: Runs,
    pub(crate) holds: Holds,
    /// Fires when nothing of this manager is to go on.
    pub(crate) over: CancellationToken,
    /// Fires when its runtime is gone, which can be before it is over.
    pub(crate) orphaned: CancellationToken,
    pub(crate) presence: Presence,
    closed: AtomicBool,
    /// Whether the store has not let this process join.
    only_looks: AtomicBool,
}

/// How long a call of the store may take once the runtime of its manager has ended.
const ORPHANED: Duration = Duration::from_millis(500);

/// What the builder was told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) lease: Duration,
    pub(crate) retention: Retention,
    pub(crate) add_timeout: Duration,
    pub(crate) cancel_grace: Duration,
}

impl Core {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        instance: InstanceInfo,
        settings: Settings,
        queues: Queues,
        runtime: Handle,
    ) -> Self {
        Self {
            store: guarded(store),
            instance,
            settings,
            queues,
            runtime,
            events: Events::new(),
            waiters: Waiters::default(),
            health: HealthMeter::default(),
            runs: Runs::default(),
            holds: Holds::default(),
            over: CancellationToken::new(),
            orphaned: CancellationToken::new(),
            presence: Presence::default(),
            closed: AtomicBool::new(false),
            only_looks: AtomicBool::new(false),
        }
    }

    /// A call of the store that writes, noted in the health.
    pub(crate) async fn call<T: Written>(
        &self,
        what: &'static str,
        call: StoreFuture<'_, T>,
    ) -> Result<T, StoreError> {
        let began = self.health.begin();
        self.health.note(what, began, self.answer_of(call).await)
    }

    /// A call of the store that changes nothing.
    pub(crate) async fn read<T>(
        &self,
        what: &'static str,
        call: StoreFuture<'_, T>,
    ) -> Result<T, StoreError> {
        let began = self.health.begin();
        self.health.note_read(what, began, self.answer_of(call).await)
    }

    /// The answer of the store; or an error soon after the runtime of this manager has ended, which may have driven the
    /// store's connections: a call would wait for ever.
    async fn answer_of<T>(&self, call: StoreFuture<'_, T>) -> Result<T, StoreError> {
        let ended = async {
            self.orphaned.cancelled().await;
            tokio::time::sleep(ORPHANED).await;
        };
        tokio::select! {
            biased;
            answer = answered(call) => answer,
            () = ended => Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "the runtime on which this manager was started has ended; start a manager on this runtime",
            )),
        }
    }

    /// Tells whoever listens or waits that a pending task was cancelled.
    pub(crate) async fn announce_cancelled(&self, id: TaskId) {
        self.waiters.ended_somehow(id);
        if self.events.has_subscribers()
            && let Ok(Some(task)) = self.store.get(id).await
        {
            self.events.send_named(id, &task.name, || TaskEventKind::Cancelled);
        }
    }

    /// The store refuses to be written to, and can be read.
    pub(crate) fn look_only(&self, refused: StoreError) {
        self.only_looks.store(true, Ordering::Release);
        let _ = self.health.note_read::<()>("to make this process known", self.health.begin(), Err(refused));
    }

    pub(crate) fn only_looks(&self) -> bool {
        self.only_looks.load(Ordering::Acquire)
    }

    /// The store has let this process join.
    pub(super) fn has_joined(&self) {
        self.only_looks.store(false, Ordering::Release);
        self.presence.is_known();
    }

    /// Nothing can be added from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// A task that is within every limit and whose queue is known, ready to be inserted.
    pub(crate) fn prepare(&self, task: NewTask, start: Start) -> Result<InsertTask, AddError> {
        task.check()?;
        let (max_size, record_rejected) = self.queues.admission(&task.queue)?;
        let mut insert = InsertTask::new(task, start);
        (insert.max_size, insert.record_rejected) = (max_size, record_rejected);
        Ok(insert)
    }
}
