//! Wraps a custom store, so that a panic in it becomes an error of the call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;

use super::panics::{self, caught};
use crate::model::{
    CancelOutcome, Counts, Error, InstanceId, InstanceInfo, LogLine, Page, QueueConfig, QueueInfo,
    StoreError, StoreErrorKind, TaskFilter, TaskId, TaskRecord,
};
use crate::store::{
    Capabilities, Claim, Claims, Document, DocumentQuery, DocumentWrite, Finish, Finished, Fire, Fired,
    HintStream, Immediate, InsertBatch, Inserted, LivenessStream, QueueState, Recovered, Refusal, Release,
    Renewal, Renewed, Reopen, ReplaceArgs, Report, Retention, RunRef, ScheduleChange, ScheduleChanges,
    ScheduleState, Store, StoreFuture, TaskEnd,
};

/// Wraps a custom store for the engine. The built-in stores are not wrapped: all their work is done in their futures,
/// where [`Core::call`](super::core::Core::call) catches a panic.
pub(crate) fn guarded(store: Arc<dyn Store>) -> Arc<dyn Store> {
    if is_ours(&*store) { store } else { Arc::new(Guarded(store)) }
}

/// Awaits the store's answer. A panic becomes an error after which it is unknown whether the call took effect.
pub(super) async fn answered<T>(call: StoreFuture<'_, T>) -> Result<T, StoreError> {
    caught(call).await.unwrap_or_else(|panic| Err(panicked(&panic)))
}

/// The error of a store call that panicked.
pub(super) fn panicked(panic: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unknown, format!("the store {panic}"))
}

fn is_ours(store: &dyn Store) -> bool {
    let store: &dyn std::any::Any = store;
    let is_ours = store.is::<crate::store::MemoryStore>();
    #[cfg(feature = "sqlite")]
    let is_ours = is_ours || store.is::<crate::store::SqliteStore>();
    #[cfg(feature = "postgres")]
    let is_ours = is_ours || store.is::<crate::store::PostgresStore>();
    #[cfg(feature = "redis")]
    let is_ours = is_ours || store.is::<crate::store::RedisStore>();
    is_ours
}

/// A custom store.
#[derive(Debug)]
struct Guarded(Arc<dyn Store>);

/// Makes one call. A panic while it is made or while it is awaited becomes an error.
fn guard<'a, T: 'a>(call: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a) -> StoreFuture<'a, T> {
    Box::pin(async move {
        let answer = match panics::catch(call) {
            Ok(answer) => caught(answer).await,
            Err(panic) => Err(panic),
        };
        answer.unwrap_or_else(|panic| Err(panicked(&panic)))
    })
}

macro_rules! guarded {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> StoreFuture<'_, $answer> {
            guard(move || self.0.$name($($argument),*))
        })*
    };
}

impl Store for Guarded {
    fn location(&self) -> String {
        panics::catch(|| self.0.location()).unwrap_or_else(|_| "a store of this program".to_owned())
    }

    fn capabilities(&self) -> Capabilities {
        panics::catch(|| self.0.capabilities()).unwrap_or_default()
    }

    fn look_again_in(&self) -> Option<std::time::Duration> {
        panics::catch(|| self.0.look_again_in()).unwrap_or_default()
    }

    /// The engine itself catches its panics.
    fn immediate(&self) -> Option<&dyn Immediate> {
        panics::catch(|| self.0.immediate()).unwrap_or_default()
    }

    fn join<'a>(&'a self, instance: &'a InstanceInfo) -> StoreFuture<'a, ()> {
        guard(move || self.0.join(instance))
    }

    fn listen(&self) -> HintStream {
        guard_stream("hints", || self.0.listen())
    }

    fn show_life(&self, instance: InstanceId) -> LivenessStream {
        guard_stream("liveness stream", || self.0.show_life(instance))
    }

    guarded! {
        migrate() -> ();
        check() -> ();
        leave(instance: InstanceId) -> ();
        insert(batch: Arc<InsertBatch>) -> Vec<Result<Vec<Inserted>, Refusal>>;
        claim(claim: Claim) -> Claims;
        finish(finishes: Arc<Vec<Finish>>) -> Vec<Finished>;
        turn(finishes: Arc<Vec<Finish>>, claim: Claim) -> (Vec<Finished>, Claims);
        release(releases: Arc<Vec<Release>>) -> Vec<bool>;
        report(reports: Arc<Vec<Report>>) -> Vec<bool>;
        renew(renewal: Renewal) -> Renewed;
        asked_to_stop(instance: InstanceId) -> Vec<RunRef>;
        recover(by: InstanceId) -> Vec<Recovered>;
        get(id: TaskId) -> Option<TaskRecord>;
        ends(ids: Vec<TaskId>) -> Vec<TaskEnd>;
        logs(id: TaskId) -> Option<Vec<LogLine>>;
        list(filter: TaskFilter) -> Page<TaskRecord>;
        list_outlines(filter: TaskFilter) -> Page<TaskRecord>;
        counts() -> Counts;
        queues() -> Vec<QueueInfo>;
        queue_states() -> Vec<QueueState>;
        set_queue(queue: String, config: Option<QueueConfig>) -> ();
        replace_queue(queue: String, from: Option<QueueConfig>, to: Option<QueueConfig>) -> bool;
        instances() -> Vec<InstanceInfo>;
        cancel(ids: Vec<TaskId>, reason: String) -> Vec<CancelOutcome>;
        cancel_by_run_key(run_key: String) -> Vec<TaskId>;
        retry(tasks: Vec<Reopen>) -> Vec<Result<(), Error>>;
        delete(ids: Vec<TaskId>) -> usize;
        replace_args(replacements: Arc<Vec<ReplaceArgs>>) -> Vec<bool>;
        set_paused(queue: String, paused: bool) -> ();
        fire(fire: Fire) -> Fired;
        schedules() -> Vec<ScheduleState>;
        schedule(name: String) -> Option<ScheduleState>;
        schedule_changes(since: u64) -> ScheduleChanges;
        set_schedule(schedule: String, change: ScheduleChange) -> bool;
        prune(retention: Retention, limit: usize) -> usize;
        write_documents(writes: Vec<DocumentWrite>) -> Vec<Option<u64>>;
        documents(query: DocumentQuery) -> Vec<Document>;
    }
}

type Items<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// Wraps a stream of the store. A panic ends the stream; the engine asks for hints again after a while.
fn guard_stream<T: 'static>(what: &'static str, open: impl FnOnce() -> Items<T>) -> Items<T> {
    let items = panics::catch(open).map_err(|panic| tracing::error!("the {what} of the store {panic}")).ok();
    Box::pin(GuardedStream { what, items })
}

struct GuardedStream<T> {
    what: &'static str,
    items: Option<Items<T>>,
}

impl<T> Stream for GuardedStream<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(items) = &mut self.items else { return Poll::Ready(None) };
        match panics::catch(|| items.as_mut().poll_next(cx)) {
            Ok(item) => item,
            Err(panic) => {
                tracing::error!("the {} of the store {panic}", self.what);
                self.items = None;
                Poll::Ready(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    /// A method that is left to its default would bypass the custom store's own.
    #[test]
    fn every_call_of_the_contract_is_passed_on() {
        let contract = include_str!("../store/contract.rs");
        let contract = contract.split("pub trait Store").nth(1).unwrap().split("\n}\n").next().unwrap();
        let calls = contract
            .lines()
            .filter_map(|line| line.strip_prefix("    fn "))
            .map(|call| call.split(['(', '<']).next().unwrap());
        let guarded = include_str!("guarded.rs");
        for call in calls {
            assert!(
                guarded.contains(&format!("        {call}(")) || guarded.contains(&format!("fn {call}")),
                "{call}"
            );
        }
    }
}
