//! A task that was added.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::TaskManager;
use crate::model::{TaskFailure, TaskId, TaskStatus};
use crate::store::{Inserted, InsertedAs};
use crate::task::TaskValue;

/// A task that was added: its id, and what it returned when it has ended. Displays and serializes as the id.
pub struct TaskHandle<V> {
    manager: TaskManager,
    id: TaskId,
    kind: InsertedAs,
    value: PhantomData<fn() -> V>,
}

impl<V> TaskHandle<V> {
    pub(super) fn of(manager: TaskManager, inserted: Inserted) -> Self {
        Self { manager, id: inserted.id, kind: inserted.kind, value: PhantomData }
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Whether the add stored nothing, because this task was there with the same idempotency key.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.kind == InsertedAs::Duplicate
    }

    /// Whether the add replaced this task, which waited with the same run key.
    #[must_use]
    pub fn is_replacement(&self) -> bool {
        self.kind == InsertedAs::Replaced
    }
}

impl<V: TaskValue> TaskHandle<V> {
    /// Waits until the task has ended, wherever it runs, and gives what it returned. Retries are waited through. It
    /// waits for ever, also through a store that is away: use a timeout. A task that waits for another keeps its own
    /// slot meanwhile, and enough of them leave none for those they wait for.
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
    /// When it ended other than well, when its record was deleted before it could be read, or when its value does not
    /// decode as `V`.
    pub async fn wait(&self) -> Result<V, TaskFailure> {
        let events = &self.manager.0.core.events;
        let waiting = Waiting { handle: self, waiter: events.waiter(self.id) };
        let mut look = Duration::from_millis(50);
        loop {
            let ended = waiting.waiter.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if let Some(answer) = self.look().await {
                return answer;
            }
            // The ends of this process are told at once; of others, the store may hint. This is for all else.
            let _ = tokio::time::timeout(look, ended).await;
            look = (look * 2).min(Duration::from_millis(500));
        }
    }

    /// What there is to say, if the task has ended.
    async fn look(&self) -> Option<Result<V, TaskFailure>> {
        let core = &self.manager.0.core;
        // An error is in the health; the next look comes anyway.
        let record = core.read("a look at a task", core.store.get(self.id)).await.ok()?;
        let fail = |status, message: String| Some(Err(TaskFailure::new(self.id, status, message)));
        let Some(record) = record else {
            let message = "its record was deleted before its end could be read";
            return fail(TaskStatus::Interrupted, message.to_owned());
        };
        match record.status {
            TaskStatus::Success => {
                let json = record.result.as_deref().map_or("null", |json| json.get());
                match V::from_json(json) {
                    Ok(value) => Some(Ok(value)),
                    Err(error) => fail(TaskStatus::Success, format!("its value does not decode: {error}")),
                }
            }
            status if status.is_final() => fail(status, record.error.unwrap_or_else(|| status.to_string())),
            _ => None,
        }
    }
}

/// Takes the waiter out again, also when the wait is given up.
struct Waiting<'a, V> {
    handle: &'a TaskHandle<V>,
    waiter: std::sync::Arc<tokio::sync::Notify>,
}

impl<V> Drop for Waiting<'_, V> {
    fn drop(&mut self) {
        self.handle.manager.0.core.events.forget(self.handle.id);
    }
}

impl<V> Clone for TaskHandle<V> {
    fn clone(&self) -> Self {
        Self { manager: self.manager.clone(), id: self.id, kind: self.kind, value: PhantomData }
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
