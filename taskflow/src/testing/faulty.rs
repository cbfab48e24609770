//! A store with faults.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::fault::{Call, Effect, Fault, Faults, Happens, Op};
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

    async fn with_faults<T>(
        &self,
        call: Call,
        done: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Happens { delay, late, end } = self.faults.of(call);
        if !delay.is_zero() {
            self.seam.sleep(delay).await;
        }
        if let Some(Effect::Refuse(kind, why)) = end {
            return Err(StoreError::new(kind, why));
        }
        let answer = done.await;
        if !late.is_zero() {
            self.seam.sleep(late).await;
        }
        match end {
            Some(Effect::LoseAnswer) if answer.is_ok() => {
                Err(StoreError::new(StoreErrorKind::Unknown, "the test lost the answer"))
            }
            _ => answer,
        }
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
            let call = Call { ops: &[$(Op::$op),*], writes: $writes };
            Box::pin(self.with_faults(call, async move { self.inner.$name($($argument),*).await }))
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
        let call = Call { ops: &[Op::Join], writes: true };
        Box::pin(self.with_faults(call, async move { self.inner.join(instance).await }))
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
