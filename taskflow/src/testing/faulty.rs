//! A store with faults.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::fault::{Call, Effect, Fault, Faults, Op};
use crate::model::{
    CancelOutcome, Counts, Error, InstanceId, InstanceInfo, LogLine, Page, QueueConfig, QueueInfo,
    StoreError, StoreErrorKind, TaskFilter, TaskId, TaskRecord,
};
use crate::seam::Seam;
use crate::store::{
    Capabilities, Claim, Claims, Document, DocumentQuery, DocumentWrite, Finish, Finished, Fire, Fired,
    HintStream, InsertBatch, Inserted, IntoStore, LivenessStream, QueueState, Recovered, Refusal, Release,
    Renewal, Renewed, Reopen, ReplaceArgs, Report, Retention, RunRef, ScheduleChange, ScheduleChanges,
    ScheduleState, Store, StoreFuture, TaskEnd,
};

/// A store around any other, also a real one, with the faults that a test gives it. A clone is the same store.
///
/// ```
/// use taskflow::testing::{Fault, FaultyStore, Op};
/// use taskflow::TaskManager;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = FaultyStore::around("memory:")?; // or `sqlite://..`, `postgres://..`, `redis://..`
/// let tasks = TaskManager::builder().store(store.clone()).connect().await?;
/// store.fault(Fault::away());
/// assert!(tasks.counts().await.is_err());
/// store.back();
/// assert_eq!(tasks.counts().await?.pending, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Faults,
    seam: Seam,
}

impl FaultyStore {
    /// A store around that one, without faults for now.
    ///
    /// # Errors
    /// Those of opening the store.
    pub fn around(store: impl IntoStore) -> Result<Self, Error> {
        Ok(Self::within(store.into_store()?, Seam::default()))
    }

    pub(super) fn within(inner: Arc<dyn Store>, seam: Seam) -> Self {
        Self { inner, faults: Faults::default(), seam }
    }

    /// Gives the store a fault, beside those that it has.
    pub fn fault(&self, fault: Fault) {
        self.faults.add(fault);
    }

    /// Clears all faults: the store is back.
    pub fn back(&self) {
        self.faults.clear();
    }

    async fn before(&self, call: Call) -> Result<bool, StoreError> {
        let (delay, end) = self.faults.of(call);
        if !delay.is_zero() {
            self.seam.sleep(delay).await;
        }
        match end {
            Some(Effect::Refuse(kind, why)) => Err(StoreError::new(kind, why)),
            Some(Effect::LoseAnswer) => Ok(true),
            _ => Ok(false),
        }
    }
}

fn answer<T>(answer: T, is_lost: bool) -> Result<T, StoreError> {
    match is_lost {
        true => Err(StoreError::new(StoreErrorKind::Unknown, "the test lost the answer")),
        false => Ok(answer),
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultyStore").field(&self.inner).finish()
    }
}

macro_rules! faulty {
    ($($writes:literal [$($op:ident)*] $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> StoreFuture<'_, $answer> {
            Box::pin(async move {
                let call = Call { ops: &[$(Op::$op),*], writes: $writes };
                let is_lost = self.before(call).await?;
                answer(self.inner.$name($($argument),*).await?, is_lost)
            })
        })*
    };
}

impl Store for FaultyStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn join<'a>(&'a self, instance: &'a InstanceInfo) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let is_lost = self.before(Call { ops: &[Op::Join], writes: true }).await?;
            answer(self.inner.join(instance).await?, is_lost)
        })
    }

    fn look_again_in(&self) -> Option<Duration> {
        self.inner.look_again_in()
    }

    fn show_life(&self, instance: InstanceId) -> LivenessStream {
        self.inner.show_life(instance)
    }

    fn listen(&self) -> HintStream {
        self.inner.listen()
    }

    faulty! {
        true [Join] migrate() -> ();
        true [Join] leave(instance: InstanceId) -> ();
        true [Insert] insert(batch: Arc<InsertBatch>) -> Vec<Result<Vec<Inserted>, Refusal>>;
        true [Claim] claim(claim: Claim) -> Claims;
        true [Finish] finish(finishes: Arc<Vec<Finish>>) -> Vec<Finished>;
        true [Finish Claim] turn(finishes: Arc<Vec<Finish>>, claim: Claim) -> (Vec<Finished>, Claims);
        true [Release] release(releases: Arc<Vec<Release>>) -> Vec<bool>;
        true [Report] report(reports: Arc<Vec<Report>>) -> Vec<bool>;
        true [Renew] renew(renewal: Renewal) -> Renewed;
        false [Read] asked_to_stop(instance: InstanceId) -> Vec<RunRef>;
        true [Recover] recover(by: InstanceId) -> Vec<Recovered>;
        false [Read] check() -> ();
        false [Read] get(id: TaskId) -> Option<TaskRecord>;
        false [Read] ends(ids: Vec<TaskId>) -> Vec<TaskEnd>;
        false [Read] logs(id: TaskId) -> Option<Vec<LogLine>>;
        false [Read] list(filter: TaskFilter) -> Page<TaskRecord>;
        false [Read] list_outlines(filter: TaskFilter) -> Page<TaskRecord>;
        false [Read] counts() -> Counts;
        false [Read] queues() -> Vec<QueueInfo>;
        false [Read] queue_states() -> Vec<QueueState>;
        true [Control] set_queue(queue: String, config: Option<QueueConfig>) -> ();
        true [Control] replace_queue(queue: String, from: Option<QueueConfig>, to: Option<QueueConfig>) -> bool;
        false [Read] instances() -> Vec<InstanceInfo>;
        true [Control] cancel(ids: Vec<TaskId>, reason: String) -> Vec<CancelOutcome>;
        true [Control] cancel_by_run_key(run_key: String) -> Vec<TaskId>;
        true [Control] retry(tasks: Vec<Reopen>) -> Vec<Result<(), Error>>;
        true [Control] delete(ids: Vec<TaskId>) -> usize;
        true [Control] replace_args(replacements: Arc<Vec<ReplaceArgs>>) -> Vec<bool>;
        true [Control] set_paused(queue: String, paused: bool) -> ();
        true [Fire] fire(fire: Fire) -> Fired;
        false [Read] schedules() -> Vec<ScheduleState>;
        false [Read] schedule(name: String) -> Option<ScheduleState>;
        false [Read] schedule_changes(since: u64) -> ScheduleChanges;
        true [Control] set_schedule(schedule: String, change: ScheduleChange) -> bool;
        true [] prune(retention: Retention, limit: usize) -> usize;
        true [] write_documents(writes: Vec<DocumentWrite>) -> Vec<Option<u64>>;
        false [Read] documents(query: DocumentQuery) -> Vec<Document>;
    }
}
