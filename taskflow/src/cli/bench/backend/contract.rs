//! What a store can do for the bench.

use std::collections::BTreeMap;

use crate::cli::Result;
use crate::cli::bench::ours::Place;
use crate::cli::bench::queue::Queue;

/// Versions, and what an accepted task survives.
pub(in crate::cli::bench) type Facts = BTreeMap<&'static str, String>;

/// A store in which the bench may make and remove what it likes.
pub(in crate::cli::bench) trait Backend: Send + Sync {
    type Floor: Queue;

    /// Another empty place for taskflow.
    fn place(&self) -> Result<Place>;

    /// Another empty floor, that runs as many tasks at once.
    fn floor(&self, slots: usize) -> impl Future<Output = Result<Self::Floor>> + Send;

    fn facts(&self) -> impl Future<Output = Result<Facts>> + Send;

    /// Removes all that the bench has made so far.
    fn remove(&self) -> impl Future<Output = Result<()>> + Send;

    /// How many finished tasks the store keeps.
    fn keeps(&self) -> u64 {
        u64::MAX
    }
}
