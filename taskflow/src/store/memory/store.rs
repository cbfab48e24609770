//! The store: its lock, its hints, and the implementation of the contract.

use std::sync::Arc;

use futures_util::stream;
use parking_lot::Mutex;

use super::changes::Changes;
use super::state::Tables;
use super::task::Detail;
use crate::model::{
    CancelOutcome, Counts, Error, InstanceId, InstanceInfo, LogLine, Page, QueueConfig, QueueInfo,
    TaskFilter, TaskId, TaskRecord,
};
use crate::seam::Seam;
use crate::store::{
    Capabilities, Claim, Claims, Document, DocumentQuery, DocumentWrite, Finish, Finished, Fire, Fired, Hint,
    HintStream, Immediate, InsertBatch, Inserted, QueueState, Recovered, Refusal, Release, ReleasedTurn,
    Renewal, Renewed, Reopen, ReplaceArgs, Report, Retention, RunRef, ScheduleChange, ScheduleChanges,
    ScheduleState, Store, StoreFuture, TaskEnd, document,
};

/// A store in this process's memory, for tests and work that may be lost. Its tasks are lost when the process ends.
///
/// A clone is another handle to the same tasks, so two managers of one process can share them. The store implements the
/// whole contract: leases, fences, holds, limits. Its history is bounded: of the tasks that have ended, it keeps
/// at most the last [`DEFAULT_HISTORY`](Self::DEFAULT_HISTORY), or as many as [`with_history`](Self::with_history) says,
/// even if the retention is longer. When a record is dropped, its idempotency key becomes free.
///
/// ```
/// use taskflow::store::{MemoryStore, Store};
///
/// let store = MemoryStore::with_history(100);
/// let same = store.clone();
/// assert_eq!(same.location(), "memory:");
/// ```
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<Tables>,
    changes: Arc<Changes>,
}

impl MemoryStore {
    /// The number of ended tasks that a store keeps by default.
    pub const DEFAULT_HISTORY: usize = 10_000;

    /// An empty store that keeps the last [`DEFAULT_HISTORY`](Self::DEFAULT_HISTORY) ended tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::with_history(Self::DEFAULT_HISTORY)
    }

    /// An empty store that keeps the last `ended` ended tasks. With 0, a task is deleted as soon as it ends, and nobody
    /// can read its result.
    #[must_use]
    pub fn with_history(ended: usize) -> Self {
        let shared =
            Shared { state: Mutex::new(Tables::new(ended, Seam::default())), changes: Arc::default() };
        Self { shared: Arc::new(shared) }
    }

    /// A store with the clock of a test. It keeps all ended tasks.
    #[cfg(feature = "testing")]
    pub(crate) fn in_test(seam: Seam) -> Self {
        let state = Mutex::new(Tables::new(usize::MAX, seam));
        Self { shared: Arc::new(Shared { state, changes: Arc::default() }) }
    }

    /// Starts this task for `claim` if it is pending and `claim` knows its name, regardless of its time, its limits and its
    /// queue.
    #[cfg(feature = "testing")]
    pub(crate) fn claim_one(&self, id: TaskId, claim: &Claim) -> Option<crate::store::Claimed> {
        self.shared.state.lock().claim_one(id, claim)
    }

    /// How long until the store has something to do by itself: a task that becomes due or expires, or a lease that ends.
    /// Zero if that time has come.
    #[cfg(feature = "testing")]
    pub(crate) fn next_event(&self) -> Option<std::time::Duration> {
        self.shared.state.lock().next_event()
    }

    /// Whether any task has a lease.
    #[cfg(feature = "testing")]
    pub(crate) fn has_leases(&self) -> bool {
        self.shared.state.lock().has_leases()
    }

    /// Lets all leases end now.
    #[cfg(feature = "testing")]
    pub(crate) fn expire_leases(&self) {
        self.shared.state.lock().expire_leases();
    }

    /// All records, in the order of their adds.
    #[cfg(feature = "testing")]
    pub(crate) fn records(&self) -> Vec<TaskRecord> {
        self.shared.state.lock().records()
    }

    /// Makes `attempt` the number of the next attempt of a pending task.
    #[cfg(feature = "testing")]
    pub(crate) fn set_attempt(&self, id: TaskId, attempt: u32) {
        self.shared.state.lock().set_attempt(id, attempt);
    }

    /// Whether the task is pending and due.
    #[cfg(feature = "testing")]
    pub(crate) fn is_due(&self, id: TaskId) -> bool {
        self.shared.state.lock().is_due(id)
    }

    /// The number of attempts of the task that have ended; `None` if the task has ended or is gone.
    #[cfg(feature = "testing")]
    pub(crate) fn open_attempts(&self, id: TaskId) -> Option<usize> {
        self.shared.state.lock().open_attempts(id)
    }

    /// A listener that waits for changes of the store.
    #[cfg(feature = "testing")]
    pub(crate) fn changes(&self) -> super::changes::Listener {
        self.shared.changes.listen()
    }

    /// Runs `read` under the lock. The future never waits for I/O: it is ready at its first poll.
    fn read<'a, T: 'a>(&'a self, read: impl FnOnce(&Tables) -> T + Send + 'a) -> StoreFuture<'a, T> {
        Box::pin(async move { Ok(read(&self.shared.state.lock())) })
    }

    /// Runs `write` under the lock, and sends a hint if it returns `true` with its answer.
    fn write<'a, T: 'a>(
        &'a self,
        write: impl FnOnce(&mut Tables) -> (T, bool) + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let (answer, changed) = write(&mut self.shared.state.lock());
            if changed {
                self.shared.changes.notify();
            }
            Ok(answer)
        })
    }
}

impl Immediate for MemoryStore {
    fn insert_now(&self, batch: &InsertBatch) -> Vec<Result<Vec<Inserted>, Refusal>> {
        let answers = self.shared.state.lock().insert(batch);
        self.shared.changes.notify();
        answers
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { releases_in_turns: true, ..Capabilities::default() }
    }

    fn join<'a>(&'a self, instance: &'a InstanceInfo) -> StoreFuture<'a, ()> {
        self.write(move |state| (state.join(instance), false))
    }

    fn leave(&self, instance: InstanceId) -> StoreFuture<'_, ()> {
        self.write(move |state| (state.leave(instance), true))
    }

    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, Vec<Result<Vec<Inserted>, Refusal>>> {
        self.write(move |state| (state.insert(&batch), true))
    }

    fn immediate(&self) -> Option<&dyn Immediate> {
        Some(self)
    }

    fn claim(&self, claim: Claim) -> StoreFuture<'_, Claims> {
        self.write(move |state| (state.claim(&claim), false))
    }

    fn finish(&self, finishes: Arc<Vec<Finish>>) -> StoreFuture<'_, Vec<Finished>> {
        self.write(move |state| (state.finish(&finishes), !finishes.is_empty()))
    }

    fn turn(&self, finishes: Arc<Vec<Finish>>, claim: Claim) -> StoreFuture<'_, (Vec<Finished>, Claims)> {
        self.write(move |state| ((state.finish(&finishes), state.claim(&claim)), !finishes.is_empty()))
    }

    fn release_and_turn(
        &self,
        releases: Arc<Vec<Release>>,
        finishes: Arc<Vec<Finish>>,
        claim: Claim,
    ) -> StoreFuture<'_, ReleasedTurn> {
        self.write(move |state| {
            ((state.release(&releases), state.finish(&finishes), state.claim(&claim)), true)
        })
    }

    fn release(&self, releases: Arc<Vec<Release>>) -> StoreFuture<'_, Vec<bool>> {
        self.write(move |state| (state.release(&releases), true))
    }

    fn report(&self, reports: Arc<Vec<Report>>) -> StoreFuture<'_, Vec<bool>> {
        self.write(move |state| (state.report(&reports), false))
    }

    fn renew(&self, renewal: Renewal) -> StoreFuture<'_, Renewed> {
        self.write(move |state| (state.renew(&renewal), false))
    }

    fn asked_to_stop(&self, instance: InstanceId) -> StoreFuture<'_, Vec<RunRef>> {
        self.read(move |state| state.asked_to_stop(instance))
    }

    fn recover(&self, _by: InstanceId) -> StoreFuture<'_, Vec<Recovered>> {
        self.write(move |state| {
            let recovered = state.recover();
            let any = !recovered.is_empty();
            (recovered, any)
        })
    }

    fn listen(&self) -> HintStream {
        Box::pin(stream::unfold(self.shared.changes.listen(), |mut listener| async move {
            listener.changed().await;
            Some((Hint::Changed, listener))
        }))
    }

    fn get(&self, id: TaskId) -> StoreFuture<'_, Option<TaskRecord>> {
        self.read(move |state| state.get(id))
    }

    fn ends(&self, ids: Vec<TaskId>) -> StoreFuture<'_, Vec<TaskEnd>> {
        self.read(move |state| state.ends(&ids))
    }

    fn logs(&self, id: TaskId) -> StoreFuture<'_, Option<Vec<LogLine>>> {
        self.read(move |state| state.logs(id))
    }

    fn list(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>> {
        self.read(move |state| state.list(&filter, Detail::Whole))
    }

    fn list_outlines(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>> {
        self.read(move |state| state.list(&filter, Detail::Outline))
    }

    fn counts(&self) -> StoreFuture<'_, Counts> {
        self.read(move |state| state.index.counts)
    }

    fn queues(&self) -> StoreFuture<'_, Vec<QueueInfo>> {
        self.read(Tables::queues)
    }

    fn queue_states(&self) -> StoreFuture<'_, Vec<QueueState>> {
        self.read(Tables::queue_states)
    }

    fn set_queue(&self, queue: String, config: Option<QueueConfig>) -> StoreFuture<'_, ()> {
        self.write(move |state| (state.set_queue(&queue, config), true))
    }

    fn replace_queue(
        &self,
        queue: String,
        from: Option<QueueConfig>,
        to: Option<QueueConfig>,
    ) -> StoreFuture<'_, bool> {
        self.write(move |state| (state.replace_queue(&queue, from.as_ref(), to), true))
    }

    fn instances(&self) -> StoreFuture<'_, Vec<InstanceInfo>> {
        self.read(Tables::instances)
    }

    fn cancel(&self, ids: Vec<TaskId>, reason: String) -> StoreFuture<'_, Vec<CancelOutcome>> {
        self.write(move |state| (state.cancel(&ids, &reason), true))
    }

    fn cancel_by_run_key(&self, run_key: String) -> StoreFuture<'_, Vec<TaskId>> {
        self.write(move |state| (state.cancel_by_run_key(&run_key), true))
    }

    fn retry(&self, tasks: Vec<Reopen>) -> StoreFuture<'_, Vec<Result<(), Error>>> {
        self.write(move |state| (state.retry(&tasks), true))
    }

    fn delete(&self, ids: Vec<TaskId>) -> StoreFuture<'_, usize> {
        self.write(move |state| (state.delete(&ids), false))
    }

    fn replace_args(&self, replacements: Arc<Vec<ReplaceArgs>>) -> StoreFuture<'_, Vec<bool>> {
        self.write(move |state| (state.replace_args(&replacements), false))
    }

    fn set_paused(&self, queue: String, paused: bool) -> StoreFuture<'_, ()> {
        self.write(move |state| (state.set_paused(&queue, paused), true))
    }

    fn fire(&self, fire: Fire) -> StoreFuture<'_, Fired> {
        self.write(move |state| (state.fire(&fire), true))
    }

    fn schedules(&self) -> StoreFuture<'_, Vec<ScheduleState>> {
        self.read(Tables::schedules)
    }

    fn schedule(&self, name: String) -> StoreFuture<'_, Option<ScheduleState>> {
        self.read(move |state| state.schedules.get(&name).cloned())
    }

    fn schedule_changes(&self, since: u64) -> StoreFuture<'_, ScheduleChanges> {
        self.read(move |state| state.schedule_changes(since))
    }

    fn set_schedule(&self, schedule: String, change: ScheduleChange) -> StoreFuture<'_, bool> {
        self.write(move |state| (state.set_schedule(&schedule, &change), true))
    }

    fn prune(&self, retention: Retention, limit: usize) -> StoreFuture<'_, usize> {
        self.write(move |state| (state.prune(retention, limit), false))
    }

    fn write_documents(&self, writes: Vec<DocumentWrite>) -> StoreFuture<'_, Vec<Option<u64>>> {
        Box::pin(async move {
            document::check_writes(&writes)?;
            let write = |state: &mut Tables| {
                let now = state.now();
                (state.documents.write(writes, now), false)
            };
            self.write(write).await
        })
    }

    fn documents(&self, query: DocumentQuery) -> StoreFuture<'_, Vec<Document>> {
        Box::pin(async move {
            document::check_kind(query.kind)?;
            self.read(move |state| state.documents.read(&query, state.now())).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::{NewTask, TaskStatus};
    use crate::store::{FinishKind, InsertGroup, InsertTask, InsertedAs, Start};

    /// Adds a task with that idempotency key and finishes it with success.
    async fn succeed(store: &MemoryStore, key: &str) -> TaskId {
        let mut new = NewTask::new("task", Ok(Arc::from("{}")));
        new.idempotency_key = Some(key.to_owned());
        let group = InsertGroup::new(vec![InsertTask::new(new, Start::Lease)]);
        let batch = InsertBatch::new(InstanceId::new(), Duration::from_secs(60), vec![group]);
        let inserted = store.insert(Arc::new(batch)).await.unwrap().remove(0).unwrap().remove(0);
        let InsertedAs::Leased { fence } = inserted.kind else { panic!("{inserted:?}") };
        let kind = FinishKind::Success { result: "1".into() };
        let finish = Finish::new(RunRef::new(inserted.id, fence), kind);
        let answers = store.finish(Arc::new(vec![finish])).await.unwrap();
        assert_eq!(answers, [Finished::Applied(TaskStatus::Success)]);
        inserted.id
    }

    #[tokio::test]
    async fn the_last_ended_tasks_are_kept() {
        let store = MemoryStore::with_history(3);
        let mut ended = Vec::new();
        for n in 0..10 {
            ended.push(succeed(&store, &n.to_string()).await);
        }
        let kept = store.list(TaskFilter::new()).await.unwrap().items;
        let expected: Vec<TaskId> = ended[7..].iter().rev().copied().collect();
        assert_eq!(kept.iter().map(|task| task.id).collect::<Vec<_>>(), expected);
        assert_eq!(
            (store.counts().await.unwrap().success, store.queues().await.unwrap()[0].finished),
            (3, 3)
        );
        succeed(&store, "0").await;
    }

    #[tokio::test]
    async fn a_clone_is_the_same_store() {
        let store = MemoryStore::new();
        let mut hints = store.clone().listen();
        let id = succeed(&store.clone(), "key").await;
        assert!(store.get(id).await.unwrap().is_some());
        assert_eq!(futures_util::StreamExt::next(&mut hints).await, Some(Hint::Changed));
        assert!(MemoryStore::new().get(id).await.unwrap().is_none());
    }
}
