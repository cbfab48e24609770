//! The state that every part of the engine shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use tracing::field::Empty;

use super::catalogue::Known;
use super::events::Events;
use super::guarded::{answered, guarded};
use super::health::HealthMeter;
use super::holds::Holds;
use super::hooks::{Around, Hooks, OnAdds};
use super::late::Late;
use super::observers::Observers;
use super::presence::Presence;
use super::queue_limits::Queues;
use super::runs::Runs;
use super::sealing::Sealing;
use super::statistics::Recorder;
use super::waiters::Waiters;
use super::watching::Watches;
use super::written::Written;
use crate::model::{
    AddError, EventKind, InstanceInfo, NewTask, StoreError, StoreErrorKind, TaskEventKind, TaskId,
};
use crate::observe::{Calls, Meter, Refusals, TraceSettings};
use crate::seam::Seam;
use crate::store::{InsertTask, Retention, Start, Store, StoreFuture};

/// The state that every part of the engine shares, in a process that runs tasks and in one that only adds them.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) instance: InstanceInfo,
    pub(crate) settings: Settings,
    pub(crate) queues: Queues,
    /// What is sealed, if this manager has keys or a task of the program must be sealed.
    pub(crate) sealing: Option<Sealing>,
    pub(crate) seam: Seam,
    /// What a test has arranged for the next runs.
    #[cfg(feature = "testing")]
    pub(crate) staged: Arc<super::staged::Staged>,
    pub(crate) runtime: Handle,
    /// The middleware of all tasks, the outermost first.
    pub(crate) middleware: Around,
    pub(crate) on_add: OnAdds,
    pub(crate) observers: Observers,
    pub(crate) events: Events,
    pub(crate) waiters: Waiters,
    pub(crate) health: HealthMeter,
    pub(crate) runs: Runs,
    pub(crate) late: Late,
    pub(crate) holds: Holds,
    pub(crate) catalogues: Known,
    pub(crate) meter: Meter,
    pub(crate) calls: Calls,
    pub(crate) refusals: Refusals,
    #[cfg(any(feature = "api", feature = "metrics"))]
    pub(crate) last_gauges: crate::observe::LastRead,
    #[cfg(feature = "api")]
    pub(crate) faces: Arc<crate::observe::HttpUsage>,
    pub(crate) recorder: Recorder,
    pub(crate) watches: Watches,
    /// Cancelled when every part of this manager must stop.
    pub(crate) over: CancellationToken,
    /// Cancelled if the manager's runtime is dropped before `over` is cancelled.
    pub(crate) orphaned: CancellationToken,
    pub(crate) presence: Presence,
    closed: AtomicBool,
    /// Whether the store has refused the join, so that this process can only read.
    is_read_only: AtomicBool,
}

/// How long a store call may take once the manager's runtime has ended.
const ORPHANED: Duration = Duration::from_millis(500);

/// The settings of the builder.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) lease: Duration,
    pub(crate) retention: Retention,
    pub(crate) add_timeout: Duration,
    pub(crate) cancel_grace: Duration,
    /// Whether this process writes statistics.
    pub(crate) stats: bool,
    pub(crate) trace: TraceSettings,
    /// Whether this process reads the store for its metrics.
    #[cfg(any(feature = "api", feature = "metrics"))]
    pub(crate) store_gauges: bool,
}

impl AsRef<Self> for Core {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Core {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        instance: InstanceInfo,
        settings: Settings,
        queues: Queues,
        (hooks, sealing): (Hooks, Option<Sealing>),
        (seam, runtime): (Seam, Handle),
        #[cfg(feature = "testing")] staged: Arc<super::staged::Staged>,
    ) -> Self {
        let observers = Observers::new(seam.clone(), hooks.observers);
        Self {
            store: guarded(store),
            instance,
            settings,
            queues,
            middleware: hooks.middleware,
            on_add: hooks.on_add,
            events: Events::new(seam.clone(), observers.clone()),
            observers,
            sealing,
            waiters: Waiters::default(),
            health: HealthMeter::new(seam.clone()),
            runs: Runs::default(),
            late: Late::default(),
            holds: Holds::default(),
            catalogues: Known::default(),
            meter: Meter::new(&seam),
            calls: Calls::default(),
            refusals: Refusals::default(),
            #[cfg(any(feature = "api", feature = "metrics"))]
            last_gauges: Default::default(),
            #[cfg(feature = "api")]
            faces: Default::default(),
            recorder: Recorder::new(seam.now()),
            seam,
            #[cfg(feature = "testing")]
            staged,
            runtime,
            watches: Watches::default(),
            over: CancellationToken::new(),
            orphaned: CancellationToken::new(),
            presence: Presence::default(),
            closed: AtomicBool::new(false),
            is_read_only: AtomicBool::new(false),
        }
    }

    /// Spawns a task of this process on the manager's runtime.
    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.seam.spawn(&self.runtime, future)
    }

    /// Makes a store call that writes, and records its outcome in the health.
    pub(crate) async fn call<T: Written>(
        &self,
        what: &'static str,
        call: StoreFuture<'_, T>,
    ) -> Result<T, StoreError> {
        let began = self.health.begin();
        self.health.note(what, began, self.counted(what, self.answer_of(call), Written::rows).await)
    }

    /// Makes a store call that only reads, and records its outcome in the health.
    pub(crate) async fn read<T>(
        &self,
        what: &'static str,
        call: StoreFuture<'_, T>,
    ) -> Result<T, StoreError> {
        let began = self.health.begin();
        let answer = self.counted(what, self.answer_of(call), |_| 0).await;
        self.health.note_read(what, began, self.presence.is_outside(), answer)
    }

    /// Makes a store call, counts it, and shows it as a span.
    pub(super) async fn counted<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
        rows: impl FnOnce(&T) -> usize,
    ) -> Result<T, StoreError> {
        let since = self.seam.instant();
        let answer = store_call(what, call, rows).await;
        self.calls.count(what, self.seam.since(since), answer.is_err());
        answer
    }

    /// Makes a store call whose failure says nothing about tasks, such as a read of documents. The call is not counted, and
    /// the health does not show it.
    pub(crate) async fn aside<T>(&self, call: StoreFuture<'_, T>) -> Result<T, StoreError> {
        self.answer_of(call).await
    }

    /// Awaits the store's answer. Returns an error 500 ms after the manager's runtime has ended: that runtime may have
    /// driven the store's connections, and the call would wait forever.
    async fn answer_of<T>(&self, call: StoreFuture<'_, T>) -> Result<T, StoreError> {
        let ended = async {
            self.orphaned.cancelled().await;
            self.seam.sleep(ORPHANED).await;
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

    /// Tells subscribers and waiting callers that a pending task was cancelled.
    pub(crate) async fn announce_cancelled(&self, id: TaskId) {
        self.waiters.ended_somehow(id);
        if self.events.want(EventKind::Cancelled)
            && let Ok(Some(task)) = self.store.get(id).await
        {
            self.events.of_record(&task, TaskEventKind::Cancelled);
        }
    }

    /// Records that the store can be read but refuses writes.
    pub(crate) fn set_read_only(&self, refused: StoreError) {
        self.is_read_only.store(true, Ordering::Release);
        let _ = self.health.note_read::<()>("the join", self.health.begin(), false, Err(refused));
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only.load(Ordering::Acquire)
    }

    /// Records that the store has accepted the join.
    pub(super) fn has_joined(&self) {
        self.is_read_only.store(false, Ordering::Release);
        self.presence.is_known();
    }

    /// Refuses all further adds.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Calls the hooks on adds, checks the limits of the task itself, looks up its queue and seals its arguments. Returns the
    /// task ready to be inserted, and as held if it `may_be_held` and is not eager.
    pub(crate) fn prepare(&self, mut task: NewTask, may_be_held: bool) -> Result<InsertTask, AddError> {
        let admitted = self.hooked(&mut task).and_then(|()| {
            task.check()?;
            let admission = self.queues.admission(&task.queue)?;
            self.sealing.as_ref().map_or(Ok(()), |sealing| sealing.seal_new(&mut task))?;
            Ok(admission)
        });
        let (max_size, record_rejected) = admitted.inspect_err(|error| self.rejected(&task, error))?;
        let start = if may_be_held && !task.eager { Start::Hold } else { Start::Wait };
        let mut insert = InsertTask::new(task, start);
        (insert.max_size, insert.record_rejected) = (max_size, record_rejected);
        Ok(insert)
    }

    /// Calls the hooks on adds.
    pub(crate) fn hooked(&self, task: &mut NewTask) -> Result<(), AddError> {
        if self.on_add.is_empty() { Ok(()) } else { self.on_add.call(task) }
    }

    /// Sends the event of a refused add.
    pub(crate) fn rejected(&self, task: &NewTask, error: &AddError) {
        if self.events.want(EventKind::Rejected) {
            self.events.of_new(task.id, task, TaskEventKind::Rejected { error: error.to_string() });
        }
    }
}

/// Makes a store call inside a span, if a subscriber records that span.
async fn store_call<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, StoreError>>,
    rows: impl FnOnce(&T) -> usize,
) -> Result<T, StoreError> {
    let span = tracing::trace_span!(
        target: "taskflow", "taskflow.store",
        otel.name = what, otel.kind = "client", operation = what, batch = Empty, outcome = Empty,
    );
    if span.is_disabled() {
        return call.await;
    }
    let answer = call.instrument(span.clone()).await;
    match &answer {
        Ok(answer) => {
            // Signed: the bridge to OpenTelemetry exports unsigned numbers as texts.
            span.record("batch", i64::try_from(rows(answer)).unwrap_or(i64::MAX));
            span.record("outcome", "ok");
        }
        Err(error) => {
            span.record("outcome", error.kind().as_str());
        }
    }
    answer
}
