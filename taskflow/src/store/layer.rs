//! A store around another one.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Capabilities, Claim, Claims, Document, DocumentQuery, DocumentWrite, Finish, Finished, Fire, Fired,
    HintStream, Immediate, InsertBatch, Inserted, LivenessStream, QueueState, Recovered, Refusal, Release,
    ReleasedTurn, Renewal, Renewed, Reopen, ReplaceArgs, Report, Retention, RunRef, ScheduleChange,
    ScheduleChanges, ScheduleState, Store, StoreFuture, TaskEnd,
};
use crate::model::{
    CancelOutcome, Counts, Error, InstanceId, InstanceInfo, LogLine, Page, QueueConfig, QueueInfo,
    TaskFilter, TaskId, TaskRecord,
};

/// Passes the signature of every [`Store`] method that returns a future to a macro: whether it writes, its name, its
/// arguments and its answer. Add a new method here: the compiler does not notice a missing one, because most have a default.
macro_rules! with_calls {
    ($with:ident) => {
        $with! {
            WRITE migrate() -> ();
            READ check() -> ();
            WRITE join(instance: &'a InstanceInfo) -> ();
            WRITE leave(instance: InstanceId) -> ();
            WRITE insert(batch: Arc<InsertBatch>) -> Vec<Result<Vec<Inserted>, Refusal>>;
            WRITE claim(claim: Claim) -> Claims;
            WRITE finish(finishes: Arc<Vec<Finish>>) -> Vec<Finished>;
            WRITE turn(finishes: Arc<Vec<Finish>>, claim: Claim) -> (Vec<Finished>, Claims);
            WRITE release_and_turn(releases: Arc<Vec<Release>>, finishes: Arc<Vec<Finish>>, claim: Claim)
                -> ReleasedTurn;
            WRITE release(releases: Arc<Vec<Release>>) -> Vec<bool>;
            WRITE report(reports: Arc<Vec<Report>>) -> Vec<bool>;
            WRITE renew(renewal: Renewal) -> Renewed;
            READ asked_to_stop(instance: InstanceId) -> Vec<RunRef>;
            WRITE recover(by: InstanceId) -> Vec<Recovered>;
            READ get(id: TaskId) -> Option<TaskRecord>;
            READ ends(ids: Vec<TaskId>) -> Vec<TaskEnd>;
            READ logs(id: TaskId) -> Option<Vec<LogLine>>;
            READ list(filter: TaskFilter) -> Page<TaskRecord>;
            READ list_outlines(filter: TaskFilter) -> Page<TaskRecord>;
            READ counts() -> Counts;
            READ queues() -> Vec<QueueInfo>;
            READ queue_states() -> Vec<QueueState>;
            WRITE set_queue(queue: String, config: Option<QueueConfig>) -> ();
            WRITE replace_queue(queue: String, from: Option<QueueConfig>, to: Option<QueueConfig>) -> bool;
            READ instances() -> Vec<InstanceInfo>;
            WRITE cancel(ids: Vec<TaskId>, reason: String) -> Vec<CancelOutcome>;
            WRITE cancel_by_run_key(run_key: String) -> Vec<TaskId>;
            WRITE retry(tasks: Vec<Reopen>) -> Vec<Result<(), Error>>;
            WRITE delete(ids: Vec<TaskId>) -> usize;
            WRITE replace_args(replacements: Arc<Vec<ReplaceArgs>>) -> Vec<bool>;
            WRITE set_paused(queue: String, paused: bool) -> ();
            WRITE fire(fire: Fire) -> Fired;
            READ schedules() -> Vec<ScheduleState>;
            READ schedule(name: String) -> Option<ScheduleState>;
            READ schedule_changes(since: u64) -> ScheduleChanges;
            WRITE set_schedule(schedule: String, change: ScheduleChange) -> bool;
            WRITE prune(retention: Retention, limit: usize) -> usize;
            WRITE write_documents(writes: Vec<DocumentWrite>) -> Vec<Option<u64>>;
            READ documents(query: DocumentQuery) -> Vec<Document>;
        }
    };
}

const READ: bool = false;
const WRITE: bool = true;

/// The methods of [`StoreLayer`]; by default, each passes its call on.
macro_rules! passed_on {
    ($($writes:ident $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(
            #[doc = concat!("[`Store::", stringify!($name), "`] of the store inside.")]
            fn $name<'a>(&'a self, $($argument: $type),*) -> StoreFuture<'a, $answer>
            where
                Self: Sized,
            {
                let call = StoreCall { name: stringify!($name), writes: $writes };
                self.around(call, move || self.inner().$name($($argument),*))
            }
        )*
    };
}

/// The [`Store`] methods of a layer; each calls the method of [`StoreLayer`].
macro_rules! of_the_layer {
    ($($writes:ident $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name<'a>(&'a self, $($argument: $type),*) -> StoreFuture<'a, $answer> {
            StoreLayer::$name(self, $($argument),*)
        })*
    };
}

/// A call of a [`Store`], as a [`StoreLayer`] sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StoreCall {
    /// The name of the method, such as `insert`.
    pub name: &'static str,
    /// Whether the call may write.
    pub writes: bool,
}

/// A [`Store`] around another store: it passes each call on, unless the layer implements it. Code for all calls, such as a
/// delay or a counter, belongs in [`around`](Self::around).
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use taskflow::store::{IntoStore, Store, StoreCall, StoreFuture, StoreLayer};
///
/// /// Counts the calls that write.
/// #[derive(Clone, Debug)]
/// struct Counted {
///     inner: Arc<dyn Store>,
///     writes: Arc<AtomicU64>,
/// }
///
/// impl StoreLayer for Counted {
///     fn inner(&self) -> &dyn Store {
///         &*self.inner
///     }
///
///     fn around<'a, T: Send + 'a>(
///         &'a self,
///         call: StoreCall,
///         inner: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a,
///     ) -> StoreFuture<'a, T> {
///         self.writes.fetch_add(call.writes.into(), Ordering::Relaxed);
///         inner()
///     }
/// }
///
/// # #[taskflow::task] async fn greet() {}
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Counted { inner: "memory:".into_store()?, writes: Arc::default() };
/// let tasks = taskflow::TaskManager::builder().store(store.clone()).connect().await?;
/// let before = store.writes.load(Ordering::Relaxed);
/// tasks.add(greet()).await?;
/// assert!(store.writes.load(Ordering::Relaxed) > before);
/// # Ok(())
/// # }
/// ```
pub trait StoreLayer: Any + fmt::Debug + Send + Sync {
    /// The store that this layer is around.
    fn inner(&self) -> &dyn Store;

    /// Makes a call of the store inside. Every call that returns a [`StoreFuture`] goes through here, unless this layer
    /// implements it. The default makes the call.
    fn around<'a, T: Send + 'a>(
        &'a self,
        _call: StoreCall,
        inner: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T>
    where
        Self: Sized,
    {
        inner()
    }

    /// [`Store::location`] of the store inside.
    fn location(&self) -> String {
        self.inner().location()
    }

    /// [`Store::capabilities`] of the store inside.
    fn capabilities(&self) -> Capabilities {
        self.inner().capabilities()
    }

    /// [`Store::immediate`]; the default is `None`, so that every add goes through [`insert`](Self::insert).
    fn immediate(&self) -> Option<&dyn Immediate> {
        None
    }

    /// [`Store::look_again_in`] of the store inside.
    fn look_again_in(&self) -> Option<Duration> {
        self.inner().look_again_in()
    }

    /// [`Store::show_life`] of the store inside.
    fn show_life(&self, instance: InstanceId) -> LivenessStream {
        self.inner().show_life(instance)
    }

    /// [`Store::listen`] of the store inside.
    fn listen(&self) -> HintStream {
        self.inner().listen()
    }

    with_calls!(passed_on);
}

impl<L: StoreLayer> Store for L {
    fn location(&self) -> String {
        StoreLayer::location(self)
    }

    fn capabilities(&self) -> Capabilities {
        StoreLayer::capabilities(self)
    }

    fn immediate(&self) -> Option<&dyn Immediate> {
        StoreLayer::immediate(self)
    }

    fn look_again_in(&self) -> Option<Duration> {
        StoreLayer::look_again_in(self)
    }

    fn show_life(&self, instance: InstanceId) -> LivenessStream {
        StoreLayer::show_life(self, instance)
    }

    fn listen(&self) -> HintStream {
        StoreLayer::listen(self)
    }

    with_calls!(of_the_layer);
}

#[cfg(test)]
mod tests {
    /// A call that is missing here would bypass the store inside.
    #[test]
    fn every_call_of_the_contract_is_passed_on() {
        let contract = include_str!("contract.rs");
        let contract = contract.split("pub trait Store").nth(1).unwrap().split("\n}\n").next().unwrap();
        let calls: Vec<_> = contract
            .lines()
            .filter_map(|line| line.strip_prefix("    fn "))
            .map(|call| call.split(['(', '<']).next().unwrap())
            .collect();
        assert!(calls.len() > 40, "{calls:?}");
        let layer = include_str!("layer.rs");
        for call in calls {
            let is_listed = ["READ", "WRITE"].iter().any(|kind| layer.contains(&format!("{kind} {call}(")));
            assert!(is_listed || layer.contains(&format!("StoreLayer::{call}(self")), "{call}");
        }
    }
}
