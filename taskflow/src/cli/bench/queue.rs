//! The interface that the scenarios measure. Taskflow implements it, and so does each floor: the same work hand-written on
//! the raw driver of a store.

use super::Result;
use super::work::Payload;

/// A queue of tasks, empty and with nothing running when it is opened.
pub(super) trait Queue: Clone + Send + Sync + 'static {
    /// Stores one task. When this returns, the task is as durable as the store makes it.
    fn add(&self, payload: Payload) -> impl Future<Output = Result<()>> + Send;

    /// Stores many at once.
    fn add_all(&self, payloads: Vec<Payload>) -> impl Future<Output = Result<()>> + Send;

    /// Gets everything ready to run tasks, but runs none yet.
    fn prepare(self) -> impl Future<Output = Result<Self>> + Send;

    /// Runs tasks from now on.
    fn run(&self) -> impl Future<Output = Result<()>> + Send;

    /// How many tasks are not finished in the store.
    fn unfinished(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Ends everything and leaves the store as it is.
    fn close(self) -> impl Future<Output = Result<()>> + Send;
}
