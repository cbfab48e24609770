//! [`TaskHandle`]: the result of an add.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::engine::core::Core;
use crate::engine::holds::HoldOwner;
use crate::model::{FailureKind, TaskFailure, TaskId, TaskStatus, sealed};
use crate::store::{Inserted, InsertedAs, TaskEnd};
use crate::task::{BoxFuture, TaskValue};

/// How long the last read in `wait`, after a shutdown, may take.
const LAST_READ: Duration = Duration::from_secs(1);

/// The handle of an added task: its id, and [`wait`](Self::wait) for its result. It displays and serializes as the id.
///
/// A handle does not keep its manager alive.
pub struct TaskHandle<V> {
    /// Behind a trait object: otherwise clippy warns about handles as keys of a map, because a core is mutable inside. Only the
    /// id is compared.
    core: Arc<dyn AsRef<Core> + Send + Sync>,
    /// The hold that may still hold the task.
    held_by: Option<Weak<dyn HoldOwner>>,
    id: TaskId,
    /// The name of the task, if this handle comes from its add. A sealed result is bound to it.
    name: Option<Cow<'static, str>>,
    kind: InsertedAs,
    value: PhantomData<fn() -> V>,
}

impl<V> TaskHandle<V> {
    pub(super) fn of(
        core: Arc<Core>,
        held_by: Option<Weak<dyn HoldOwner>>,
        name: Option<Cow<'static, str>>,
        inserted: Inserted,
    ) -> Self {
        Self { core, held_by, id: inserted.id, name, kind: inserted.kind, value: PhantomData }
    }

    fn core(&self) -> &Core {
        (*self.core).as_ref()
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Whether the add stored nothing, because this task already had the same idempotency key.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.kind == InsertedAs::Duplicate
    }

    /// Whether the add replaced this task, because it waited with the same run key.
    #[must_use]
    pub fn is_replacement(&self) -> bool {
        self.kind == InsertedAs::Replaced
    }
}

impl<V: TaskValue> TaskHandle<V> {
    /// Waits until the task has ended, in any process, and returns its value. It waits through retries.
    ///
    /// It has no time limit, even while the store is unreachable: wrap the call in a timeout. A task that waits for
    /// another task keeps its own slot; if every slot holds a waiting task, the tasks they wait for cannot start. Many
    /// callers may wait at once: the process asks the store for all of them in one call.
    ///
    /// A task that was added through a [`Hold`](crate::manager::Hold), or in a web handler through `BackgroundTasks`, is held.
    /// Waiting for it releases it for good, at the first poll: it runs even if the hold is cancelled later, or if the handler
    /// panics or answers 5xx afterwards.
    ///
    /// ```standalone_crate
    /// # #[taskflow::task] async fn double(n: u32) -> Result<u32, String> { Ok(n * 2) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let tasks = taskflow::TaskManager::builder().start().await?;
    /// use std::time::Duration;
    ///
    /// let handle = tasks.add(double(21)).await?;
    /// let value: u32 = tokio::time::timeout(Duration::from_secs(5), handle.wait()).await??;
    /// assert_eq!(value, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TaskFailure::kind`] says which of these happened: the task ended without success, its record was deleted or pruned
    /// before its result was read, its value does not decode as `V`, its value or its error is sealed and cannot be opened
    /// here, or the manager was shut down or its runtime ended first.
    pub async fn wait(&self) -> Result<V, TaskFailure> {
        let core = self.core();
        if let Some(hold_owner) = self.held_by.as_ref().and_then(Weak::upgrade) {
            hold_owner.release(self.id);
        }
        let mut waiting = core.waiters.join(self.id);
        let end = tokio::select! {
            biased;
            end = waiting.end() => Some(end),
            () = core.over.cancelled() => None,
            () = core.orphaned.cancelled() => None,
        };
        let end = match end {
            Some(end) => end,
            None => self.last_read(waiting.last_status()).await,
        };
        let fail = |status, kind, message: String| Err(TaskFailure::new(self.id, status, kind, message));
        match end {
            TaskEnd::Ended { status: TaskStatus::Success, result, .. } => {
                let mut json = Cow::Borrowed(result.as_deref().unwrap_or("null"));
                if sealed::is_sealed(&json) {
                    match self.open(&json).await {
                        Ok(opened) => json = Cow::Owned(opened),
                        Err(why) => {
                            let message = format!("its value is sealed: {why}");
                            return fail(TaskStatus::Success, FailureKind::Sealed, message);
                        }
                    }
                }
                V::from_json(&json).map_err(|error| {
                    let message = format!("its value does not decode: {error}");
                    TaskFailure::new(self.id, TaskStatus::Success, FailureKind::Undecodable, message)
                })
            }
            TaskEnd::Ended { status, error: Some(error), .. } if sealed::is_sealed(&error) => {
                match self.open(&error).await {
                    Ok(error) => fail(status, FailureKind::Ended, error),
                    Err(why) => fail(status, FailureKind::Sealed, format!("its error is sealed: {why}")),
                }
            }
            TaskEnd::Ended { status, error, .. } => {
                fail(status, FailureKind::Ended, error.unwrap_or_else(|| status.to_string()))
            }
            TaskEnd::Gone => {
                let message = "its record was deleted or pruned before its end was read";
                fail(waiting.last_status(), FailureKind::Gone, message.to_owned())
            }
            TaskEnd::Open(status) => {
                let message = "the manager was shut down before the task ended";
                fail(status, FailureKind::ShutDown, message.to_owned())
            }
        }
    }

    /// Opens a sealed value or error. The future is boxed: this is rare, and otherwise every waiting caller would reserve memory
    /// for it.
    fn open<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(self.core().open_end(self.id, self.name.as_deref(), text))
    }

    /// Reads the task once more after the manager has shut down. If the store does not answer in time, the task counts as
    /// unfinished, in the status that was read last.
    async fn last_read(&self, last_status: TaskStatus) -> TaskEnd {
        let core = self.core();
        let read = core.seam.timeout(LAST_READ, core.store.ends(vec![self.id])).await;
        let end = read.ok().and_then(Result::ok).and_then(|mut ends| ends.pop());
        end.unwrap_or(TaskEnd::Open(last_status))
    }
}

impl<V> From<TaskHandle<V>> for TaskId {
    fn from(handle: TaskHandle<V>) -> Self {
        handle.id
    }
}

impl<V> From<&TaskHandle<V>> for TaskId {
    fn from(handle: &TaskHandle<V>) -> Self {
        handle.id
    }
}

impl<V> Clone for TaskHandle<V> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            held_by: self.held_by.clone(),
            id: self.id,
            name: self.name.clone(),
            kind: self.kind,
            value: PhantomData,
        }
    }
}

/// Handles are equal if they belong to the same task, even if different adds returned them.
impl<V> PartialEq for TaskHandle<V> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<V> Eq for TaskHandle<V> {}

impl<V> std::hash::Hash for TaskHandle<V> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl<V> fmt::Display for TaskHandle<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl<V> fmt::Debug for TaskHandle<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<V> Serialize for TaskHandle<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.id.serialize(serializer)
    }
}
