//! What is measured: taskflow, or a floor beside it. The scenarios do not know which.

use super::Result;
use super::work::Payload;

/// A queue of tasks, empty and with nothing running when it is opened.
pub(super) trait Queue: Clone + Send + Sync + 'static {
    /// Stores one task; it is as durable as the store makes it when this returns.
    fn add(&self, payload: Payload) -> impl Future<Output = Result<()>> + Send;

    /// Stores many at once.
    fn add_all(&self, payloads: Vec<Payload>) -> impl Future<Output = Result<()>> + Send;

    /// Makes everything ready to run tasks, and runs none yet.
    fn prepare(self) -> impl Future<Output = Result<Self>> + Send;

    /// Runs tasks from now on.
    fn run(&self) -> impl Future<Output = Result<()>> + Send;

    /// How many tasks are not finished in the store.
    fn unfinished(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Ends everything and leaves the store as it is.
    fn close(self) -> impl Future<Output = Result<()>> + Send;
}
